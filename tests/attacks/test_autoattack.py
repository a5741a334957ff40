"""AutoAttack: it agrees with the authors' code and with the closed form, and leaves no trace on model or caller."""

import sys
from itertools import pairwise

import pyautoattack
import pytest
import torch
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from harp.attacks import Threat
from harp.attacks.autoattack import STANDARD, AutoAttack, autoattack, square_note

QUICK = {"iterations": 6, "queries": 40}


def linear(classes: int, side: int = 5, seed: int = 0) -> nn.Module:
    """All classes meet at the grey image, so each wins its share of `interior_images`."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(side * side, classes))
    model[1].bias.data = -0.5 * model[1].weight.detach().sum(1)
    return model


def network(classes: int = 10) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, classes)
    ).eval()


def interior_images(n: int, side: int = 5) -> Tensor:
    """Far enough from 0 and 1 that the box never binds."""
    return 0.3 + 0.4 * torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(2))


def labelled_by(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1)


def slack(model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """The margin that is left of a linear model after the best perturbation: min_j margin_j − eps·‖w_y − w_j‖*."""
    weight, logits = model[1].weight.detach(), model(x).detach()
    dual = 1 if threat.norm == "linf" else 2
    price = threat.eps * torch.linalg.vector_norm(weight[y][:, None] - weight[None], dual, dim=2)
    left = logits.gather(1, y[:, None]) - logits - price
    return left.scatter(1, y[:, None], float("inf")).amin(1)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("threat", [Threat("linf", 0.01), Threat("l2", 0.05)], ids=str)
def test_on_a_linear_model_the_survivors_are_those_of_the_closed_form(threat, classes):
    model, x = linear(classes), interior_images(60)
    y = labelled_by(model, x)
    left = slack(model, x, y, threat)
    clear = left.abs() > 0.002
    x, y, left = x[clear], y[clear], left[clear]
    assert 5 < int((left > 0).sum()) < len(x) - 5, "the test needs both outcomes"
    result = AutoAttack(threat, **QUICK).run(model, x, y)
    assert torch.equal(list(result.survived.values())[-1], left > 0)


def shorten(authors: pyautoattack.AutoAttack) -> pyautoattack.AutoAttack:
    for attack in (authors.apgd, authors.apgd_targeted):
        attack.n_iter = attack.n_iter_orig = QUICK["iterations"]
        attack.n_iter_2, attack.n_iter_min, attack.size_decr = 1, 1, 1
    authors.fab.n_iter = QUICK["iterations"]
    authors.square.n_queries = QUICK["queries"]
    return authors


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_finds_what_the_authors_evaluation_finds(norm):
    model, x = network(), interior_images(24, side=6)
    y = labelled_by(model, x)
    threat = Threat(norm, 0.02 if norm == "linf" else 0.1)
    authors = shorten(pyautoattack.AutoAttack(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=threat.eps, seed=7))
    with torch.random.fork_rng():
        theirs, _ = authors.run_standard_evaluation(x, y, batch_size=len(x))
    ours = AutoAttack(threat, seed=7, **QUICK).run(model, x, y)
    survived = ours.survived["square"]
    assert torch.equal(survived, labelled_by(model, theirs) == y)
    assert 3 < int(survived.sum()) < 21, "the test needs both outcomes"
    torch.testing.assert_close(ours.x_adv, theirs, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_at_full_strength_it_finds_what_the_authors_standard_version_finds():
    model, x = network(), interior_images(8, side=6)
    y = labelled_by(model, x)
    with torch.random.fork_rng():
        authors = pyautoattack.AutoAttack(model, norm="Linf", eps=0.02, seed=0, version="standard")
        theirs, _ = authors.run_standard_evaluation(x, y, batch_size=len(x))
    ours = autoattack(Threat("linf", 0.02)).run(model, x, y)
    assert torch.equal(ours.survived["square"], labelled_by(model, theirs) == y)
    torch.testing.assert_close(ours.x_adv, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_setting_is_that_of_the_authors_standard_version(norm):
    model = network()
    eps = 8 / 255
    authors = pyautoattack.AutoAttack(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, seed=5)
    authors.apgd.loss, authors.fab.targeted = "ce", True  # as their run_standard_evaluation does
    parts = dict(zip(STANDARD, (authors.apgd, authors.apgd_targeted, authors.fab, authors.square), strict=True))
    ours = autoattack(Threat(norm, eps), seed=5)
    assert tuple(authors.attacks_to_run) == ours.suite(10)
    for name, theirs in parts.items():
        mine = vars(ours._build(name, model, 10, torch.device("cpu"), authors.logger))
        settings = {key: value for key, value in vars(theirs).items() if key not in ("logger", "device")}
        assert {key: mine[key] for key in settings} == settings


def test_it_leaves_model_and_generators_as_they_were():
    model = network().train()
    model[3].eval()
    model[4].bias.requires_grad_(False)
    model[4].weight.grad = torch.full_like(model[4].weight, 3.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    x = interior_images(12, side=6)
    y = torch.arange(12) % 10
    torch.manual_seed(11)
    generator = torch.get_rng_state()
    AutoAttack(Threat("linf", 0.02), **QUICK)(model, x, y)
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == [True, True, True, True, True, False]
    assert [p.grad is None for p in model.parameters()] == [True, True, True, True, False, True]
    assert torch.equal(model[4].weight.grad, torch.full_like(model[4].weight, 3.0))


def test_the_answer_stays_inside_the_threat_and_a_survivor_is_unchanged():
    model, x = network(), interior_images(16, side=6)
    y = labelled_by(model, x)
    threat = Threat("linf", 0.02)
    result = AutoAttack(threat, **QUICK).run(model, x, y)
    moved = (result.x_adv.double() - x.double()).abs().amax((1, 2, 3))
    assert moved.max() <= threat.eps
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1
    assert torch.equal(moved == 0, result.survived["square"])


@pytest.mark.parametrize("lie", [float("nan"), 5.0, float("inf")])
def test_an_attack_that_leaves_the_ball_gains_nothing(monkeypatch, lie):
    model, x = linear(3), interior_images(8)
    y = labelled_by(model, x)
    monkeypatch.setattr(SquareAttack, "perturb", lambda self, x, y=None: torch.full_like(x, lie))
    result = AutoAttack(Threat("linf", 1e-6), attacks=("square",)).run(model, x, y)
    assert result.survived["square"].all()
    assert torch.equal(result.x_adv, x)


def test_each_attack_runs_on_the_survivors_of_those_before():
    model, x = network(), interior_images(16, side=6)
    y = labelled_by(model, x)
    y[:4] = (y[:4] + 1) % 10
    survived = list(AutoAttack(Threat("linf", 0.02), **QUICK).run(model, x, y).survived.values())
    assert not survived[0][:4].any()
    assert all((later <= earlier).all() for earlier, later in pairwise(survived))


@pytest.mark.parametrize(
    ("classes", "runs", "note"),
    [
        (2, ("apgd-ce", "fab-t", "square"), "2 classes: the targeted DLR loss of APGD-T needs 4, it was left out"),
        (3, ("apgd-ce", "apgd-dlr", "fab-t", "square"), "3 classes: the targeted DLR loss of APGD-T needs 4, APGD-DLR ran"),
        (4, STANDARD, "4 classes: the targeted attacks aim at all 3 other classes"),
    ],
)  # fmt: skip
def test_with_few_classes_what_is_defined_runs_and_the_rest_is_noted(classes, runs, note):
    model, x = linear(classes), interior_images(6)
    result = AutoAttack(Threat("linf", 1e-4), **QUICK).run(model, x, labelled_by(model, x))
    assert tuple(result.survived) == runs
    assert any(line.startswith(note) for line in result.notes)
    assert not any("zero" in line or "target classes" in line for line in result.notes)


def test_the_standard_version_on_ten_classes_has_no_departures():
    assert autoattack(Threat("linf", 0.1)).departures(10) == []
    assert autoattack(Threat("linf", 0.1)).suite(1000) == STANDARD


def test_other_settings_are_declared_not_standard():
    (note,) = AutoAttack(Threat("linf", 0.1), attacks=("apgd-ce",), queries=10).departures(10)
    assert note == "not the standard AutoAttack: attacks=('apgd-ce',), queries=10"


def test_no_attack_left_is_an_error():
    with pytest.raises(ValueError, match=r"attacks=\('apgd-t',\) cannot run with 2 classes"):
        AutoAttack(Threat("linf", 0.1), attacks=("apgd-t",)).suite(2)


@pytest.mark.parametrize("bad", [(), ("apgd-ce", "apgd-ce"), ("pgd",)])
def test_unknown_or_repeated_attacks_are_refused(bad):
    with pytest.raises(ValueError, match="attacks="):
        autoattack(Threat("linf", 0.1), attacks=bad)


class Coin(nn.Module):
    """Answers at random, under any seed but its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + torch.randn(len(x), 3)


class SelfGradient(nn.Module):
    """Takes a gradient inside its forward pass, as test-time defences do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear(3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            z = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.inner(z).sum(), z)
        return self.inner(x + 0 * gradient)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Coin(), "randomized defense"),
        (nn.Sequential(linear(3), nn.Softmax(1)), "probability distribution"),
        (SelfGradient(), "dynamic defense"),
    ],
    ids=["random", "softmax", "dynamic"],
)
def test_doubtful_models_are_noted(model, words, caplog, capsys):
    x = interior_images(6)
    attack = AutoAttack(Threat("linf", 0.01), attacks=("apgd-ce",), iterations=2)
    notes = attack.run(model, x, torch.zeros(6, dtype=torch.long)).notes
    assert any(words in note and "flags_doc" not in note for note in notes)
    assert capsys.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_one_dynamic_model_does_not_taint_the_next():
    x, attack = interior_images(4), autoattack(Threat("linf", 0.01))
    assert attack.check(SelfGradient(), x, torch.zeros(4, dtype=torch.long))
    assert attack.check(linear(3), x, torch.zeros(4, dtype=torch.long)) == []


def test_a_debugger_or_coverage_tool_keeps_its_trace():
    def trace(frame, event, argument):
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        autoattack(Threat("linf", 0.01)).check(linear(3), interior_images(2), torch.zeros(2, dtype=torch.long))
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)


class Staircase(nn.Module):
    """Flat almost everywhere: no gradient to follow, yet easily fooled."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear(5, seed=4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.round(self.inner(x) * 500) / 500 + 0 * x.sum() + torch.arange(5) * 1e-5


def test_masked_gradients_are_noticed_by_square():
    model, x = Staircase(), interior_images(30)
    y = labelled_by(model, x)
    result = AutoAttack(Threat("linf", 0.015), iterations=5, queries=200).run(model, x, y)
    assert any(note.startswith("gradient masking suspected: Square") for note in result.notes)
    assert any("apgd-t met zero gradients" in note for note in result.notes)


def test_square_alone_says_nothing_about_masking():
    assert square_note({"square": 0.1}) == []
    assert square_note({"apgd-ce": 0.5, "square": 0.5}) == []
    assert square_note({"apgd-ce": 0.5, "square": 0.4}) != []


def test_a_radius_of_zero_changes_nothing():
    model, x = linear(3), interior_images(6)
    y = labelled_by(model, x)
    result = autoattack(Threat("linf", 0.0)).run(model, x, y)
    assert torch.equal(result.x_adv, x)
    assert all(left.all() for left in result.survived.values())


def test_a_model_with_constant_answers_is_attacked_without_an_accident():
    model = linear(3)
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    x = interior_images(4)
    result = AutoAttack(Threat("linf", 0.1), **QUICK).run(model, x, torch.zeros(4, dtype=torch.long))
    assert result.survived["square"].all()


def test_a_single_image_and_an_all_wrong_batch_work():
    model, x = linear(3), interior_images(3)
    y = labelled_by(model, x)
    attack = AutoAttack(Threat("linf", 1e-4), **QUICK)
    assert attack.run(model, x[:1], y[:1]).survived["square"].tolist() == [True]
    assert torch.equal(attack(model, x, (y + 1) % 3), x)


def test_square_in_l2_refuses_images_it_is_not_made_for():
    model = linear(2, side=4)
    x = interior_images(2, side=4)
    with pytest.raises(ValueError, match="5 x 5"):
        autoattack(Threat("l2", 0.01)).check(model, x, labelled_by(model, x))
    assert autoattack(Threat("linf", 0.01)).check(model, x, labelled_by(model, x)) == []


def test_its_repr_is_its_configuration():
    attack = autoattack(Threat("linf", 0.5), seed=3)
    assert eval(repr(attack), {"AutoAttack": AutoAttack, "Threat": Threat}) == attack
