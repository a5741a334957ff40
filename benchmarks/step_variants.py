"""The steps that training_step.py compares: what is trained, how one step goes, and where its time goes."""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

import harp
from harp.data import InMemory
from harp.models import build_model
from harp.recipes import Pruning, Training
from harp.training.distributed import place
from harp.training.engines import Attacked, WeightStep
from harp.training.loop import Course, train_step
from harp.training.optimizer import make_optimizer

EPS, STEP_SIZE, CLASSES = 8 / 255, 2 / 255, 10
VARIANTS = ("dense", "ours-dense", "prune", "finetune", "naive")
HOLDING = ("dense", "held", "unheld")
"""An ordinary loop around a Pruner, inside hold_masks and outside of it."""


@dataclass(frozen=True)
class Parts:
    """Seconds of one step. Without masks to compute, ``masks`` is 0; ``train`` is the last forward and the backward."""

    masks: float
    attack: float
    train: float
    update: float

    @property
    def whole(self) -> float:
        return self.masks + self.attack + self.train + self.update


Step = Callable[[], Parts]


def share_of_parts(steps: list[Parts]) -> dict[str, float]:
    names = ("masks", "attack", "train", "update")
    return {name: statistics.median(getattr(s, name) / s.whole for s in steps) for name in names}


def build(variant: str, network: str, batch: int, attack_steps: int, seed: int) -> Step:
    """The step of a variant on a seeded network of a name, and seeded images."""
    torch.manual_seed(seed)
    return build_on(variant, build_model(network, shape=(3, 32, 32), classes=CLASSES), batch, attack_steps, seed)


def build_on(variant: str, model: nn.Module, batch: int, attack_steps: int, seed: int) -> Step:
    """The step of a variant on any network for 32 × 32 images of ten classes."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(batch, 3, 32, 32, generator=generator), torch.arange(batch) % CLASSES
    if variant == "dense":
        return plain_step(model, x, y, attack_steps)
    if variant == "naive":
        return naive_step(model, x, y, attack_steps)
    if variant in HOLDING:
        return ordinary_step(model, x, y, attack_steps, held=variant == "held")
    return our_step(variant, model, x, y, attack_steps)


def ordinary_step(model: nn.Module, x: Tensor, y: Tensor, attack_steps: int, *, held: bool) -> Step:
    """The loop of the README."""
    pruner = harp.Pruner(model, keep=0.01, steps=1000)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    attack = Timed(attack_steps)
    place(model.train(), torch.device("cpu"), channels_last=True)

    def step() -> Parts:
        attack.marks[:] = [time.perf_counter()]
        with harp.hold_masks(model) if held else nullcontext():
            optimizer.zero_grad()
            harp.pgd_at(attack)(model, x, y).backward()
        attack.marks.append(time.perf_counter())
        optimizer.step()
        pruner.step()
        attack.marks.append(time.perf_counter())
        return Parts(*(after - before for before, after in pairwise(attack.marks)))

    return step


def plain_step(model: nn.Module, x: Tensor, y: Tensor, attack_steps: int) -> Step:
    """Adversarial training as it is usually written (Madry et al. 2018), and nothing of harp."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> Parts:
        began = time.perf_counter()
        model.eval()
        x_adv = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1)
        for _ in range(attack_steps):
            x_adv.requires_grad_(True)
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)
            x_adv = x_adv.detach() + STEP_SIZE * gradient.sign()
            x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
        model.train()
        attacked = time.perf_counter()
        loss = F.cross_entropy(model(x_adv), y)
        optimizer.zero_grad()
        loss.backward()
        trained = time.perf_counter()
        optimizer.step()
        loss.item()
        return Parts(0.0, attacked - began, trained - attacked, time.perf_counter() - trained)

    return step


def our_step(
    variant: str,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack_steps: int,
    *,
    keep: float = 0.01,
    method: harp.Method = harp.methods.HARP,
    attacked: Attacked | None = None,
    weight_step: WeightStep | None = None,
) -> Step:
    """The very step of harp's stages. The first pass of the attack also multiplies weights and masks."""
    rule, settings = None, Training(lr=0.01) if variant != "prune" else Pruning(lr=0.01)
    if variant != "ours-dense":
        budget = harp.weight_budget(model, keep=keep)
        harp.attach_masks(model, budget, method)
        if variant == "prune":
            rule = harp.Descent(model, budget, steps=1000)
        else:
            harp.freeze_masks(model)
    place(model.train(), torch.device("cpu"), channels_last=True)
    fabric, attack = Fabric(accelerator="cpu"), Timed(attack_steps)
    optimizer = make_optimizer(model, settings, rule=rule)
    optimizer.register_step_pre_hook(lambda *_: attack.marks.append(time.perf_counter()))
    optimizer = fabric.setup_optimizers(optimizer)
    images = InMemory(x, y)
    course = Course(
        *("benchmark", settings, harp.pgd_at(attack), images, lambda model: (0.0, 0.0), 0),
        rule=rule,
        attacked=attacked,
        weight_step=weight_step,
    )

    def step() -> Parts:
        attack.marks[:] = [time.perf_counter()]
        train_step(model, course, fabric, optimizer, x, y)
        attack.marks.append(time.perf_counter())
        return Parts(*(after - before for before, after in pairwise(attack.marks)))

    return step


class Timed:
    """harp's PGD, which notes when it began and ended; the step's own marks stand before and after."""

    def __init__(self, steps: int):
        self.attack = harp.PGD(harp.Threat("linf", EPS), steps=steps, step_size=STEP_SIZE)
        self.marks: list[float] = []

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        self.marks.append(time.perf_counter())
        x_adv = self.attack(model, x, y)
        self.marks.append(time.perf_counter())
        return x_adv


class SortedMask(torch.autograd.Function):
    """The usual subnet selection: sort all scores, keep the last; the gradient goes straight through."""

    @staticmethod
    def forward(ctx, scores: Tensor, keep: float) -> Tensor:
        order = scores.abs().flatten().sort().indices
        mask = torch.zeros_like(scores).flatten()
        mask[order[-max(round(keep * scores.numel()), 1) :]] = 1.0
        return mask.view_as(scores)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class Sorting(nn.Module):
    """A masked weight that is computed anew, by a sort, at every forward."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.scores = nn.Parameter(weight.detach().clone())

    def forward(self, weight: Tensor) -> Tensor:
        mask: Tensor = SortedMask.apply(self.scores, 0.01)  # type: ignore[assignment]
        return weight * mask


def naive_step(model: nn.Module, x: Tensor, y: Tensor, attack_steps: int) -> Step:
    """The plain loop, on a network whose scores learn and whose weights rest."""
    for module in [*model.modules()]:
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.requires_grad_(False)
            nn.utils.parametrize.register_parametrization(module, "weight", Sorting(module.weight))
    return plain_step(model, x, y, attack_steps)
