"""Fit a foreign checkpoint's names to a model."""

import logging
from collections import Counter
from collections.abc import Mapping

from torch import Tensor, nn

from harp.models.normalise import Normalize

_WRAPPERS = ("module", "model", "net")
"""What DataParallel, Lightning and others put before every name."""

_ALIASES = {"shortcut": "downsample", "linear": "fc"}
"""Layers that go by two names: kuangliu's, torchvision's."""

_SCORES = ("popup_scores", "k_score")
"""What HYDRA's and HARP's published dense checkpoints carry beside their weights: the start values of pruning."""

_log = logging.getLogger(__name__)


def match_names(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors of `state` under the names of `model.state_dict()`, complete, for `load_state_dict`.

    Prefixes (`module.`, `model.`, `net.`, `_orig_mod.`) and aliases (`shortcut` for `downsample`, `linear` for `fc`)
    may differ. Batch counts and the normalisation may be missing: the model's own stay. Raises ValueError that lists
    every missing, unexpected, doubled or differently shaped tensor.
    """
    wanted = model.state_dict()
    canonical = Counter(_canonical(name) for name in wanted)
    by_canonical = {_canonical(name): name for name in wanted if canonical[_canonical(name)] == 1}
    found: dict[str, Tensor] = {}
    problems: list[str] = []
    for name, tensor in state.items():
        if name.rpartition(".")[2] in _SCORES:
            _log.warning("ignoring %s: the weights are read as a dense network's", name)
            continue
        target = name if name in wanted else by_canonical.get(_canonical(name))
        if target is None:
            problems.append(f"unexpected: {name} {tuple(tensor.shape)}")
        elif target in found:
            problems.append(f"doubled: {name} is another {target}")
        elif tensor.shape != wanted[target].shape:
            problems.append(f"wrong shape: {name} {tuple(tensor.shape)}, the model has {tuple(wanted[target].shape)}")
        else:
            found[target] = tensor
    optional = _optional(model)
    present = {*found, *(by_canonical.get(_canonical(name), name) for name in state)}
    problems += [
        f"missing: {name} {tuple(wanted[name].shape)}"
        for name in wanted
        if name not in present and name not in optional
    ]
    if problems:
        raise ValueError("\n  ".join([f"the checkpoint does not fit {type(model).__name__}:", *problems]))
    return {**wanted, **found}


def _canonical(name: str) -> str:
    """`name` without wrappers, with one word for every alias: equal for names that mean the same tensor."""
    words = [word for word in name.split(".") if word != "_orig_mod"]
    while len(words) > 1 and words[0] in _WRAPPERS:
        words.pop(0)
    return ".".join(_ALIASES.get(word, word) for word in words)


def _optional(model: nn.Module) -> set[str]:
    """The names that a checkpoint may lack."""
    counts = {name for name in model.state_dict() if name.rpartition(".")[2] == "num_batches_tracked"}
    layers = [name for name, module in model.named_modules() if isinstance(module, Normalize)]
    return counts | {f"{name}.{part}" for name in layers for part in ("mean", "std")}
