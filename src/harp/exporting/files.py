"""`harp.export`: a model to a file, which is read back and compared with the model before it takes its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from harp.cfile import TOLERANCES, CFile, write_c
from harp.exporting.agreement import Agreement, answers, compare, need_agreement
from harp.exporting.baking import baked
from harp.exporting.counting import Count, count_graph, count_model
from harp.exporting.onnx import need_onnx, open_onnx, write_onnx
from harp.exporting.program import check_exportable
from harp.exporting.rebuilding import rebuild
from harp.exporting.tracing import trace
from harp.files import replacing
from harp.pruning.channels import evaluating
from harp.runtime.container import compared_sizes
from harp.runtime.format import read, write
from harp.runtime.graph import Graph

Values = Literal["f32", "f16", "int8"]
Format = Literal["harp", "onnx", "c"]


@dataclass(frozen=True)
class Exported:
    """A file that was written: how many weights are not zero, its size beside 4 bytes a parameter, how it was checked.

    Of a C file, the size is that of its constants, and ``arena_bytes`` that of its static memory.
    """

    path: Path
    kept: int
    total: int
    size_bytes: int
    dense_bytes: int
    agreement: Agreement
    arena_bytes: int | None = None

    @property
    def times_smaller(self) -> float:
        """Than the dense network in float32; below 1 where the file is larger, as a dense ONNX file is."""
        return self.dense_bytes / self.size_bytes

    @property
    def compared(self) -> str:
        """The size beside the dense network's, in words."""
        return compared_sizes(self.size_bytes, self.dense_bytes)


def export(
    model: nn.Module,
    example: Tensor,
    path: Path | str,
    *,
    values: Values = "f32",
    format: Format = "harp",
    card: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
) -> Exported:
    """Write a plain network to a file: for `harp.runtime`, which is fast when most weights are zero, as ONNX, or as C.

    ``example`` is a batch of images as the model takes them, float32 (n, c, h, w). The file is read back and run, and its
    logits for these images are compared with the model's: the largest difference may be ``tolerance`` times the
    largest logit, by default 1e-4, 1e-2 with ``values="f16"``, and 5e-2 with ``values="int8"``, which stores each weight
    in a byte. So give a few hundred real images for these. ``card`` is anything JSON can say about the network, and
    travels in the `.harp` file. The model stays as it is. ``format="c"`` writes a C file and its header, for images of
    this size, and compiles it to compare.

    Raises ValueError, and writes nothing, when the model still has masks, has an operation that the format lacks (named
    with its place in the model), or the logits differ by more.
    """
    _check_choices(values, format, tolerance)
    if not isinstance(example, Tensor):
        raise TypeError(f"example is a {type(example).__name__}, expected a tensor: harp.export(model, images, path)")
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"path={str(path)!r} is a directory: name a file in it, such as net.harp")
    check_exportable(model, example)
    example = example.to(next((parameter.device for parameter in model.parameters()), example.device))
    with evaluating(model), torch.no_grad():
        expected = answers(model, example)
    model = baked(model)
    graph = trace(model, example) if format != "onnx" else None
    count = count_model(model, example) if graph is None else count_graph(graph, model)
    _compare_with(card or {}, count)
    dense_bytes = 4 * sum(parameter.numel() for parameter in model.parameters())
    if format == "c":
        assert graph is not None
        made = _write_c(path, graph, example, expected, values, card, tolerance)
        agreement = Agreement(made.images, made.difference, made.changed, made.by)
        size_bytes, arena_bytes = made.constant_bytes, made.arena_bytes
        return Exported(path, count.kept, count.total, size_bytes, dense_bytes, agreement, arena_bytes)
    allowed = TOLERANCES[values] if tolerance is None else tolerance
    with replacing(path) as file:
        if graph is None:
            write_onnx(model, example, file)
            runners = {"ONNX Runtime": open_onnx(file)}
        else:
            write(file, graph, card={"kept": count.kept, "total": count.total, **(card or {})}, values=values)
            graph = None  # which is as large as the model, and is read back in a moment
            runners = _runners_of(file)
        found = [compare(answers(run, example.cpu()), expected, by=name) for name, run in runners.items()]
        for agreement in found:
            need_agreement(agreement, allowed, values)
    return Exported(path, count.kept, count.total, path.stat().st_size, dense_bytes, found[-1])


def _write_c(
    path: Path,
    graph: Graph,
    example: Tensor,
    expected: Tensor,
    values: Values,
    card: Mapping[str, Any] | None,
    tolerance: float | None,
) -> CFile:
    images, logits = example.cpu().numpy(), expected.numpy()
    return write_c(path, graph, card=card, values=values, images=images, expected=logits, tolerance=tolerance)


def _compare_with(card: Mapping[str, Any], count: Count) -> None:
    """Raise ValueError when the card promises fewer weights than the file has. A card of a part of them cannot tell."""
    kept, total = card.get("kept"), card.get("total")
    if isinstance(kept, int) and total == count.total and count.kept > kept:
        raise ValueError(
            f"the card says that {kept:,} of {total:,} weights are kept, and the network computes with {count.kept:,} that "
            "are not zero; nothing was written. Export it with the card of this very network"
        )


def _runners_of(file: Path) -> dict[str, Callable[[Tensor], Tensor]]:
    """What runs a `.harp` file here; the last is what it is made for."""
    from harp.runtime import load  # here, so that who only rebuilds a graph does not load the engine's library

    session = load(file, autotune=False)
    return {
        "PyTorch": rebuild(read(file)[0]),
        "harp.runtime": lambda images: torch.from_numpy(session(images.numpy())),
    }


def _check_choices(values: str, format: str, tolerance: float | None) -> None:
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance}: expected how far logits may be off, such as 1e-3, or None")
    for name, value, known in (("values", values, get_args(Values)), ("format", format, get_args(Format))):
        if value not in known:
            raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, known))}")
    if format == "onnx":
        need_onnx()
        if values != "f32":
            raise ValueError(f"values={values!r} is for format='harp' and 'c'; an ONNX file holds float32")
