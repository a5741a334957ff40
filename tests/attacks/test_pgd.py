"""PGD: analytic optima on linear models, closed forms, and that the model is left as it was."""

import copy

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harp.attacks import PGD, Threat, attacking, cw_margin, fgsm
from harp.pruning import attach_masks, freeze_masks, hold_masks, weight_budget


def linear(classes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, classes))


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3)
    )


def batch(shape: tuple[int, ...] = (5, 1, 6, 6), classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    x = 0.3 + 0.4 * torch.rand(shape, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(shape[0]) % classes


def ascent(model: nn.Module, y: torch.Tensor) -> torch.Tensor:
    """The direction that raises the loss of a two-class linear model, the same everywhere: w_other − w_true."""
    w = model[1].weight.detach()
    return (w[1 - y] - w[y]).view(-1, 1, 3, 4)


# analytic optima


@pytest.mark.parametrize("loss", ["ce", "cw"])
def test_linf_pgd_on_a_linear_model_ends_at_the_corner_x_plus_eps_sign_w(loss):
    model, (x, y) = linear(), batch((5, 1, 3, 4), 2)
    x_adv = PGD(Threat("linf", 0.1), steps=10, loss=loss)(model, x, y)
    assert torch.allclose(x_adv, x + 0.1 * ascent(model, y).sign(), atol=1e-6)


@pytest.mark.parametrize("loss", ["ce", "cw"])
def test_l2_pgd_on_a_linear_model_ends_at_x_plus_eps_w_over_its_norm(loss):
    model, (x, y) = linear(), batch((5, 1, 3, 4), 2)
    x_adv = PGD(Threat("l2", 0.2), steps=40, step_size=0.1, loss=loss)(model, x, y)
    w = ascent(model, y)
    optimum = x + 0.2 * w / w.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert torch.allclose(x_adv, optimum, atol=1e-4)


def test_the_optimum_at_the_border_of_the_image_is_clipped():
    model, (x, y) = linear(), batch((5, 1, 3, 4), 2)
    x = x.round()
    x_adv = PGD(Threat("linf", 0.1), steps=10)(model, x, y)
    assert torch.allclose(x_adv, (x + 0.1 * ascent(model, y).sign()).clamp(0, 1), atol=1e-6)


def test_fgsm_is_its_closed_form():
    model, (x, y) = convolutional().eval(), batch()
    x_grad = x.clone().requires_grad_(True)
    F.cross_entropy(model(x_grad), y).backward()
    expected = (x + 8 / 255 * x_grad.grad.sign()).clamp(0, 1)
    assert torch.allclose(fgsm(Threat("linf", 8 / 255))(model, x, y), expected, atol=1e-6)


def test_one_step_of_pgd_is_its_closed_form_in_l2():
    model, (x, y) = convolutional().eval(), batch()
    x_grad = x.clone().requires_grad_(True)
    F.cross_entropy(model(x_grad), y, reduction="sum").backward()
    step = 0.1 * x_grad.grad / x_grad.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    attack = PGD(Threat("l2", 1.0), steps=1, step_size=0.1, random_start=False)
    assert torch.allclose(attack(model, x, y), (x + step).clamp(0, 1), atol=1e-6)


def test_steps_default_to_two_and_a_half_radii_shared_among_them():
    model, (x, y) = linear(), batch((5, 1, 3, 4), 2)
    threat = Threat("linf", 0.1)
    one = PGD(threat, steps=5, random_start=False)(model, x, y)
    assert torch.equal(one, PGD(threat, steps=5, step_size=0.05, random_start=False)(model, x, y))
    two_steps = PGD(threat, steps=2, step_size=0.03, random_start=False)(model, x, y)
    assert torch.allclose(two_steps, x + 0.06 * ascent(model, y).sign(), atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_radius_of_zero_is_no_attack(norm):
    model, (x, y) = convolutional(), batch()
    for attack in (PGD(Threat(norm, 0.0)), fgsm(Threat(norm, 0.0))):
        assert torch.equal(attack(model, x, y), x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "cw"])
def test_the_attack_raises_the_loss_of_every_image(norm, loss):
    model, (x, y) = convolutional().eval(), batch()
    x_adv = PGD(Threat(norm, 0.05), steps=10, loss=loss)(model, x, y)
    with torch.no_grad():
        assert (
            F.cross_entropy(model(x_adv), y, reduction="none") > F.cross_entropy(model(x), y, reduction="none")
        ).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_confident_networks_are_attacked_although_their_gradients_nearly_vanish(norm):
    model, (x, y) = linear(), batch((5, 1, 3, 4), 2)
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([30.0, 0.0]))
    y = torch.zeros_like(y)
    x_adv = PGD(Threat(norm, 0.1), steps=10, random_start=False)(model, x, y)
    assert ((x_adv - x).flatten(1) @ ascent(model, y)[0].flatten() > 0).all()


# the Carlini–Wagner margin


def test_the_margin_by_hand():
    """Best wrong logit minus the true one: max(1, 5) − 2 = 3; max(2, 1) − 5 = −3; the best wrong one ties: 4 − 4 = 0."""
    logits = torch.tensor([[1.0, 2.0, 5.0], [1.0, 2.0, 5.0], [4.0, 4.0, 0.0]])
    assert cw_margin(logits, torch.tensor([1, 2, 0])).tolist() == [3.0, -3.0, 0.0]


def test_the_margin_is_positive_exactly_where_the_model_errs():
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    y = torch.arange(200) % 5
    assert torch.equal(cw_margin(logits, y) > 0, logits.argmax(1) != y)


def test_the_gradient_of_the_margin_is_finite_and_touches_two_logits():
    logits = torch.tensor([[1e4, 2.0, -1e4]], requires_grad=True)
    cw_margin(logits, torch.tensor([1])).sum().backward()
    assert logits.grad.tolist() == [[1.0, -1.0, 0.0]]


# restarts


def test_more_restarts_are_never_worse_for_any_image():
    model, (x, y) = convolutional().eval(), batch((40, 1, 6, 6))
    threat = Threat("linf", 0.2)

    def losses(restarts: int) -> torch.Tensor:
        torch.manual_seed(3)  # so that the first run is the same
        x_adv = PGD(threat, steps=1, restarts=restarts)(model, x, y)
        with torch.no_grad():
            return F.cross_entropy(model(x_adv), y, reduction="none")

    one, five = losses(1), losses(5)
    assert (five >= one).all()
    assert (five > one).any()


def test_images_of_different_restarts_are_put_together_one_by_one():
    model, (x, y) = convolutional().eval(), batch((20, 1, 6, 6))
    attack = PGD(Threat("linf", 0.2), steps=1)
    torch.manual_seed(4)
    runs = [attack(model, x, y) for _ in range(3)]
    torch.manual_seed(4)
    together = PGD(Threat("linf", 0.2), steps=1, restarts=3)(model, x, y)
    from_run = torch.stack([(together == run).flatten(1).all(1) for run in runs])
    assert from_run.any(0).all()
    assert from_run.any(1).sum() > 1


# what is left behind: nothing


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = convolutional()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("out of memory")
        return self.inner(x)


def traces(model: nn.Module) -> dict[str, object]:
    return {
        "modes": [module.training for module in model.modules()],
        "state": {name: t.clone() for name, t in model.state_dict().items()},
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
    }


def assert_same(before: dict, after: dict) -> None:
    assert before["modes"] == after["modes"]
    assert before["requires_grad"] == after["requires_grad"]
    for name, tensor in before["state"].items():
        assert torch.equal(tensor, after["state"][name]), name
    for was, is_now in zip(before["grad"], after["grad"], strict=True):
        assert (was is None and is_now is None) or torch.equal(was, is_now)


@pytest.mark.parametrize(
    "attack",
    [
        PGD(Threat("linf", 0.1), steps=3),
        PGD(Threat("l2", 0.5), steps=3, loss="cw", restarts=2),
        fgsm(Threat("linf", 0.1)),
    ],
    ids=["linf", "l2 cw", "fgsm"],
)
@pytest.mark.parametrize("mode", ["train", "eval", "batch norm frozen"])
def test_modes_gradients_and_statistics_stay_untouched(attack, mode):
    """A batch norm that the user keeps in eval inside a training model stays in eval, num_batches_tracked counts nothing."""
    model, (x, y) = convolutional(), batch()
    F.cross_entropy(model(x), y).backward()
    model[5].bias.requires_grad_(False)
    model.train(mode != "eval")
    if mode == "batch norm frozen":
        model[1].eval()
    before, x_before = traces(model), x.clone()
    x_adv = attack(model, x, y)
    assert_same(before, traces(model))
    assert torch.equal(x, x_before)
    assert not x.requires_grad
    assert not x_adv.requires_grad
    assert x_adv.grad is None


def test_everything_is_put_back_after_an_exception():
    model, (x, y) = Failing(), batch()
    model.inner[1].eval()
    before = traces(model)
    with pytest.raises(RuntimeError, match="out of memory"):
        PGD(Threat("linf", 0.1), steps=3)(model, x, y)
    assert_same(before, traces(model))


def test_attacks_are_crafted_in_eval_mode():
    model, (x, y) = convolutional(), batch()
    torch.manual_seed(0)
    while_training = PGD(Threat("linf", 0.1), steps=3)(model, x, y)
    torch.manual_seed(0)
    assert torch.equal(while_training, PGD(Threat("linf", 0.1), steps=3)(model.eval(), x, y))


def test_attacks_work_where_gradients_are_switched_off():
    model, (x, y) = convolutional().eval(), batch()
    torch.manual_seed(0)
    expected = PGD(Threat("linf", 0.1), steps=3)(model, x, y)
    torch.manual_seed(0)
    with torch.no_grad():
        assert torch.equal(PGD(Threat("linf", 0.1), steps=3)(model, x, y), expected)


def test_a_training_model_that_is_attacking_only_for_a_while():
    model = convolutional()
    model[1].eval()
    with attacking(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True, True]


def test_a_masked_model_is_attacked_as_the_network_that_it_will_be_baked_to():
    model, (x, y) = convolutional().eval(), batch()
    attach_masks(model, weight_budget(model, keep=0.5))
    frozen = freeze_masks(copy.deepcopy(model))
    torch.manual_seed(0)
    with hold_masks(model):
        x_adv = PGD(Threat("linf", 0.1), steps=3)(model, x, y)
    torch.manual_seed(0)
    assert torch.equal(x_adv, PGD(Threat("linf", 0.1), steps=3)(frozen, x, y))
    assert all(p.grad is None for p in model.parameters())


# refusals


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"steps": 0}, "steps=0 must be a whole number, at least 1; for clean accuracy use no attack"),
        ({"steps": 2.5}, "steps=2.5 must be a whole number"),
        ({"step_size": 0.0}, "step_size=0.0 must be positive"),
        ({"step_size": -1.0}, "step_size=-1.0 must be positive"),
        ({"step_size": float("nan")}, "step_size=nan must be positive"),
        ({"step_size": float("inf")}, "step_size=inf must be positive and finite"),
        ({"restarts": 0}, "restarts=0 must be a whole number, at least 1"),
        ({"restarts": 2, "random_start": False}, "restarts=2 would repeat one run; set random_start=True"),
        ({"loss": "mse"}, "loss='mse' is not known; choose one of"),
    ],
    ids=str,
)
def test_settings_that_make_no_attack_are_refused(settings, complaint, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse some first, here only
    with pytest.raises(ValueError, match=complaint):
        PGD(Threat("linf", 0.1), **settings)


def test_images_that_were_normalised_are_refused_before_the_model_runs():
    model, (x, y) = Failing(), batch()
    with pytest.raises(ValueError, match="make normalisation the first layer of the model"):
        PGD(Threat("linf", 0.1))(model, (x - 0.5) / 0.25, y)
    assert model.calls == 0


def test_attacks_have_names():
    assert PGD(Threat("linf", 0.1), steps=20).name == "pgd-20"
    assert PGD(Threat("linf", 0.1), steps=7, loss="cw").name == "cw-7"
