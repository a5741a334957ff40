"""What can change under a run: its images, and code of the user's own. Whatever starts from the run compares."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harp.cli.main import main
from harp.recipes import Compute, Evaluating, Pruning, Recipe, Task, Training
from harp.runs.directory import RunDirectory
from harp.runs.inputs import ChangedInputs
from harp.stages.evaluate import evaluate_run, evaluations_in
from harp.stages.export import export_run
from harp.stages.train import finetune, pretrain, prune
from harp.stages.watch import Watch

LEARN = {"epochs": 1, "batch_size": 8, "attack_steps": 1, "lr": 0.05}
CLEAN = Evaluating(attack="clean")
CPU = Compute(device="cpu", workers=0)
RECIPE = Recipe(
    task=Task(data="folder", root=Path("photos"), image_size=4, model="mine:network", validation=0.3),
    pretrain=Training(**LEARN),
    prune=Pruning(**LEARN, keep=0.25),
    finetune=Training(**LEARN),
    compute=CPU,
)
NETWORK = """
from torch import nn


def network(shape, classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, classes))
"""


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(sum(str(path).encode()))
    Image.fromarray(draw.integers(0, 256, (5, 5, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images and a network, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
    Path("mine.py").write_text(NETWORK, encoding="utf-8")
    for part, count in {"train": 12, "test": 4}.items():
        for name in ("bolt", "nut"):
            for number in range(count):
                write_image(Path("photos", part, name, f"{number}.png"))
    return Path("photos")


@pytest.fixture
def streamed(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("harp.data.folder.MEMORY_LIMIT_BYTES", 0)
    return photos


def inputs_of(run: RunDirectory) -> dict:
    return json.loads(run.inputs.read_text(encoding="utf-8"))


def test_every_stage_and_evaluation_refuses_images_that_changed_and_says_which(photos):
    dense = pretrain(RECIPE, Path("dense"))
    masks = prune(RECIPE, dense.path, Path("masks"))
    write_image(photos / "train" / "bolt" / "99.png")
    (photos / "test" / "nut" / "0.png").unlink()
    says = r"inputs of \w+ have changed.*train/bolt/99.png was added; test/nut/0.png was removed.*test images now.*--accept"
    for start in (
        lambda: prune(RECIPE, dense.path, Path("other")),
        lambda: finetune(RECIPE, masks.path, Path("final")),
        lambda: evaluate_run(dense.path, CLEAN, CPU),
    ):
        with pytest.raises(ChangedInputs, match=says):
            start()
    assert not Path("other").exists()
    assert not Path("final").exists()


def test_changes_that_are_accepted_go_into_the_run_and_into_what_is_said_of_it(photos):
    dense = pretrain(RECIPE, Path("dense"))
    write_image(photos / "train" / "bolt" / "99.png")
    masks = prune(RECIPE, dense.path, Path("masks"), accept_changes=True)
    final = finetune(RECIPE, masks.path, Path("final"))  # its parent saw the same
    assert inputs_of(final)["accepted"] == ["train/bolt/99.png was added"]
    assert inputs_of(final)["data"]["folders"]["train/bolt"]["files"] == 13
    (found,) = evaluate_run(final.path, CLEAN, CPU)
    assert any("accepted: train/bolt/99.png was added" in note for note in found.notes)


def test_an_evaluation_of_other_images_is_not_taken_for_one_of_these(photos):
    dense = pretrain(RECIPE, Path("dense"))
    (first,) = evaluate_run(dense.path, CLEAN, CPU)
    assert evaluate_run(dense.path, CLEAN, CPU) == [first]
    for number in range(20, 24):
        write_image(photos / "test" / "bolt" / f"{number}.png")
    (second,) = evaluate_run(dense.path, CLEAN, CPU, accept_changes=True)
    assert (first.images, second.images) == (8, 12)
    assert first.inputs != second.inputs
    write_image(photos / "test" / "bolt" / "24.png")
    (photos / "test" / "bolt" / "23.png").unlink()
    (third,) = evaluate_run(dense.path, CLEAN, CPU, accept_changes=True)
    assert third.images == 12
    assert third.inputs != second.inputs
    assert evaluations_in(dense.card) == [first, second, third]


def test_an_interrupted_stage_goes_on_with_the_images_it_began_with_only(photos):
    def stop() -> bool:
        stop.asked += 1
        return stop.asked == 2

    stop.asked = 0
    with pytest.raises(KeyboardInterrupt):
        pretrain(RECIPE, Path("dense"), watch=Watch(should_stop=stop))
    write_image(photos / "train" / "bolt" / "99.png")
    with pytest.raises(ChangedInputs, match=r"inputs of dense have changed.*train/bolt/99.png was added"):
        pretrain(RECIPE, Path("dense"))
    steps = []
    anew = pretrain(RECIPE, Path("dense"), overwrite=True, watch=Watch(on_step=steps.append))
    assert (steps[0].epoch, steps[0].step) == (0, 1)
    assert inputs_of(anew)["accepted"] == []


def test_the_code_of_a_network_of_ones_own_is_compared(photos):
    dense = pretrain(RECIPE, Path("dense"))
    Path("mine.py").write_text(NETWORK.replace("nn.ReLU()", "nn.Tanh()"), encoding="utf-8")
    for start in (
        lambda **how: prune(RECIPE, dense.path, Path("masks"), **how),
        lambda **how: evaluate_run(dense.path, CLEAN, CPU, **how),
        lambda **how: export_run(dense.path, Path("net.harp"), **how),
    ):
        with pytest.raises(ChangedInputs, match="the code of mine changed"):
            start()
        start(accept_changes=True)


def test_ends_of_lines_are_no_edit(photos):
    dense = pretrain(RECIPE, Path("dense"))
    Path("mine.py").write_bytes(NETWORK.encode().replace(b"\n", b"\r\n"))
    prune(RECIPE, dense.path, Path("masks"))


def test_a_run_of_an_older_version_is_taken_as_it_is(photos):
    dense = pretrain(RECIPE, Path("dense"))
    dense.inputs.unlink()
    write_image(photos / "train" / "bolt" / "99.png")
    assert inputs_of(prune(RECIPE, dense.path, Path("masks")))["accepted"] == []


@pytest.mark.parametrize(
    "content", ["{}", '{"format": 9}', '{"format": 1, "data": {}, "code": {}, "accepted": []}', "["]
)
def test_a_damaged_record_names_its_file(photos, content):
    dense = pretrain(RECIPE, Path("dense"))
    dense.inputs.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"dense/inputs\.json"):
        prune(RECIPE, dense.path, Path("masks"))


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize("kind", ["photos", "streamed"])
def test_all_broken_images_are_listed_before_anything_is_written(request, kind):
    root = request.getfixturevalue(kind)
    broken = [root / "train" / "bolt" / "3.png", root / "train" / "nut" / "5.png", root / "test" / "bolt" / "0.png"]
    for path in broken:
        spoil(path)
    with pytest.raises(ValueError, match="3 of 32 images cannot be read") as refused:
        pretrain(RECIPE, Path("dense"))
    assert all(str(path) in str(refused.value) for path in broken)
    assert not Path("dense").exists()


@pytest.mark.parametrize("kind", ["photos", "streamed"])
def test_broken_images_are_left_out_by_all_stages_and_the_run_names_them(request, kind, monkeypatch):
    root = request.getfixturevalue(kind)
    spoil(root / "train" / "bolt" / "3.png")
    spoil(root / "test" / "nut" / "1.png")
    recipe = replace(RECIPE, task=replace(RECIPE.task, skip_broken=True))
    dense = pretrain(recipe, Path("dense"))
    assert sorted(inputs_of(dense)["data"]["left_out"]) == ["test/nut/1.png", "train/bolt/3.png"]
    masks = prune(recipe, dense.path, Path("masks"))
    assert inputs_of(masks)["data"] == inputs_of(dense)["data"]
    (found,) = evaluate_run(masks.path, CLEAN, CPU)
    assert found.images == 7
    assert "2 files of the data set cannot be read and were left out" in found.notes


def test_streamed_files_are_looked_through_once_and_then_where_a_folder_changed(streamed):
    seen: list[tuple[str, int, int]] = []
    watch = Watch(on_images=lambda what, done, total: seen.append((what, done, total)))
    dense = pretrain(RECIPE, Path("dense"), watch=watch)
    assert seen == [("reading images", 32, 32)]
    masks = prune(RECIPE, dense.path, Path("masks"), watch=watch)
    assert len(seen) == 1
    write_image(streamed / "train" / "bolt" / "99.png")
    finetune(RECIPE, masks.path, Path("final"), accept_changes=True, watch=watch)
    assert seen[1:] == [("reading images", 13, 13)]


def test_a_broken_file_stays_left_out_when_another_joins_its_folder(streamed):
    spoil(streamed / "train" / "bolt" / "3.png")
    recipe = replace(RECIPE, task=replace(RECIPE.task, skip_broken=True))
    dense = pretrain(recipe, Path("dense"))
    write_image(streamed / "train" / "bolt" / "99.png")
    with pytest.raises(ChangedInputs, match=r"noted them: train/bolt/99\.png was added\."):
        prune(recipe, dense.path, Path("masks"))
    masks = prune(recipe, dense.path, Path("masks"), accept_changes=True)
    assert list(inputs_of(masks)["data"]["left_out"]) == ["train/bolt/3.png"]


def test_the_command_line_says_what_changed_and_takes_the_flag(photos, capsys):
    pretrain(RECIPE, Path("dense"))
    write_image(photos / "train" / "bolt" / "99.png")
    command = ["evaluate", "dense", "--attack", "clean"]
    assert main(command) == 2
    assert "train/bolt/99.png was added" in capsys.readouterr().err
    assert main([*command, "--accept-changes"]) == 0
