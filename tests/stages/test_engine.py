"""What the attacks of an evaluation run on: as asked, or the faster one; the card says which, and going on keeps it."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harp.cards import Evaluation
from harp.evaluation import Ranks
from harp.exporting import Mirror
from harp.files import write_json
from harp.recipes import Compute, Evaluating, Pruning, Recipe, Task, Training
from harp.runs.directory import RunDirectory
from harp.stages import engine as engines
from harp.stages.engine import choose_engine
from harp.stages.evaluate import evaluate_run
from harp.stages.train import pretrain, prune
from harp.stages.watch import Watch

pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")

PGD = Evaluating(attack="pgd", images=12, steps=3, batch_size=4)
BATCH = torch.rand(6, 1, 4, 4), torch.arange(6) % 3
ON: dict[str, Compute] = {name: Compute(device="cpu", engine=name) for name in ("torch", "sparse", "auto")}  # type: ignore[arg-type]


@pytest.fixture
def run(tiny: Path) -> Path:
    task = Task(data="tiny:data", model="tiny:network", eps=0.1, validation=0.2)
    learn = Training(epochs=2, batch_size=12, objective="natural")
    recipe = Recipe(task, pretrain=learn, prune=Pruning(keep=0.5, method="lwm"), compute=ON["torch"])
    pretrain(recipe, tiny / "dense")
    return prune(recipe, tiny / "dense", tiny / "pruned").path


def judged(run: Path, on: str, settings: Evaluating = PGD) -> tuple[list[Evaluation], list[str]]:
    """What is found anew, and what is said."""
    said: list[str] = []
    card = RunDirectory(run).card
    write_json(card, {**json.loads(card.read_text()), "evaluations": []})
    return evaluate_run(run, settings, ON[on], watch=Watch(on_note=said.append)), said


def fast(which: str) -> Callable[..., tuple[float, float]]:
    return lambda *_: (1.0, 2.0) if which == "torch" else (2.0, 1.0)


def network(last: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), last or nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


@pytest.mark.parametrize("attack", ["pgd", "cw"])
def test_the_engine_finds_the_accuracies_of_torch_and_the_card_says_so(run, attack):
    settings = replace(PGD, attack=attack, eps=(0.1, 0.2))
    (there, nothing), (here, _) = judged(run, "torch", settings), judged(run, "sparse", settings)
    assert [e.engine for e in there] == ["torch"] * 3
    assert [e.engine for e in here] == ["torch", "sparse", "sparse"]
    assert [e.right for e in here] == [e.right for e in there]
    assert [e["engine"] for e in json.loads((run / "card.json").read_text())["evaluations"]][1] == "sparse"
    assert nothing == []


def test_what_one_engine_found_is_not_asked_of_another(run):
    found, _ = judged(run, "torch")
    assert evaluate_run(run, PGD, ON["sparse"]) == found


@pytest.mark.parametrize(
    ("faster", "says"), [("torch", "in torch, not"), ("sparse", "on the sparse engine: a step on 4")]
)
def test_auto_takes_the_faster_one_and_says_so_once(run, monkeypatch, faster, says):
    monkeypatch.setattr(engines, "race", fast(faster))
    found, said = judged(run, "auto", replace(PGD, eps=(0.1, 0.2)))
    assert [e.engine for e in found[1:]] == [faster] * 2
    assert len(said) == 1
    assert says in said[0]


@pytest.mark.parametrize("began", ["torch", "sparse"])
def test_an_evaluation_goes_on_with_the_engine_it_began_with(run, monkeypatch, began):
    monkeypatch.setattr(engines, "race", fast(began))
    whole, _ = judged(run, "auto")
    asked = []

    def stop() -> bool:
        asked.append(any(RunDirectory(run).evaluations.glob("pgd*")))
        return sum(asked) == 8

    with pytest.raises(KeyboardInterrupt):
        judged_until(run, stop)
    left = [path.name for path in RunDirectory(run).evaluations.glob("pgd*")]
    assert [name.endswith("-sparse.json") for name in left] == [began == "sparse"]
    monkeypatch.setattr(engines, "race", fast("torch" if began == "sparse" else "sparse"))
    found = evaluate_run(run, PGD, ON["auto"])
    assert [(e.engine, e.right) for e in found] == [(e.engine, e.right) for e in whole]
    assert not list(RunDirectory(run).evaluations.glob("pgd*"))


def judged_until(run: Path, stop: Callable[[], bool]) -> None:
    card = RunDirectory(run).card
    write_json(card, {**json.loads(card.read_text()), "evaluations": []})
    evaluate_run(run, PGD, ON["auto"], watch=Watch(should_stop=stop))


def choose(wanted: str, model: nn.Module, said: list[str] | None = None) -> Mirror | None:
    return choose_engine(wanted, model, BATCH, ranks=Ranks(), tell=(said if said is not None else []).append)


def test_the_engine_takes_the_threads_that_torch_takes():
    made = choose("sparse", network())
    assert made is not None
    assert made.module().session.threads == torch.get_num_threads()


@pytest.mark.parametrize("wanted", ["sparse", "auto"])
def test_an_operation_that_the_engine_lacks_is_named(wanted):
    refused(wanted, network(nn.Softshrink()), "1 (Softshrink) computes aten.gt")


@pytest.mark.parametrize("wanted", ["sparse", "auto"])
def test_without_the_compiled_engine_the_reason_is_told(wanted, monkeypatch):
    def missing() -> str:
        raise RuntimeError("no engine was compiled")

    monkeypatch.setattr(engines, "isa", missing)
    refused(wanted, network(), "no engine was compiled")


@pytest.mark.parametrize("wanted", ["sparse", "auto"])
def test_images_elsewhere_than_on_the_cpu_are_refused(wanted):
    elsewhere = (BATCH[0].to("meta"), BATCH[1])
    said: list[str] = []
    if wanted == "auto":
        assert choose_engine("auto", network(), elsewhere, ranks=Ranks(), tell=said.append) is None
        assert said == ["attacks run in torch: the network is on meta, and the engine computes on the CPU"]
    else:
        with pytest.raises(ValueError, match="the network is on meta, and the engine computes on the CPU"):
            choose_engine("sparse", network(), elsewhere, ranks=Ranks(), tell=said.append)


def refused(wanted: str, model: nn.Module, reason: str) -> None:
    """By an error where the engine was asked for, else by word, and torch is taken."""
    said: list[str] = []
    if wanted == "sparse":
        with pytest.raises(
            ValueError, match=rf"(?s)engine='sparse' cannot run the attacks: .*{re.escape(reason)}.*'torch' can"
        ):
            choose(wanted, model)
    else:
        assert choose(wanted, model, said) is None
        assert len(said) == 1
        assert reason in said[0]


def test_a_race_times_both_and_leaves_the_model_as_it_was():
    model = network().train()
    made = choose("sparse", network())
    assert made is not None
    torch_s, engine_s = engines.race(model, made, *BATCH, None)
    assert 0 < torch_s < 5
    assert 0 < engine_s < 5
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
