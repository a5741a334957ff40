"""How long evaluations take: what is timed, what is assumed, and that it comes true."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harp.attacks import PGD, Minimal, Settled, Threat, autoattack
from harp.cli import main
from harp.cli.dry_run import about
from harp.data import InMemory
from harp.dry_run.clock import UNTRAINED, Clock, Pace, Range, Standing
from harp.dry_run.evaluation import standing_below, time_of_evaluation, time_to_evaluate
from harp.recipes import Compute, Evaluating, Recipe, Task, Training
from harp.runtime.torch import SparseModule
from harp.stages.evaluate import evaluate_run
from harp.stages.train import pretrain

CPU = Compute(device="cpu", threads=1)
TASK = Task(data="tiny:data", model="tiny:network", eps=0.1, validation=0.2)
NATURAL = Training(epochs=1, batch_size=18, objective="natural")


def test_a_part_takes_its_cost_for_every_batch_and_every_image():
    assert Pace(batch_s=2.0, image_s=0.5).seconds(cost=10, images=250, batch_size=100) == 10 * (3 * 2.0 + 250 * 0.5)


def test_a_range_is_added_end_by_end_and_shown_where_it_is_one():
    total = Range(60, 120, 240) + Range(60, 60, 60)
    assert total * 2 == Range(240, 360, 600)
    assert about(total) == "3 min (2 min to 5 min)"
    assert about(Range(60, 60, 60)) == "1 min"


class Slow(nn.Module):
    """Every forward pass takes 4 ms of a time of its own, however many images it is of; nothing else takes any."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 10)
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        return self.layer(x.flatten(1))

    def perf_counter(self) -> float:
        return 0.004 * self.passes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = Slow().eval()
    monkeypatch.setattr("harp.dry_run.clock.time", model)
    return Clock(model, InMemory(images, torch.arange(40) % 10), 20, torch.device("cpu"))


def test_pgd_is_timed_by_its_iterations(clock):
    """50 forward passes of 4 ms for each of two batches, and one to look at the answer."""
    standing = Standing(Range(1, 1, 1), Range(1, 1, 1))
    found = clock.evaluation(PGD(Threat("linf", 0.1), steps=50), 40, standing)
    assert found.low == found.expected == found.high
    assert found.expected == pytest.approx(2 * (50 + 1) * 0.004)


def test_the_parts_of_autoattack_are_as_long_as_images_are_left_for_them(clock):
    attack = replace(autoattack(Threat("linf", 0.1)), iterations=10, queries=100)
    few, many = (Standing(Range(1, 1, 1), Range(share, share, share)) for share in (0.0, 1.0))
    short, long = (clock.evaluation(attack, 40, standing).expected for standing in (few, many))
    # Of two batches each: one pass over clean images and 10 iterations of APGD-CE; then 9 targets of 10 iterations for
    # APGD-T, as many for FAB-T with two passes each, and 100 queries.
    assert short == pytest.approx(2 * (1 + 10) * 0.004)
    assert long - short == pytest.approx(2 * (90 + 180 + 100) * 0.004)


def test_distances_are_measured_on_all_images_that_are_right_clean(clock):
    standing = Standing(Range(1, 1, 1), Range(0, 0, 0))
    whole = clock.evaluation(Minimal(Threat("linf", 0.1), steps=20), 40, standing)
    half = clock.evaluation(Minimal(Threat("linf", 0.1), steps=20), 40, replace(standing, clean=Range(0.5, 0.5, 0.5)))
    assert whole.expected > 1.5 * half.expected > 0


def test_settling_takes_as_long_as_autoattack_and_three_times_as_long_at_most(clock):
    standing, attack = (
        Standing(Range(1, 1, 1), Range(1, 1, 1)),
        replace(autoattack(Threat("linf", 0.1)), iterations=4, queries=20),
    )
    alone, both = clock.evaluation(attack, 40, standing), clock.evaluation(Settled(attack), 40, standing)
    assert both.low == pytest.approx(alone.low)
    assert both.high == pytest.approx(3 * alone.high)
    assert both.low <= both.expected <= both.high


class Counting(Slow):
    """Time passes with the images, too: 1 ms for each. It answers as it is told, whatever it sees."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.layer.weight.data.zero_()
        self.layer.bias.data.copy_(torch.eye(10)[label])
        self.images = 0

    def forward(self, x):
        self.images += len(x)
        return super().forward(x)

    def perf_counter(self) -> float:
        return 0.001 * self.images


def test_a_network_that_has_learned_nothing_is_timed_on_images_that_withstand_the_attack(monkeypatch):
    """One that is wrong on every image would lose them all before the first iteration, and seem quick to attack."""
    images = InMemory(torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((40,), 3))
    attack = replace(autoattack(Threat("linf", 0.1)), iterations=10, queries=100)
    times = []
    for answer in (3, 5):
        model = Counting(answer).eval()
        monkeypatch.setattr("harp.dry_run.clock.time", model)
        times.append(Clock(model, images, 20, torch.device("cpu")).evaluation(attack, 40, UNTRAINED).expected)
    right, wrong = times
    assert wrong == pytest.approx(right)


def test_what_is_there_already_is_looked_at_and_gives_a_range(clock):
    found = clock.evaluation(PGD(Threat("linf", 0.1), steps=10), 40)
    assert 0 < found.low <= found.expected <= found.high


@pytest.fixture
def dense(tiny: Path) -> Path:
    return pretrain(Recipe(TASK, NATURAL, compute=CPU), tiny / "dense").path


PGD_2 = Evaluating(attack="pgd", images=12, steps=2)


def test_only_what_the_card_does_not_hold_is_estimated(dense):
    before = sorted(dense.rglob("*"))
    found = time_of_evaluation(dense, replace(PGD_2, eps=(0.1, 0.2)), CPU)
    assert list(found) == ["clean", "pgd-2 linf 25.5/255", "pgd-2 linf 51/255"]
    assert all(0 < each.low <= each.expected <= each.high for each in found.values())
    assert sorted(dense.rglob("*")) == before
    evaluate_run(dense, PGD_2, CPU)
    assert time_of_evaluation(dense, PGD_2, CPU) == {}
    assert list(time_of_evaluation(dense, replace(PGD_2, steps=3), CPU)) == ["pgd-3 linf 25.5/255"]


def test_networks_to_come_stand_below_a_parent_that_was_evaluated(dense):
    recipe = Recipe(TASK, test=PGD_2, compute=CPU)
    assert standing_below([dense], recipe) == UNTRAINED
    clean, robust = evaluate_run(dense, PGD_2, CPU)
    found = standing_below([dense, Path("not-there-yet")], recipe)
    assert found.clean.high == clean.accuracy
    assert found.robust == Range(0.5, 0.85, 1.0) * robust.accuracy


def test_the_command_line_prints_estimates_and_writes_nothing(dense, capsys):
    before = sorted(dense.rglob("*"))
    words = ["evaluate", "dense", "--attack", "pgd", "--images", "12", "--steps", "2", "--dry-run"]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == ["clean", "pgd-2 linf 25.5/255", "evaluation"]
    evaluate_run(dense, PGD_2, CPU)
    assert main(words) == 0
    assert capsys.readouterr().out == "evaluation: nothing to do, the card has all results\n"
    whole = ["run", "digits", "--task.data", "tiny:data", "--task.model", "tiny:network", "--test.attack", "pgd"]
    assert main([*whole, "--methods", "harp", "lwm", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "\nevaluation of 3 networks: " in said
    assert "\nthe whole run: " in said
    assert [path for path in sorted(dense.rglob("*")) if path not in before] == [
        dense / "evaluations",
        *dense.glob("evaluations/*"),
    ]


def test_a_network_that_is_yet_to_be_made_takes_time_to_evaluate(tiny: Path):
    found = time_to_evaluate(Recipe(TASK, test=PGD_2, compute=CPU))
    assert 0 < found.low <= found.expected <= found.high


def test_attacks_are_timed_on_the_engine_where_it_is_chosen(dense: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")
    gradients, forward = [], SparseModule.forward

    def counted(module: SparseModule, x: torch.Tensor) -> torch.Tensor:
        gradients.append(x.requires_grad)
        return forward(module, x)

    monkeypatch.setattr(SparseModule, "forward", counted)
    assert time_of_evaluation(dense, PGD_2, CPU)
    assert not gradients
    sparse = replace(CPU, engine="sparse")
    assert time_of_evaluation(dense, PGD_2, sparse)
    assert any(gradients)
    gradients.clear()
    assert time_to_evaluate(Recipe(TASK, test=PGD_2, compute=sparse)).low > 0
    assert any(gradients)
