"""`harp compare` from the command line to the table, on a network of 168 weights."""

import json
import re
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harp.cli import main
from harp.compare import Job, launchers
from harp.recipes import Compute, Pruning, Recipe, Task, Training, recipe_in
from harp.stages.train import pretrain

FAST = {"epochs": 1, "batch_size": 30, "attack_steps": 1}
TINY = Recipe(
    task=Task(data="tiny:data", model="tiny:network", eps=0.1),
    pretrain=Training(**FAST),
    prune=Pruning(**FAST),
    finetune=Training(**FAST),
    compute=Compute(device="cpu", threads=1),
)
ONE_CELL = ["--methods", "lwm", "--keeps", "0.1", "--seeds", "0"]
EVALUATED = ["--test.attack", "pgd", "--test.steps", "2", "--test.images", "24"]


@pytest.fixture
def parent(tiny: Path) -> Path:
    return pretrain(TINY, Path("dense")).path


def compare(*words: str) -> int:
    return main(["compare", *words, *EVALUATED, "--out", "out"])


def test_every_combination_is_pruned_finetuned_and_judged(parent: Path, inline: list[str], capsys):
    words = ["--methods", "harp", "lwm", "--keeps", "0.5", "0.1", "--seeds", "0", "1", "--json", "out/records.json"]
    status = compare("dense", *words)
    said = capsys.readouterr().out
    assert status == 0
    assert "8 cells: 2 methods (harp, lwm) × 2 keeps (0.5, 0.1) × 2 seeds; 0 finished" in said
    records = json.loads(Path("out/records.json").read_text(encoding="utf-8"))
    assert len(records) == 8 + 1
    cells = [r for r in records if r["method"] != "dense"]
    assert {r["kept"] for r in cells if r["keep"] == 0.1} == {17}
    assert {r["passes"] for r in cells} == {2 * 4}
    assert all(0 <= r["clean"] <= 1 and 0 <= r["pgd-2"] <= 1 and r["autoattack"] is None for r in cells)
    assert Path("out/harp-0.1-s1/final/card.json").exists()
    assert "<!doctype html>" in Path("out/report.html").read_text(encoding="utf-8")
    assert "paired difference to harp" in said
    assert "2 seeds from one parent" in said
    assert "Nothing is called better or worse on fewer than 3 seeds" in said


def test_what_is_finished_is_not_run_again_and_more_can_be_asked_for(parent: Path, inline: list[str], capsys):
    assert compare("dense", *ONE_CELL) == 0
    assert len(inline) == 2  # the cell, and the parent judged
    cards = {path: path.read_bytes() for path in Path().rglob("card.json")}
    inline.clear()
    assert compare("dense", "--methods", "lwm", "erk", "--keeps", "0.1", "--seeds", "0") == 0
    assert [shlex.split(line)[1] for line in inline] == ["cell"]
    assert "1 finished" in capsys.readouterr().out
    assert all(path.read_bytes() == content for path, content in cards.items())
    inline.clear()
    assert compare("dense", "--methods", "lwm", "erk", "--keeps", "0.1", "--seeds", "0") == 0
    assert inline == []


def test_a_failing_cell_is_named_with_its_log_and_the_others_are_finished(parent: Path, inline: list[str], capsys):
    Path("out/lwm-0.1-s0/masks").mkdir(parents=True)
    (Path("out/lwm-0.1-s0/masks") / "recipe.json").write_text("{}", encoding="utf-8")
    assert compare("dense", "--methods", "lwm", "erk", "--keeps", "0.1", "--seeds", "0") == 2  # before any work
    assert "was not written by harp" in capsys.readouterr().err
    (Path("out/lwm-0.1-s0/masks") / "recipe.json").unlink()
    Path("out/lwm-0.1-s0/final").write_text("in the way", encoding="utf-8")
    assert compare("dense", "--methods", "lwm", "erk", "--keeps", "0.1", "--seeds", "0") == 1
    said = capsys.readouterr().out
    assert "1 failed" in said
    assert "lwm-0.1-s0" in said
    assert "out/logs/lwm-0.1-s0.log" in said
    assert Path("out/erk-0.1-s0/final/card.json").exists()


def test_an_interrupted_comparison_shows_and_writes_what_it_has(parent: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    def launch(jobs: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[tuple[Job, int]]:
        for job in jobs:
            if job.name.startswith("erk"):
                raise KeyboardInterrupt
            yield job, main(list(job.words))

    monkeypatch.setattr(launchers, "local", lambda processes: launch)
    assert (
        compare("dense", "--methods", "lwm", "erk", "--keeps", "0.1", "--seeds", "0", "--json", "records.json") == 130
    )
    records = json.loads(Path("records.json").read_text(encoding="utf-8"))
    assert [r["method"] for r in records] == ["dense", "lwm"]
    assert "Report:" in capsys.readouterr().out
    assert "LWM" in Path("out/report.html").read_text(encoding="utf-8")


def test_a_place_for_the_records_that_is_none_is_refused_before_any_work(parent: Path, inline: list[str], capsys):
    assert compare("dense", *ONE_CELL, "--json", "dense") == 2
    assert "json=dense is a directory" in capsys.readouterr().err
    assert inline == []


def test_a_preset_trains_a_parent_for_each_seed(tiny: Path, inline: list[str], capsys):
    small = [
        f"--{stage}.{name}" for stage in ("pretrain", "prune", "finetune") for name in ("epochs=1", "attack-steps=1")
    ]
    task = ["--task.data", "tiny:data", "--task.model", "tiny:network"]
    status = compare("digits", *small, *task, "--methods", "lwm", "--keeps", "0.2", "--seeds", "3", "4")
    assert status == 0, capsys.readouterr()
    assert [shlex.split(line)[1] for line in inline] == ["pretrain"] * 2 + ["evaluate"] * 2 + ["cell"] * 2
    for seed in (3, 4):
        assert recipe_in(Path(f"out/dense-s{seed}/recipe.json")).seed == seed
        assert recipe_in(Path(f"out/lwm-0.2-s{seed}/final/recipe.json")).finetune.epochs == 2


def test_a_dry_run_prints_commands_that_do_the_whole_and_changes_nothing(parent: Path, capsys):
    words = ["dense", "--methods", "lwm", "--keeps", "0.5", "0.1", "--seeds", "0", "1"]
    assert compare(*words, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# 0 of 4 cells are finished"
    assert re.fullmatch(r"# \d+ at a time: about .+, from timed steps; evaluation counted", lines[1])
    assert not Path("out").exists()
    for line in lines[2:]:
        assert main(shlex.split(line)[1:]) == 0
    capsys.readouterr()
    assert compare(*words, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == ["# 4 of 4 cells are finished", ""]


def test_what_is_said_of_channels_holds_where_channels_are_pruned(parent: Path, capsys):
    words = ["dense", "--methods", "lwm", "--keeps", "0.5", "--seeds", "0", "--prune.multiple-of", "2"]
    assert compare(*words, "--granularities", "weight", "channel", "--dry-run") == 0
    evaluate, of_weights, of_channels = capsys.readouterr().out.splitlines()[2:]
    assert "evaluate" in evaluate
    assert "--prune.multiple-of" not in of_weights
    assert "--prune.granularity channel --prune.multiple-of 2" in of_channels
    with pytest.raises(SystemExit):
        compare(*words, "--dry-run")
    assert "multiple_of=2 is for channels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "'nowhere' is neither a run directory nor a preset"),
        (["dense", "digits"], "names the preset 'digits' and others"),
        (["dense", "--methods", "hrap"], "'hrap' must be one of"),
        (["dense", "--keeps", "2"], "keep=2.0 must lie in"),
        (["dense", "--baseline", "erk"], "baseline='erk' must be one of the methods"),
        (["dense", "--seed", "4"], "--seed is for a single run; here name --seeds"),
        (["dense", "--prune.keep", "0.3"], "here name --keeps"),
        (["dense", "--prune.method", "lwm"], "here name --methods"),
        (["dense", "--prune.granularity", "channel"], "here name --granularities"),
        (["dense", "--jobs", "0"], "jobs=0 must be at least 1"),
        (["dense", "--task.model", "vgg_small"], "task.model='vgg_small' must be that of dense"),
        (["dense", "--launcher-options", "a=b"], "are for slurm and ray"),
        (["dense", "--keeps", "0.5", "0.00001"], "choose keep >= "),
        (["dense", "--granularities", "channel", "--keeps", "0.00001"], "the smallest reachable is keep="),
        (["dense", "--prune.exclude", "feature.*"], "exclude patterns ['feature.*'] match no weight"),
    ],
)
def test_bad_input_is_one_line_before_any_work(parent: Path, words: list[str], said: str, capsys):
    assert compare(*words) == 2
    assert said in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_pruned_run_is_no_parent(parent: Path, inline: list[str], capsys):
    assert main(["prune", "dense", "--method", "lwm", "--out", "pruned"]) == 0
    assert compare("pruned") == 2
    assert "is pruned already" in capsys.readouterr().err


def test_runs_of_other_settings_are_refused_with_the_difference_and_may_be_replaced(parent: Path, inline, capsys):
    words = ["dense", *ONE_CELL]
    assert compare(*words) == 0
    inline.clear()
    assert compare(*words, "--finetune.lr", "0.3") == 2
    assert "finetune.lr (0.1 there, 0.3 here)" in capsys.readouterr().err
    assert inline == []
    assert compare(*words, "--finetune.lr", "0.3", "--overwrite") == 0
    assert recipe_in(Path("out/lwm-0.1-s0/final/recipe.json")).finetune.lr == 0.3


@pytest.mark.slow
def test_cells_run_as_processes_of_their_own(parent: Path, harp_process):
    words = ["compare", "dense", *ONE_CELL, "--jobs", "2", *EVALUATED]
    process = harp_process(*words, "--out", "out")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert Path("out/lwm-0.1-s0/final/card.json").exists()
    assert Path("out/logs/lwm-0.1-s0.log").read_text(encoding="utf-8").startswith("$ harp cell dense ")


def waited_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_comparison_that_was_stopped_or_killed_goes_on_and_ends_with_the_same_bits(
    parent: Path, harp_process, number: int
):
    words = [
        "compare",
        "dense",
        "--methods",
        "harp",
        "--keeps",
        "0.1",
        "--seeds",
        "0",
        "--prune.epochs",
        "4",
        *EVALUATED,
    ]
    process = harp_process(*words, "--out", "out", TINY_PAUSE_S="0.3")
    waited_for(Path("out/harp-0.1-s0/masks/metrics.jsonl"))
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    deadline, log = time.monotonic() + 60, Path("out/logs/harp-0.1-s0.log")
    while "Nothing is lost" not in log.read_text(encoding="utf-8"):  # the cell has stopped by itself
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not Path("out/harp-0.1-s0/masks/card.json").exists()
    for out in ("out", "straight"):
        assert main([*words, "--out", out]) == 0
    paths = [Path(out) / "harp-0.1-s0/final/model.safetensors" for out in ("out", "straight")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_doubts_are_settled_unless_another_attack_is_asked_for(parent: Path, capsys):
    words = ["compare", "dense", *ONE_CELL, "--test.images", "24", "--dry-run"]
    assert main([*words, "--out", "out"]) == 0
    assert "--test.attack settled" in capsys.readouterr().out
    assert main([*words, "--out", "out", "--test.attack", "autoattack"]) == 0
    assert "settled" not in capsys.readouterr().out


def test_a_column_of_corruptions_evaluates_every_network_on_them(parent: Path, inline: list[str], capsys):
    words = [*ONE_CELL, "--columns", "corruptions", "--json", "out/records.json"]
    assert compare("dense", *words) == 0
    assert "corrupted" in capsys.readouterr().out
    assert [0 < record["corruptions"] < 1 for record in json.loads(Path("out/records.json").read_bytes())] == [
        True,
        True,
    ]
