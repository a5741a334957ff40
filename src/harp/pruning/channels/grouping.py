"""From what one image showed to groups: which channels go together, and where each tensor holds them."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from harp.pruning.channels.coupling import Axis, Coupling, Held
from harp.pruning.channels.following.classes import squeezed
from harp.pruning.channels.following.tracing import Trace
from harp.pruning.channels.following.watching import macs, trace


def couple_channels(model: nn.Module, example: Tensor, exclude: Sequence[str] = ()) -> Coupling:
    """Follow one image through the model and find which channels go together.

    Channels that meet in a sum, share an entry of a norm or pass a depth-wise convolution are one. A group has one
    pattern of coupling throughout: every one of its channels takes the same number of entries in the same tensors.
    """
    watch = trace(model, example, exclude)
    axes = _axes_of(watch)
    roots = {key: watch.classes.roots(numbers) for key, numbers in axes.items()}
    patterns = _patterns(watch, roots)
    names = _names_of(watch, patterns, roots)
    sizes = Counter(names[root] for root in patterns)
    order = {name: number for number, name in enumerate(sizes)}
    place = {root: n for n, root in enumerate(sorted(patterns, key=lambda root: order[names[root]]))}
    found = []
    for (tensor, dim), numbers in roots.items():
        where = torch.tensor([place.get(root, -1) for root in numbers.tolist()])
        if bool((where >= 0).any()):
            found.append(Axis(tensor, dim, where))
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    return Coupling(
        sizes=dict(sizes),
        axes=tuple(found),
        readers=dict(watch.readers),
        writers=dict(watch.writers),
        whole=frozenset(watch.whole),
        positions=dict(watch.positions),
        shapes={name: tensor.shape for name, tensor in tensors.items()},
        parameters=frozenset(name for name, _ in model.named_parameters()),
        macs=macs(model, example),
        stuck=_stuck(watch, place, roots),
        products=tuple((_places(watch, place, numbers), cost) for numbers, cost in watch.products),
        written=_written(watch, place),
        only_trained=watch.only_trained,
    )


def _places(watch: Trace, place: Mapping[int, int], numbers: Tensor) -> Tensor:
    return torch.tensor([place.get(root, -1) for root in watch.classes.roots(numbers).flatten().tolist()])


def _written(watch: Trace, place: Mapping[int, int]) -> dict[str, tuple[Tensor, ...]]:
    """Dimensions that modules cut or reshape and that may become shorter."""
    found: dict[str, list[Tensor]] = {}
    for module, numbers in watch.sizes:
        classes = squeezed(watch.classes.roots(numbers))
        where = _places(watch, place, classes)
        if sum(size > 1 for size in classes.shape) == 1 and bool((where >= 0).any()):
            found.setdefault(module, []).append(where)
    return {module: tuple(places) for module, places in found.items()}


def _stuck(watch: Trace, place: Mapping[int, int], roots: Mapping[tuple[str, int], Tensor]) -> tuple[Held, ...]:
    """The channels that are written and belong to no group."""
    found = Counter({(name, cause): count for name, (count, cause) in watch.unfollowed.items()})
    read = {root for name, dim in watch.readers.items() for root in roots[name, dim].unique().tolist()}
    for name, dim in watch.writers.items():
        for number, root in zip(watch.axes[name, dim].flatten().tolist(), roots[name, dim].tolist(), strict=True):
            if root not in place:
                other = "each is coupled in its own way" if root in read else "no weight reads them"
                found[name, watch.classes.cause(number) or other] += 1
    held = (Held(n, name.rpartition(".")[0] or "the model itself", cause) for (name, cause), n in found.items())
    return tuple(sorted(held, key=lambda each: -each.channels))


def _axes_of(watch: Trace) -> dict[tuple[str, int], Tensor]:
    """The axes of weights, and those of other parameters and buffers whose entries vary along one dimension."""
    axes = {key: numbers.flatten() for key, numbers in watch.axes.items()}
    for name, numbers in watch.vectors.items():
        classes = squeezed(watch.classes.roots(numbers))
        along = [dim for dim, size in enumerate(classes.shape) if size > 1]
        if len(along) == 1:
            axes[name, along[0]] = classes.flatten()
        else:
            watch.classes.pin(numbers)
    return axes


def _patterns(watch: Trace, roots: Mapping[tuple[str, int], Tensor]) -> dict[int, tuple[object, ...]]:
    """Every removable class, in the order in which they are written, and how often each axis holds it."""
    read = {root for name, dim in watch.readers.items() for root in roots[name, dim].unique().tolist()}
    holds: dict[int, list[object]] = {}
    for key, numbers in roots.items():
        for root, times in Counter(numbers.tolist()).items():
            holds.setdefault(root, []).append((key, times))
    found = {r: tuple(where) for r, where in holds.items() if r in read and not watch.classes.is_pinned(r)}
    alone = {pattern for pattern, times in Counter(found.values()).items() if times == 1}
    return {root: pattern for root, pattern in found.items() if pattern not in alone}


def _names_of(
    watch: Trace, patterns: Mapping[int, tuple[object, ...]], roots: Mapping[tuple[str, int], Tensor]
) -> dict[int, str]:
    """A name for the group of each class: the module that writes it first, and a number where it writes several."""
    writer: dict[int, str] = {}
    for name, dim in watch.writers.items():
        for root in roots[name, dim].unique().tolist():
            writer.setdefault(root, name.rpartition(".")[0] or name)
    taken: Counter[str] = Counter()
    groups: dict[tuple[object, ...], str] = {}
    for root, pattern in patterns.items():
        if pattern not in groups:
            base = writer.get(root, "channels")
            taken[base] += 1
            groups[pattern] = base if taken[base] == 1 else f"{base}#{taken[base]}"
    return {root: groups[pattern] for root, pattern in patterns.items()}
