"""Two processes that are interrupted, with batch norm and random starts: run as a script, this is what each of them does."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from harp.attacks import PGD, Threat
from harp.checkpoint import load_state, save_state
from harp.data import InMemory
from harp.objectives import free_at, pgd_at
from harp.pruning import HARP, Descent, attach_masks, weight_budget
from harp.recipes import Compute, Pruning
from harp.training import loop as training
from harp.training.distributed import launch, make_fabric
from harp.training.loop import Course, fit
from harp.training.progress import StepProgress

SETTINGS = Pruning(epochs=2, batch_size=16, lr=0.1, keep=0.1)
THREAT = Threat("linf", 0.1)
STOP_AFTER = 5
"""Steps: in the middle of the second epoch, which has three."""
KINDS = ("prune", "free-at")


def the_last_is_best(model: nn.Module) -> tuple[float, float]:
    return 0.0, float(model[1].num_batches_tracked)


def make(kind: str) -> tuple[nn.Module, Course]:
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)]
    model = nn.Sequential(*layers)
    model.register_buffer("scale", torch.tensor([0.1, torch.inf]))  # a constant of the user's
    labels = torch.arange(48) % 3
    images = InMemory(torch.rand(48, 1, 4, 4, generator=torch.Generator().manual_seed(0)), labels)
    objective = pgd_at(PGD(THREAT, steps=2)) if kind == "prune" else free_at(THREAT, replays=2, step_size=0.02)
    course = Course(kind, SETTINGS, objective, images, the_last_is_best, seed=0)
    if kind == "prune":
        budget = weight_budget(model, keep=SETTINGS.keep)
        attach_masks(model, budget, HARP)
        course = replace(course, budget=budget, rule=Descent(model, budget, steps=6))
    return model, course


def numbers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def trained(kind: str, fabric: Fabric) -> dict:
    """Never interrupted: what this rank has at the end, and its statistics after each step."""
    model, course = make(kind)
    seen: list[torch.Tensor] = []
    list(fit(model, course, fabric, on_step=lambda _: seen.append(model[1].running_var.clone())))
    return {"model": numbers(model), "seen": seen}


def interrupted(kind: str, fabric: Fabric, state: Path) -> None:
    """The last rank is asked to stop, or all of them lose power and the last one's clock had said when to save."""
    last, steps = fabric.global_rank == fabric.world_size - 1, 0
    training.AUTOSAVE_S = 0.0 if last else 1e9

    def lose_power(_: StepProgress) -> None:
        nonlocal steps
        steps += 1
        if steps > STOP_AFTER and kind == "prune":
            raise ConnectionResetError

    model, course = make(kind)
    stop = (lambda: last and steps == STOP_AFTER) if kind == "free-at" else (lambda: False)
    try:
        list(fit(model, course, fabric, resume=state, on_step=lose_power, should_stop=stop))
    except (KeyboardInterrupt, ConnectionResetError):
        fabric.barrier()
        return
    raise AssertionError("it was not interrupted")


def resumed(kind: str, fabric: Fabric, state: Path) -> dict:
    torch.manual_seed(999)  # whatever the generator was left at must not matter
    model, course = make(kind)
    assert len(list(fit(model, course, fabric, resume=state))) == 2
    return {"model": numbers(model)}


def refused(fabric: Fabric, state: Path) -> str | None:
    """What is said to a process that does not see the state that others see."""
    model, course = make("prune")
    mine = state if fabric.is_global_zero else state.with_name("not there")
    try:
        next(fit(model, course, fabric, resume=mine))
    except ValueError as error:
        return str(error)
    return None


def rank(out: Path) -> None:
    compute = Compute(device="cpu", devices=2, threads=1)
    fabric = launch(make_fabric(compute), compute)
    found = {}
    for kind in KINDS:
        whole = trained(kind, fabric)
        interrupted(kind, fabric, out / kind)
        if fabric.is_global_zero:
            save_state(out / f"{kind} when it stopped", load_state(out / kind))
        found[kind] = {"whole": whole, "resumed": resumed(kind, fabric, out / kind)}
    save_state(out / f"rank{fabric.global_rank}", {**found, "refused": refused(fabric, out / "prune")})
    fabric.barrier()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict], Path]:
    out = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, __file__, str(out)], check=True, env=environment, timeout=300)
    return [load_state(out / f"rank{number}") for number in range(2)], out


def assert_same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_that_were_interrupted_end_with_the_bits_of_two_that_were_not(kind, pair):
    both, out = pair
    assert load_state(out / f"{kind} when it stopped")["progress"]["step"] == STOP_AFTER - 3
    for found in both:
        assert_same_bits(found[kind]["whole"]["model"], found[kind]["resumed"]["model"])


@pytest.mark.parametrize("kind", KINDS)
def test_after_every_step_all_ranks_have_the_same_statistics_of_batch_norm(kind, pair):
    (first, second), _ = pair
    seen, theirs = first[kind]["whole"]["seen"], second[kind]["whole"]["seen"]
    assert len(seen) == 6
    assert all(torch.equal(a, b) for a, b in zip(seen, theirs, strict=True))
    assert not torch.equal(seen[0], seen[1])
    assert_same_bits(first[kind]["whole"]["model"], second[kind]["whole"]["model"])


def test_the_mean_over_ranks_leaves_constants_as_they_are(pair):
    both, _ = pair
    assert all(torch.equal(found["prune"]["whole"]["model"]["scale"], make("prune")[0].scale) for found in both)


def test_the_state_of_two_ranks_has_the_perturbation_of_the_whole_batch_and_one_goes_on_from_it(pair, tmp_path):
    _, out = pair
    state = load_state(out / "free-at when it stopped")
    delta = state["objective"]["delta"]
    assert delta.shape == (SETTINGS.batch_size, 1, 4, 4)
    assert not torch.equal(delta[0::2], delta[1::2])
    save_state(tmp_path / "state", state)
    compute = Compute(device="cpu", threads=1)
    assert resumed("free-at", launch(make_fabric(compute), compute), tmp_path / "state")


def test_a_rank_that_does_not_see_the_state_of_the_others_says_so(pair):
    (first, second), _ = pair
    assert first["refused"] is None
    assert "not there is not there for all processes: --out must be on a file system they share" in second["refused"]


if __name__ == "__main__":
    rank(Path(sys.argv[1]))
