"""``harp export``: the network of a run as one file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harp.cli.parsing import AcceptChanges, RunPath, parse
from harp.cli.stopping import StopRequest


@dataclass(frozen=True)
class ExportFlags:
    """Write the network of a finished run to one file that runs without torch. Pruned channels are removed."""

    run: RunPath
    """The run directory of the network."""
    out: Path
    """The file to write, e.g. net.harp."""
    format: Literal["harp", "onnx"] = "harp"
    """harp: sparse, for harp.runtime. onnx: dense, for other runtimes."""
    values: Literal["f32", "f16"] = "f32"
    """How a .harp file stores weights. f16 takes half the space; refused if the logits differ by more than --tolerance."""
    tolerance: float | None = None
    """Largest allowed difference of the logits on validation images, relative to the largest logit; None is 1e-4, or 1e-2 for f16."""
    overwrite: bool = False
    """Replace an existing file."""
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
    print(f"{done.size_bytes:,} bytes in {done.path}: {done.compared}")
    print(f"Checked on {done.agreement.images} validation images: {done.agreement}")
