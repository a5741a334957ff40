"""Channels that really disappear: a physically smaller network with the same outputs."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from harp.pruning.channels.coupling import Coupling, couple_channels
from harp.pruning.channels.following.watching import evaluating
from harp.pruning.channels.widths import fit_sizes, own_tensors, set_tensor, snapshot
from harp.pruning.mask import masks
from harp.pruning.using import as_example, images_for, untouched

_TOLERANCE = 1000
"""In units of the last place, relative to the largest output: sums of other lengths round differently."""


def shrink(model: nn.Module, example: Tensor, *, exclude: Sequence[str] = ()) -> nn.Module:
    """Remove every channel that nothing reads, in place: a plain network of the same outputs, with fewer of everything.

    Works on baked masks (``bake_masks``) and on any network in which all weights that read a channel are zero.
    ``exclude`` is that of the budget. Raises ValueError while masks are attached, and when the network cannot run with
    fewer channels; it is then what it was.
    """
    if masks(model):
        raise ValueError(
            "the model has masks; call freeze_masks(model), if they still learn, and bake_masks(model) first"
        )
    example = as_example(model, example)
    coupling = couple_channels(model, example, exclude)
    before, restore = _outputs(model, example), snapshot(model)
    try:
        remove(model, coupling, read_channels(model, coupling))
        after = _outputs(model, example)
        _train_once(model, example, coupling)
        for old, new in zip(before, after, strict=True):
            _compare(old, new)
    except BaseException:
        restore()
        raise
    return model


def rehearse(model: nn.Module, example: Tensor, coupling: Coupling) -> None:
    """Run the model once without the last channel of each group. Raises ValueError when it cannot; it stays as it is."""
    before, restore = _outputs(model, example), snapshot(model)
    alive = torch.ones(sum(coupling.sizes.values()), dtype=torch.bool)
    for name, start in coupling.starts.items():
        alive[start + coupling.sizes[name] - 1] = False
    try:
        remove(model, coupling, alive)
        after = _outputs(model, example)
        _train_once(model, example, coupling)
    finally:
        restore()
    if [out.shape for out in after] != [out.shape for out in before]:
        raise ValueError(
            "with fewer channels the model's outputs have another shape; leave out the part that writes them with `exclude`"
        )


def read_channels(model: nn.Module, coupling: Coupling) -> Tensor:
    """True for each channel that some weight reads; of a group that nothing reads, the first is True all the same."""
    size = torch.zeros(sum(coupling.sizes.values()))
    for axis in coupling.read():
        weight = model.get_parameter(axis.tensor).detach()
        read = weight.ne(0).sum([d for d in range(weight.dim()) if d != axis.dim]).float().cpu()
        held = axis.place >= 0
        size.index_add_(0, axis.place[held], read[held])
    alive = size > 0
    for name, start in coupling.starts.items():
        group = alive[start : start + coupling.sizes[name]]
        group[0] |= ~group.any()
    return alive


@torch.no_grad()
def remove(model: nn.Module, coupling: Coupling, alive: Tensor) -> None:
    """Cut every tensor to the channels that stay, and tell its module."""
    stays = torch.cat([alive, torch.ones(1, dtype=torch.bool)])  # place -1 always
    cut: dict[str, Tensor] = {}
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    for axis in coupling.axes:
        tensor = cut.get(axis.tensor, tensors[axis.tensor].detach())
        cut[axis.tensor] = tensor.index_select(axis.dim, stays[axis.place].nonzero().flatten().to(tensor.device))
    for prefix, module in model.named_modules():
        own = own_tensors(module)
        mine = {name: cut[full] for name in own if (full := f"{prefix}.{name}" if prefix else name) in cut}
        for name, tensor in mine.items():
            set_tensor(module, name, tensor)
        if mine:
            whole = (f"{prefix}.weight" if prefix else "weight") in coupling.whole
            fit_sizes(module, {name: tensor.shape for name, tensor in own.items()}, whole=whole)


def _train_once(model: nn.Module, example: Tensor, coupling: Coupling) -> None:
    """Raise ValueError when a path that only training takes cannot run with fewer channels."""
    if coupling.only_trained:
        with untouched(model, training=True, device=example.device):
            _answer(model, images_for(example, training=True))


def _outputs(model: nn.Module, example: Tensor) -> list[Tensor]:
    """What the model says to the first image. Raises ValueError naming the module that fails."""
    with evaluating(model):
        out = _answer(model, example[:1])
    return [leaf.clone() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]


def _answer(model: nn.Module, images: Tensor) -> Any:
    inside: list[str] = []

    def enter(name: str) -> Any:
        def note(module: nn.Module, args: Any) -> None:
            inside.append(name)
            if isinstance(module, nn.modules.batchnorm._NormBase) and not own_tensors(module):
                module.num_features = args[0].shape[1]  # no tensor of its own tells

        return note

    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(module.register_forward_hook(lambda module, args, out: inside.pop() and None).remove)
        try:
            return model(images)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            where = next((name for name in reversed(inside) if name), "the model itself")
            raise ValueError(
                f"the model cannot run with fewer channels: {where} says {str(error).splitlines()[0]!r}. A size is written "
                f"into its forward; write -1 there, or leave that part out with `exclude`"
            ) from error


def _compare(old: Tensor, new: Tensor) -> None:
    scale = float(old.abs().max().clamp_min(1)) if old.numel() else 1.0
    allowed = min(_TOLERANCE * torch.finfo(old.dtype).eps, 0.1) * scale if old.is_floating_point() else 0.0
    if old.shape != new.shape or not bool(((old - new).abs() <= allowed).all()):
        raise ValueError(
            "the smaller network says something else than the larger one; leave out with `exclude` what depends on "
            "channels in a way that cannot be seen (numbers read with .item(), say)"
        )
