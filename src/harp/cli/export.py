"""``harp export``: the network of a run, or of an exported file, as one file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harp.cli.parsing import AcceptChanges, RunPath, parse
from harp.cli.stopping import StopRequest


@dataclass(frozen=True)
class ExportFlags:
    """Write the network of a finished run to one file that runs without torch. Pruned channels are removed.

    `harp export net.harp --format c --out net.c` writes a C file from a file that is there, without torch.
    """

    run: RunPath
    """The run directory of the network."""
    out: Path
    """The file to write, e.g. net.harp."""
    format: Literal["harp", "onnx", "c"] = "harp"
    """harp: sparse, for harp.runtime. onnx: dense, for other runtimes. c: a C file and its header, for microcontrollers."""
    values: Literal["f32", "f16", "int8"] = "f32"
    """How a .harp or C file stores weights. f16 takes half the space, int8 a quarter; refused if the logits differ by more than --tolerance."""
    tolerance: float | None = None
    """Largest allowed difference of the logits on validation images, relative to the largest logit; None is 1e-4, 1e-2 for f16, 5e-2 for int8."""
    overwrite: bool = False
    """Replace existing files."""
    accept_changes: AcceptChanges = False


def export(arguments: list[str], stop: StopRequest) -> None:
    flags = parse(ExportFlags, "export", arguments, None)

    from harp.stages.export import export_run

    done = export_run(
        flags.run,
        flags.out,
        values=flags.values,
        format=flags.format,
        tolerance=flags.tolerance,
        overwrite=flags.overwrite,
        accept_changes=flags.accept_changes,
    )
    print(f"{done.kept:,} of {done.total:,} weights are not zero")
    inside = "of constants in" if done.arena_bytes is not None else "in"
    print(f"{done.size_bytes:,} bytes {inside} {done.path}: {done.compared}")
    if done.arena_bytes is not None:
        print(f"{done.arena_bytes:,} bytes of static memory for values")
    print(f"Checked on {done.agreement.images} validation images: {done.agreement}")
