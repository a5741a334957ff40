"""What cannot be done with a network, said before it is trained."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harp.data import ImageData
from harp.exporting.tracing import trace
from harp.pruning.channels import couple_channels
from harp.recipes import Recipe
from harp.runs.budget import make_budget
from harp.runs.network import build_network
from harp.stages.opening import Stage

_WITHOUT_ONNX = ("torch.export cannot follow", "branches on the size of a batch")
"""In what is said of a network that no format of export can hold."""


def check_budget(recipe: Recipe, data: ImageData) -> None:
    """Raise ValueError where a network of this recipe, trained or not, cannot be brought to its budget."""
    make_budget(build_network(recipe, data), recipe.prune, data)


def note_refusals(stage: Stage, model: nn.Module, *, channels: bool) -> None:
    """Tell the one who watches what export, and channel pruning where it may still come, will refuse, and why."""
    if stage.fabric.is_global_zero:
        for text in refusals(model, torch.zeros(1, *stage.data.shape), channels=channels):
            stage.watch.on_note(text)


def refusals(model: nn.Module, image: Tensor, *, channels: bool = True) -> list[str]:
    """What later commands will refuse of this network, a sentence for each. Model and random numbers stay as they are."""
    found = []
    with torch.random.fork_rng():
        if why := _complaint(lambda: trace(model, image)):
            if any(words in why for words in _WITHOUT_ONNX):
                found.append(f"note: harp export will refuse this network, as .harp and as ONNX: {why}")
            else:
                found.append(f"note: harp export will refuse this network as .harp: {why}")
        if channels and (why := _complaint(lambda: _need_channels(model, image))):
            found.append(f"note: harp prune --granularity channel and harp shrink will refuse this network: {why}")
    return found


def _need_channels(model: nn.Module, image: Tensor) -> None:
    coupling = couple_channels(model, image)
    if not coupling.sizes:
        raise ValueError(f"no channel can be removed, because of: {coupling.why_held()}")


def _complaint(attempt: Callable[[], object]) -> str:
    """What is said against it; empty when nothing is."""
    try:
        attempt()
    except (ValueError, TypeError) as error:
        return str(error).partition("\n")[0]
    return ""
