"""The nearest image that fools a network: exact where the distance is known, and no farther than others find it."""

import pytest
import torch
from torch import Tensor, nn

from harp.attacks import Minimal, Threat
from harp.attacks.autoattack import classified
from harp.attacks.minimal import distances

NORMS = ["linf", "l2"]
every_norm = pytest.mark.parametrize("norm", NORMS)


def linear() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Two classes, images far from the ends of [0, 1], and the difference of the weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 2))
    weight = model[1].weight.detach()
    model[1].bias.data = -0.5 * weight.sum(1)
    x = 0.45 + 0.1 * torch.rand(20, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(1)
    return model, x, y, weight[0] - weight[1]


@every_norm
def test_on_a_linear_model_the_distance_is_the_closed_form(norm):
    model, x, y, weight = linear()
    with torch.no_grad():
        logits = model(x)
        known = (logits[:, 0] - logits[:, 1]).abs() / weight.norm(p=1 if norm == "linf" else 2)
        found = Minimal(Threat(norm, 0.1), steps=100)(model, x, y)
        assert not classified(model(found), y).any()
    assert distances(found, x, norm).float() == pytest.approx(known, rel=0.03, abs=1e-4)
    assert (distances(found, x, norm) >= known.double() * (1 - 1e-3) - 1e-6).all()


@every_norm
@pytest.mark.parametrize("part", [0, 1, 2])
def test_each_part_finds_images_in_zero_to_one_that_fool_and_keeps_the_rest(norm, part):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(54, 5))
    x = torch.rand(12, 1, 5, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        y = model(x).argmax(1)
    attack = Minimal(Threat(norm, 0.1), steps=60)
    found = attack.part_once(attack.parts[part], model, x, y)
    assert found.min() >= 0
    assert found.max() <= 1
    with torch.no_grad():
        fooled = ~classified(model(found), y)
    assert int(fooled.sum()) >= 8
    assert torch.equal(found[~fooled], x[~fooled])
    assert torch.equal(found, attack.part_once(attack.parts[part], model, x, y))


@every_norm
def test_fmn_agrees_with_the_attack_beside_it(norm):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(54, 3))
    x = torch.rand(16, 1, 5, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        y = model(x).argmax(1)
    attack = Minimal(Threat(norm, 0.1), steps=150)
    fmn, _, other = (distances(attack.part_once(name, model, x, y), x, norm) for name in attack.parts)
    both = (fmn > 0) & (other > 0)
    assert int(both.sum()) >= 8
    assert float((fmn / other)[both].median()) == pytest.approx(1.0, abs=0.1)


def test_a_flat_network_is_left_alone():
    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([[1.0, 0.0]]).expand(len(x), 2) + 0 * x.flatten(1)[:, :2]

    x = torch.rand(3, 1, 5, 5)
    assert torch.equal(Minimal(Threat("linf", 0.1), steps=5)(Flat(), x, torch.zeros(3, dtype=torch.long)), x)


def test_one_step_is_refused():
    with pytest.raises(ValueError, match="steps=1 must be at least 2"):
        Minimal(Threat("linf", 0.1), steps=1)
