"""The command line: what each command prints, and one line for what cannot be."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harp.checkpoint import load_tensors, save_tensors
from harp.cli import main
from harp.cli.parsing import number

SMALL = ["--batch-size", "18", "--attack-steps", "1", "--lr", "0.05", "--compute.device", "cpu"]
TASK = ["--task.data", "tiny:data", "--task.model", "tiny:network", "--task.eps", "0.1", "--task.validation", "0.2"]
PRETRAIN = ["pretrain", "digits", "--out", "dense", "--epochs", "2", *SMALL, *TASK]


@pytest.fixture
def dense(tiny: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(PRETRAIN) == 0
    capsys.readouterr()
    return tiny / "dense"


def test_the_commands_of_the_readme_say_what_is_kept_and_how_well_it_does(dense, capsys):
    assert main(["prune", "dense", "--keep", "0.25", "--out", "masks", "--epochs", "2", *SMALL]) == 0
    assert "HARP 25 %: 42 of 168 weights; validation: clean" in capsys.readouterr().out
    assert main(["finetune", "masks", "--out", "final", "--epochs", "1", *SMALL]) == 0
    assert main(["evaluate", "final", "--attack", "pgd", "--images", "12", "--steps", "2"]) == 0
    said = capsys.readouterr().out
    assert "of 12 under PGD-2" in said
    assert "42 of 168" in said
    assert main(["report", "dense", "final", "--out", "page.html"]) == 0
    assert "page.html" in capsys.readouterr().out
    assert "HARP 25 %" in Path("page.html").read_text(encoding="utf-8")


def test_settings_that_no_flag_names_are_those_of_the_run_before(dense):
    assert main(["prune", "dense", "--out", "masks", "--epochs", "1", "--keep", "0.5"]) == 0
    recipe = json.loads(Path("masks/recipe.json").read_text(encoding="utf-8"))["recipe"]
    assert recipe["task"]["eps"] == 0.1
    assert recipe["compute"]["device"] == "cpu"


IMPOSSIBLE = [
    ("nonsense", "'nonsense' is not a command; choose one of run, pretrain"),
    ("pretrain digitz --out x", "'digitz' is not a preset; choose one of digits"),
    ("pretrain --out x digits", "--out comes too early: the preset or run is named first"),
    ("pretrain digits --out x --task.eps -0.1", "eps=-0.1 must lie in [0, 1]"),
    ("pretrain digits --out x --task.eps 8", "eps=8.0 must lie in [0, 1]"),
    ("pretrain digits --out x --epochs 0", "epochs=0 must be at least 1"),
    ("pretrain digits --out x --task.data nothing", "nothing"),
    ("pretrain digits --out x --task.model resnet_smal", "did you mean resnet_small"),
    ("pretrain digits --out x --weights nowhere.pt", "weights=nowhere.pt is not a file"),
    ("pretrain digits --out x --task.norm l2 --objective n-fgsm", "n_fgsm is defined for norm 'linf'"),
    ("pretrain folder-cpu --out x", "root=None: folder needs the directory of its images, root=... (--task.root)"),
    ("pretrain folder-cpu --out x --task.root gone", "root='gone' is not a directory, seen from"),
    ("pretrain folder-cpu --out x --task.root empty", "empty needs a directory of images for every class"),
    ("prune dense --out x --keep 0", "keep=0.0 must lie in (0, 1]"),
    ("prune dense --out x --keep 0.001", "every layer keeps at least one; choose keep >= 0.0119"),
    ("prune dense --out x --exclude conv*", "exclude patterns ['conv*'] match no weight; the prunable weights are"),
    ("prune nowhere --out x", "nowhere"),
    ("finetune dense --out x", "dense has no masks to keep"),
    ("evaluate dense --eps 2", "eps=2.0"),
    ("evaluate dense --images 0", "images=0 must be at least 1"),
    ("report nowhere", "nowhere"),
    ("report", "runs"),
    ("run digits --methods harp+awq --out x", "'awq' is no plug-in; choose from s2ap, awp"),
    ("compare dense --seed 3 --out x", "--seed is for a single run; here name --seeds"),
    ("compare dense --prune.keep=0.1 --out x", "--prune.keep is for a single run; here name --keeps"),
    ("compare dense --prune.method lwm --out x", "--prune.method is for a single run; here name --methods"),
    ("bench nowhere.harp", "net=nowhere.harp is not a file, seen from"),
    ("bench dense", "net=dense is a directory, not a file; `harp export RUN --out net.harp` makes one"),
    ("export nowhere --out x", "nowhere is not a run directory"),
    ("shrink nowhere --out x", "nowhere is not a run directory"),
    ("cell nowhere --out x", "nowhere is not a run directory"),
    ("compare nowhere --out x", "'nowhere' is neither a run directory nor a preset"),
    ("pretrain digits --out x --task.eps 8/0", "--task.eps"),
    ("pretrain digits --out x --task.eps 300/255", "eps=1.1764"),
    ("run digits --prune.method lwm --out x", "--prune.method is for a single run; here name --methods"),
]


def test_what_cannot_be_is_refused_by_name_with_code_two_and_nothing_is_written(dense, capsys):
    Path("empty").mkdir()
    before = {path: path.read_bytes() for path in Path.cwd().rglob("*.json*")}
    for line, expected in IMPOSSIBLE:
        try:
            status = main(line.split())
        except SystemExit as error:  # what the parser itself refuses
            status = error.code
        said = " ".join(capsys.readouterr().err.replace("│", " ").split())
        assert (line, status) == (line, 2)
        assert expected in said, line
        assert "Traceback" not in said
        assert not Path("x").exists(), line
    assert {path: path.read_bytes() for path in Path.cwd().rglob("*.json*")} == before


def test_no_error_is_the_number_of_the_system(tiny, capsys):
    """Whatever the path: the file comes first, in words."""
    assert main(["pretrain", "digits", "--out", "/proc/nowhere", *SMALL, *TASK]) == 2
    assert "[Errno" not in capsys.readouterr().err


def test_radii_and_steps_are_taken_as_fractions(dense):
    assert (
        main(["prune", "dense", "--out", "masks", "--epochs", "1", "--keep", "1/4", "--attack-step-size", "2/255"]) == 0
    )
    prune = json.loads(Path("masks/recipe.json").read_text(encoding="utf-8"))["recipe"]["prune"]
    assert (prune["keep"], prune["attack_step_size"]) == (0.25, 2 / 255)
    assert main(["evaluate", "dense", "--attack", "fgsm", "--images", "4", "--eps", "8/255", "0"]) == 0
    found = json.loads(Path("dense/card.json").read_text(encoding="utf-8"))["evaluations"]
    assert [each["eps"] for each in found] == [None, 8 / 255, 0]


@pytest.mark.parametrize(("word", "expected"), [("8/255", 8 / 255), ("-1/2", -0.5), ("1e-3", 0.001), ("0.5/2", 0.25)])
def test_a_number_may_be_a_fraction(word, expected):
    assert number(word) == expected


@pytest.mark.parametrize("word", ["8/0", "1/2/3", "eight", "/255", ""])
def test_what_is_no_number_is_answered_by_how_to_write_one(word):
    with pytest.raises(ValueError, match=r"is not a number: write it as 0.03137 or 8/255"):
        number(word)


def test_flags_that_a_command_refuses_are_not_shown(capsys):
    for command, refused in {
        "compare": ["--seed ", "--prune.method", "--prune.keep "],
        "run": ["--prune.method"],
    }.items():
        with pytest.raises(SystemExit):
            main([command, "digits", "--help"])
        said = capsys.readouterr().out
        assert "--prune.rule" in said
        assert [flag for flag in refused if flag in said] == []


def test_a_method_with_its_plug_in_takes_part_in_the_whole_job(tiny, capsys):
    stages = [
        f"--{stage}.{flag}" for stage in ("pretrain", "prune", "finetune") for flag in ("epochs=2", "batch-size=18")
    ]
    stages += ["--finetune.epochs=6", "--test.attack=clean", "--compute.device=cpu"]
    stages += [f"--{stage}.objective=natural" for stage in ("pretrain", "prune", "finetune")]
    assert main(["run", "digits", "--out", "job", "--keep", "0.5", "--methods", "lwm+awp", *TASK, *stages]) == 0
    assert "LWM + AWP 50 %" in capsys.readouterr().out
    finetune = json.loads(Path("job/lwm+awp/recipe.json").read_text(encoding="utf-8"))["recipe"]["finetune"]
    assert (finetune["awp_gamma"], finetune["epochs"]) == (0.01, 4)  # 2 + 6 epochs of a pass, each now taken twice


def test_a_finished_cell_is_run_again_to_overwrite_it_and_else_never(dense, capsys):
    words = ["cell", "dense", "--out", "cell", "--prune.keep", "0.5", "--prune.epochs", "1", "--finetune.epochs", "1"]
    words += ["--test.attack", "clean", "--prune.objective", "natural", "--finetune.objective", "natural"]
    assert main(words) == 0
    made = Path("cell/final/card.json").stat().st_mtime_ns
    assert main(words) == 0
    assert Path("cell/final/card.json").stat().st_mtime_ns == made
    assert main([*words, "--overwrite"]) == 0
    assert Path("cell/final/card.json").stat().st_mtime_ns > made
    assert Path("cell/masks/card.json").stat().st_mtime_ns > made


def test_the_table_marks_a_network_that_is_no_better_than_chance(dense, capsys):
    weights = load_tensors(Path("dense/model.safetensors"))
    save_tensors(Path("dense/model.safetensors"), {name: value * 0 for name, value in weights.items()})
    assert main(["evaluate", "dense", "--attack", "clean"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "33.3 (18.0–53.3) chance" in said
    assert (
        "note Dense, clean: not separably above chance: one and the same answer is right for 33.3 % of the images"
        in said
    )


def test_a_reader_that_has_seen_enough_is_no_error(tiny, harp_process):
    process = harp_process("run", "--help")
    assert process.stdout is not None
    process.stdout.close()  # as `| head` does
    assert process.wait(timeout=60) == 141


def test_nothing_complains_to_a_reader_that_has_gone(tiny):
    command = f"{sys.executable} -m harp.cli run --help | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("usage: harp run")
    assert done.stderr == ""


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGTERM, signal.SIGKILL))],
)
def test_a_run_that_was_signalled_goes_on_and_ends_with_the_bytes_of_one_never_stopped(tiny, harp_process, number):
    words = [*PRETRAIN, "--epochs", "3", "--objective", "natural"]
    process = harp_process(*words, TINY_PAUSE_S="0.1")
    deadline = time.monotonic() + 120
    while not Path("dense/metrics.jsonl").exists():  # an epoch is done, and two are not
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 130
        assert "give the same command again to go on" in said
    assert Path("dense/resume/state.safetensors").exists()
    assert not Path("dense/card.json").exists()
    assert main(words) == 0
    words[words.index("dense")] = "whole"
    assert main(words) == 0
    assert Path("dense/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert sorted(p.name for p in Path("dense").iterdir()) == sorted(p.name for p in Path("whole").iterdir())
