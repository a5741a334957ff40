"""Find a model's network in somebody else's state dict: below any prefix, by alias, with its normalisation."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.models.normalise import Normalize, find_normalisation

_ALIASES = {"shortcut": "downsample", "linear": "fc"}
"""Layers that go by two names: kuangliu's, torchvision's."""

_TRANSPARENT = ("module", "_orig_mod")
"""What DataParallel and torch.compile put into names, in front or around a part of the network."""

_SCORES = ("popup_scores", "k_score")
"""What HYDRA's and HARP's published dense checkpoints carry beside their weights: the start values of pruning."""

_COUNTERS = ("n_averaged",)
"""What AveragedModel carries beside its network."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """A network below a ``prefix`` of a state dict: the state's name for each of the model's, and what is wrong with it."""

    prefix: str
    found: Mapping[str, str]
    problems: tuple[str, ...]
    replaced: Mapping[str, str]
    """The head of other classes that is left where it is, as ``found`` has the rest."""


def match_names(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors of `state` under the names of `model.state_dict()`, complete, for `load_state_dict`.

    The network may lie below any prefix (`module.`, `module.1.`, `ema_model.`), and aliases may differ (`shortcut` for
    `downsample`, `linear` for `fc`). Its normalisation is taken where the model has a layer for it. Batch counts and
    the normalisation may be missing: the model's own stay. Of tied weights one is enough. Raises ValueError that lists
    every missing, unexpected, doubled or differently shaped tensor.
    """
    if is_exact(state, model):
        return dict(state)
    fits = fits_in(state, model)
    return take(state, model, fits[0], others=fits[1:])


def is_exact(state: Mapping[str, Tensor], model: nn.Module) -> bool:
    """Whether a state dict is one of this model, to the letter."""
    wanted = model.state_dict()
    shapes = {name: tensor.shape for name, tensor in wanted.items()}
    return {n: t.shape for n, t in state.items()} == shapes and all(
        same(state[one], state[other]) for one, other in _ties(wanted)
    )


def fits_in(state: Mapping[str, Tensor], model: nn.Module, *, new_head: bool = False) -> list[Fit]:
    """The networks in a state dict that are complete; where there is none, the one that comes nearest.

    With ``new_head`` one whose last layer has other outputs is complete, too.
    """
    nearest: list[Fit] = []
    for root in _roots(model):
        candidates = _candidates(state, model, root).items()
        fits = [_fit(state, model, prefix, found, new_head) for prefix, found in candidates]
        complete = [fit for fit in fits if not fit.problems]
        if complete:
            return complete
        nearest += fits
    return [max(nearest, key=lambda fit: len(fit.found))] if nearest else [_fit(state, model, "", {}, new_head)]


def take(
    state: Mapping[str, Tensor], model: nn.Module, fit: Fit, *, others: Sequence[Fit] = (), alone: bool = False
) -> dict[str, Tensor]:
    """The model's complete state with the tensors of one network.

    Raises ValueError for its problems, and for tensors of the state that belong neither to it nor to the ``others``;
    when it is wanted ``alone``, those outside of its prefix are nobody's business.
    """
    known = {*fit.found.values(), *fit.replaced.values(), *(name for other in others for name in other.found.values())}
    left = {name: tensor for name, tensor in state.items() if name not in known and not _is_beside(name)}
    normalisation, problems = find_normalisation(left, model)
    strange = [n for n in left if n not in normalisation.names and not (alone and not n.startswith(fit.prefix))]
    problems = [*fit.problems, *problems, *(f"unexpected: {name} {tuple(state[name].shape)}" for name in strange)]
    if problems:
        raise ValueError("\n  ".join([f"the checkpoint does not fit {type(model).__name__}:", *problems]))
    for name in state:
        if name.rpartition(".")[2] in _SCORES:
            _log.warning("ignoring %s: the weights are read as a dense network's", name)
    for target, name in fit.replaced.items():
        if target.endswith("weight"):
            outputs = len(state[name]), len(model.state_dict()[target])
            _log.warning("the head %s begins anew: %d outputs in the checkpoint, %d in the model", target, *outputs)
    found = {target: state[name] for target, name in fit.found.items()}
    return {**model.state_dict(), **normalisation.tensors, **found}


def _is_beside(name: str) -> bool:
    return name.rpartition(".")[2] in (*_SCORES, *_COUNTERS)


def _roots(model: nn.Module) -> Iterator[str]:
    """How the names of the model itself may begin: as they are, or below the wrapper that all of its layers are in."""
    yield ""
    shared: list[str] = []
    for words in zip(*(name.split(".")[:-1] for name in required(model)), strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    if shared:
        yield ".".join(shared) + "."


def _candidates(state: Mapping[str, Tensor], model: nn.Module, root: str) -> dict[str, dict[str, list[str]]]:
    """prefix → name in the model → names in the state that may be it, the one of the same words first."""
    own = _normalisation(model)  # is searched for by other names, and in other shapes
    names = [name for name in model.state_dict() if name.startswith(root) and name.rpartition(".")[0] not in own]
    targets = {tuple(name[len(root) :].split(".")): name for name in names}
    counts = Counter(map(_plain, targets))
    by_plain = {_plain(words): name for words, name in targets.items() if counts[_plain(words)] == 1}
    found: dict[str, dict[str, list[str]]] = {}
    for name in state:
        words = tuple(name.split("."))
        for start in range(len(words)):
            rest = words[start:]
            exact = targets.get(rest)
            target = exact or (None if rest[0] in _TRANSPARENT else by_plain.get(_plain(rest)))
            if target is not None:
                prefix = "".join(f"{word}." for word in words[:start])
                names = found.setdefault(prefix, {}).setdefault(target, [])
                names.insert(0 if exact else len(names), name)
    return found


def _plain(words: Iterable[str]) -> tuple[str, ...]:
    """Without wrappers and with one word for every alias: equal for names that mean the same tensor."""
    return tuple(_ALIASES.get(word, word) for word in words if word not in _TRANSPARENT)


def _fit(
    state: Mapping[str, Tensor], model: nn.Module, prefix: str, candidates: Mapping[str, list[str]], new_head: bool
) -> Fit:
    wanted = model.state_dict()
    found = {target: names[0] for target, names in candidates.items()}
    problems = [f"doubled: {n} is another {target}" for target, names in candidates.items() for n in names[1:]]
    for one, other in _ties(wanted):
        if one in found and other in found and not same(state[found[one]], state[found[other]]):
            problems.append(f"untied: {one} and {other} are one tensor in the model, and two in the checkpoint")
        shared = found.get(one, found.get(other))
        if shared is not None:
            found = {one: shared, other: shared, **found}
    replaced = _other_head(state, model, found) if new_head else {}
    found = {target: name for target, name in found.items() if target not in replaced}
    problems += [
        f"wrong shape: {name} {tuple(state[name].shape)}, the model has {tuple(wanted[target].shape)}"
        for target, name in found.items()
        if state[name].shape != wanted[target].shape
    ]
    problems += [
        f"missing: {name} {tuple(wanted[name].shape)}" for name in required(model) if name not in {**found, **replaced}
    ]
    return Fit(prefix, found, tuple(problems), replaced)


def _other_head(state: Mapping[str, Tensor], model: nn.Module, found: Mapping[str, str]) -> dict[str, str]:
    """The model's last layer, where the state has one that differs in its outputs and in nothing else."""
    wanted = model.state_dict()
    last = required(model)[-1].rpartition(".")[0]
    head = {name: found[name] for name in wanted if name.rpartition(".")[0] == last and name in found}
    shapes = [(state[name].shape, wanted[target].shape) for target, name in head.items()]
    other = all(theirs[:1] != ours[:1] and theirs[1:] == ours[1:] for theirs, ours in shapes)
    return head if other else {}


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal; of those that are not plain numbers none is."""
    plain = all(t.layout == torch.strided and not (t.is_meta or t.is_quantized) for t in (one, other))
    return plain and one.dtype == other.dtype and torch.equal(one, other)


def _ties(wanted: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Names of one tensor, in pairs with its first."""
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in wanted.items():
        if tensor.numel() and not tensor.is_meta:
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            if first.setdefault(place, name) != name:
                yield first[place], name


def required(model: nn.Module) -> list[str]:
    """The names that a checkpoint must have: all but batch counts and the normalisation."""
    own = _normalisation(model)
    names = [name for name in model.state_dict() if name.rpartition(".")[2] != "num_batches_tracked"]
    return [name for name in names if name.rpartition(".")[0] not in own]


def _normalisation(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, Normalize)}
