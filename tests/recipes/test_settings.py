"""Recipes: every field checked when it is made, and what comes back from a file is what was written."""

import importlib
import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harp.recipes import (
    OWN_METHODS,
    PRESETS,
    Compute,
    Evaluating,
    ObjectiveName,
    Pruning,
    Recipe,
    Task,
    Training,
    from_json,
    recipe_in,
    to_json,
)

# Round trips


def through_a_file(recipe: Recipe) -> Recipe:
    return from_json(Recipe, json.loads(json.dumps(to_json(recipe), allow_nan=False)))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_json_as_it_was(name):
    assert through_a_file(PRESETS[name][1]) == PRESETS[name][1]


POSITIVE = st.floats(1e-9, 1e9)
MAYBE_POSITIVE = st.none() | POSITIVE
LEARNING: dict[str, st.SearchStrategy[Any]] = {
    "epochs": st.integers(2, 1000),
    "batch_size": st.integers(1, 4096),
    "objective": st.sampled_from(get_args(ObjectiveName)),
    "attack_step_size": MAYBE_POSITIVE,
    "beta": st.none() | st.floats(0, 100),
    "optimizer": st.sampled_from(["sgd", "adamw"]),
    "lr": POSITIVE,
    "momentum": st.floats(0, 0.999),
    "schedule": st.sampled_from(["cosine", "piecewise", "constant"]),
    "warmup_epochs": st.floats(0, 1.5),
    "clip_norm": MAYBE_POSITIVE,
    "replays": st.integers(1, 16),
    "awp_gamma": st.floats(0, 1),
}
RECIPES = st.builds(
    Recipe,
    task=st.builds(
        Task,
        data=st.text(),
        root=st.none() | st.sampled_from([Path("data"), Path("/some where/ä")]),
        image_size=st.none() | st.integers(1, 512),
        download=st.booleans(),
        validation=st.floats(0.001, 0.999),
        mean=st.just((0.1, 0.2)),
        std=st.tuples(POSITIVE, POSITIVE),
        eps=st.floats(0, 1),
        norm=st.sampled_from(["linf", "l2"]),
    ),
    pretrain=st.builds(Training, **LEARNING),
    prune=st.builds(
        Pruning,
        **LEARNING,
        keep=st.floats(0, 1, exclude_min=True),
        method=st.sampled_from(list(OWN_METHODS)),
        exclude=st.lists(st.text(), max_size=3).map(tuple),
        score_weight_decay=st.none() | st.floats(0, 1),
        start=st.sampled_from(["uniform", "erk", "lamp", "target"]),
        s2ap_warmup=st.none() | st.floats(0, 9),
        admm_rho=MAYBE_POSITIVE,
        admm_growth=st.floats(1, 9),
        admm_rounds=st.integers(1, 50),
    ),
    test=st.builds(Evaluating, images=st.none() | st.integers(1, 10**6), eps=st.lists(st.floats(0, 9)).map(tuple)),
    compute=st.builds(Compute, threads=st.none() | st.integers(1, 64), workers=st.none() | st.integers(0, 64)),
    seed=st.integers(0, 2**32 - 1),
)


@settings(max_examples=50, deadline=None)
@given(RECIPES)
def test_any_recipe_comes_back_from_json_as_it_was(recipe):
    again = through_a_file(recipe)
    assert again == recipe
    assert type(again.task.eps) is float
    assert isinstance(again.task.root, Path | None)


# What is out of range


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *[(Task, "validation", v) for v in (0, 1, -0.1, math.nan)],
        *[(Task, "eps", v) for v in (-0.1, 9, math.nan, math.inf)],
        (Task, "norm", "l1"),
        (Task, "image_size", 0),
        (Task, "mean", (math.nan,)),
        (Task, "std", (0.5,)),
        *[(Training, "epochs", v) for v in (0, -1)],
        (Training, "batch_size", 0),
        (Training, "attack_steps", 0),
        *[(Training, "attack_step_size", v) for v in (0.0, -1.0, math.nan, math.inf)],
        (Training, "attack_loss", "mse"),
        (Training, "objective", "free"),
        *[(Training, "beta", v) for v in (-1.0, math.nan, math.inf)],
        (Training, "optimizer", "adam"),
        *[(Training, "lr", v) for v in (0.0, -1.0, math.nan, math.inf)],
        *[(Training, "momentum", v) for v in (-0.1, 1.0, math.nan)],
        *[(Training, "weight_decay", v) for v in (-1.0, math.nan, math.inf)],
        (Training, "schedule", "step"),
        *[(Training, "warmup_epochs", v) for v in (-1.0, 100.0, math.nan)],
        *[(Training, "clip_norm", v) for v in (0.0, math.nan)],
        *[(Pruning, "keep", v) for v in (0.0, -0.1, 1.01, 2.0, math.nan)],
        (Pruning, "method", "HARP"),
        (Pruning, "rule", "push"),
        *[(Pruning, "gamma_step", v) for v in (0.0, math.inf)],
        (Pruning, "score_weight_decay", -1.0),
        (Training, "replays", 0),
        *[(Training, "awp_gamma", v) for v in (-0.1, math.nan, math.inf)],
        (Pruning, "start", "global"),
        *[(Pruning, "s2ap_rho", v) for v in (-0.1, math.nan, math.inf)],
        (Pruning, "s2ap_warmup", -1.0),
        *[(Pruning, "admm_rho", v) for v in (0.0, math.nan)],
        *[(Pruning, "admm_growth", v) for v in (0.9, math.nan, math.inf)],
        (Pruning, "admm_rounds", 0),
        (Pruning, "epochs", 0),
        (Evaluating, "attack", "aa"),
        (Evaluating, "images", 0),
        *[(Evaluating, "eps", v) for v in ((-0.1,), (0.1, math.nan), (math.inf,))],
        (Evaluating, "steps", 0),
        (Evaluating, "step_size", 0.0),
        (Evaluating, "batch_size", 0),
        (Compute, "device", "tpu"),
        (Compute, "devices", 0),
        (Compute, "num_nodes", 0),
        (Compute, "precision", "16"),
        (Compute, "workers", -1),
        (Compute, "threads", 0),
        *[(Recipe, "seed", v) for v in (-1, 2**32)],
    ],
)
def test_a_value_out_of_range_is_refused_by_name_and_value(kind, field, value):
    with pytest.raises(ValueError, match="must") as caught:
        kind(**{field: value})
    assert str(caught.value).startswith(f"{field}={value!r} ")


def test_an_l2_ball_may_be_larger_than_one_pixel_and_an_infinite_one_may_not():
    assert Task(norm="l2", eps=3.0).eps == 3.0
    with pytest.raises(ValueError, match=r"eps=inf must not be negative, and finite"):
        Task(norm="l2", eps=math.inf)


def test_a_recipe_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Recipe().seed = 1  # type: ignore[misc]


# What files may say


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sede": 1}, r"recipe has unknown fields \['sede'\].*another version"),
        ({"prune": {"kep": 0.1}}, r"recipe\.prune has unknown fields \['kep'\]"),
        ({"prune": {"keep": "0.1"}}, r"recipe\.prune\.keep='0\.1' is not of type float"),
        ({"prune": {"keep": True}}, r"recipe\.prune\.keep=True is not of type float"),
        ({"prune": {"keep": 0}}, r"keep=0\.0 must lie in"),
        ({"prune": {"exclude": "fc.*"}}, r"recipe\.prune\.exclude='fc\.\*' is not of type"),
        ({"prune": {"exclude": [1]}}, r"recipe\.prune\.exclude=1 is not of type str"),
        ({"prune": {"method": "HARP"}}, r"method='HARP' must be one of 'harp'"),
        ({"prune": {"method": ["harp"]}}, r"recipe\.prune\.method=\['harp'\] is not of type str"),
        ({"pretrain": {"epochs": 1.5}}, r"recipe\.pretrain\.epochs=1\.5 is not of type int"),
        ({"pretrain": {"epochs": True}}, r"recipe\.pretrain\.epochs=True is not of type int"),
        ({"pretrain": {"lr": 10**400}}, r"recipe\.pretrain\.lr is a number of 401 digits"),
        ({"pretrain": {"lr": None}}, r"recipe\.pretrain\.lr=None is not of type float"),
        ({"task": {"root": 3}}, r"recipe\.task\.root=3 is not of type Path"),
        ({"task": {"download": 1}}, r"recipe\.task\.download=1 is not of type bool"),
        ({"task": [1]}, r"recipe\.task must be an object, got \[1\]"),
        ({"seed": "0"}, r"recipe\.seed='0' is not of type int"),
    ],
)
def test_a_damaged_recipe_names_the_field_and_what_it_holds(change, said):
    with pytest.raises(ValueError, match=said):
        from_json(Recipe, change)


def test_fields_that_an_older_file_lacks_take_their_defaults():
    assert from_json(Recipe, {}) == Recipe()
    assert from_json(Pruning, {"keep": 1}) == Pruning(keep=1.0)


def test_the_recipe_of_a_run_is_read_from_its_file(tmp_path):
    recipe = replace(PRESETS["digits"][1], seed=3)
    (tmp_path / "recipe.json").write_text(json.dumps({"stage": "prune", "recipe": to_json(recipe)}))
    assert recipe_in(tmp_path / "recipe.json") == recipe


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"recipe": 1}', "must be an object"),
        ('{"recipe":' * 100_000, "damaged"),
        (" " * 2**20 + "{}", "less than 1,048,576"),
    ],
    ids=["empty", "list", "no recipe", "number", "deep", "large"],
)
def test_a_damaged_recipe_file_is_named(content, said, tmp_path):
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(ValueError, match=rf"recipe\.json is damaged or not written by harp.*{said}|{said}"):
        recipe_in(tmp_path / "recipe.json")


@pytest.mark.parametrize("path", ["nowhere", "file"])
def test_what_is_no_run_directory_is_named_with_the_command_that_makes_one(path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=rf"{path} is not a run directory.*`harp pretrain` makes one"):
        recipe_in(tmp_path / path / "recipe.json")


# Presets


@pytest.mark.parametrize("data", ["cifar10", "svhn"])
@pytest.mark.parametrize(("short", "model"), [("vgg16", "vgg16_bn"), ("resnet18", "resnet18"), ("wrn28-4", "wrn28_4")])
def test_the_presets_of_the_paper_hold_its_numbers(data, short, model):
    """Zhao and Wressnegger, section 4: PGD-10 of step 2/255 at 8/255; 100 + 20 + 100 epochs of SGD, lr 0.1, 0.1, 0.01."""
    recipe = PRESETS[f"{data}-{short}"][1]
    assert (recipe.task.data, recipe.task.model, recipe.task.norm) == (data, model, "linf")
    assert recipe.task.eps == 8 / 255
    for stage, epochs, lr in ((recipe.pretrain, 100, 0.1), (recipe.prune, 20, 0.1), (recipe.finetune, 100, 0.01)):
        assert (stage.epochs, stage.lr, stage.batch_size) == (epochs, lr, 128)
        assert (stage.objective, stage.attack_steps, stage.attack_step_size) == ("pgd-at", 10, 2 / 255)
        assert (stage.optimizer, stage.momentum, stage.weight_decay, stage.schedule) == ("sgd", 0.9, 5e-4, "cosine")
    assert (recipe.prune.keep, recipe.prune.method, recipe.prune.gamma_step) == (0.01, "harp", 0.01)
    assert (recipe.test.attack, recipe.test.images) == ("autoattack", None)


def test_the_preset_for_imagenet_holds_the_papers_lengths():
    recipe = PRESETS["imagenet-resnet50"][1]
    assert (recipe.task.eps, recipe.task.model) == (4 / 255, "resnet50")
    assert (recipe.prune.epochs, recipe.finetune.epochs, recipe.prune.gamma_step) == (5, 25, 0.1)
    for stage in (recipe.pretrain, recipe.prune, recipe.finetune):
        assert (stage.batch_size, stage.weight_decay) == (256, 1e-4)
        assert (stage.objective, stage.replays) == ("free-at", 4)
    assert recipe.pretrain.epochs == math.ceil(90 / 4)  # as the code of Free-AT counts them


@pytest.mark.parametrize(
    ("kind", "ignored", "said"),
    [
        (Training, {"objective": "trades", "attack_loss": "cw"}, "attack_loss='cw' has no effect on trades"),
        (Training, {"objective": "n-fgsm", "attack_loss": "cw"}, "attack_loss='cw' has no effect on n-fgsm"),
        (Pruning, {"measure": "both"}, "measure='both' is for channels: add granularity 'channel'"),
        (Pruning, {"multiple_of": 8}, "multiple_of=8 is for channels: add granularity 'channel'"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(kind, ignored, said):
    with pytest.raises(ValueError, match=said):
        kind(**ignored)


def test_s2ap_is_for_methods_that_learn_scores():
    assert Pruning(method="hydra", s2ap_rho=0.1).s2ap_rho == 0.1
    for method in ("rates-only", "lwm", "r-admm"):
        with pytest.raises(ValueError, match=f"method='{method}' must be harp or hydra with s2ap_rho"):
            Pruning(method=method, s2ap_rho=0.1)


def test_every_preset_says_what_it_is_and_what_it_costs():
    assert all((what and ";" in what) or "," in what for what, _ in PRESETS.values())


def test_every_field_of_a_recipe_says_what_it_is_or_needs_no_words():
    """The docstrings under the fields are the texts of `harp COMMAND --help`."""
    plain = {"std", "optimizer", "momentum", "weight_decay", "epochs", "device", "precision", "batch_size"}
    plain |= {f.name for f in fields(Recipe)}
    folder = Path(importlib.import_module("harp.recipes").__path__[0])
    source = "\n".join((folder / file).read_text("utf-8") for file in ("settings.py", "training.py")).splitlines()
    for kind in (Task, Training, Pruning, Evaluating, Compute):
        for field in fields(kind):
            lines = [n for n, line in enumerate(source) if line.startswith(f"    {field.name}: ")]
            told = any(source[n + 1].strip().startswith('"""') for n in lines)
            assert told or field.name in plain, f"{kind.__name__}.{field.name}"


# Settings that answer for themselves


@pytest.mark.parametrize(
    ("settings", "decay"),
    [(Training(weight_decay=0.1), 0.1), (Pruning(weight_decay=0.1), 0.1), (Pruning(score_weight_decay=0.0), 0.0)],
)
def test_scores_decay_as_weights_do_unless_told_otherwise(settings, decay):
    assert settings.decay_of_scores == decay


def test_settings_for_single_weights_leave_out_what_is_said_of_channels_alone():
    shared = Pruning(granularity="channel", measure="parameters", multiple_of=8, lr=0.5)
    assert shared.at(0.25, "channel") == replace(shared, keep=0.25)
    assert shared.at(0.25, "weight") == Pruning(keep=0.25, lr=0.5)
