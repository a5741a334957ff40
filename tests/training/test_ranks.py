"""Two processes that work as one: run as a script, this file is what each of them does; under pytest, the comparison."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from harp.attacks import PGD, AutoAttack, Threat
from harp.cards import Evaluation
from harp.checkpoint import load_state, load_tensors, save_state
from harp.data import InMemory
from harp.evaluation import Ranks, evaluate
from harp.objectives import pgd_at
from harp.pruning import HARP, Descent, attach_masks, masks, weight_budget
from harp.recipes import Compute, Pruning
from harp.runs.directory import RunDirectory
from harp.training.distributed import launch, make_fabric
from harp.training.loop import Course, fit

TOLERANCE = 2e-6
"""Of scores and weights of size 1 after six steps. The mean of two halves' gradients sums the same numbers as the whole
batch's gradient, in another order, so each step may differ in the last bits of a float32 (6e-8)."""

SETTINGS = Pruning(epochs=2, batch_size=16, lr=0.1, keep=0.1)


def images(n: int = 48) -> InMemory:
    labels = torch.arange(n) % 3
    noise = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return InMemory(noise * 0.4 + labels[:, None, None, None] * 0.3, labels)


def network() -> nn.Module:
    """Without batch norm, whose statistics are each process's own."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))


def trained(ranks: int, out: Path) -> None:
    """Prune for two epochs, judge the result, and write down what this rank has then."""
    compute = Compute(device="cpu", devices=ranks, threads=1)
    fabric = launch(make_fabric(compute), compute)
    model = network()
    budget = weight_budget(model, keep=SETTINGS.keep)
    attach_masks(model, budget, HARP)
    attack = PGD(Threat("linf", 0.1), steps=2, random_start=False)
    mine = Ranks(fabric.global_rank, fabric.world_size, fabric.device)

    def validate(model: nn.Module) -> tuple[float, float]:
        found = evaluate(model, images(), batch_size=7, ranks=mine)
        return found.accuracy, found.accuracy

    rule = Descent(model, budget, steps=6)
    course = Course("prune", SETTINGS, pgd_at(attack), images(), validate, seed=0, budget=budget, rule=rule)
    records = list(fit(model, course, fabric))
    strong = AutoAttack(Threat("linf", 0.05), iterations=3, queries=5, target_classes=2)
    judged = evaluate(model, images(), strong, batch_size=5, ranks=mine, state=out / "journal.json")
    losses = [record.loss for record in records]
    accuracies = [record.clean_accuracy for record in records]
    chosen = {name: mask.current() for name, mask in masks(model).items()}
    found = {"model": dict(model.state_dict()), "masks": chosen, "losses": losses, "accuracies": accuracies}
    save_state(out / f"rank{fabric.global_rank}", {**found, "judged": json.dumps(judged.to_json())})
    fabric.barrier()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[dict], Path]:
    """What one process finds, and what each of two does."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    trained(1, one)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, __file__, str(two)], check=True, env=environment, timeout=300)
    return load_state(one / "rank0"), [load_state(two / f"rank{rank}") for rank in range(2)], two


def test_two_processes_learn_what_one_does_on_the_same_batches(pair):
    one, both, _ = pair
    for name, mask in one["masks"].items():
        assert all(torch.equal(mask, theirs["masks"][name]) for theirs in both), name
    assert sum(int(mask.sum()) for mask in one["masks"].values()) > 0
    for name, value in one["model"].items():
        for theirs in both:
            assert torch.allclose(value.float(), theirs["model"][name].float(), rtol=0, atol=TOLERANCE), name
    start = network()
    attach_masks(start, weight_budget(start, keep=SETTINGS.keep), HARP)
    for name, mask in masks(start).items():
        assert not torch.equal(mask.current(), one["masks"][name]), name  # something was learned at all


def test_all_ranks_hold_the_same_bits(pair):
    _, (first, second), _ = pair
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name]), name


def test_metrics_are_those_of_all_ranks_together(pair):
    one, both, _ = pair
    for theirs in both:
        assert theirs["losses"] == pytest.approx(one["losses"], abs=1e-5)
        assert theirs["accuracies"] == one["accuracies"]


def result_of(state: dict) -> Evaluation:
    return Evaluation.from_json(json.loads(state["judged"]))


def test_autoattack_shared_by_two_finds_what_one_finds(pair):
    one, both, _ = pair
    alone, *shared = (result_of(state) for state in (one, *both))
    assert 0 < alone.correct < alone.images
    for found in shared:
        assert (found.correct, found.right, found.per_attack) == (alone.correct, alone.right, alone.per_attack)


def test_what_two_have_judged_one_goes_on_from(pair):
    """The journal that two ranks left is complete: a single process answers from it without an attack."""
    _, both, folder = pair
    model = network()
    attach_masks(model, weight_budget(model, keep=SETTINGS.keep), HARP)
    model.load_state_dict(both[0]["model"])
    strong = AutoAttack(Threat("linf", 0.05), iterations=3, queries=5, target_classes=2)
    again = evaluate(model, images(), strong, batch_size=5, state=folder / "journal.json")
    assert again.elapsed_s == pytest.approx(result_of(both[0]).elapsed_s)
    assert again.right == result_of(both[0]).right


def test_a_rank_alone_asks_nobody():
    ranks = Ranks()
    assert ranks.all_of(torch.tensor([True, False])).tolist() == [True, False]
    assert (ranks.any_of(True), ranks.any_of(False)) == (True, False)
    assert ranks.union(["a"]) == ["a"]
    assert ranks.from_first(lambda: 5) == 5


# The command line on two devices


def harp(*words: str, pause_s: float = 0.0, **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TINY_PAUSE_S": str(pause_s)}
    environment["PYTHONPATH"] = os.pathsep.join([os.getcwd(), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "harp.cli", *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **options)


TASK = ("--task.data", "tiny:data", "--task.model", "tiny:network")
PRETRAIN = ("pretrain", "digits", *TASK, "--batch-size", "30", "--attack-steps", "1", "--out", "dense")


def two(epochs: int, devices: int = 2) -> Sequence[str]:
    return (*PRETRAIN, "--epochs", str(epochs), "--compute.devices", str(devices))


def second_rank(process: subprocess.Popen) -> int:
    """The process that the first rank started: of its children the one that runs harp, too."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (child,) = (pid for pid in map(int, children) if b"harp.cli" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return child


@pytest.mark.slow
def test_a_stage_on_two_devices_writes_one_run_that_one_device_can_go_on_from(tiny: Path):
    for words in (
        two(2),
        ("prune", "dense", "--epochs", "1", "--keep", "0.5", "--out", "masks", "--compute.devices", "2"),
        ("evaluate", "masks", "--attack", "pgd", "--steps", "2", "--compute.devices", "2"),
        ("evaluate", "masks", "--attack", "pgd", "--steps", "2", "--compute.devices", "1"),
    ):
        process = harp(*words)
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said
    card = json.loads(RunDirectory(Path("masks")).card.read_text())
    assert [e["attack"] for e in card["evaluations"]] == ["clean", "pgd-2"]
    assert card["peak_memory_mb"] > 10


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the second process by /proc")
@pytest.mark.parametrize("devices_then", [1, 2])
def test_a_rank_that_dies_stops_the_run_with_a_message_and_the_command_goes_on(tiny: Path, devices_then: int):
    state = RunDirectory(Path("dense")).resume
    with harp(*two(20), pause_s=0.05) as process:
        while not state.exists() and process.poll() is None:
            time.sleep(0.05)
        os.kill(second_rank(process), signal.SIGKILL)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 1, said
    assert "give the same command again" in said
    assert 1 <= load_state(state)["progress"]["epoch"] < 20
    again = harp(*two(20, devices_then))
    said = again.communicate(timeout=300)[1]
    assert again.returncode == 0, said
    assert len(Path("dense/metrics.jsonl").read_text().splitlines()) == 20
    assert load_tensors(Path("dense/model.safetensors"))


@pytest.mark.slow
def test_torchrun_starts_the_ranks_as_well(tiny: Path):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{os.getcwd()}:{os.environ.get('PYTHONPATH', '')}",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "harp.cli"]
    finished = subprocess.run([*command, *two(1)], env=environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert RunDirectory(Path("dense")).finished
    assert len(Path("dense/metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_two_processes_on_one_node_are_not_two_nodes(tiny: Path):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{os.getcwd()}:{os.environ.get('PYTHONPATH', '')}",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "harp.cli"]
    words = [*two(1, devices=1), "--compute.num-nodes", "2"]
    finished = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode != 0
    assert (
        "harp pretrain: devices=1, but torchrun or srun has started 2 of its 2 processes on one node" in finished.stderr
    )
    assert "IndexError" not in finished.stderr
    assert not Path("dense").exists()


if __name__ == "__main__":
    trained(2, Path(sys.argv[1]))
