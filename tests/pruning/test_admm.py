"""Robust-ADMM: its projection by hand, its convergence against a closed form, and the cut at the end."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harp.pruning import LWM, Admm, attach_masks, freeze_masks, masks, starting_rho, weight_budget


def one_layer(values: list[float]) -> nn.Linear:
    layer = nn.Linear(len(values), 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([values]))
    return layer


def two_layers() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[4.0, -3.0, 2.0, 1.0], [0.4, -0.4, 0.4, 0.1]]))
        model[1].weight.copy_(torch.tensor([[0.9, -0.8], [0.1, 0.8]]))
    return model


def test_the_projection_by_hand_with_ties_by_index():
    """Half of 8 + 4 weights is 6, uniformly 4 and 2. Of the three equal magnitudes 0.4 the first takes the last place;
    so does the first 0.8."""
    model = two_layers()
    admm = Admm(model, weight_budget(model, keep=0.5), 10, rho=1.0)
    assert admm.z["0.weight"].tolist() == [[4, -3, 2, 1], [0, 0, 0, 0]]
    torch.testing.assert_close(admm.z["1.weight"], torch.tensor([[0.9, -0.8], [0, 0]]))
    with torch.no_grad():
        model[0].weight[0, 3] = 0.0
    torch.testing.assert_close(admm.nearest(admm.weights)["0.weight"], torch.tensor([[4.0, -3, 2, 0], [0.4, 0, 0, 0]]))


def test_no_other_sparse_point_is_nearer():
    model = one_layer(torch.randn(12, generator=torch.Generator().manual_seed(0)).tolist())
    admm = Admm(model, weight_budget(model, keep=0.25), 10, rho=1.0)
    distance = (model.weight - admm.z["weight"]).norm().item()
    for chosen in torch.combinations(torch.arange(12), 3):
        other = torch.zeros(1, 12)
        other[0, chosen] = model.weight.detach()[0, chosen]
        assert (model.weight - other).norm().item() >= distance - 1e-6


def test_the_loss_by_hand():
    """θ = (3, 1), Z = (3, 0), U = 0: ρ/2 · 1². With U = (0, 2): ρ/2 · 3²; the gradient is ρ · (θ − Z + U)."""
    model = one_layer([3.0, 1.0])
    admm = Admm(model, weight_budget(model, keep=0.5), 10, rho=0.5)
    assert admm.loss().item() == 0.25
    admm.u["weight"][0, 1] = 2.0
    admm.loss().backward()
    assert admm.loss().item() == 2.25
    assert model.weight.grad.tolist() == [[0.0, 1.5]]


def test_it_converges_to_the_closed_form_of_a_quadratic():
    """min ½‖θ − a‖² over two of four entries is a with the smaller two at zero. With ρ = 2 and θ solved exactly in each
    round, θ = (a + ρ(Z − U)) / (1 + ρ), the entries to be cut fall as a / 3^(k+1) and the others rise to a."""
    a = torch.tensor([[4.0, -3.0, 1.0, 0.5]])
    model = one_layer([4.0, -3.0, 1.0, 0.5])
    rounds = 12
    admm = Admm(model, weight_budget(model, keep=0.5), rounds + 1, rho=2.0, growth=1.0, rounds=rounds + 1)
    for k in range(rounds):
        with torch.no_grad():
            model.weight.copy_((a + 2.0 * (admm.z["weight"] - admm.u["weight"])) / 3.0)
        if k > 0:
            torch.testing.assert_close(model.weight.detach()[:, 2:], a[:, 2:] / 3.0 ** (k + 1))
        admm.step()
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[4.0, -3.0, 0.0, 0.0]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(admm.z["weight"], torch.tensor([[4.0, -3.0, 0.0, 0.0]]), atol=1e-4, rtol=0)
    # The multiplier holds the cut entries against the loss: ρ · U = a there.
    torch.testing.assert_close(2.0 * admm.u["weight"][:, 2:], a[:, 2:], atol=1e-3, rtol=0)


def test_gradient_descent_with_a_growing_rho_comes_to_the_same_place():
    a = torch.tensor([[4.0, -3.0, 1.0, 0.5]])
    model = one_layer([4.0, -3.0, 1.0, 0.5])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    admm = Admm(model, weight_budget(model, keep=0.5), 400, rho=1.0)
    for _ in range(400):
        optimizer.zero_grad()
        (0.5 * (model.weight - a).square().sum() + admm.loss()).backward()
        optimizer.step()
        admm.step()
    assert admm.gamma == pytest.approx(1.3**9)
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[4.0, -3.0, 0.0, 0.0]]), atol=1e-2, rtol=0)


@pytest.mark.parametrize("steps", [1, 3, 10, 47, 460])
def test_rounds_are_even_shares_of_a_stage_of_any_length(steps):
    model = two_layers()
    admm = Admm(model, weight_budget(model, keep=0.5), steps, rho=0.001)
    renewed = []
    for step in range(1, steps + 1):
        before = admm.gamma
        admm.step()
        if admm.gamma != before:
            renewed.append(step)
    assert renewed == sorted({-(-k * steps // 10) for k in range(1, 10)} - {steps})


def test_when_rho_grows_the_multiplier_stays():
    """Boyd et al. 2011, section 3.4.1: U is the multiplier over ρ."""
    model = one_layer([3.0, 1.0])
    admm = Admm(model, weight_budget(model, keep=0.5), 10, rho=0.5, growth=2.0)
    admm.step()  # U = θ − Z = (0, 1) by the old ρ
    assert (admm.gamma, admm.u["weight"].tolist()) == (1.0, [[0.0, 0.5]])


def test_the_default_pull_is_the_authors_over_a_stage_of_theirs_and_does_not_depend_on_length():
    """Theirs: 200 epochs of 391 steps; rounds of 20 epochs at lr 0.01, 0.001, 0.0001; ρ = 0.001 · 1.3^k. Ours: a cosine."""
    authors = sum(20 * 391 / 3 * (0.01 + 0.001 + 0.0001) * 0.001 * 1.3**k for k in range(10))
    for lr, steps in ((0.1, 7040), (0.05, 460)):
        ours = sum(0.5 * lr * steps / 10 * starting_rho(lr, steps) * 1.3**k for k in range(10))
        assert ours == pytest.approx(authors, rel=0.05)
    assert starting_rho(0.1, 20 * 352) == pytest.approx(0.001, rel=0.2)


def test_what_is_judged_is_what_the_masks_will_leave():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 30), nn.ReLU(), nn.Linear(30, 3))
    budget = weight_budget(model, keep=0.1)
    admm = Admm(model, budget, 10, rho=1.0)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    x = torch.rand(5, 1, 4, 4)
    with admm.cut():
        judged = model(x)
        assert sum(int(w.count_nonzero()) for w in admm.weights.values()) == budget.limit
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    freeze_masks(attach_masks(model, budget, LWM))
    assert torch.equal(model(x), judged)
    assert sum(mask.count for mask in masks(model).values()) == budget.limit


def test_a_state_goes_on_with_the_same_bits():
    def run(stop: int | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model, x, y = nn.Linear(6, 3), torch.rand(8, 6), torch.arange(8) % 3
        admm = Admm(model, weight_budget(model, keep=0.3), 30, rho=0.5)
        for step in range(30):
            if step == stop:
                state = admm.state_dict()
                admm = Admm(model, weight_budget(model, keep=0.3), 30, rho=9.0)
                admm.load_state_dict(state)
            model.zero_grad()
            (F.cross_entropy(model(x), y) + admm.loss()).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p.sub_(0.1 * p.grad)
            admm.step()
        return {**model.state_dict(), "z": admm.z["weight"], "u": admm.u["weight"]}

    whole, resumed = run(None), run(17)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"rounds": 0}, {"rho": 0.0}, {"growth": 0.9}])
def test_settings_that_make_no_sense_are_named(wrong):
    model = two_layers()
    given = {"steps": 10, "rho": 1.0, **wrong}
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"{name}={wrong[name]}"):
        Admm(model, weight_budget(model, keep=0.5), given.pop("steps"), **given)
