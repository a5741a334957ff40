"""Export the network of a finished run, with what its card says of it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harp.cards import read_card
from harp.cfile import header_of
from harp.data import ImageData
from harp.exporting.files import Exported, Format, Values, export
from harp.pruning import bake_masks, masks, shrink
from harp.runs.images import open_data
from harp.runs.inputs import check_code
from harp.runs.network import load_network
from harp.runs.opening import open_run

EXAMPLES = 256
"""Validation images on which the file is compared with the network."""
_CARRIED = (
    "name",
    "stage",
    "method",
    "keep",
    "data",
    "classes",
    "preprocessing",
    "model",
    "kept",
    "total",
    "parameters",
    "seed",
)


def export_run(
    path: Path,
    out: Path,
    *,
    values: Values = "f32",
    format: Format = "harp",
    tolerance: float | None = None,
    overwrite: bool = False,
    accept_changes: bool = False,
) -> Exported:
    """Write the network of the run at ``path`` to ``out``, checked on validation images, never on test images.

    Channels that were pruned are left out, as `harp shrink` does. See `harp.export`. Raises FileExistsError when ``out``
    is there, unless it may be overwritten.
    """
    opened = open_run(path)
    run, recipe = opened.directory, opened.recipe
    for file in (out, header_of(out)) if format == "c" else (out,):
        if file.exists() and not overwrite:
            raise FileExistsError(f"{file} is there already; replace it with --overwrite, or name another --out")
    check_code(run, recipe, accept=accept_changes)
    data = open_data(recipe, split_seed=opened.split_seed, run=run)
    model, images = load_network(opened, data), _examples(data)
    if masks(model):
        bake_masks(model)
        if read_card(run.card).values.get("channels") is not None:
            shrink(model, images[:1], exclude=recipe.prune.exclude)
    with run.model.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    card = {**_carried(read_card(run.card).values), "run": path.resolve().name, "model_sha256": digest}
    if card.get("preprocessing") is None and data.preprocessing is not None:  # a run of before it was recorded
        card["preprocessing"] = data.preprocessing.to_json()
    card["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    return export(model, images, out, values=values, format=format, card=card, tolerance=tolerance)


def _examples(data: ImageData) -> torch.Tensor:
    """Validation images, spread over the split, since it may be sorted by class."""
    images = data.validation
    assert images is not None
    count = min(EXAMPLES, len(images))
    order = torch.linspace(0, len(images) - 1, count).round().long()
    return next(images.batches(order, count))[0]


def _carried(card: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth its bytes on a small device: no counts by layer, no bit for every test image."""
    evaluations = [{k: v for k, v in found.items() if k != "right"} for found in card["evaluations"]]
    made = {k: v for k, v in card.get("environment", {}).items() if k in ("harp", "commit")}
    return {k: card[k] for k in _CARRIED if k in card} | {"evaluations": evaluations, "made_by": made}
