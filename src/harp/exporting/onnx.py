"""ONNX files, for everyone else's runtime: dense, whatever the zeros."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from harp.pruning.channels import evaluating

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def need_onnx() -> None:
    """Raise ValueError naming what to install when a library that writes or runs ONNX is missing."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"format='onnx' needs {', '.join(missing)}: pip install '.[bench]' in a checkout of harp")


def write_onnx(model: nn.Module, example: Tensor, path: Path) -> None:
    """The model in eval mode, ``images`` in and ``logits`` out, for batches of any size of ``example``'s images.

    Raises ValueError when torch cannot say the model in ONNX.
    """
    need_onnx()
    batch = torch.cat([example[:1]] * 2)  # of a single image, torch would take the batch for a constant
    try:
        with evaluating(model), torch.no_grad():
            torch.onnx.export(
                model,
                (batch,),
                path,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: Dim("batch")},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ValueError(f"torch.onnx cannot export {type(model).__name__}: {reason}") from error


def open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """The network of a file in onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
