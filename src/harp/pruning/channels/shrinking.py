"""Channels that really disappear: a physically smaller network with the same outputs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harp.pruning.channels.coupling import Coupling
from harp.pruning.channels.grouping import couple_channels
from harp.pruning.channels.rehearsing import Failure, answers, difference, settled, train_once
from harp.pruning.channels.removing import remove
from harp.pruning.channels.widths import snapshot
from harp.pruning.mask import masks
from harp.pruning.using import as_example


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
    coupling = settled(model, example, couple_channels(model, example, exclude))
    before, restore = answers(model, example), snapshot(model)
    try:
        remove(model, coupling, read_channels(model, coupling))
        after = answers(model, example)
        wrong = next((found for found in (before, after) if isinstance(found, Failure)), None)
        if not isinstance(before, Failure) and not isinstance(after, Failure):
            wrong = difference(before, after) or train_once(model, example, coupling)
        if wrong:
            raise ValueError(
                f"the network cannot be made smaller: {wrong.why}. Leave out with `exclude` what depends on its channels "
                "in a way that cannot be seen"
            )
    except BaseException:
        restore()
        raise
    return model


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
