"""The engines that can run one network, behind the same call: a float32 array in, a float32 array out."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from harp.runtime.session import COMPILE

if TYPE_CHECKING:
    from torch import nn

EngineName = Literal["harp", "torch", "inductor", "onnxruntime", "openvino"]
ONNX_WRITERS = ("onnx", "onnxscript", "onnxruntime")
"""What `harp.exporting` needs to write ONNX and to check it."""
Runner = Callable[[np.ndarray], np.ndarray]
"""(batch, channels, height, width) in, in float32 and in [0, 1]; outputs by image."""


@dataclass(frozen=True)
class Subject:
    """One network in the two forms that engines read: the exported file, and the same weights as dense ONNX.

    ``onnx`` may be None when no engine that reads it takes part.
    """

    file: Path
    onnx: Path | None = None

    @property
    def dense(self) -> Path:
        if self.onnx is None:
            raise ValueError(f"{self.file} has no ONNX file beside it, which this engine reads")
        return self.onnx


@dataclass(frozen=True)
class Engine:
    """``open(subject, batch, threads)`` loads a network. ``imports`` are the packages it needs, ``dense`` whether it
    spends its time on zeros, too.
    """

    open: Callable[[Subject, int, int], Runner]
    imports: tuple[str, ...]
    dense: bool = True
    compiler: bool = False
    reads_onnx: bool = False


def can_write_onnx() -> bool:
    return all(importlib.util.find_spec(package) for package in ONNX_WRITERS)


def absence(name: str) -> str | None:
    """Why an engine cannot run here and how to get it; None when it can."""
    engine = ENGINES[name]
    wanted = (*engine.imports, *(ONNX_WRITERS if engine.reads_onnx else ()))
    lacking = [package for package in wanted if importlib.util.find_spec(package) is None]
    if lacking and not engine.dense:
        return f"{name} cannot run: this harp has no compiled engine; with a C++ compiler, in a checkout of harp: {COMPILE}"
    if lacking:
        return f"{name} is left out: {lacking[0]} is not installed; pip install '.[bench]' in a checkout of harp"
    compiler = os.environ.get("CXX", "g++")
    if engine.compiler and shutil.which(compiler) is None:
        return f"{name} is left out: there is no C++ compiler {compiler!r}; install one, or name it in CXX"
    return None


def _harp(subject: Subject, batch: int, threads: int) -> Runner:
    from harp.runtime import load

    return load(subject.file, threads=threads)


def _untuned(subject: Subject, batch: int, threads: int) -> Runner:
    from harp.runtime import load

    return load(subject.file, threads=threads, autotune=False)


def _torch(subject: Subject, batch: int, threads: int) -> Runner:
    return _as_runner(_module(subject), threads)


def _inductor(subject: Subject, batch: int, threads: int) -> Runner:
    import torch

    torch._dynamo.reset()  # what was compiled for another batch or network counts against a limit of recompilations
    compiled = torch.compile(_module(subject), dynamic=False, options={"freezing": True})
    return _as_runner(compiled, threads)


def _module(subject: Subject) -> "nn.Module":
    import torch

    from harp.exporting import rebuild
    from harp.runtime.format import read

    return rebuild(read(subject.file)[0]).to(memory_format=torch.channels_last)


def _as_runner(module: Callable[[Any], Any], threads: int) -> Runner:
    import torch

    def run(x: np.ndarray) -> np.ndarray:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            return module(torch.from_numpy(x).contiguous(memory_format=torch.channels_last)).numpy()

    return run


def _onnxruntime(subject: Subject, batch: int, threads: int) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    session = onnxruntime.InferenceSession(subject.dense, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0])


def _openvino(subject: Subject, batch: int, threads: int) -> Runner:
    import openvino

    core = openvino.Core()
    model = core.read_model(subject.dense)
    model.reshape([batch, *(side.get_length() for side in list(model.input().partial_shape)[1:])])
    wanted = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # Left alone, it computes in bfloat16 wherever the processor can: twice as fast, and another result.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", wanted).create_infer_request()
    return lambda x: request.infer({0: x}, share_inputs=True)[0]


UNTUNED = "harp, untuned"
"""Our runtime without its tuning at load: what a program that starts often wants."""
ENGINES: dict[str, Engine] = {
    "harp": Engine(_harp, ("harp.runtime._engine",), dense=False),
    UNTUNED: Engine(_untuned, ("harp.runtime._engine",), dense=False),
    "torch": Engine(_torch, ("torch",)),
    "inductor": Engine(_inductor, ("torch",), compiler=True),
    "onnxruntime": Engine(_onnxruntime, ("onnxruntime",), reads_onnx=True),
    "openvino": Engine(_openvino, ("openvino",), reads_onnx=True),
}
NAMES: tuple[EngineName, ...] = get_args(EngineName)
"""Those that are compared, in the order in which they take turns."""
