"""What a step of finetuning and of pruning costs when its attack runs on the sparse engine, relative to torch."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from step_variants import CLASSES, Parts, our_step

import harp
from harp.evaluation import Ranks
from harp.models import build_model
from harp.pruning.keeps import uniform
from harp.stages.attacked import Attacked

START = 0.1
"""The density at which learned keep fractions begin."""


@dataclass(frozen=True)
class Steps:
    """Seconds of the steps on one engine, and the share of each that the attack takes."""

    seconds: tuple[float, ...]
    attack: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def finetune(network: str, keep: float, batch: int, attack_steps: int, rounds: int, seed: int) -> dict[str, Steps]:
    """Steps in torch and on the engine, in turns, on ERK masks."""
    return _in_turns("finetune", network, keep, harp.methods.ERK, batch, attack_steps, rounds, seed)


def prune(
    network: str, keep: float, batch: int, attack_steps: int, rounds: int, seed: int
) -> Iterator[dict[str, Steps]]:
    """Steps of HARP at the densities that a stage passes: its start, half of the way on a logarithmic axis, the target."""
    method = replace(harp.methods.HARP, keeps=uniform)
    for density in (START, (START * keep) ** 0.5, keep):
        yield _in_turns("prune", network, density, method, batch, attack_steps, rounds, seed)


def _in_turns(
    what: str, network: str, keep: float, method: harp.Method, batch: int, attack_steps: int, rounds: int, seed: int
) -> dict[str, Steps]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(batch, 3, 32, 32, generator=generator), torch.arange(batch) % CLASSES
    steps: dict[str, Callable[[], Parts]] = {}
    for on in ("torch", "sparse"):
        attacked = Attacked("sparse", attack_steps, Ranks(), lambda text: None) if on == "sparse" else None
        torch.manual_seed(seed)
        model = build_model(network, shape=(3, 32, 32), classes=CLASSES)
        steps[on] = our_step(what, model, x, y, attack_steps, keep=keep, method=method, attacked=attacked)
    taken: dict[str, list[Parts]] = {on: [] for on in steps}
    for number in range(rounds + 1):
        for on in list(steps)[:: 1 if number % 2 == 0 else -1]:
            taken[on].append(steps[on]())
    return {on: _summary(parts[1:]) for on, parts in taken.items()}  # the first makes the engine


def _summary(parts: Sequence[Parts]) -> Steps:
    return Steps(tuple(p.whole for p in parts), statistics.median(p.attack / p.whole for p in parts))
