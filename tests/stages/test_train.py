"""pretrain, prune, finetune: one run directory in, another out; stopped anywhere, refused where they must be."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harp.checkpoint import load_tensors, save_tensors
from harp.recipes import Compute, Pruning, Recipe, Task, Training
from harp.runs.claim import OtherRun
from harp.runs.directory import RunDirectory
from harp.runs.images import open_data
from harp.runs.network import load_network
from harp.runs.opening import open_run
from harp.stages.train import finetune, pretrain, prune
from harp.stages.watch import Watch

LEARN = {"epochs": 2, "batch_size": 18, "attack_steps": 1, "lr": 0.05}
RECIPE = Recipe(
    task=Task(data="tiny:sealed_data", model="tiny:network", eps=0.1, validation=0.2),
    pretrain=Training(**LEARN),
    prune=Pruning(**LEARN, keep=0.25),
    finetune=Training(**LEARN),
    compute=Compute(device="cpu"),
)


@pytest.fixture
def dense(tiny: Path) -> Path:
    return pretrain(RECIPE, tiny / "dense").path


def card_of(run: Path) -> dict:
    return json.loads((run / "card.json").read_text(encoding="utf-8"))


def bytes_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def records_of(run: Path) -> list[dict]:
    """What the epochs were like, but for how long they took."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in record.items() if not name.endswith("_s")} for record in records]


def stages_from(dense: Path) -> dict[str, Callable[..., RunDirectory]]:
    """Each stage as a function of its directory and its watch."""
    masks = prune(RECIPE, dense, dense.parent / "masks").path
    return {
        "pretrain": lambda out, **how: pretrain(RECIPE, out, **how),
        "prune": lambda out, **how: prune(RECIPE, dense, out, **how),
        "finetune": lambda out, **how: finetune(RECIPE, masks, out, **how),
    }


def test_three_stages_end_with_the_exact_budget_and_never_look_at_the_test_set(dense):
    masks = prune(RECIPE, dense, Path("masks"))
    before = bytes_in(masks.path)
    final = finetune(RECIPE, masks.path, Path("final"))
    assert bytes_in(masks.path) == before
    kept, weights = load_tensors(final.masks), load_tensors(final.model)
    assert sum(int(mask.sum()) for mask in kept.values()) == card_of(final.path)["kept"] == 42 == round(0.25 * 168)
    assert all(not weights[name][~mask].any() for name, mask in kept.items())
    assert sorted(path.name for path in final.path.iterdir()) == sorted(
        ["recipe.json", "inputs.json", "metrics.jsonl", "model.safetensors", "masks.safetensors", "card.json"]
    )
    assert len(final.metrics.read_text(encoding="utf-8").splitlines()) == 2


def test_parameters_that_two_modules_share_go_through_all_stages(tiny):
    recipe = replace(RECIPE, task=replace(RECIPE.task, model="tiny:tied"))
    masks = prune(recipe, pretrain(recipe, Path("dense")).path, Path("masks"))
    model = load_network(open_run(finetune(recipe, masks.path, Path("final")).path), open_data(recipe))
    assert model.get_parameter("2.weight") is model.get_parameter("3.0.weight")


@pytest.mark.parametrize("after", [1, 4])
def test_a_stage_stopped_at_a_step_goes_on_and_writes_the_bytes_of_one_never_stopped(dense, after):
    for name, stage in stages_from(dense).items():
        steps = []

        def stop(steps: list[int] = steps) -> bool:
            steps.append(0)
            return len(steps) == after

        whole, out = stage(Path(f"{name}-whole")), Path(name)
        with pytest.raises(KeyboardInterrupt):
            stage(out, watch=Watch(should_stop=stop))
        assert RunDirectory(out).resume.exists()
        assert not RunDirectory(out).finished
        torch.manual_seed(after)  # whatever the generator was left at must not matter
        stage(out)
        assert RunDirectory(out).model.read_bytes() == whole.model.read_bytes()
        if name != "pretrain":
            assert RunDirectory(out).masks.read_bytes() == whole.masks.read_bytes()
        assert records_of(out) == records_of(whole.path)


def test_a_finished_run_is_run_again_only_to_overwrite_it(dense):
    before, steps = bytes_in(dense), []
    watch = Watch(on_step=steps.append)
    pretrain(RECIPE, dense, watch=watch)
    assert (bytes_in(dense), steps) == (before, [])
    pretrain(RECIPE, dense, overwrite=True, watch=watch)
    assert len(steps) == 2 * 3


def test_a_run_of_other_settings_stays_until_it_may_be_overwritten(dense):
    masks = prune(RECIPE, dense, Path("masks"))
    before, other = bytes_in(masks.path), replace(RECIPE, prune=replace(RECIPE.prune, keep=0.5))
    with pytest.raises(OtherRun, match=r"prune.keep \(0.25 there, 0.5 here\).*another --out, or --overwrite"):
        prune(other, dense, masks.path)
    assert bytes_in(masks.path) == before
    assert card_of(prune(other, dense, masks.path, overwrite=True).path)["kept"] == 84


def test_a_run_whose_parent_was_made_anew_is_another(dense):
    masks = prune(RECIPE, dense, Path("masks"))
    pretrain(replace(RECIPE, seed=1), dense, overwrite=True)
    with pytest.raises(OtherRun, match="the network it started from, which has changed since"):
        prune(RECIPE, dense, masks.path)


def test_what_is_no_run_is_never_written_to(tiny):
    mine = tiny / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    for out in (mine, mine / "thesis.tex"):
        for overwrite in (False, True):
            with pytest.raises(ValueError, match=f"out={out} .*name a"):
                pretrain(RECIPE, out, overwrite=overwrite)
    assert bytes_in(mine) == {mine / "thesis.tex": b"years of work"}


def test_to_overwrite_a_run_leaves_what_else_lies_there(dense):
    (dense / "notes.txt").write_text("mine")
    pretrain(replace(RECIPE, seed=1), dense, overwrite=True)
    assert (dense / "notes.txt").read_text() == "mine"


def test_a_stage_never_writes_where_it_reads(dense):
    before = bytes_in(dense)
    with pytest.raises(ValueError, match="a stage never edits its input"):
        prune(RECIPE, dense, Path("elsewhere") / ".." / "dense", overwrite=True)
    with pytest.raises(ValueError, match="a stage never edits its input"):
        pretrain(RECIPE, dense, weights=dense / "model.safetensors", overwrite=True)
    assert bytes_in(dense) == before


def test_stages_in_the_wrong_order_say_what_comes_first(dense):
    masks = prune(RECIPE, dense, Path("masks")).path
    with pytest.raises(ValueError, match="masks is pruned already; prune the dense run"):
        prune(RECIPE, masks, Path("out"))
    with pytest.raises(ValueError, match="has no masks to keep; `harp prune"):
        finetune(RECIPE, dense, Path("out"))
    with pytest.raises(ValueError, match=r"nowhere is not a run directory.*harp pretrain"):
        prune(RECIPE, Path("nowhere"), Path("out"))
    (dense / "card.json").unlink()
    with pytest.raises(ValueError, match=r"dense is not finished.*the command that made it again"):
        prune(RECIPE, dense, Path("out"))
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "change", [{"data": "tiny:two_classes"}, {"model": "tiny:tied"}, {"mean": (0.5,), "std": (1.0,)}]
)
def test_a_child_about_something_else_than_its_parent_is_refused(dense, change):
    other = replace(RECIPE, task=replace(RECIPE.task, **change))
    with pytest.raises(ValueError, match=rf"task.{next(iter(change))}=.* must be that of .*dense"):
        prune(other, dense, Path("out"))
    assert not Path("out").exists()


def test_a_child_with_another_seed_judges_itself_on_its_parents_validation_images(dense):
    masks = prune(replace(RECIPE, seed=5), dense, Path("masks")).path
    assert open_run(finetune(replace(RECIPE, seed=6), masks, Path("final")).path).split_seed == 0
    assert open_run(pretrain(replace(RECIPE, seed=5), Path("other")).path).split_seed == 5


def test_a_checkpoint_of_other_classes_is_refused_before_anything_is_written(dense):
    recipe = replace(RECIPE, task=replace(RECIPE.task, data="tiny:two_classes"))
    with pytest.raises(ValueError, match=r"wrong shape: 5.weight \(3, 32\), the model has \(2, 32\)"):
        pretrain(recipe, Path("out"), weights=dense / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"weights=nowhere.pt is not a file; name a checkpoint of tiny:network"):
        pretrain(recipe, Path("out"), weights=Path("nowhere.pt"))
    assert not Path("out").exists()


def test_a_run_that_cannot_meet_its_budget_says_so_at_half_time_and_ends_with_it_exactly(dense, caplog):
    slow = replace(RECIPE.prune, keep=0.05, epochs=4, lr=1e-4, rule="ramp", gamma_step=1e-6)
    with caplog.at_level(logging.WARNING):
        run = prune(replace(RECIPE, prune=slow), dense, Path("masks"))
    early, late = [record.message for record in caplog.records if "density" in record.message]
    assert "after 2 of 4 epochs" in early
    assert "raise gamma_step" in early
    assert "no epoch met the budget" in late
    assert card_of(run.path)["kept"] == round(0.05 * 168) == sum(int(m.sum()) for m in load_tensors(run.masks).values())


def test_a_loss_that_is_not_finite_stops_says_where_and_keeps_the_last_good_state(dense):
    wild = replace(RECIPE, finetune=replace(RECIPE.finetune, lr=1e38, weight_decay=10.0, epochs=3, schedule="constant"))
    masks = prune(RECIPE, dense, Path("masks")).path
    with pytest.raises(FloatingPointError, match=r"in stage finetune, epoch \d, step \d.*lower lr.*--overwrite"):
        finetune(wild, masks, Path("final"))
    assert not RunDirectory(Path("final")).finished
    assert card_of(finetune(RECIPE, masks, Path("final"), overwrite=True).path)["kept"] == 42


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda mask, weight: (mask.logical_not(), weight), "make the run again"),
        (lambda mask, weight: (mask, weight + 1), "has weights outside the masks"),
    ],
)
def test_masks_that_are_not_those_of_the_model_are_noticed_when_a_run_is_opened(dense, change, said):
    run = prune(RECIPE, dense, Path("masks"))
    chosen, weights = load_tensors(run.masks), load_tensors(run.model)
    chosen["5.weight"], weights["5.weight"] = change(chosen["5.weight"], weights["5.weight"])
    save_tensors(run.masks, chosen)
    save_tensors(run.model, weights)
    with pytest.raises(ValueError, match=said):
        finetune(RECIPE, run.path, Path("final"))


def test_a_pruned_run_that_lost_its_masks_or_its_model_is_noticed(dense):
    run = prune(RECIPE, dense, Path("masks"))
    run.masks.unlink()
    with pytest.raises(ValueError, match=r"pruned by harp and has lost its masks.safetensors"):
        load_network(open_run(run.path), open_data(RECIPE))
    run.model.unlink()
    with pytest.raises(ValueError, match=r"has lost its model.safetensors; make it again with --overwrite"):
        load_network(open_run(run.path), open_data(RECIPE))


def test_the_key_of_a_checkpoint_is_part_of_the_run(dense):
    plain = load_tensors(RunDirectory(dense).model)
    torch.save({"state_dict": plain, "state_dict_ema": {n: t + 1 for n, t in plain.items()}}, "both.pt")
    run = pretrain(RECIPE, Path("run"), weights=Path("both.pt"), weights_key="state_dict_ema")
    assert torch.equal(load_tensors(run.model)["5.bias"], plain["5.bias"] + 1)
    with pytest.raises(OtherRun, match=r"weights_key \('state_dict_ema' there, 'state_dict' here\)"):
        pretrain(RECIPE, Path("run"), weights=Path("both.pt"), weights_key="state_dict")
    with pytest.raises(ValueError, match=r"weights_key='ema' names a network in a checkpoint; name the file"):
        pretrain(RECIPE, Path("other"), weights_key="ema")
    assert not Path("other").exists()


def test_training_may_start_from_a_checkpoint_of_other_classes(dense, caplog):
    recipe = replace(RECIPE, task=replace(RECIPE.task, data="tiny:two_classes"))
    source = dense / "model.safetensors"
    run = pretrain(recipe, Path("run"), weights=source, train_weights=True)
    assert "the head 5.weight begins anew: 3 outputs in the checkpoint, 2 in the model" in caplog.text
    assert len(records_of(run.path)) == 2
    theirs, found = load_tensors(source), load_tensors(run.model)
    assert found["5.weight"].shape == (2, 32)
    alone = load_tensors(pretrain(recipe, Path("alone")).model)
    distance = {name: float((t["1.weight"] - theirs["1.weight"]).norm()) for name, t in (("on", found), ("new", alone))}
    assert 0 < distance["on"] < distance["new"] / 2
    with pytest.raises(OtherRun, match=r"train_weights \(True there, False here\)"):
        pretrain(recipe, Path("run"), weights=source)
    with pytest.raises(ValueError, match="train_weights needs weights to start from"):
        pretrain(recipe, Path("nothing"), train_weights=True)
