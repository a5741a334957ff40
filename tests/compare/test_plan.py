"""What is compared: spellings, equal passes, names, command lines that say exactly what a cell is."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tyro

from harp import recipes
from harp.cli.compare import CellFlags
from harp.compare import ComparePlan
from harp.compare.grid import recipe_at
from harp.compare.launchers import make_launcher, slurm_parameters
from harp.recipes import (
    PRESETS,
    Compute,
    Pruning,
    Recipe,
    Task,
    Training,
    changes,
    flags,
    flat,
    normal_spelling,
    respelled,
    spelling,
    to_json,
)

RECIPE = Recipe(prune=Pruning(epochs=10), finetune=Training(epochs=10))


def comparison(**more: Any) -> ComparePlan:
    settings = {"methods": ("harp", "hydra"), "keeps": (0.1, 0.01), "preset": "digits"} | more
    return ComparePlan(settings.pop("recipe", RECIPE), Path("out"), **settings)


# Spelling


def test_a_method_is_spelled_as_it_is_called():
    assert [normal_spelling(name) for name in ("harp", "rates-only")] == ["harp", "rates-only"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("hrap", "'hrap' must be one of 'harp', 'harp-published', "),
        ("harp+", "'' is no plug-in"),
        ("harp+adam", "'adam' is no plug-in; choose from s2ap, awp"),
        ("harp+awp+awp", "names a plug-in twice"),
        ("lwm+s2ap", "s2ap is for harp and hydra, not for lwm"),
        ("", "'' must be one of"),
    ],
)
def test_a_wrong_spelling_names_what_is_wrong(wrong: str, said: str):
    with pytest.raises(ValueError, match="method=") as raised:
        normal_spelling(wrong)
    assert said in str(raised.value)


def test_plug_ins_have_one_order():
    assert normal_spelling("harp+awp+s2ap") == normal_spelling("harp+s2ap+awp") == "harp+s2ap+awp"


def test_a_spelling_is_the_recipe_with_that_method():
    assert respelled(RECIPE, "lamp") == replace(RECIPE, prune=replace(RECIPE.prune, method="lamp"))


@pytest.fixture
def clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in out of a setting that is there in any version."""
    switches = (spelling.Switch("finetune", "clip_norm", 5.0), spelling.Switch("prune", "clip_norm", 2.0, of=("harp",)))
    monkeypatch.setitem(spelling.PLUG_INS, "clip", switches)


def test_a_plug_in_switches_its_settings_on_where_they_fit(clipping: None):
    harp, lwm = respelled(RECIPE, "harp+clip"), respelled(RECIPE, "lwm+clip")
    assert (harp.prune.clip_norm, harp.finetune.clip_norm) == (2.0, 5.0)
    assert (lwm.prune.clip_norm, lwm.finetune.clip_norm) == (None, 5.0)


def test_a_strength_that_the_recipe_has_is_kept_and_only_where_it_is_spelled(clipping: None):
    mine = replace(RECIPE, finetune=replace(RECIPE.finetune, clip_norm=0.5))
    assert respelled(mine, "harp+clip").finetune.clip_norm == 0.5
    assert respelled(mine, "harp").finetune.clip_norm is None


def test_a_plug_in_that_this_version_lacks_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(spelling.PLUG_INS, "magic", (spelling.Switch("finetune", "magic", 1.0),))
    assert respelled(RECIPE, "harp").prune.method == "harp"
    with pytest.raises(ValueError, match="has no magic"):
        respelled(RECIPE, "harp+magic")


# Passes


@pytest.mark.parametrize(
    ("prune", "finetune", "epochs"),
    [
        (Pruning(epochs=10), Training(epochs=10), 20),
        (Pruning(epochs=3), Training(epochs=7), 10),
        (Pruning(epochs=10, attack_steps=10), Training(epochs=10, attack_steps=1), 65),  # 10 · 22 / 4 + 10
        (Pruning(epochs=1, objective="n-fgsm"), Training(epochs=10), 10),  # 4 passes are no epoch of 22
    ],
)
def test_a_method_that_learns_no_masks_finetunes_for_the_passes_it_saved(prune, finetune, epochs):
    recipe = Recipe(prune=prune, finetune=finetune)
    assert recipe_at((), recipe, "lwm").finetune.epochs == epochs
    assert recipe_at((), recipe, "harp").finetune.epochs == finetune.epochs


def test_what_a_plug_in_takes_comes_from_finetuning():
    """PGD-10 is 22 passes per step, and AWP takes the loss once more: 24. S2AP does so after a quarter of its stage."""
    with_awp, with_both = recipe_at((), RECIPE, "harp+awp"), recipe_at((), RECIPE, "harp+s2ap+awp")
    assert with_awp.finetune.epochs == 220 // 24
    assert with_both.finetune.epochs == (440 - 220 - 2 * 7.5) // 24
    assert (with_awp.finetune.awp_gamma, with_awp.prune.awp_gamma, with_awp.prune.s2ap_rho) == (0.01, 0.0, 0.0)
    assert (with_both.finetune.awp_gamma, with_both.prune.s2ap_rho) == (0.01, 0.01)
    assert recipe_at((), RECIPE, "r-admm+awp").prune.awp_gamma == 0.01


def test_every_cell_takes_the_same_passes():
    cells = comparison(methods=("harp", "hydra", "lwm", "erk", "lamp", "global")).cells
    assert {cell.passes for cell in cells} == {20 * 22}


# The plan


def test_every_combination_is_a_cell_with_a_name_that_says_which():
    names = [cell.name for cell in comparison(seeds=(0, 7)).cells]
    assert names == [
        f"{method}-{keep}-s{seed}" for seed in (0, 7) for keep in (0.1, 0.01) for method in ("harp", "hydra")
    ]


def test_seeds_take_the_parents_in_turn():
    parents = (Path("a"), Path("b"))
    found = comparison(parents=parents, preset="", seeds=(0, 1, 2))
    assert [found.parent_of(seed) for seed in (0, 1, 2)] == [Path("a"), Path("b"), Path("a")]
    assert found.dense == {Path("a"): 0, Path("b"): 1}


@pytest.mark.parametrize(
    ("methods", "baseline", "reference"),
    [
        (("harp", "hydra"), None, "hydra"),
        (("lwm", "harp"), None, "lwm"),
        (("harp", "hydra"), "harp", "harp"),
    ],
)
def test_the_baseline_is_the_one_named_or_hydra_or_the_first(methods, baseline, reference):
    assert comparison(methods=methods, baseline=baseline).reference == reference


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"methods": ("harp", "hrap")}, "'hrap' must be one of"),
        ({"methods": ("harp", "harp")}, "methods names harp twice"),
        ({"methods": ("harp+s2ap+awp", "harp+awp+s2ap")}, "methods names harp"),
        ({"methods": ()}, "methods is empty"),
        ({"keeps": (0.1, 1.5)}, "keep=1.5"),
        ({"keeps": (0.1, 0.0)}, "keep=0.0"),
        ({"keeps": (0.1, 0.1)}, "keeps names 0.1 twice"),
        ({"keeps": (0.1, 0.1000000001)}, "agree to six digits"),
        ({"seeds": (0, 0)}, "seeds names 0 twice"),
        ({"seeds": (-1,)}, "seed=-1"),
        ({"granularities": ("weight", "weight")}, "granularities names weight twice"),
        ({"baseline": "lamp"}, "baseline='lamp' must be one of the methods: harp, hydra"),
        ({"preset": ""}, "parents is empty"),
        ({"parents": (Path("a"), Path("b")), "seeds": (0,)}, "2 parents for seeds"),
        ({"recipe": replace(RECIPE, test=recipes.Evaluating(eps=(2.0,)))}, "eps"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(wrong: dict[str, Any], said: str):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        comparison(**wrong)
    assert said in str(raised.value)


# Command lines


def parsed_cell(words: list[str], start: Recipe) -> CellFlags:
    return tyro.cli(CellFlags, args=words, default=CellFlags(Path("parent"), Path("out"), start))


def elsewhere(recipe: Recipe) -> Recipe:
    """A recipe that differs in settings of every type: numbers, texts, none, lists full and empty, switches, paths."""
    return replace(
        recipe,
        task=Task(root=Path("/data/my images"), mean=(0.5, 0.25), std=(0.1, 0.3), eps=1 / 3, download=True),
        prune=Pruning(method="lamp", keep=1e-05, exclude=("classifier.*", "a b"), clip_norm=0.1 + 0.2),
        finetune=Training(epochs=7, attack_step_size=2 / 255),
        test=recipes.Evaluating(attack="pgd", images=None, eps=(0.01, 0.1)),
        compute=Compute(channels_last=False, threads=3),
        seed=4,
    )


@pytest.mark.parametrize("name", ["digits", "cifar10-resnet18", "imagenet-resnet50"])
@pytest.mark.parametrize("change", [elsewhere, lambda recipe: recipe, lambda recipe: replace(recipe, seed=9)])
def test_the_flags_between_two_recipes_turn_one_into_the_other(name: str, change: Callable[[Recipe], Recipe]):
    for start, end in [(PRESETS[name][1], change(PRESETS[name][1])), (change(PRESETS[name][1]), PRESETS[name][1])]:
        words = list(flags(changes(flat(to_json(start)), flat(to_json(end)))))
        assert shlex.split(shlex.join(words)) == words
        assert parsed_cell(["parent", *words, "--out", "out"], start).recipe == end


def test_no_flag_is_given_that_changes_nothing():
    assert list(flags(changes(flat(to_json(RECIPE)), flat(to_json(RECIPE))))) == []


# Launchers


def test_slurm_is_asked_for_a_core_a_thread_and_as_many_cells_at_a_time_as_the_user_says():
    assert slurm_parameters(4, 2, {"slurm_partition": "long", "timeout_min": 60}) == {
        "name": "harp",
        "cpus_per_task": 2,
        "timeout_min": 60,
        "slurm_array_parallelism": 4,
        "slurm_partition": "long",
    }
    assert "slurm_array_parallelism" not in slurm_parameters(None, 1, {})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("local", 0, ()), "jobs=0 must be at least 1"),
        (("local", 1, ("a=b",)), "are for slurm and ray"),
        (("slurm", 1, ("partition",)), r"launcher_options=\['partition'\] must be NAME=VALUE"),
        (("ray", 1, ("=2",)), "must be NAME=VALUE"),
    ],
)
def test_a_launcher_refuses_what_it_cannot_use(arguments: tuple, said: str):
    with pytest.raises(ValueError, match=said):
        make_launcher(*arguments, threads=1)


@pytest.mark.parametrize(("name", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_engine_is_named_with_the_command_that_installs_it(
    name: Any, package: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ValueError, match=rf"needs the package {package}.*pip install '\.\[{name}\]'"):
        make_launcher(name, 1, (), threads=1)
