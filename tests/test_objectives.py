"""Robust losses against closed forms and independent computations; two passes where two are promised."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harp.attacks import PGD, Threat
from harp.objectives import divergence, free_at, mart, n_fgsm, natural, on_batch, pgd_at, replays_of, trades
from harp.pruning import attach_masks, hold_masks, masks, weight_budget
from harp.recipes import Training
from harp.training.build import make_objective

LINF = Threat("linf", 0.1)


class Counting(nn.Module):
    """A small network with batch norm that counts its forwards, and in which mode each was."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3))
        self.forwards: list[tuple[bool, torch.Tensor]] = []

    def forward(self, x):
        self.forwards.append((self.training, x.detach().clone()))
        return self.net(x)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(6) % 3


def shifted(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """An attack that needs no luck."""
    return (x + 0.05).clamp(0, 1)


OBJECTIVES = {
    "natural": natural(),
    "pgd-at": pgd_at(PGD(LINF, steps=2)),
    "n-fgsm": n_fgsm(LINF),
    "trades": trades(LINF, steps=2),
    "trades l2": trades(Threat("l2", 0.5), steps=2),
    "mart": mart(PGD(LINF, steps=2)),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_reaches_every_parameter_and_modes_are_as_before(name):
    model, (x, y) = Counting(), batch()
    model.net[1].momentum = 0.5
    loss = OBJECTIVES[name](model, x, y)
    assert loss.shape == ()
    loss.backward()
    assert all(p.grad is not None and p.grad.count_nonzero() > 0 for p in model.parameters())
    assert all(module.training for module in model.modules())
    assert x.grad is None


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_one_train_mode_pass_and_moves_batch_norm_once_fault_5_of_the_published_code(name):
    """Fault 5: an extra clean forward in train mode, only for logging, shifted the statistics and cost a pass."""
    model, (x, y) = Counting(), batch()
    OBJECTIVES[name](model, x, y)
    assert [training for training, _ in model.forwards].count(True) == 1
    assert model.forwards[-1][0]
    assert int(model.net[1].num_batches_tracked) == 1


@pytest.mark.parametrize(("name", "passes"), [("natural", 1), ("pgd-at", 3), ("n-fgsm", 2), ("trades", 4), ("mart", 3)])
def test_passes_a_step(name, passes):
    model = Counting()
    OBJECTIVES[name](model, *batch())
    assert len(model.forwards) == passes


@pytest.mark.parametrize("name", OBJECTIVES)
def test_masks_learn_under_every_objective(name):
    model, (x, y) = Counting(), batch()
    attach_masks(model, weight_budget(model, keep=0.3))
    with hold_masks(model):
        OBJECTIVES[name](model, x, y).backward()
    for mask in masks(model).values():
        assert mask.logit.grad.isfinite()
        assert mask.scores.grad.count_nonzero() > 0


# natural and adversarial training


def test_natural_is_cross_entropy():
    model, (x, y) = Counting().eval(), batch()
    assert torch.equal(natural()(model, x, y), F.cross_entropy(model(x), y))


def test_pgd_at_is_cross_entropy_on_the_attacked_images():
    model, (x, y) = Counting().eval(), batch()
    assert torch.equal(pgd_at(shifted)(model, x, y), F.cross_entropy(model(shifted(model, x, y)), y))


# N-FGSM


def test_n_fgsm_is_noise_of_two_radii_and_one_step_of_one_radius_not_clipped_around_the_image():
    model, (x, y) = Counting().eval(), batch()
    x = 0.4 + 0.2 * x
    torch.manual_seed(5)
    noise = torch.empty_like(x).uniform_(-0.2, 0.2)
    start = (x + noise).requires_grad_(True)
    F.cross_entropy(model(start), y).backward()
    expected = (x + noise + 0.1 * start.grad.sign()).clamp(0, 1)
    model.forwards.clear()
    torch.manual_seed(5)
    loss = n_fgsm(LINF)(model, x, y)
    assert torch.allclose(model.forwards[-1][1], expected, atol=1e-6)
    assert torch.allclose(loss, F.cross_entropy(model(expected), y), atol=1e-5)
    assert (model.forwards[0][1] - x).abs().max() > 0.15
    assert (expected - x).abs().max() > 0.2


def test_n_fgsm_noise_and_step_are_settings():
    model, (x, y) = Counting().eval(), batch()
    n_fgsm(LINF, noise=0.0, step=0.5)(model, x, y)
    assert torch.equal(model.forwards[0][1], x)
    assert (model.forwards[1][1] - x).abs().max().item() == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: n_fgsm(Threat("l2", 0.5)), "n_fgsm is defined for norm 'linf', got 'l2'; use pgd_at"),
        (lambda: n_fgsm(LINF, noise=-1.0), "noise=-1.0"),
        (lambda: n_fgsm(LINF, step=0.0), "step=0.0"),
        (lambda: trades(LINF, beta=-1.0), "beta=-1.0 must not be negative"),
        (lambda: trades(LINF, beta=math.nan), "beta=nan"),
        (lambda: trades(LINF, steps=0), "steps=0 must be a whole number"),
        (lambda: trades(LINF, step_size=-0.1), "step_size=-0.1 must be positive"),
        (lambda: mart(shifted, beta=-1.0), "beta=-1.0 must not be negative"),
    ],
)
def test_settings_without_sense_are_refused_before_any_step(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


@pytest.mark.parametrize("name", ["pgd-at", "n-fgsm", "trades", "mart"])
def test_normalised_images_are_refused(name):
    x, y = batch()
    with pytest.raises(ValueError, match=r"images x must lie in \[0, 1\]"):
        OBJECTIVES[name](Counting(), x * 4 - 2, y)


# TRADES


def kl(p_logits: torch.Tensor, q_logits: torch.Tensor) -> torch.Tensor:
    p, q = p_logits.double().softmax(1), q_logits.double().softmax(1)
    return (p * (p.log() - q.log())).sum(1)


def test_divergence_by_hand():
    """p = (1/2, 1/2), q = (1/4, 3/4): ½·ln 2 + ½·ln(2/3) = ½·ln(4/3)."""
    p, q = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, math.log(3)]])
    assert divergence(p, q).item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-5)
    assert divergence(q, q).item() == pytest.approx(0.0, abs=1e-7)


def test_trades_is_cross_entropy_plus_beta_times_the_divergence_of_clean_and_attacked():
    model, (x, y) = Counting().eval(), batch()
    torch.manual_seed(2)
    loss = trades(LINF, beta=6.0, steps=3)(model, x, y)
    both = model.forwards[-1][1]
    assert torch.equal(both[:6], x)
    clean, attacked = model(x), model(both[6:])
    expected = F.cross_entropy(clean, y) + 6.0 * kl(clean, attacked).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_attack_of_trades_climbs_the_divergence_inside_the_ball():
    model, (x, y) = Counting().eval(), batch()
    reached = []
    for steps in (1, 10):
        torch.manual_seed(2)
        trades(LINF, steps=steps, step_size=0.02)(model, x, y)
        x_adv = model.forwards[-1][1][6:]
        assert (x_adv.double() - x.double()).abs().max() <= 0.1
        reached.append(kl(model(x), model(x_adv)))
    assert (reached[0] > 0).all()
    assert (reached[1] > reached[0]).all()


def test_trades_with_beta_zero_is_natural_training():
    model, (x, y) = Counting().eval(), batch()
    assert trades(LINF, beta=0.0, steps=1)(model, x, y).item() == pytest.approx(natural()(model, x, y).item(), rel=1e-5)


# MART


def test_mart_is_its_formula():
    """BCE = −log p'_y − log(1.0001 − max wrong p'), plus β · KL(p ‖ p') · (1 − p_y), means over the batch."""
    model, (x, y) = Counting().eval(), batch()
    loss = mart(shifted, beta=5.0)(model, x, y)
    clean, attacked = model(x).double().softmax(1), model(shifted(model, x, y)).double().softmax(1)
    total = 0.0
    for p, q, label in zip(clean.tolist(), attacked.tolist(), y.tolist(), strict=True):
        wrong = max(value for place, value in enumerate(q) if place != label)
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total += -math.log(q[label]) - math.log(1.0001 - wrong) + 5.0 * divergence * (1 - p[label])
    assert loss.item() == pytest.approx(total / 6, rel=1e-4)


# extremes


class Extreme(nn.Module):
    """Logits that differ by ``size`` between classes and by more under a shift."""

    def __init__(self, size: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -1.0, 0.5]) * size)

    def forward(self, x):
        return x.flatten(1).mean(1, keepdim=True) * self.weight


@pytest.mark.parametrize("name", ["natural", "pgd-at", "n-fgsm", "trades", "trades l2", "mart"])
@pytest.mark.parametrize("size", [0.0, 1e2, 1e4, 1e8])
def test_no_loss_and_no_gradient_is_nan_however_sure_the_network_is(name, size):
    """With plain probabilities the KL term has the gradient 0/0 as soon as a probability underflows."""
    model, (x, y) = Extreme(size), batch()
    loss = OBJECTIVES[name](model, x, y)
    loss.backward()
    assert loss.isfinite()
    assert model.weight.grad.isfinite().all()


# Free-AT


@pytest.mark.parametrize("threat", [Threat("linf", 0.1), Threat("l2", 0.5)])
def test_the_perturbation_of_free_at_stays_in_the_ball_and_the_images_in_range(threat):
    model, (x, y) = Counting(), batch()
    x = torch.where(x < 0.3, 0.0, x)  # pixels at the edge
    objective = free_at(threat, replays=3)
    for _ in range(2):
        for _ in range(3):
            objective(model, x, y).backward()
    for training, seen in model.forwards:
        assert training
        assert 0 <= seen.min() <= seen.max() <= 1
        assert torch.equal(threat.project(seen, x), seen) or threat.norm == "l2"
        assert (seen - x).flatten(1).norm(dim=1, p=2 if threat.norm == "l2" else math.inf).max() <= threat.eps
    carried = objective.state_dict()["delta"]
    assert carried.flatten(1).norm(dim=1, p=2 if threat.norm == "l2" else math.inf).max() <= threat.eps
    assert -1e-6 <= (x + carried).min() <= (x + carried).max() <= 1 + 1e-6
    assert torch.equal(model.forwards[0][1], x)  # it begins with no perturbation, as in the paper
    assert all(not torch.equal(seen, x) for _, seen in model.forwards[1:])


def test_each_replay_climbs_by_the_gradient_of_the_last():
    """A linear model whose loss is known: the gradient of the images is (p − onehot) W, and δ goes along its sign."""
    model = nn.Linear(4, 2, bias=False)
    x, y = torch.full((1, 4), 0.5), torch.tensor([0])
    objective = free_at(Threat("linf", 0.1), replays=2, step_size=0.06)
    seen = []
    for _ in range(3):
        objective(model, x, y).backward()
        seen.append(objective._latest[1].detach().clone())
    p = F.softmax(model(seen[0]), dim=1)
    sign = ((p - F.one_hot(y, 2)) @ model.weight).sign().detach()
    torch.testing.assert_close(seen[1], x + 0.06 * sign)
    torch.testing.assert_close(seen[2], x + 0.1 * sign)  # 0.12 is outside of the ball


def test_the_perturbation_is_carried_from_a_batch_to_the_next_and_past_a_small_one():
    model, (x, y) = Counting(), batch()
    objective = free_at(Threat("linf", 0.1), replays=1)
    objective(model, x, y).backward()
    objective(model, x[:2], y[:2]).backward()
    objective(model, x, y).backward()
    first, _, third = (seen for _, seen in model.forwards)
    assert objective.delta.shape == x.shape
    assert not torch.equal(third[:2], first[:2])
    assert not torch.equal(third[2:], first[2:])  # of the first batch, kept while the second had two images


def test_the_step_of_free_at_is_one_pass_whatever_the_replays():
    model, (x, y) = Counting(), batch()
    free_at(LINF, replays=4)(model, x, y).backward()
    assert len(model.forwards) == 1
    assert replays_of(free_at(LINF, replays=4)) == 4
    assert replays_of(natural()) == 1


def test_an_overflow_of_a_scaled_loss_does_not_poison_the_perturbation():
    model, (x, y) = Counting(), batch()
    objective = free_at(LINF, replays=2)
    objective(model, x, y).backward()
    objective._latest[1].grad[0, 0, 0, :2] = torch.tensor([math.inf, math.nan])
    objective(model, x, y)
    assert objective.delta.isfinite().all()


def test_the_state_of_free_at_holds_the_step_under_way():
    model, (x, y) = Counting(), batch()
    objective = free_at(LINF, replays=2)
    objective(model, x, y).backward()
    again = free_at(LINF, replays=2)
    again.load_state_dict(objective.state_dict())
    assert again.delta.abs().max() > 0
    assert torch.equal(again.craft(model, x, y), objective.craft(model, x, y))


@pytest.mark.parametrize("wrong", [{"replays": 0}, {"step_size": 0.0}])
def test_replays_and_steps_that_make_no_sense_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        free_at(LINF, **wrong)


# Two parts


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_in_two_parts_attacks_once_for_any_number_of_losses(name):
    """And is the same function in one: the same loss from the same generator."""
    (one, two), (x, y) = (Counting(), Counting()), batch()
    torch.manual_seed(5)
    whole = OBJECTIVES[name](one, x, y).item()
    torch.manual_seed(5)
    loss = on_batch(OBJECTIVES[name], two, x, y)
    assert loss().item() == whole
    assert len(two.forwards) == len(one.forwards)
    loss()
    assert len(two.forwards) == len(one.forwards) + 1


# Recipes


@pytest.mark.parametrize(("name", "beta"), [("trades", 6.0), ("mart", 5.0)])
def test_a_recipe_that_names_no_beta_has_that_of_the_paper(name, beta):
    model, (x, y) = Counting().eval(), batch()
    losses = []
    for settings in (Training(objective=name), Training(objective=name, beta=beta), Training(objective=name, beta=1.0)):
        torch.manual_seed(0)
        losses.append(make_objective(settings, LINF)(model, x, y).item())
    assert losses[0] == losses[1] != losses[2]
