"""Methods from outside of harp: registered by a call, by a module that a command imports, by a package."""

import json
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harp import recipes
from harp.cli import main
from harp.compare.jobs import Job
from harp.pruning import HYDRA, METHODS, Method, layer_sum, method_named, register_method
from harp.pruning.keeps import erk
from harp.pruning.scores import magnitude
from harp.recipes import Pruning, normal_spelling, recipe_in, to_json
from harp.recipes import methods as names
from harp.training.build import method_of

MINE = Method(magnitude, erk, frozenset({"scores"}))
MODULE = """
from harp.pruning import Method, register_method
from harp.pruning.keeps import erk
from harp.pruning.scores import magnitude

register_method("erk-scores", Method(magnitude, erk, frozenset({"scores"})))
"""
SHORT = ["--epochs", "1", "--attack-steps", "1", "--compute.device", "cpu"]


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is gone afterwards."""
    monkeypatch.setattr(names, "_registered", [])
    for name in ("erk-scores", "mine"):
        monkeypatch.setitem(METHODS, name, MINE)
        monkeypatch.delitem(METHODS, name)
    monkeypatch.setenv("HARP_IMPORT", "")
    monkeypatch.delenv("HARP_IMPORT")


def test_a_registered_method_is_one_that_recipes_and_comparisons_know():
    with pytest.raises(ValueError, match=r"method='mine' must be one of 'harp', .*register"):
        Pruning(method="mine")
    assert register_method("mine", MINE) is MINE
    assert method_of(Pruning(method="mine")) == MINE
    assert normal_spelling("mine+awp") == "mine+awp"
    assert "mine" in recipes.method_names()
    assert register_method("mine", MINE) is MINE


def test_what_a_method_brings_stays_unless_a_setting_says_otherwise():
    mine = register_method("mine", Method(magnitude, erk, frozenset({"scores", "keeps"}), estimator=layer_sum))
    assert method_of(Pruning(method="mine")) == mine
    assert method_of(Pruning(method="mine", start="target")).keeps is not erk
    assert method_of(Pruning(method="harp", estimator="layer-sum")).estimator is layer_sum


@pytest.mark.parametrize("name", ["hydra", "r-admm"])
def test_a_name_that_is_taken_is_refused(name):
    with pytest.raises(ValueError, match=f"name='{name}' is that of another method"):
        register_method(name, MINE)
    assert METHODS["hydra"] is HYDRA


@pytest.mark.parametrize("name", ["Mine", "my method", "a+b", "", "-x", "../x"])
def test_a_name_that_fits_no_flag_is_refused(name):
    with pytest.raises(ValueError, match="must be lowercase letters and digits"):
        register_method(name, MINE)
    assert name not in METHODS


def test_a_package_brings_a_method_which_is_imported_when_it_is_used(monkeypatch, tmp_path):
    (tmp_path / "package_for_test.py").write_text(MODULE + "\nBROUGHT = Method(magnitude, erk)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("mine", "package_for_test:BROUGHT", "harp.methods")
    monkeypatch.setattr(names, "entry_points", lambda group: [point] if group == "harp.methods" else [])
    settings = Pruning(method="mine")
    assert "mine" not in METHODS
    assert method_of(settings) == method_named("mine") == Method(magnitude, erk)


def test_commands_take_the_module_and_later_stages_do_without(tiny: Path, capsys):
    (tiny / "methods_for_test.py").write_text(MODULE)
    task = ["--task.data", "tiny:data", "--task.model", "tiny:network"]
    assert main(["pretrain", "digits", *task, *SHORT, "--out", "dense"]) == 0
    wanted = ["prune", "dense", "--method", "erk-scores", "--keep", "0.3", *SHORT, "--out", "masks"]
    assert main(wanted) == 2
    assert "--import package.module" in capsys.readouterr().err
    assert not Path("masks").exists()
    assert main([*wanted, "--import", "methods_for_test"]) == 0
    assert json.loads(Path("masks/card.json").read_text())["name"] == "ERK-SCORES 30 %"
    assert main(["--import=methods_for_test", "methods"]) == 0
    assert re.search(r"erk-scores +registered", capsys.readouterr().out)
    assert str(Job("a", ("cell", "dense"), Path("log"))) == "HARP_IMPORT=methods_for_test harp cell dense"


def test_a_run_of_a_method_that_is_not_there_is_read_and_not_repeated(tmp_path):
    recipe = to_json(recipes.Recipe())
    recipe["prune"]["method"] = "far-away"
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": recipe}))
    read = recipe_in(tmp_path / "recipe.json")
    assert read.prune.method == "far-away"
    with pytest.raises(ValueError, match="method='far-away' is not known in this process, only harp"):
        method_of(read.prune)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["presets", "--import"], "--import names no module"),
        (["--import", "--out", "presets"], "--import names no module"),
        (["presets", "--import", "not_there_for_test"], "import='not_there_for_test': No module named"),
    ],
)
def test_a_module_that_is_not_there_is_named(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err
