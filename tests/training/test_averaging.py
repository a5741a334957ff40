"""EMA: what is averaged, by hand; what is evaluated and kept; and what is left alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from harp.cards import read_card
from harp.checkpoint import load_tensors
from harp.data import InMemory
from harp.objectives import natural
from harp.pruning import HARP, Admm, attach_masks, freeze_masks, masks, weight_budget
from harp.recipes import PRESETS, Evaluating, Pruning, Recipe, Task, Training
from harp.stages.train import finetune, pretrain, prune
from harp.training.averaging import Average
from harp.training.loop import Course, fit

CPU = Fabric(accelerator="cpu")
SETTINGS = Training(epochs=3, batch_size=8, lr=0.05)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


def images() -> InMemory:
    generator = torch.Generator().manual_seed(0)
    return InMemory(torch.rand(40, 1, 4, 4, generator=generator), torch.arange(40) % 2)


def course(model: nn.Module, validate, **changes) -> Course:
    made = Course("pretrain", SETTINGS, natural(), images(), validate, seed=0, average=Average(model, 0.9))
    return replace(made, **changes)


def set_all(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            tensor.fill_(value)


def test_an_average_of_three_steps_by_hand():
    """(¼ · 1 + ½ · 2 + 1 · 4) / (¼ + ½ + 1) = 3, for weights and for batch-norm statistics; the start has no part."""
    model = network()
    average = Average(model, 0.5)
    for value in (1.0, 2.0, 4.0):
        set_all(model, value)
        average.step()
    with average.in_place():
        assert torch.allclose(model[0].weight, torch.tensor(3.0))
        assert torch.allclose(model[1].running_mean, torch.tensor(3.0))
        assert torch.allclose(model[1].running_var, torch.tensor(3.0))
    assert (model[0].weight == 4.0).all()
    assert (model[1].running_mean == 4.0).all()


def test_before_the_first_step_there_is_no_average():
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with Average(model, 0.5).in_place():
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_masks_and_the_weights_under_them_are_left_alone():
    model = network()
    attach_masks(model, weight_budget(model, keep=0.5), HARP)
    average = Average(model, 0.5)
    set_all(model, 1.0)
    average.step()
    set_all(model, 2.0)
    average.step()
    with average.in_place():
        assert all((mask.scores == 2.0).all() and mask.logit == 2.0 for mask in masks(model).values())
        assert (model[0].parametrizations.weight.original == 2.0).all()
        assert torch.allclose(model[1].weight, torch.tensor(5 / 3))


def test_what_a_mask_removed_stays_zero_and_masks_stay_fixed():
    model = network()
    attach_masks(model, weight_budget(model, keep=0.3), HARP)
    freeze_masks(model)
    before = {name: mask.current().clone() for name, mask in masks(model).items()}
    list(fit(model, course(model, lambda model: (0.5, 0.5)), CPU))
    for name, mask in masks(model).items():
        assert torch.equal(mask.current(), before[name])
    assert (model[0].weight[~before["0.weight"]] == 0).all()


def test_the_average_is_what_is_evaluated_and_kept_and_the_steps_go_on_from_their_own_weights():
    seen, plain, averaged = [], network(), network()

    def validate(model: nn.Module) -> tuple[float, float]:
        seen.append(model[0].weight.detach().clone())
        return 0.5, len(seen) / 10

    list(fit(plain, course(plain, lambda model: (0.5, 0.5), average=None), CPU))
    plan = course(averaged, validate)
    list(fit(averaged, plan, CPU))
    assert torch.equal(averaged[0].weight, seen[-1])
    assert not torch.equal(averaged[0].weight, plain[0].weight)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(plain[0].weight, seen[-1])


def test_averaging_changes_nothing_of_what_the_steps_do():
    plain, averaged, last = network(), network(), {}

    def on_step(model: nn.Module, key: str):
        return lambda progress: last.update({key: model[0].weight.detach().clone()})

    list(fit(plain, course(plain, lambda m: (0.5, 0.5), average=None), CPU, on_step=on_step(plain, "plain")))
    list(fit(averaged, course(averaged, lambda m: (0.5, 0.5)), CPU, on_step=on_step(averaged, "averaged")))
    assert torch.equal(last["plain"], last["averaged"])


def test_a_stop_in_the_validation_saves_the_weights_and_not_their_average(tmp_path: Path):
    """Else the steps would go on from the average."""
    whole, stopped = network(), network()
    list(fit(whole, course(whole, lambda model: (0.5, 0.5)), CPU))

    def interrupted(model: nn.Module) -> tuple[float, float]:
        raise KeyboardInterrupt

    resume = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        list(fit(stopped, course(stopped, interrupted), CPU, resume=resume))
    again = network()
    list(fit(again, course(again, lambda model: (0.5, 0.5)), CPU, resume=resume))
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_admm_cuts_the_average():
    model = network()
    budget = weight_budget(model, keep=0.3)
    settings = Pruning(epochs=2, batch_size=8, method="r-admm")
    rule = Admm(model, budget, 10, rho=0.5)
    plan = course(model, lambda model: (0.5, 0.5), settings=settings, stage="prune", budget=budget, rule=rule)
    list(fit(model, plan, CPU))
    assert torch.equal(model[0].weight, plan.average.values["0.weight"])


def recipe_of_tiny(ema: float) -> Recipe:
    fast = {"epochs": 2, "batch_size": 8, "objective": "natural", "ema": ema}
    return replace(
        PRESETS["digits"][1],
        task=Task(data="tiny:data", model="tiny:network", validation=0.2),
        pretrain=Training(**fast),
        prune=Pruning(keep=0.2, **fast),
        finetune=Training(**fast),
        test=Evaluating(attack="clean"),
    )


def test_every_stage_averages_and_its_card_says_so(tiny: Path):
    plugged: list[list[str]] = []
    names = []
    for stage, ema in (("plain", 0.0), ("averaged", 0.9)):
        recipe = recipe_of_tiny(ema)
        runs = [pretrain(recipe, Path(stage, "dense"))]
        runs.append(prune(recipe, runs[-1].path, Path(stage, "masks")))
        runs.append(finetune(recipe, runs[-1].path, Path(stage, "final")))
        plugged += [read_card(run.card).values["plug_ins"] for run in runs]
        names += [read_card(run.card).name for run in runs]
    assert plugged == [[], [], [], ["EMA"], ["EMA"], ["EMA"]]
    assert names[3:] == ["Dense + EMA", "HARP + EMA 20 %", "HARP + EMA 20 %"]
    for run in ("dense", "masks", "final"):
        pair = [load_tensors(Path(stage, run, "model.safetensors")) for stage in ("plain", "averaged")]
        assert any(not torch.equal(pair[0][name], pair[1][name]) for name in pair[0])


@pytest.mark.parametrize("ema", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_cannot_be_kept_is_refused(ema: float):
    with pytest.raises(ValueError, match=r"ema=.* must lie in \[0, 1\): 0.998"):
        Training(ema=ema)
