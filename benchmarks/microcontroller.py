"""What pruned networks take on a microcontroller, beside the dense network of the same weights in another generator's C.

    python benchmarks/microcontroller.py --digits digits.harp --onnx2c path/to/onnx2c --json results/microcontroller.json
    python benchmarks/tables.py

Everything runs on QEMU's mps2-an386, a Cortex-M4 with a floating-point unit; no real board was used. Instructions are
counted by the emulator's clock, one per nanosecond; cycles of a real processor are more. --digits is the network of the demo
at 1 %, exported as `harp export runs/digits/harp --out digits.harp`; without it, random weights under ERK masks take its place.
Needs what emulated_cortex_m.py names, and for the dense column onnx2c (https://github.com/kraiskil/onnx2c).
"""

import argparse
import importlib
import importlib.util
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from emulated_cortex_m import Found, absence, emulate
from torch import nn

import harp
from harp.cfile import write_c
from harp.data import load_data
from harp.exporting import rebuild, trace, write_onnx
from harp.files import write_json
from harp.models import build_model
from harp.runtime import Session
from harp.runtime.format import read
from harp.runtime.graph import Graph

KEEP, IMAGES, CLASSES = 0.01, 200, 10
OPTIMISE = "-O2"
_IDLE = ("storage_order", "allowzero", "noop_with_empty_axes")
_WRAPPER = """\
void entry(const float* image, float* result);
void network_run(const float* image, float* result);
void network_run(const float* image, float* result) {{ entry(image, result); }}
"""


@dataclass(frozen=True)
class Subject:
    """A network with images, and where both come from."""

    name: str
    origin: str
    graph: Graph
    images: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, help="the demo's network at 1 %%, a .harp file")
    parser.add_argument("--onnx2c", type=Path, help="the program that writes dense C")
    parser.add_argument("--json", type=Path, help="write the records there")
    flags = parser.parse_args()
    if reason := absence():
        parser.error(reason)
    if flags.onnx2c is not None and importlib.util.find_spec("onnxruntime") is None:
        parser.error("--onnx2c needs '.[bench]' to write ONNX")
    records = [record for subject in subjects(flags.digits) for record in measured(subject, flags.onnx2c)]
    for record in records:
        print(record)
    if flags.json is not None:
        write_json(flags.json, {"board": "mps2-an386 (Cortex-M4) of QEMU", "optimise": OPTIMISE, "records": records})


def subjects(digits: Path | None) -> Iterator[Subject]:
    test = load_data("digits").test
    images = next(test.batches(torch.arange(IMAGES), IMAGES))[0].numpy()
    if digits is None:
        yield Subject("vgg_small", "random weights, ERK masks", random_graph("vgg_small", (1, 8, 8)), images)
    else:
        yield Subject("vgg_small", "the digits demo", read(digits)[0], images)
    noise = np.random.default_rng(0).random((IMAGES, 1, 14, 14), np.float32)
    yield Subject("resnet_small", "random weights, ERK masks", random_graph("resnet_small", (1, 14, 14)), noise)


def random_graph(name: str, shape: tuple[int, int, int]) -> Graph:
    """A network with random weights under ERK masks, whose batch normalisations have statistics of random images."""
    torch.manual_seed(0)
    model = build_model(name, shape=shape, classes=CLASSES)
    harp.attach_masks(model, harp.weight_budget(model, keep=KEEP), harp.methods.ERK)
    harp.bake_masks(harp.freeze_masks(model))
    for norm in [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
        norm.momentum = None
    with torch.no_grad():
        model.train()(torch.rand(32, *shape))
    return trace(model.eval(), torch.zeros(1, *shape))


def measured(subject: Subject, onnx2c: Path | None) -> Iterator[dict[str, Any]]:
    expected = Session(subject.graph, threads=1, autotune=False)(subject.images)
    for values in ("f32", "f16", "int8"):
        with tempfile.TemporaryDirectory(prefix="harp-m4-") as folder:
            file = Path(folder, "network.c")
            write_c(file, subject.graph, values=values, images=subject.images)
            yield record(subject, f"harp, {values}", emulated([file], subject, folder), expected)
    if onnx2c is not None:
        with tempfile.TemporaryDirectory(prefix="harp-m4-") as folder:
            yield record(
                subject, "onnx2c, dense f32", emulated(dense(subject, onnx2c, Path(folder)), subject, folder), expected
            )


def emulated(sources: list[Path], subject: Subject, folder: str) -> Found:
    return emulate(sources, subject.images, CLASSES, Path(folder), optimise=OPTIMISE)


def dense(subject: Subject, onnx2c: Path, folder: Path) -> list[Path]:
    """The same weights, zeros and all."""
    write_onnx(rebuild(subject.graph), torch.from_numpy(subject.images[:2]), folder / "dense.onnx")
    without_defaults(folder / "dense.onnx")
    command = [str(onnx2c), "-d", "batch:1", str(folder / "dense.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    (folder / "dense.c").write_text(done.stdout, encoding="utf-8")
    (folder / "wrapper.c").write_text(_WRAPPER.format(), encoding="utf-8")
    return [folder / "dense.c", folder / "wrapper.c"]


def without_defaults(file: Path) -> None:
    """Leave out attributes that change nothing here: onnx2c stops at them, whatever their values."""
    onnx = importlib.import_module("onnx")
    model = onnx.load(file)
    for node in model.graph.node:
        kept = [attribute for attribute in node.attribute if attribute.name not in _IDLE]
        del node.attribute[:]
        node.attribute.extend(kept)
    onnx.save(model, file)


def record(subject: Subject, by: str, found: Found, expected: np.ndarray) -> dict[str, Any]:
    return {
        "network": subject.name,
        "origin": subject.origin,
        "by": by,
        "images": len(expected),
        "other_classes": int((found.results.argmax(1) != expected.argmax(1)).sum()),
        "difference": float(np.abs(found.results - expected).max() / np.abs(expected).max()),
        "instructions": round(found.instructions),
        "flash_bytes": found.flash_bytes,
        "static_bytes": found.static_bytes,
        "stack_bytes": found.stack_bytes,
        "image_bytes": 4 * int(subject.images[0].size),
    }


if __name__ == "__main__":
    main()
