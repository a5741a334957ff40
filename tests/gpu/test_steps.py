"""A training step on a GPU beside the same step on the CPU: every objective, plug-in and rule; and where it waits.

Both draw their random numbers on the CPU. What is stated: losses of three steps agree to 2 % in 32 bits (a gradient near
zero may have another sign, and moves a pixel by all of a step).
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from gpu_parts import DEVICE, THREAT, images, need_gpu, seeded_network
from lightning_fabric import Fabric
from torch import Tensor, nn

from harp.attacks import PGD, Threat
from harp.objectives import Objective, free_at, mart, n_fgsm, natural, pgd_at, trades
from harp.pruning import (
    GMP_LAMP,
    HARP,
    LWM,
    Admm,
    Descent,
    Gradual,
    Penalty,
    Ramp,
    Sharpness,
    attach_masks,
    freeze_masks,
    learned_scores,
    learned_weights,
    weight_budget,
)
from harp.recipes import Pruning
from harp.training.averaging import Average
from harp.training.distributed import place
from harp.training.gpu import out_of_memory
from harp.training.loop import Course, train_step
from harp.training.optimizer import make_optimizer

need_gpu()

STEPS = 3
PLACES = {"prune": ["mask.py", "descent.py"], "s2ap": ["mask.py", "mask.py", "descent.py"]}
"""The files in which a step waits for the GPU, in order: one transfer of all keep fractions, and one of their gradients.
Steps that are not named here wait nowhere."""


@pytest.fixture(autouse=True)
def same_random_numbers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Drawn on the CPU, for both."""
    drawn = torch.randn
    monkeypatch.setattr(torch, "randn_like", lambda x: drawn(x.shape).to(x.device))
    monkeypatch.setattr(Threat, "start", lambda self, x: self.project(x + self.eps * _uniform(x), x))
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def _uniform(x: Tensor) -> Tensor:
    return (torch.rand(x.shape) * 2 - 1).to(x.device)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "natural": natural,
    "pgd-at": lambda: pgd_at(PGD(THREAT, steps=2)),
    "pgd-at-cw": lambda: pgd_at(PGD(THREAT, steps=2, loss="cw")),
    "pgd-at-l2": lambda: pgd_at(PGD(Threat("l2", 0.5), steps=2)),
    "n-fgsm": lambda: n_fgsm(THREAT, noise=0.0),
    "free-at": lambda: free_at(THREAT, replays=2),
    "trades": lambda: trades(THREAT, steps=2),
    "mart": lambda: mart(PGD(THREAT, steps=2)),
}
PRUNING = ("prune", "ramp", "finetune", "gradual", "admm", "s2ap", "awp", "ema")


def stage_of(kind: str, model: nn.Module, course: Course) -> Course:
    """The course of a step of this kind, masks attached."""
    if kind in ("dense", "ema"):
        return replace(course, average=Average(model, 0.9)) if kind == "ema" else course
    budget = weight_budget(model, keep=0.2)
    if kind == "admm":
        return replace(course, rule=Admm(model, budget, 100, rho=0.01))
    attach_masks(model, budget, {"gradual": GMP_LAMP, "finetune": LWM, "awp": LWM}.get(kind, HARP))
    match kind:
        case "finetune" | "awp":
            freeze_masks(model)
            return replace(course, sharpness=Sharpness(0.01, learned_weights) if kind == "awp" else None)
        case "gradual":
            return replace(course, rule=Gradual(model, budget, 100, method=GMP_LAMP))
        case "ramp":
            return replace(course, rule=Penalty(model, budget, Ramp(0.1)))
    sharpness = Sharpness(0.01, learned_scores) if kind == "s2ap" else None
    return replace(course, rule=Descent(model, budget, 100), sharpness=sharpness)


def stepping(kind: str, objective: Objective, device: str, precision: str = "32-true") -> Callable[[], Tensor]:
    model = place(seeded_network(), torch.device(device), channels_last=True).train()
    fabric = Fabric(accelerator=device, devices=1, precision=precision)  # type: ignore[arg-type]
    settings = Pruning(lr=0.01)
    plain = Course("gpu", settings, objective, images(24, 0), lambda model: (0.0, 0.0), seed=0)
    course = stage_of(kind, model, plain)
    optimizer = fabric.setup_optimizers(make_optimizer(model, settings, rule=course.rule))
    if course.rule is not None:
        course.rule.start_epoch()
    x, y = images(24, 0).images, images(24, 0).labels

    def step() -> Tensor:
        torch.manual_seed(1)
        return train_step(model, course, fabric, optimizer, x, y)

    return step


def losses(kind: str, objective: Callable[[], Objective], device: str, precision: str = "32-true") -> Tensor:
    step = stepping(kind, objective(), device, precision)
    return torch.stack([step().cpu() for _ in range(STEPS)])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_takes_the_steps_of_the_cpu(name: str):
    theirs = losses("dense", OBJECTIVES[name], "cpu")
    torch.testing.assert_close(losses("dense", OBJECTIVES[name], DEVICE), theirs, rtol=0.02, atol=0.005)


@pytest.mark.parametrize("kind", PRUNING)
def test_every_rule_and_plug_in_takes_the_steps_of_the_cpu(kind: str):
    theirs = losses(kind, OBJECTIVES["pgd-at"], "cpu")
    torch.testing.assert_close(losses(kind, OBJECTIVES["pgd-at"], DEVICE), theirs, rtol=0.02, atol=0.005)


@pytest.mark.parametrize("precision", ["bf16-mixed"] + ["16-mixed"] * (DEVICE == "cuda"))
@pytest.mark.parametrize("kind", ["dense", "prune", "finetune", "s2ap"])
def test_mixed_precision_stays_within_a_tenth_of_the_loss(kind: str, precision: str):
    theirs = losses(kind, OBJECTIVES["pgd-at"], "cpu")
    mine = losses(kind, OBJECTIVES["pgd-at"], DEVICE, precision)
    torch.testing.assert_close(mine, theirs, rtol=0.1, atol=0.05)


def test_tf32_stays_within_two_percent_of_the_loss():
    theirs = losses("prune", OBJECTIVES["pgd-at"], "cpu")
    torch.backends.cudnn.allow_tf32 = True
    torch.testing.assert_close(losses("prune", OBJECTIVES["pgd-at"], DEVICE), theirs, rtol=0.02, atol=0.01)


@pytest.mark.skipif(DEVICE == "cpu", reason="a CPU is never waited for")
@pytest.mark.parametrize("kind", ["dense", *PRUNING])
def test_a_step_waits_for_the_gpu_where_it_is_said_and_nowhere_else(kind: str):
    step = stepping(kind, pgd_at(PGD(THREAT, steps=3)), DEVICE)
    for _ in range(2):  # the first looks at the images, and remembers where to look at weights
        step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waited:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = [(w.filename.rpartition("/")[2], w.lineno) for w in waited if "synchronizing" in str(w.message)]
    assert [file for file, _ in places] == PLACES.get(kind, []), places


@pytest.mark.skipif(DEVICE == "cpu", reason="the memory of a GPU")
def test_a_full_gpu_names_the_flags_that_help():
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**46, dtype=torch.uint8, device=DEVICE)
    said = out_of_memory(caught.value, "prune")
    assert said is not None
    assert "a smaller --batch-size" in said
    assert "bf16-mixed" in said
