"""What attacks run on: torch, or the sparse engine where it can compute the network, and is faster."""

import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harp.attacks import attacking
from harp.evaluation import Ranks
from harp.exporting import Mirror
from harp.pruning import hold_masks
from harp.runtime import isa
from harp.stages.choosing import quickest, told

_CLEAR = 2.0
"""How many times faster is sure to be faster."""


def choose_engine(
    wanted: str,
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    *,
    begun: str | None = None,
    steps: int | None = None,
    ranks: Ranks,
    tell: Callable[[str], None],
    made: Mirror | None = None,
) -> Mirror | None:
    """The engine for attacks on ``model``, or None for torch: what is ``wanted``; for "auto" what is faster on ``batch``.

    ``steps`` is after how many steps of attacks the weights change; None, if they never do. With "auto", work that has
    ``begun`` on one of them goes on with it. The engine takes as many threads as torch does; it may be ``made`` already.
    Raises ValueError where the engine is wanted and cannot be, with the reason; "auto" tells the reason and takes torch.
    """
    if wanted == "torch" or (wanted == "auto" and begun == "torch"):
        return None
    made = made or make_engine(begun or wanted, model, batch[0], ranks=ranks, tell=tell)
    if made is None:
        return None
    if wanted == "sparse":
        return made
    if begun == "sparse":
        return told(made, "attacks go on with the sparse engine, as they began", tell)
    torch_s, engine_s = ranks.from_first(lambda: race(model, made, *batch, steps))
    took = f"a step on {len(batch[0])} images takes {engine_s:.2g} s there, {torch_s:.2g} s in torch"
    if engine_s < torch_s:
        return told(made, f"attacks run on the sparse engine: {took}", tell)
    return told(None, f"attacks run in torch, not on the sparse engine: {took}", tell)


def make_engine(
    wanted: str, model: nn.Module, images: Tensor, *, ranks: Ranks, tell: Callable[[str], None]
) -> Mirror | None:
    """The model on the engine, or None, with the reason told. Raises ValueError instead where ``wanted`` is "sparse"."""
    made = _engine_of(model, images)
    refused = ranks.union([made] if isinstance(made, str) else [])
    if refused and wanted == "sparse":
        raise ValueError(f"engine='sparse' cannot run the attacks: {refused[0]}; engine='torch' can")
    if isinstance(made, str) or refused:
        return told(None, f"attacks run in torch: {refused[0]}", tell)
    return made


def race(model: nn.Module, mirror: Mirror, x: Tensor, y: Tensor, steps: int | None) -> tuple[float, float]:
    """Seconds that the model and the engine take for one step of an attack, forward and back, in turns.

    That of the engine includes its share of reading new weights every so many ``steps``.
    """
    with attacking(model), hold_masks(model):
        began = time.perf_counter()
        engine = mirror.module()
        reading_s = 0.0 if steps is None else (time.perf_counter() - began) / steps
        torch_s, engine_s = quickest([partial(_step, model, x, y), partial(_step, engine, x, y)], _CLEAR)
    return torch_s, engine_s + reading_s


def _engine_of(model: nn.Module, images: Tensor) -> Mirror | str:
    """The model on the engine, or why that cannot be."""
    if images.device.type != "cpu":
        return f"the network is on {images.device}, and the engine computes on the CPU"
    try:
        isa()
        return Mirror(model, images[:1], threads=torch.get_num_threads())
    except (RuntimeError, ValueError) as error:  # no compiled engine, or an operation that it lacks
        return str(error)


def _step(model: nn.Module, x: Tensor, y: Tensor) -> float:
    began = time.perf_counter()
    with torch.enable_grad():
        images = x.detach().clone().requires_grad_()
        torch.autograd.grad(F.cross_entropy(model(images), y), images)
    return time.perf_counter() - began
