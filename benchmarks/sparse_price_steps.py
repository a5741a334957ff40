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
from harp.stages.weight_step import WeightStep

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


def one_step(
    what: str, on: str, network: str, keep: float, batch: int, attack_steps: int, seed: int
) -> Callable[[], Parts]:
    """A step on torch or on the engine, to be called again and again; in finetuning all of it is on the engine."""
    method = harp.methods.ERK if what == "finetune" else replace(harp.methods.HARP, keeps=uniform)
    return _step(what, on, network, keep, method, batch, attack_steps, seed)


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
    steps = {on: _step(what, on, network, keep, method, batch, attack_steps, seed) for on in ("torch", "sparse")}
    taken: dict[str, list[Parts]] = {on: [] for on in steps}
    for number in range(rounds + 1):
        for on in list(steps)[:: 1 if number % 2 == 0 else -1]:
            taken[on].append(steps[on]())
    return {on: _summary(parts[1:]) for on, parts in taken.items()}  # the first makes the engine


def _step(
    what: str, on: str, network: str, keep: float, method: harp.Method, batch: int, attack_steps: int, seed: int
) -> Callable[[], Parts]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(batch, 3, 32, 32, generator=generator), torch.arange(batch) % CLASSES
    attacked = weight_step = None
    if on == "sparse":
        attacked = Attacked("sparse", attack_steps, Ranks(), lambda text: None)
        weight_step = WeightStep("sparse", Ranks(), lambda text: None) if what == "finetune" else None
    torch.manual_seed(seed)
    model = build_model(network, shape=(3, 32, 32), classes=CLASSES)
    return our_step(
        *(what, model, x, y, attack_steps), keep=keep, method=method, attacked=attacked, weight_step=weight_step
    )


def _summary(parts: Sequence[Parts]) -> Steps:
    return Steps(tuple(p.whole for p in parts), statistics.median(p.attack / p.whole for p in parts))
