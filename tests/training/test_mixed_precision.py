"""Under bf16-mixed the network computes in bfloat16, and every loss and attack takes its logits in float32 all the same."""

import pytest
import torch
from torch import Tensor, nn

from harp.attacks import PGD, AutoAttack, Threat, fgsm, logits_of
from harp.objectives import divergence, free_at, mart, n_fgsm, natural, pgd_at, trades
from harp.recipes import Compute
from harp.training.distributed import make_fabric

LINF = Threat("linf", 0.03)
PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")
ATTACKS = {
    "pgd": PGD(LINF, steps=3),
    "cw": PGD(LINF, steps=3, loss="cw", restarts=2),
    "pgd l2": PGD(Threat("l2", 0.5), steps=3),
    "fgsm": fgsm(LINF),
    **{part: AutoAttack(LINF, attacks=(part,), iterations=6, queries=40) for part in PARTS},
}
LOSSES = {
    "natural": natural,
    "pgd-at": lambda: pgd_at(PGD(LINF, steps=2)),
    "n-fgsm": lambda: n_fgsm(LINF),
    "trades": lambda: trades(LINF, steps=2),
    "mart": lambda: mart(PGD(LINF, steps=2)),
    "free-at": lambda: free_at(LINF),
}


class Single(nn.Module):
    """A network whose answer its own forward brings to float32: what a loss of the logits in float32 is compared with."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).float()


def network(scale: float = 4.0) -> nn.Sequential:
    """Sure of its answers, as a trained one is: there bfloat16 has few steps left between two losses."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))
    model[-1].weight.data *= scale
    return model


def batch() -> tuple[Tensor, Tensor]:
    x = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, network().eval()(x).argmax(1)


def mixed():
    return make_fabric(Compute(device="cpu", precision="bf16-mixed")).autocast()


def test_the_network_itself_computes_in_bfloat16():
    x, _ = batch()
    with mixed():
        assert network()(x).dtype == torch.bfloat16
        assert logits_of(network(), x).dtype == torch.float32


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_that_on_logits_in_float32(name):
    attack, (x, y) = ATTACKS[name], batch()

    def attacked(model: nn.Module) -> Tensor:
        torch.manual_seed(2)
        return attack(model.eval(), x, y)

    with mixed():
        found, expected = attacked(network()), attacked(Single(network()))
    assert found.dtype == torch.float32
    assert not torch.equal(found, x)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_and_its_gradients_are_those_of_logits_in_float32(name):
    x, y = batch()

    def taken(model: nn.Module) -> tuple[Tensor, list[Tensor]]:
        torch.manual_seed(2)
        loss = LOSSES[name]()(model, x, y)
        loss.backward()
        return loss.detach(), [p.grad for p in model.parameters() if p.grad is not None]

    with mixed():
        (loss, gradients), (expected, theirs) = taken(network()), taken(Single(network()))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    assert all(torch.equal(one, other) for one, other in zip(gradients, theirs, strict=True))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_near_that_in_full_precision(name):
    x, y = batch()
    torch.manual_seed(2)
    full = LOSSES[name]()(network(), x, y)
    torch.manual_seed(2)
    with mixed():
        loss = LOSSES[name]()(network(), x, y)
    assert loss.isfinite()
    assert loss >= 0
    assert torch.allclose(loss, full, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("name", ["pgd", "cw", "fgsm"])
def test_an_attack_moves_most_pixels_as_in_full_precision(name):
    attack, (x, y) = ATTACKS[name], batch()
    torch.manual_seed(2)
    full = attack(network().eval(), x, y)
    torch.manual_seed(2)
    with mixed():
        found = attack(network().eval(), x, y)
    assert ((found - x).sign() == (full - x).sign()).float().mean() > 0.9


def test_no_divergence_of_an_image_is_negative():
    x, _ = batch()
    model = network().eval()
    with mixed(), torch.no_grad():
        near = (x + 0.004 * torch.rand_like(x)).clamp(0, 1)
        assert (divergence(logits_of(model, x), logits_of(model, near)) >= -1e-6).all()


def test_mart_stays_finite_where_the_network_is_sure_of_a_wrong_class():
    x, y = batch()
    with mixed():
        assert LOSSES["mart"]()(network(scale=400.0).eval(), x, (y + 1) % 5).isfinite()
