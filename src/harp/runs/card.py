"""Makes the card of a run: what it is, exactly how much it keeps, and on what machine it was made."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harp.cards import CARD_FORMAT
from harp.environment import environment
from harp.pruning import Budget, weight_layers
from harp.recipes import Recipe, data_title, name_of, plug_ins
from harp.runtime.preprocessing import Preprocessing
from harp.training.progress import EpochMetrics


def make_card(
    recipe: Recipe,
    model: nn.Module,
    chosen: dict[str, Tensor],
    *,
    stage: str,
    method: str | None,
    parent: str | None,
    classes: tuple[str, ...],
    validation_images: int,
    best: EpochMetrics | None,
    elapsed_s: float,
    device: torch.device | None = None,
    peak_memory_bytes: int | None = None,
    budget: Budget | None = None,
    preprocessing: Preprocessing | None = None,
    shape: tuple[int, int, int] | None = None,
    engine: str = "torch",
    weight_step: str = "torch",
    fractions: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The card of a finished stage. ``model`` is plain; ``chosen`` are its masks by the names of the ``budget``'s sites,
    empty when it is dense. ``engine`` is what attacks ran on while it learned, ``weight_step``
    what computed the loss and the gradients of its weights."""
    counts = {name: int(mask.count_nonzero()) for name, mask in chosen.items()}
    layers = weight_layers(model, {}) if budget is None else budget.layers(model, counts)
    counted = layers if budget is None else budget.counted(layers)
    kept, total = (sum(layer[part] for layer in counted.values()) for part in ("kept", "total"))
    if budget is not None and not budget.met_by(counts):
        raise RuntimeError(f"the masks keep {kept:,} of {total:,} weights, which is not what {budget} asks for")
    return {
        "format": CARD_FORMAT,
        "name": name_of(recipe, stage),
        "stage": stage,
        "method": method,
        "plug_ins": list(plug_ins(recipe, stage)),
        "parent": parent,
        "data": data_title(recipe.task.data, recipe.task.root),
        "classes": list(classes),
        "preprocessing": None if preprocessing is None else preprocessing.to_json(),
        "shape": None if shape is None else list(shape),
        "model": recipe.task.model,
        "kept": kept,
        "total": total,
        "keep": recipe.prune.keep if method else 1.0,
        "layers": layers,
        "channels": None if budget is None else budget.channels(counts),
        "fractions": None if fractions is None else dict(fractions),
        "uncounted": {} if budget is None else dict(budget.uncounted),
        "parameters": sum(p.numel() for p in model.parameters()),
        "best_epoch": best.epoch if best else None,
        "validation": {
            "clean_accuracy": best.clean_accuracy if best else None,
            "robust_accuracy": best.robust_accuracy if best else None,
            "images": validation_images,
        },
        "seed": recipe.seed,
        "engine": engine,
        "weight_step": weight_step,
        "elapsed_s": elapsed_s,
        "peak_memory_mb": None if peak_memory_bytes is None else round(peak_memory_bytes / 1e6, 1),
        "environment": environment(device),
        "evaluations": [],
    }


def of_smaller(parent: Mapping[str, Any]) -> dict[str, Any]:
    """What the card of a physically smaller network takes over: its tensors no longer tell what was removed."""
    return {name: parent[name] for name in ("method", "kept", "total", "keep", "layers", "channels", "shrunk")}
