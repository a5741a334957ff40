"""How a budget is first split over layers. One signature: ``(weights by name, keep) -> keep fraction by name``.

Every split spends keep · Σ n_l weights, up to rounding; a fraction may be as small as 0 (the mask keeps one entry anyway).
"""

from collections.abc import Callable, Mapping
from functools import wraps

import torch
from torch import Tensor

from harp.pruning.selection import top

Split = Callable[[Mapping[str, Tensor], float], dict[str, float]]


def uniform(weights: Mapping[str, Tensor], keep: float) -> dict[str, float]:
    """The same fraction everywhere."""
    return dict.fromkeys(weights, keep)


def erk(weights: Mapping[str, Tensor], keep: float) -> dict[str, float]:
    """Erdős–Rényi-kernel: fraction ∝ Σ dims / Π dims, so that small layers stay dense (RigL, Evci et al. 2020).

    Layers whose share exceeds 1 are kept whole and the rest of the budget is split again over the others.
    """
    raw = {name: sum(w.shape) / w.numel() for name, w in weights.items()}
    size = {name: w.numel() for name, w in weights.items()}
    thin = list(weights)
    while thin:
        left = keep * sum(size.values()) - sum(size[name] for name in weights if name not in thin)
        scale = left / sum(raw[name] * size[name] for name in thin)
        still = [name for name in thin if raw[name] * scale < 1]
        if still == thin:
            return {name: raw[name] * scale if name in thin else 1.0 for name in weights}
        thin = still
    return dict.fromkeys(weights, 1.0)


def global_magnitude(weights: Mapping[str, Tensor], keep: float) -> dict[str, float]:
    """What one magnitude threshold over all layers would leave in each."""
    return _shares({name: w.detach().abs().flatten() for name, w in weights.items()}, keep)


def lamp(weights: Mapping[str, Tensor], keep: float) -> dict[str, float]:
    """What one threshold on LAMP scores, w² / Σ_{|u| ≥ |w|} u², would leave in each (Lee et al. 2021)."""
    return _shares({name: _lamp_scores(w) for name, w in weights.items()}, keep)


def _lamp_scores(weight: Tensor) -> Tensor:
    squares = weight.detach().double().flatten().square().sort(descending=True).values
    # Order inside a layer does not matter for its share. All-zero layers score 0.
    return (squares / squares.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)).float()


def _shares(scores: Mapping[str, Tensor], keep: float) -> dict[str, float]:
    everything = torch.cat(list(scores.values()))
    chosen = top(everything, max(round(keep * everything.numel()), 1))
    parts = chosen.split([s.numel() for s in scores.values()])
    return {name: part.count_nonzero().item() / part.numel() for name, part in zip(scores, parts, strict=True)}


def starting_at(keep: float, split: Split) -> Split:
    """Start at this fraction whatever the target is, unless the target itself is larger (HARP starts at 10 %)."""

    @wraps(split)
    def split_from_there(weights: Mapping[str, Tensor], target: float) -> dict[str, float]:
        return split(weights, max(keep, target))

    return split_from_there


STARTS: dict[str, Split] = {
    "uniform": starting_at(0.1, uniform),
    "erk": starting_at(0.1, erk),
    "lamp": starting_at(0.1, lamp),
    "target": uniform,
}
"""Where learned keep fractions may start: at 10 %, split in three ways, or at the target."""
