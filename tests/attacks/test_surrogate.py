"""Smooth gradients change what attacks follow, and not a bit of what the network answers."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harp.attacks.surrogate import SmoothGradients


class OfTensors(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)


FORMS = {
    "module": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "function": OfTensors(F.relu),
    "of torch": OfTensors(torch.relu),
    "method": OfTensors(lambda x: x.relu()),
    "method in place": OfTensors(lambda x: x.relu_()),
    "rounding": OfTensors(lambda x: (x * 3).round() / 3),
    "floor": OfTensors(torch.floor),
    "sign": OfTensors(lambda x: x.sign()),
}
every_form = pytest.mark.parametrize("layer", FORMS.values(), ids=FORMS)


def gradient(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_(True)
    answer = layer(x * 1.0)
    return answer.detach(), torch.autograd.grad(answer.sum(), x)[0]


@every_form
def test_the_answer_stays_and_a_gradient_passes_where_there_was_none(layer):
    x = -torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) - 0.1
    answer, real = gradient(layer, x)
    with SmoothGradients():
        same, smooth = gradient(layer, x)
    assert torch.equal(same, answer)
    assert (real == 0).all()
    assert (smooth > 0).all()


def test_a_dead_unit_passes_less_than_a_live_one_and_nothing_changes_outside():
    x = torch.tensor([-2.0, -0.5, 0.5, 2.0])
    with SmoothGradients():
        _, smooth = gradient(nn.ReLU(), x)
    assert smooth.tolist() == sorted(smooth.tolist())
    assert gradient(nn.ReLU(), x)[1].tolist() == [0, 0, 1, 1]


def test_without_gradients_nothing_is_replaced():
    x = torch.tensor([-1.0, 1.0])
    with SmoothGradients(), torch.no_grad():
        assert torch.equal(nn.ReLU()(x), torch.tensor([0.0, 1.0]))
