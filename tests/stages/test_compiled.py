"""Compiled attacks: a copy without masks that follows the model."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from harp.attacks import PGD, Threat
from harp.evaluation import Ranks
from harp.pruning import HARP, attach_masks, freeze_masks, hold_masks, weight_budget
from harp.recipes import Compute, Pruning, Training
from harp.stages.attacked import attacked_in
from harp.stages.compiled import Compiled

X, Y = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
ATTACK = PGD(Threat("linf", 0.1), steps=3, random_start=False)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))


def pruned(state: str) -> nn.Module:
    model = network().train()
    if state != "dense":
        attach_masks(model, weight_budget(model, keep=0.2), HARP)
    return freeze_masks(model) if state == "frozen" else model


def step(model: nn.Module) -> None:
    """Weights, scores and statistics change, as in a step of training."""
    model(X)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def attacks_alike(model: nn.Module, compiled: Compiled, tolerance: float) -> None:
    for _ in range(2):
        with hold_masks(model):
            theirs = ATTACK(compiled(model, X, Y), X, Y)
            assert (theirs - ATTACK(model, X, Y)).abs().max() <= tolerance
        step(model)


@pytest.mark.parametrize("state", ["dense", "learning", "frozen"])
def test_the_copy_follows_every_step_and_leaves_the_model_alone(state: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: module)
    model = pruned(state)
    learning, before = [p.requires_grad for p in model.parameters()], copy.deepcopy(model.state_dict())
    with hold_masks(model):
        Compiled()(model, X, Y)
    assert [p.requires_grad for p in model.parameters()] == learning
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    attacks_alike(model, Compiled(), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["dense", "learning", "frozen"])
def test_what_torch_compiles_attacks_as_the_model_does(state: str):
    attacks_alike(pruned(state), Compiled(), 1e-6)


def test_it_is_what_a_recipe_asks_for_where_there_is_an_attack():
    made = attacked_in("pretrain", Training(), "torch", Ranks(), print, compiled=True)
    assert isinstance(made, Compiled)
    plain = replace(Pruning(), objective="natural")
    assert attacked_in("prune", plain, "torch", Ranks(), print, compiled=True) is None


def test_the_sparse_engine_is_not_compiled():
    with pytest.raises(ValueError, match="compile"):
        Compute(compile=True, engine="sparse")
