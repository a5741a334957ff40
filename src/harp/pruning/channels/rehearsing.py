"""The smaller network is tried before anything is pruned: a group that it cannot lose stays, and the reason is kept."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from harp.pruning.channels.coupling import Coupling
from harp.pruning.channels.following.watching import evaluating
from harp.pruning.channels.removing import remove, silence
from harp.pruning.channels.widths import own_tensors, snapshot
from harp.pruning.using import images_for, untouched

_TOLERANCE = 1000
"""In units of the last place of the largest output: sums of other lengths round differently."""


@dataclass(frozen=True)
class Failure:
    """Why a smaller network does not do, and the module at work when that was found; empty where it is all of it."""

    why: str
    module: str = ""


def settled(model: nn.Module, example: Tensor, coupling: Coupling) -> Coupling:
    """The coupling without the groups of which the model cannot lose a channel. The model stays as it is.

    The last channel of each group is removed, and the outputs are compared with those of the network in which no weight
    reads it. Where that fails, the groups at fault are found by halving.
    """
    if example.is_floating_point():  # images of nothing tell nothing
        generator = torch.Generator().manual_seed(0)
        example = torch.rand(1, *example.shape[1:], generator=generator).to(example)
    groups, causes = list(coupling.sizes), dict[str, str]()
    while groups and (failure := _try(model, example, coupling, groups)):
        name, failure = _at_fault(model, example, coupling, groups, failure)
        causes[name] = failure.why
        groups.remove(name)
    return coupling.without(causes) if causes else coupling


def _at_fault(
    model: nn.Module, example: Tensor, coupling: Coupling, groups: Sequence[str], failure: Failure
) -> tuple[str, Failure]:
    """A group without which some others succeed; first among those that the failing module holds."""
    near = [name for name in groups if name in _inside(coupling, failure.module)]
    if not near or not (found := _try(model, example, coupling, near)):
        near, found = list(groups), failure
    fine, failing = 0, len(near)
    while failing - fine > 1:
        middle = (fine + failing) // 2
        if earlier := _try(model, example, coupling, near[:middle]):
            failing, found = middle, earlier
        else:
            fine = middle
    return near[failing - 1], found


def _inside(coupling: Coupling, module: str) -> set[str]:
    """The groups that the tensors of a module hold."""
    axes = [axis for axis in coupling.axes if module and axis.tensor.startswith(f"{module}.")]
    return {name for axis in axes for name in coupling.held(axis)}


def _try(model: nn.Module, example: Tensor, coupling: Coupling, groups: Sequence[str]) -> Failure | None:
    """What is wrong with the model without the last channel of each of these groups."""
    alive = torch.ones(sum(coupling.sizes.values()), dtype=torch.bool)
    for name in groups:
        alive[coupling.starts[name] + coupling.sizes[name] - 1] = False
    restore = snapshot(model)
    try:
        silence(model, coupling, alive)
        expected = answers(model, example)
        restore()
        remove(model, coupling, alive)
        found = answers(model, example)
        if not isinstance(found, Failure) and not isinstance(expected, Failure):
            found = difference(expected, found) or train_once(model, example, coupling)
        return found if isinstance(found, Failure) else None
    finally:
        restore()


def train_once(model: nn.Module, example: Tensor, coupling: Coupling) -> Failure | None:
    """Whether a path that only training takes can run with fewer channels."""
    if not coupling.only_trained:
        return None
    with untouched(model, training=True, device=example.device):
        found = _answer(model, images_for(example, training=True))
    return found if isinstance(found, Failure) else None


def answers(model: nn.Module, example: Tensor) -> list[Tensor] | Failure:
    """What the model says to the first image, or what kept it from saying anything."""
    with evaluating(model):
        out = _answer(model, example[:1])
    return out if isinstance(out, Failure) else [leaf.clone() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]


def _answer(model: nn.Module, images: Tensor) -> Any:
    inside: list[str] = []

    def enter(name: str) -> Any:
        def note(module: nn.Module, args: Any) -> None:
            inside.append(name)
            if isinstance(module, nn.modules.batchnorm._NormBase) and not own_tensors(module):
                module.num_features = args[0].shape[1]  # no tensor of its own tells

        return note

    def leave(module: nn.Module, args: Any, out: Any) -> None:  # what a hook returns would be the output
        inside.pop()

    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        try:
            return model(images)
        except Exception as error:  # a stranger's network may raise anything
            where = next((name for name in reversed(inside) if name), "")
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            return Failure(f"a size is written into the forward of {where or 'the model itself'}: {said}", where)


def difference(before: Sequence[Tensor], now: Sequence[Tensor]) -> Failure | None:
    """How the outputs of the smaller network differ from those of the larger one with masks."""
    if [out.shape for out in before] != [out.shape for out in now]:
        return Failure("with fewer channels the outputs have another shape")
    for old, new in zip(before, now, strict=True):
        if not bool(old.isfinite().all()):
            continue
        scale = float(old.abs().max()) if old.numel() else 0.0
        allowed = min(_TOLERANCE * torch.finfo(old.dtype).eps, 0.1) * scale if old.is_floating_point() else 0.0
        if not bool(((old - new).abs() <= allowed).all()):
            return Failure("the smaller network says something else than the larger one")
    return None
