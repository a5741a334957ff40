"""`--tune`: the same grid for every method, chosen on validation images alone, and what it took."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harp.cli import main
from harp.compare import ComparePlan, TuneAxis, axes_of, tuned, tuning
from harp.compare.grid import points_of, recipe_at
from harp.cost.passes import passes
from harp.recipes import Compute, Pruning, Recipe, Task, Training, with_setting
from harp.stages.train import pretrain

FAST = {"epochs": 1, "batch_size": 30, "attack_steps": 1}
TINY = Recipe(
    task=Task(data="tiny:data", model="tiny:network", eps=0.1),
    pretrain=Training(**FAST),
    prune=Pruning(**FAST),
    finetune=Training(**FAST),
    compute=Compute(device="cpu", threads=1),
)
GRID = (TuneAxis("finetune.lr", ("0.1", "0.01")), TuneAxis("prune.lr", ("0.1", "0.3")))


# The grid


def test_every_method_gets_the_same_grid_less_what_makes_no_difference_for_it():
    points = {method: list(points_of(GRID, TINY, method)) for method in ("harp", "hydra", "lwm", "gmp-lamp")}
    assert points["harp"] == points["hydra"] == points["gmp-lamp"]
    assert [dict(point) for point in points["harp"]] == [
        {"finetune.lr": f, "prune.lr": p} for f in ("0.1", "0.01") for p in ("0.1", "0.3")
    ]
    assert [dict(p)["finetune.lr"] for p in points["lwm"]] == ["0.1", "0.01"]  # it learns nothing while it prunes


def test_a_point_is_those_settings_on_the_passes_of_all_others():
    shared = replace(TINY, prune=replace(TINY.prune, epochs=4), finetune=replace(TINY.finetune, epochs=8))
    for epochs in ("2", "6"):
        recipe = recipe_at((("prune.epochs", epochs), ("finetune.lr", "1/20")), shared, "harp")
        assert (recipe.prune.epochs, recipe.finetune.lr) == (int(epochs), 0.05)
        assert passes(recipe) == passes(shared)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("finetune.lr", "0.1"), "nothing to choose from"),
        (("finetune.lr", "0.1", "fast"), r"finetune.lr fast: recipe.finetune.lr='fast' is not of type float"),
        (("finetune.lr", "0.1", "-1"), "lr=-1.0 must be positive"),
        (("finetune.speed", "1", "2"), "is no setting to tune"),
        (("test.steps", "1", "2"), "is no setting to tune"),
        (("finetune.epochs", "1", "2"), "follows from the passes"),
        (("prune.keep", "0.1", "0.2"), "--keeps names the budgets"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_any_work(words: tuple[str, ...], said: str):
    with pytest.raises(ValueError, match=said):
        axes_of((words,))


def test_a_setting_named_twice_is_refused():
    with pytest.raises(ValueError, match=r"finetune\.lr twice"):
        axes_of((("finetune.lr", "0.1", "0.2"), ("finetune.lr", "0.3", "0.4")))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("finetune.lr", "8/255", 8 / 255), ("finetune.clip-norm", "none", None), ("prune.admm_rounds", "3", 3)],
)
def test_a_value_is_read_as_a_flag_is(name: str, text: str, value: Any):
    stage, field = name.replace("-", "_").split(".")
    assert getattr(getattr(with_setting(Recipe(), name, text), stage), field) == value


# The choice


def test_the_choice_is_the_best_mean_over_seeds_by_hand(monkeypatch: pytest.MonkeyPatch):
    """0.1: 40 and 50 %, 0.01: 46 and 46 %: the mean counts and not the best seed. Clean accuracy decides between equals."""
    robust = {
        ("0.1", 0): 0.40,
        ("0.1", 1): 0.50,
        ("0.01", 0): 0.46,
        ("0.01", 1): 0.46,
        ("1.0", 0): 0.9,
        ("1.0", 1): 0.9,
    }
    axis = TuneAxis("finetune.lr", ("0.1", "0.01", "1.0"))
    plan = ComparePlan(TINY, Path("out"), ("harp",), (0.1,), seeds=(0, 1), preset="digits", tune=(axis,))

    def card(path: Path) -> SimpleNamespace:
        cell = next(cell for cell in plan.trials if path == cell.final / "card.json")
        accuracy = robust[cell.point[0][1], cell.recipe.seed]
        return SimpleNamespace(values={"validation": {"robust_accuracy": accuracy, "clean_accuracy": 0.5}})

    monkeypatch.setattr(tuning, "read_card", card)
    # At 1.0 one of the seeds diverged.
    monkeypatch.setattr(tuning, "is_sound", lambda cell: (cell.point[0][1], cell.recipe.seed) != ("1.0", 1))
    (found,) = tuned(plan)
    assert [dict(each.point)["finetune.lr"] for each in found.tried] == ["0.01", "0.1"]
    assert found.tried[0].robust == pytest.approx(0.46)
    assert found.passes == passes(TINY).total  # the other trial's


# The command


def compare(*words: str) -> int:
    methods = ["--methods", "harp", "lwm", "--keeps", "0.2", "--seeds", "0", "1", "--out", "out"]
    test = ["--test.attack", "pgd", "--test.steps", "2", "--test.images", "24"]
    return main(["compare", "dense", *methods, *test, "--tune", "finetune.lr", "0.3", "0.003", *words])


@pytest.mark.slow
def test_trials_are_trained_the_best_is_tested_and_nothing_is_done_twice(tiny: Path, inline: list[str], capsys):
    pretrain(TINY, Path("dense"))
    assert compare("--tune", "prune.lr", "0.1", "0.3", "--json", "records.json") == 0
    said = capsys.readouterr().out
    trials = [words for words in map(shlex.split, inline) if "--no-evaluate" in words]
    assert len(trials) == 2 * (4 + 2)
    assert "12 trials" in said
    told = json.loads(Path("out/tuning.json").read_text())
    assert told["grid"] == {"finetune.lr": ["0.3", "0.003"], "prune.lr": ["0.1", "0.3"]}
    records = {
        (r["method"], r["seed"]): r for r in json.loads(Path("records.json").read_text()) if r["method"] != "dense"
    }
    for choice in told["chosen"]:
        best = choice["tried"][0]
        assert best["settings"] == choice["settings"]
        assert best["robust_accuracy"] == max(tried["robust_accuracy"] for tried in choice["tried"])
        assert choice["passes"] == (len(choice["tried"]) - 1) * 8
        for seed in (0, 1):
            assert records[choice["method"], seed]["tuned"] == choice["settings"]
    tested = [card for card in Path("out").rglob("final/card.json") if json.loads(card.read_text())["evaluations"]]
    assert len(tested) == 2 * 2
    assert "Settings were chosen for each method on validation images: HARP at keep 0.2 finetune.lr=" in said
    inline.clear()
    assert compare("--tune", "prune.lr", "0.1", "0.3") == 0
    assert inline == []


def test_a_trial_does_not_look_at_the_test_set(tiny: Path):
    """Its images raise an error when they are read."""
    sealed = replace(TINY, task=replace(TINY.task, data="tiny:sealed_data"))
    pretrain(sealed, Path("dense"))
    assert main(["cell", "dense", "--out", "trial", "--no-evaluate"]) == 0
    assert json.loads(Path("trial/final/card.json").read_text())["evaluations"] == []


def test_a_dry_run_lists_the_trials(tiny: Path, capsys):
    pretrain(TINY, Path("dense"))
    assert compare("--dry-run") == 0
    said = capsys.readouterr().out
    assert "0 of 8 trials are finished" in said
    assert said.count("--no-evaluate") == 8
    assert "the chosen networks and the parents are evaluated" in said
    assert not Path("out").exists()
