"""HARP as published: the penalty, the sum over a layer and the optimiser that moves logits, a step of it by hand."""

import pytest
import torch
from torch import nn

from harp.pruning import HARP, HARP_PUBLISHED, Penalty, Pruner, attach_masks, masks, method_named, weight_budget
from harp.recipes import Pruning
from harp.training.build import keep_rule, method_of
from harp.training.optimizer import make_optimizer


def one_layer() -> nn.Module:
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    return model


def test_a_step_of_a_logit_by_hand():
    """Loss −(2 x · (w ⊙ m)) over x = 1: dL/dm = −2 w, summed over the layer −20, also of what is pruned. γ is 0.1 in the
    first epoch; used = a, so the penalty's gradient is γ / keep. Both go through da/dr = (1 − a_min) s (1 − s)."""
    settings = Pruning(method="harp-published", keep=0.5, gamma_step=0.1, lr=0.01, momentum=0.0)
    model = one_layer()
    budget = weight_budget(model, keep=0.5)
    attach_masks(model, budget, method_of(settings))
    (mask,) = masks(model).values()
    with torch.no_grad():
        mask.logit.fill_(1.0)
    before = mask.logit.item()
    rule = keep_rule(model, budget, settings, steps=10)
    assert isinstance(rule, Penalty)
    rule.start_epoch()
    optimizer = make_optimizer(model, settings, rule=rule)
    loss = -2 * model(torch.ones(1, 4)).sum() + rule.loss()
    loss.backward()
    sigmoid = torch.sigmoid(torch.tensor(1.0)).item()
    slope = (1 - mask.keep_min) * sigmoid * (1 - sigmoid)
    expected = (-20 + 0.1 / 0.5) * slope
    assert mask.logit.grad.item() == pytest.approx(expected, rel=1e-5)
    optimizer.step()
    assert mask.logit.item() == pytest.approx(before - 0.01 * expected, rel=1e-5)


def test_a_setting_does_not_turn_the_published_rule_into_another():
    assert method_of(Pruning(method="harp-published")) == HARP_PUBLISHED
    assert method_of(Pruning(method="harp")) == HARP
    assert method_named("harp-published").rule == "ramp"


def test_a_pruner_says_where_the_penalty_goes():
    with pytest.raises(ValueError, match=r"harp\.Penalty"):
        Pruner(one_layer(), keep=0.5, method=HARP_PUBLISHED, steps=10)
