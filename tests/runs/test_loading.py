"""harp.load: the network of a run, or of an exported file, as a plain module."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harp import recipes
from harp.data import load_data
from harp.pruning import masks
from harp.recipes import Compute, Pruning, Recipe, Task, Training
from harp.runs.loading import load
from harp.stages.pipeline import run
from harp.stages.shrink import shrink_run
from harp.stages.watch import Watch

SHORT = {"epochs": 1, "attack_steps": 1, "batch_size": 20}
RECIPE = Recipe(
    task=Task(data="tiny:data", model="tiny:network"),
    pretrain=Training(**SHORT),
    prune=Pruning(**SHORT, keep=0.2),
    finetune=Training(**SHORT),
    test=recipes.Evaluating(attack="pgd", images=8, steps=1),
    compute=Compute(device="cpu"),
)


@pytest.fixture
def runs(tiny: Path) -> list[Path]:
    return run(RECIPE, "runs", methods=["lwm"])


def images() -> torch.Tensor:
    return load_data("tiny:data").test.images


def test_a_run_becomes_its_network_without_its_images(runs, tmp_path, monkeypatch):
    model = load(runs[1])
    assert not model.training
    assert not masks(model)
    assert sum(int(model.get_parameter(n).count_nonzero()) for n in ("1.weight", "5.weight")) == round(0.2 * 168)
    answers = model(images())
    monkeypatch.setattr(
        "harp.runs.network.open_data", lambda *arguments, **settings: pytest.fail("the images were opened")
    )
    assert torch.equal(load(str(runs[1]))(images()), answers)


def test_a_card_without_a_shape_opens_the_images(runs):
    card = json.loads((runs[0] / "card.json").read_text())
    assert card.pop("shape") == [1, 4, 4]
    expected = load(runs[0])(images())
    (runs[0] / "card.json").write_text(json.dumps(card))
    assert torch.equal(load(runs[0])(images()), expected)


def test_an_exported_file_answers_like_its_run(runs, tmp_path):
    from harp.stages.export import export_run

    export_run(runs[1], tmp_path / "net.harp")
    torch.testing.assert_close(load(tmp_path / "net.harp")(images()), load(runs[1])(images()))


def test_a_smaller_network_is_built_with_its_widths(tiny):
    of_channels = replace(RECIPE, prune=replace(RECIPE.prune, granularity="channel", keep=0.5))
    finals = run(of_channels, "channels", methods=["lwm"])
    small = shrink_run(finals[1], Path("small")).path
    torch.testing.assert_close(load(small)(images()), load(finals[1])(images()))


def test_nothing_there_and_nothing_finished_are_said(runs, tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a run directory nor a file"):
        load(tmp_path / "none")
    (tmp_path / "text.harp").write_text("no network")
    with pytest.raises(ValueError, match=r"text\.harp"):
        load(tmp_path / "text.harp")
    shutil.copytree(runs[0], tmp_path / "part")
    (tmp_path / "part" / "card.json").unlink()
    with pytest.raises(ValueError, match="is not finished"):
        load(tmp_path / "part")


def test_the_whole_job_tells_how_far_it_is_and_goes_on(tiny):
    told: list[str] = []
    watch = Watch(on_start=lambda stage, what: told.append(stage), on_result=lambda found: told.append(found.attack))
    finals = run(RECIPE, "runs", methods=["lwm"], keep=0.5, watch=watch)
    assert finals == [Path("runs/dense"), Path("runs/lwm")]
    assert told == ["pretrain", "prune", "finetune", *["evaluate", "clean", "pgd-1"] * 2]
    told.clear()
    assert run(RECIPE, Path("runs"), methods=["lwm"], keep=0.5, watch=watch) == finals
    assert "pretrain" not in told
    assert "clean" not in told


def test_a_preset_goes_by_its_name():
    with pytest.raises(ValueError, match="recipe='digit' is not a preset; choose one of digits"):
        run("digit", "runs")
