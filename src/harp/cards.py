"""The card of a run: what it is, exactly how much it keeps, and on what machine it was made."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .pruning import prunable_weights
from .recipes import Recipe
from .training import EpochMetrics

CARD_FORMAT = 1
_LABELS = {"rates-only": "Rates only", "global": "Global magnitude", "random": "Random"}


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
) -> dict[str, Any]:
    """The card of a finished stage. ``model`` is plain; ``chosen`` are its masks by weight name, empty when dense.

    Counts come from the masks and are checked against the weights: a weight outside its mask must be zero.
    """
    layers = {}
    for name, weight in prunable_weights(model).items():
        mask = chosen.get(name)
        if mask is not None and weight[~mask].count_nonzero():
            raise RuntimeError(f"{name} has weights outside its mask; the model is not the one its masks describe")
        kept = weight.numel() if mask is None else int(mask.count_nonzero())
        layers[name] = {"kept": kept, "total": weight.numel()}
    counted = {name: layer for name, layer in layers.items() if name in chosen} or layers
    return {
        "format": CARD_FORMAT,
        "name": label(method, recipe.prune.keep) if method else "Dense",
        "stage": stage,
        "method": method,
        "parent": parent,
        "data": recipe.task.data,
        "classes": list(classes),
        "model": recipe.task.model,
        "kept": sum(layer["kept"] for layer in counted.values()),
        "total": sum(layer["total"] for layer in counted.values()),
        "keep": recipe.prune.keep if method else 1.0,
        "layers": layers,
        "parameters": sum(p.numel() for p in model.parameters()),
        "best_epoch": best.epoch if best else None,
        "validation": {
            "clean_accuracy": best.clean_accuracy if best else None,
            "robust_accuracy": best.robust_accuracy if best else None,
            "images": validation_images,
        },
        "seed": recipe.seed,
        "elapsed_s": elapsed_s,
        "environment": environment(),
        "evaluations": [],
    }


def label(method: str, keep: float) -> str:
    """How people name a pruned network: ``"HARP 1 %"``."""
    return f"{_LABELS.get(method, method.upper())} {keep:.3%}".replace("%", "").rstrip("0").rstrip(".") + " %"


def environment() -> dict[str, Any]:
    """Versions and hardware, so that a number can be repeated."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "harp": version("harp-pruning"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "commit": _commit(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _commit() -> str | None:
    """The commit of the checkout that harp runs from, if it runs from one."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
