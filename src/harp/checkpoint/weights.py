"""Weights made anywhere into a model: which network of a file is meant, and whether it is the model's."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from harp.checkpoint.foreign import read_states
from harp.checkpoint.tensors import need_file, open_tensors
from harp.models.names import Fit, fits_in, is_exact, required, same, take

_log = logging.getLogger(__name__)

_SECOND = {"ema", "average", "averaged", "avg", "swa", "teacher", "target", "momentum"}
"""Words in the key of a network that is the second of its kind: the plain one is taken unless another is asked for."""
_MOST_KEYS = 10


@dataclass(frozen=True)
class Candidate:
    """One network in a file: the keys that lead to its state dict, and where it is in there."""

    where: str
    state: Mapping[str, Tensor]
    fit: Fit

    @property
    def key(self) -> str:
        """All that comes before the names of its tensors."""
        return f"{self.where}.{self.fit.prefix}".strip(".")


def load_weights(model: nn.Module, path: Path, *, key: str | None = None, new_head: bool = False) -> nn.Module:
    """Load a checkpoint made anywhere: safetensors, or a PyTorch file, of which only tensors are read.

    The network is found below whatever keys and prefixes lead to it: ``{"state_dict": …}``, ``module.``, ``module.1.``.
    Where a file has several that fit, the plain one comes before an average, ``best`` before ``last``, and a warning
    says which was taken; ``key`` chooses. With ``new_head`` a last layer of another number of classes stays the model's
    own, and a warning says so. Raises ValueError listing missing, unexpected and misshapen entries, and for
    values that are not finite; the model is then unchanged.
    """
    need_file(path)
    states = {"": _tied_again(path)} if path.suffix == ".safetensors" else read_states(path)
    try:
        matched = _matched(model, path, states, key, new_head)
    except ValueError as error:
        raise ValueError(f"{path} does not fit the model: {error}") from error
    odd = [n for n, t in matched.items() if t.layout != torch.strided or t.is_complex() or t.is_quantized or t.is_meta]
    if odd:
        raise ValueError(f"{path} holds tensors that are not plain numbers in {odd}; save model.state_dict() as it is")
    broken = [name for name, t in matched.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if broken:
        raise ValueError(f"{path} holds values that are not finite in {broken}; the checkpoint is damaged")
    model.load_state_dict(matched)
    return model


def _tied_again(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Of tied ones ``save_model`` writes one, and the others' names as metadata."""
    tensors, metadata = open_tensors(path)
    return {**{name: tensors[kept] for name, kept in metadata.items() if kept in tensors}, **tensors}


def _matched(
    model: nn.Module, path: Path, states: Mapping[str, Mapping[str, Tensor]], key: str | None, new_head: bool
) -> Mapping[str, Tensor]:
    if key is None and "" in states and is_exact(states[""], model):
        return states[""]
    large = [where for where, state in states.items() if 2 * len(state) >= len(required(model))]
    networks = [
        Candidate(where, states[where], fit)
        for where in large or states
        for fit in fits_in(states[where], model, new_head=new_head)
    ]
    if key is not None:
        named = [network for network in networks if f"{network.key}.".startswith(f"{key}.")]
        if not named:
            raise ValueError(f"key={key!r} (--weights-key) leads to no tensors; there are {_listed(networks)}")
        networks = named
    networks.sort(key=lambda network: (bool(network.fit.problems), *_rank(network)))
    chosen, *others = networks
    complete = [network for network in others if not network.fit.problems]
    try:
        matched = take(
            chosen.state,
            model,
            chosen.fit,
            others=[network.fit for network in complete if network.state is chosen.state],
            alone=key is not None and len(key) > len(chosen.where),
        )
    except ValueError as error:
        found = f"{_listed(networks)} were found, and the nearest is {chosen.key!r}: " if others else ""
        raise ValueError(f"{found}{error}") from error
    different = [network for network in complete if not _equal(network, chosen)]
    if different:
        _log.warning(
            "%s holds %d networks that fit, and %s is taken; --weights-key takes another: %s",
            *(path, len(different) + 1, chosen.key or "the one without a key", _listed(different)),
        )
    return matched


def _rank(network: Candidate) -> tuple[bool, bool, int]:
    """What comes first when nobody chooses: the plain one before an average, and the last one last."""
    words = {*re.split(r"[._]", network.key.lower())}
    return bool(words & _SECOND), "last" in words, -len(network.fit.found)


def _listed(networks: Sequence[Candidate]) -> str:
    keys = list(dict.fromkeys(network.key for network in networks if network.key))
    return ", ".join(keys[:_MOST_KEYS]) + (f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else "")


def _equal(one: Candidate, other: Candidate) -> bool:
    names = other.fit.found
    return all(t in names and same(one.state[name], other.state[names[t]]) for t, name in one.fit.found.items())
