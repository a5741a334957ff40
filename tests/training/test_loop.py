"""fit: what a step does, which epoch is best, and that an interruption changes no bit."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn
from torch.amp.grad_scaler import GradScaler

from harp.attacks import Threat
from harp.checkpoint import load_state, save_state
from harp.data import InMemory
from harp.objectives import FreeAT, free_at, natural
from harp.pruning import (
    GMP_LAMP,
    HARP,
    METHODS,
    Admm,
    Descent,
    FlyingBird,
    Gradual,
    Penalty,
    Ramp,
    Regrowth,
    Sharpness,
    attach_masks,
    density_of,
    learned_scores,
    learned_weights,
    masks,
    weight_budget,
)
from harp.recipes import Pruning, Training
from harp.training.averaging import Average
from harp.training.loop import Course, epoch_order, fit
from harp.training.mixing import Mixing
from harp.training.optimizer import lr_factor, make_optimizer
from harp.training.progress import EpochMetrics, Progress, best_of
from harp.training.seeding import seed_of
from harp.training.targets import Targets


def images(n: int = 40) -> InMemory:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    pixels = torch.rand(n, 1, 4, 4, generator=generator) * 0.5 + labels[:, None, None, None] * 0.4
    return InMemory(pixels, labels)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))


def accuracy(model: nn.Module) -> tuple[float, float]:
    data = images()
    model.eval()
    with torch.no_grad():
        correct = (model(data.images).argmax(1) == data.labels).float().mean().item()
    model.train()
    return correct, correct


def course(settings: Training, model: nn.Module | None = None, **changes) -> Course:
    made = Course("pretrain", settings, natural(), images(), accuracy, seed=0)
    return replace(made, **changes)


def prune_course(model: nn.Module, settings: Pruning, rule: str) -> Course:
    budget = weight_budget(model, keep=settings.keep)
    attach_masks(model, budget, HARP)
    steps = settings.epochs * 5
    keeps = Penalty(model, budget, Ramp(0.1)) if rule == "ramp" else Descent(model, budget, steps)
    return course(settings, stage="prune", budget=budget, rule=keeps)


CPU = Fabric(accelerator="cpu")
SHORT = Training(epochs=3, batch_size=8, lr=0.05)
SHORT_PRUNE = Pruning(epochs=3, batch_size=8, lr=0.05, keep=0.1)


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in model.state_dict().items()}


def assert_same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def run_interrupted(make, stop_after: int, resume: Path) -> nn.Module:
    """Stop after that many steps, then start a fresh process's worth of objects and go on."""
    model, plan = make()
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps == stop_after

    with pytest.raises(KeyboardInterrupt):
        list(fit(model, plan, Fabric(accelerator="cpu"), resume=resume, should_stop=stop))
    torch.manual_seed(999)  # whatever the generator was left at must not matter
    model, plan = make()
    list(fit(model, plan, Fabric(accelerator="cpu"), resume=resume))
    return model


def course_of(kind: str, model: nn.Module) -> Course:
    """A short course of each kind that carries something of its own from step to step."""
    match kind:
        case "dense":
            return course(SHORT)
        case "ema":
            return course(SHORT, average=Average(model, 0.9))
        case "awp":
            return course(SHORT, sharpness=Sharpness(0.1, learned_weights))
        case "s2ap":
            plug_in = Sharpness(0.2, learned_scores, warmup=0.75)
            return replace(prune_course(model, SHORT_PRUNE, "descent"), sharpness=plug_in)
        case "admm":
            budget = weight_budget(model, keep=0.1)
            return course(SHORT_PRUNE, stage="prune", budget=budget, rule=Admm(model, budget, 15, rho=0.5))
        case "gmp":
            budget = weight_budget(model, keep=0.1)
            attach_masks(model, budget, GMP_LAMP)
            rule = Gradual(model, budget, 15, method=GMP_LAMP, every=2)
            return course(SHORT_PRUNE, stage="prune", budget=budget, rule=rule)
        case "flying-bird" | "flying-bird-plus":
            budget = weight_budget(model, keep=0.3)
            attach_masks(model, budget, METHODS[kind])
            rule = FlyingBird(model, budget, 15, method=METHODS[kind], how=Regrowth(every=2))

            def validate(model: nn.Module) -> tuple[float, float]:
                found = accuracy(model)
                rule.end_epoch(1.0, found[1])
                return found

            return course(SHORT_PRUNE, stage="prune", budget=budget, rule=rule, validate=validate)
        case "softened":
            towards = Targets(2, label_smoothing=0.1, distill=0.5, teacher=network().eval())
            return course(SHORT, targets=towards, mixing=Mixing(erasing=0.5, cutmix=0.7))
        case "free-at":
            return course(SHORT, objective=free_at(Threat("linf", 0.1), replays=2))
        case rule:
            return prune_course(model, SHORT_PRUNE, rule)


@pytest.mark.parametrize("stop_after", [1, 5, 7, 14])
@pytest.mark.parametrize(
    "kind",
    [
        "dense",
        "descent",
        "ramp",
        "awp",
        "s2ap",
        "admm",
        "free-at",
        "ema",
        "gmp",
        "flying-bird",
        "flying-bird-plus",
        "softened",
    ],
)
def test_a_run_stopped_at_any_step_ends_with_the_bits_of_one_never_stopped(kind, stop_after, tmp_path):
    def make() -> tuple[nn.Module, Course]:
        model = network()
        return model, course_of(kind, model)

    whole, plan = make()
    list(fit(whole, plan, Fabric(accelerator="cpu")))
    resumed = run_interrupted(make, stop_after, tmp_path / "state.safetensors")
    assert_same_bits(state_of(whole), state_of(resumed))


@pytest.mark.parametrize("kind", ["awp", "s2ap", "admm", "free-at", "ema", "softened"])
def test_what_a_course_adds_to_plain_steps_changes_what_is_learned(kind):
    """The control of the test above: a plug-in that did nothing would resume well, too."""
    plain, other = network(), network()
    list(fit(plain, prune_course(plain, SHORT_PRUNE, "descent") if kind == "s2ap" else course(SHORT), CPU))
    list(fit(other, course_of(kind, other), CPU))
    assert any(not torch.equal(a, b) for a, b in zip(state_of(plain).values(), state_of(other).values(), strict=True))


def test_a_course_with_replays_takes_as_many_steps_on_each_batch():
    seen = []

    class Watched(FreeAT):
        def loss(self, model, x, x_adv, y):
            seen.append((x.data_ptr(), x_adv.detach().clone()))
            return super().loss(model, x, x_adv, y)

    settings = replace(SHORT, epochs=1)
    progress = []
    model = network()
    loss = Watched(Threat("linf", 0.1), replays=3, step_size=None)
    list(fit(model, course(settings, objective=loss), CPU, on_step=progress.append))
    assert len(progress) == 5  # a bar counts batches
    assert len(seen) == 15
    assert not torch.equal(seen[0][1], seen[1][1])


def test_s2ap_begins_after_its_warm_up():
    """Until then every score has the bits of a run without it: two of eight epochs, a quarter."""
    short = replace(SHORT_PRUNE, epochs=8)
    runs = []
    for plug_in in (None, Sharpness(0.5, learned_scores, warmup=2.0)):
        model, scores = network(), []
        plan = replace(prune_course(model, short, "descent"), sharpness=plug_in)
        for _ in fit(model, plan, CPU):
            scores.append(masks(model)["4.weight"].scores.detach().clone())
        runs.append(scores)
    same = [torch.equal(a, b) for a, b in zip(*runs, strict=True)]
    assert same == [True, True] + [False] * 6


def test_admm_leaves_the_last_epoch_because_those_before_are_not_yet_sparse():
    accuracies = iter([(0.0, 0.9), (0.0, 0.1), (0.0, 0.2)])
    model = network()
    plan = replace(course_of("admm", model), validate=lambda m: next(accuracies))
    records = list(fit(model, plan, CPU))
    assert best_of(records).epoch == 2
    assert [record.gamma for record in records] == pytest.approx([0.5 * 1.3**3, 0.5 * 1.3**6, 0.5 * 1.3**9])


def test_a_resumed_run_yields_the_epochs_already_done_first(tmp_path):
    first = list(fit(network(), course(SHORT), Fabric(accelerator="cpu"), resume=tmp_path / "s.safetensors"))
    again = list(fit(network(), course(SHORT), Fabric(accelerator="cpu"), resume=tmp_path / "s.safetensors"))
    assert again == first
    assert [m.epoch for m in again] == [0, 1, 2]


def test_the_model_at_the_end_is_that_of_the_best_epoch():
    scores = iter([0.5, 0.9, 0.2])
    seen = []

    def validate(model: nn.Module) -> tuple[float, float]:
        seen.append(state_of(model))
        return 1.0, next(scores)

    model = network()
    list(fit(model, course(SHORT, validate=validate), Fabric(accelerator="cpu")))
    assert_same_bits(state_of(model), seen[1])


def metrics(epoch: int, robust: float, met: bool) -> EpochMetrics:
    return EpochMetrics(epoch, 1.0, 0.9, robust, 0.01, None, 0.1, 1.0, 1.0, {}, met)


def test_an_epoch_over_the_budget_is_never_the_best_however_accurate():
    """Fault 4 of the published code: its best checkpoint may exceed the budget."""
    records = [metrics(0, 0.9, False), metrics(1, 0.4, True), metrics(2, 0.5, True), metrics(3, 0.95, False)]
    assert best_of(records).epoch == 2


def test_without_an_epoch_inside_the_budget_the_last_one_is_taken():
    assert best_of([metrics(0, 0.9, False), metrics(1, 0.1, False)]).epoch == 1
    assert best_of([]) is None


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tmp_path):
    calls = 0

    def objective(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        loss = natural()(model, x, y)
        return loss * math.nan if calls == 8 else loss

    state = tmp_path / "s.safetensors"
    run = fit(network(), course(SHORT, objective=objective), Fabric(accelerator="cpu"), resume=state)
    with pytest.raises(FloatingPointError, match=r"pretrain, epoch 1, step 2"):
        list(run)
    # The state of the last good epoch is there and finite: a lower learning rate can start from it.
    resumed = fit(network(), course(SHORT), Fabric(accelerator="cpu"), resume=state)
    assert [m.epoch for m in resumed] == [0, 1, 2]


def test_mixed_precision_has_the_same_guard(tmp_path):
    def objective(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return natural()(model, x, y) * 1e39  # more than a float32 can say

    state = tmp_path / "s.safetensors"
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    with pytest.raises(FloatingPointError, match=r"the loss became inf in stage pretrain, epoch 0, step 0"):
        list(fit(network(), course(SHORT, objective=objective), fabric, resume=state))
    assert not state.exists()
    assert [m.epoch for m in fit(network(), course(SHORT), fabric, resume=state)] == [0, 1, 2]


def test_the_scale_of_the_loss_travels_too(tmp_path):
    """16-mixed, here on a CPU: the scale doubles with every step, until half precision overflows and a step is left out."""

    def half() -> tuple[Fabric, GradScaler]:
        scaler = GradScaler("cpu", init_scale=2.0**13, growth_interval=1)
        return Fabric(accelerator="cpu", plugins=[MixedPrecision("16-mixed", "cpu", scaler)]), scaler

    straight, (fabric, scaler) = network(), half()
    list(fit(straight, course(SHORT), fabric))
    overflowed = scaler.state_dict()["scale"] < 2.0 ** (13 + 15)
    assert overflowed, "no step was left out, so the test would not notice a wrong scale"
    polls = iter([False] * 6 + [True])
    resume = tmp_path / "s.safetensors"
    with pytest.raises(KeyboardInterrupt):
        list(fit(network(), course(SHORT), half()[0], resume=resume, should_stop=lambda: next(polls)))
    again, (fabric, resumed) = network(), half()
    list(fit(again, course(SHORT), fabric, resume=resume))
    assert resumed.state_dict() == scaler.state_dict()
    assert_same_bits(state_of(again), state_of(straight))


def test_a_resumed_momentum_lies_in_memory_as_its_weight_does(tmp_path):
    """A file holds it in index order, and a step across layouts takes five times as long."""
    wide = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 2))
    wide.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(wide, SHORT)
    wide(torch.rand(2, 1, 4, 4)).sum().backward()
    optimizer.step()
    progress = Progress()
    state = progress.state(wide, optimizer, {})
    save_state(tmp_path / "s", state)
    again = make_optimizer(wide, SHORT)
    Progress().restore(load_state(tmp_path / "s"), wide, again, {})
    weight = wide[1].weight
    before, after = (o.state[weight]["momentum_buffer"] for o in (optimizer, again))
    assert torch.equal(before, after)
    assert after.is_contiguous(memory_format=torch.channels_last)
    assert not after.is_contiguous()


@pytest.mark.parametrize(
    ("schedule", "epoch", "factor"),
    [
        ("cosine", 0.0, 1.0),
        ("cosine", 5.0, 0.5),
        ("cosine", 10.0, 0.0),
        ("piecewise", 4.9, 1.0),
        ("piecewise", 5.0, 0.1),
        ("piecewise", 7.5, 0.01),
        ("constant", 9.9, 1.0),
    ],
)
def test_learning_rate_schedules_as_a_table(schedule, epoch, factor):
    assert lr_factor(Training(epochs=10, schedule=schedule), epoch) == pytest.approx(factor)


def test_warm_up_climbs_from_nothing_then_the_schedule_starts_at_its_peak():
    settings = Training(epochs=10, warmup_epochs=2.0)
    assert lr_factor(settings, 0.0) < 0.01
    assert lr_factor(settings, 1.0) == pytest.approx(0.5, abs=0.01)
    assert lr_factor(settings, 2.0) == 1.0
    assert lr_factor(settings, 10.0) == pytest.approx(0.0)


def test_seeds_differ_for_every_part_and_are_the_same_everywhere():
    assert seed_of(0, "prune", 1, 2) == seed_of(0, "prune", 1, 2)
    parts = [(0, "prune", 1, 2), (1, "prune", 1, 2), (0, "finetune", 1, 2), (0, "prune", 2, 1), (0, "prune", 12)]
    assert len({seed_of(*p) for p in parts}) == len(parts)
    assert seed_of("golden") == 1748812813564986506


def test_ranks_share_an_epoch_without_overlap_and_in_equal_parts():
    plan = course(SHORT, images=images(42))
    parts = [epoch_order(plan, 0, rank, 4) for rank in range(4)]
    assert {len(p) for p in parts} == {10}
    assert len(torch.cat(parts).unique()) == 40


def test_a_last_batch_of_one_image_is_left_out_because_batch_norm_cannot_use_it():
    assert len(epoch_order(course(SHORT, images=images(41)), 0, 0, 1)) == 40


def test_density_falls_to_the_budget_within_two_thirds_of_the_stage():
    model = network()
    assert density_of(model) == 1.0
    plan = prune_course(model, replace(SHORT_PRUNE, epochs=9, keep=0.05), "descent")
    records = list(fit(model, plan, Fabric(accelerator="cpu")))
    densities = [record.density for record in records]
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in pairwise(densities))
    assert [record.met_budget for record in records] == [False] * 5 + [True] * 4


def test_scores_and_logits_have_their_own_weight_decay():
    """Fault 6 of the published code: a logit decayed to 0 means keep = 0.5."""
    from harp.training.optimizer import make_optimizer

    model = network()
    plan = prune_course(model, replace(SHORT_PRUNE, score_weight_decay=0.0), "ramp")
    optimizer = make_optimizer(model, plan.settings, rule=plan.rule)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for mask in masks(model).values():
        assert decay[id(mask.logit)] == 0.0
        assert decay[id(mask.scores)] == 0.0
    assert decay[id(model[1].weight)] == plan.settings.weight_decay
