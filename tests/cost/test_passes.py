"""Passes: golden numbers, what a training step really does, and the same cost for every method and plug-in."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from harp.attacks import Threat
from harp.cost.passes import Passes, fitted, passes, prune_passes, stage_passes
from harp.data import InMemory
from harp.pruning import attach_masks, weight_budget
from harp.recipes import (
    ADMM,
    LEARN_WEIGHTS,
    OWN_METHODS,
    PRESETS,
    ObjectiveName,
    Pruning,
    Recipe,
    Training,
    from_parent,
)
from harp.stages.pipeline import recipe_for
from harp.training.build import keep_rule, make_objective, method_of, sharpness_of
from harp.training.loop import Course, fit

LEARNING = ("harp", "harp-published", "rates-only", "hydra", *LEARN_WEIGHTS)


@pytest.mark.parametrize(
    ("settings", "forward", "backward"),
    [
        (Training(epochs=1, objective="natural"), 1, 1),
        (Training(epochs=1, objective="n-fgsm"), 2, 2),
        (Training(epochs=1, attack_steps=10), 11, 11),
        # The clean logits that the attack starts from need no gradient; the loss looks at both images.
        (Training(epochs=1, objective="trades", attack_steps=10), 13, 12),
        (Training(epochs=1, objective="mart", attack_steps=10), 12, 12),
        (Training(epochs=1, objective="free-at", replays=4), 4, 4),
        (Training(epochs=100, attack_steps=10), 1100, 1100),
        # AWP takes the loss twice on images attacked once.
        (Training(epochs=100, attack_steps=10, awp_gamma=0.01), 1200, 1200),
        (Training(epochs=1, objective="trades", attack_steps=10, awp_gamma=0.005), 15, 14),
        (Training(epochs=1, objective="free-at", replays=4, awp_gamma=0.01), 8, 8),
        # The parent answers once a step.
        (Training(epochs=2, attack_steps=10, distill=0.5), 24, 22),
        # S2AP after 5 of 20 epochs, and after a quarter of 4; AWP finds no weight that learns, but in ADMM.
        (Pruning(epochs=20, attack_steps=10, s2ap_rho=0.1), 235, 235),
        (Pruning(epochs=4, objective="n-fgsm", s2ap_rho=0.1), 11, 11),
        (Pruning(epochs=40, objective="natural", s2ap_rho=0.1), 75, 75),
        (Pruning(epochs=4, objective="natural", s2ap_rho=0.1, s2ap_warmup=9), 4, 4),
        (Pruning(epochs=20, attack_steps=10, awp_gamma=0.1), 220, 220),
        (Pruning(epochs=20, attack_steps=10, awp_gamma=0.1, method=ADMM), 240, 240),
        (Pruning(epochs=20, attack_steps=10, awp_gamma=0.1, method="gmp-lamp"), 240, 240),
    ],
)
def test_the_passes_of_a_stage_by_hand(settings, forward, backward):
    assert stage_passes(settings) == Passes(forward, backward)


def test_a_method_that_only_looks_at_the_weights_costs_nothing_in_the_prune_stage():
    for method in OWN_METHODS:
        cost = prune_passes(Pruning(epochs=20, attack_steps=10, method=method)).total
        assert cost == (440 if method in LEARNING else 0), method


def test_the_passes_of_a_recipe_are_those_of_pruning_and_finetuning():
    assert passes(PRESETS["cifar10-resnet18"][1]) == Passes(11 * 120, 11 * 120)
    assert passes(PRESETS["imagenet-resnet50"][1]) == Passes(4 * 30, 4 * 30)


class Counted(nn.Module):
    """Counts images as they pass, forward and backward."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        self.seen = [0, 0]

    def forward(self, x):
        self.seen[0] += len(x)
        logits = self.net(x)
        if logits.requires_grad:
            logits.register_hook(self._backward)
        return logits

    def _backward(self, gradient):
        self.seen[1] += len(gradient)


def judged(model: nn.Module) -> tuple[float, float]:
    return 0.0, 0.0


@pytest.mark.parametrize("objective", get_args(ObjectiveName))
@pytest.mark.parametrize(
    "plugged",
    [
        {},
        {"awp_gamma": 0.01},
        {"s2ap_rho": 0.1},
        {"method": ADMM},
        {"method": ADMM, "awp_gamma": 0.01},
        {"method": "gmp-erk", "awp_gamma": 0.01},
        {"epochs": 4},
    ],
    ids=["plain", "awp", "s2ap", "admm", "admm+awp", "gmp-erk+awp", "dense"],
)
def test_a_stage_passes_as_many_images_as_its_settings_say(objective, plugged):
    x, y = torch.rand(16, 1, 6, 6), torch.arange(16) % 2
    common = {"epochs": 2, "batch_size": 4, "objective": objective, "attack_steps": 3, "replays": 3, "lr": 0.01}
    dense = "epochs" in plugged
    settings = Training(**{**common, "awp_gamma": 0.01}) if dense else Pruning(**{**common, "keep": 0.5, **plugged})
    model, budget = Counted(), None
    if isinstance(settings, Pruning):
        budget = weight_budget(model, keep=settings.keep)
        if settings.method != ADMM:
            attach_masks(model, budget, method_of(settings))
    steps = settings.epochs * 4 * settings.steps_per_batch
    rule = keep_rule(model, budget, settings, steps) if isinstance(settings, Pruning) and budget else None
    loss, plug_in = make_objective(settings, Threat("linf", 0.1)), sharpness_of(model, settings)
    course = Course("prune", settings, loss, InMemory(x, y), judged, 0, rule=rule, sharpness=plug_in)
    list(fit(model, course, Fabric(accelerator="cpu")))
    assert Passes(*[count / 16 for count in model.seen]) == stage_passes(settings)


# The same cost


RECIPE = PRESETS["cifar10-resnet18"][1]


COMPARED = [name for name, (_, recipe) in PRESETS.items() if recipe.prune.method == "harp"]
"""Presets that methods are compared on: one that is the schedule of a single method has no finetuning to pay from."""


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("method", OWN_METHODS)
@pytest.mark.parametrize("plugged", [False, True])
def test_every_method_with_its_plug_ins_costs_the_same_within_an_epoch_and_never_more(name, method, plugged):
    recipe = from_parent(PRESETS[name][1], 432)
    cost = passes(recipe).total
    if plugged:
        prune = replace(recipe.prune, s2ap_rho=0.1, awp_gamma=0.01)
        recipe = replace(recipe, prune=prune, finetune=replace(recipe.finetune, awp_gamma=0.01))
    mine = recipe_for(method, recipe)
    one = stage_passes(replace(mine.finetune, epochs=1)).total
    assert mine.prune.method == method
    assert cost - one < passes(mine).total <= cost


def test_without_plug_ins_a_method_that_learns_keeps_the_recipe_as_it_is():
    for method in LEARNING:
        assert recipe_for(method, RECIPE) == replace(RECIPE, prune=replace(RECIPE.prune, method=method))
    assert recipe_for("lwm", RECIPE).finetune.epochs == 120


def test_plug_ins_are_paid_from_finetuning():
    """S2AP: 15 epochs of 1 more pass of 11, that is 1.4 epochs. AWP: 1100 passes at 12 per epoch are 91.7 epochs."""
    with_s2ap = replace(RECIPE, prune=replace(RECIPE.prune, s2ap_rho=0.1))
    assert recipe_for("harp", with_s2ap).finetune.epochs == 98
    with_awp = replace(RECIPE, finetune=replace(RECIPE.finetune, awp_gamma=0.01))
    assert recipe_for("harp", with_awp).finetune.epochs == 91
    assert recipe_for("lwm", with_awp).finetune.epochs == 110
    assert recipe_for("lwm", with_s2ap) == recipe_for("lwm", RECIPE)


def test_a_plug_in_goes_only_to_a_method_that_can_take_it():
    plugged = replace(RECIPE, prune=replace(RECIPE.prune, s2ap_rho=0.1, awp_gamma=0.01))
    for method in OWN_METHODS:
        prune = recipe_for(method, plugged).prune
        assert prune.s2ap_rho == (0.1 if method in ("harp", "hydra") else 0.0), method
        assert prune.awp_gamma == (0.01 if method in LEARN_WEIGHTS else 0.0), method


def test_finetuning_that_there_is_no_room_for_is_refused():
    short = Recipe(prune=Pruning(epochs=10), finetune=Training(epochs=1))
    with pytest.raises(
        ValueError, match=r"22 passes per image are left for finetuning after harp, and one epoch takes 24"
    ):
        fitted(replace(short, finetune=replace(short.finetune, awp_gamma=0.01)), passes(short))
