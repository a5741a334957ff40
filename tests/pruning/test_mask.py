"""A mask: which entries it keeps, what its gradients are, what travels, and that a hold computes it once."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import harp.pruning.mask as mask_module
from harp.attacks import PGD, Threat
from harp.pruning import HARP, HYDRA, Budget, Mask, Method, attach_masks, freeze_masks, hold_masks, masks, weight_budget
from harp.pruning.estimators import layer_sum
from harp.pruning.keeps import uniform
from harp.pruning.mask import logit_of, top

LEARN_BOTH = frozenset({"scores", "keeps"})


def mask_of(scores: torch.Tensor, keep: float, learn: frozenset[str] = LEARN_BOTH, keep_min: float = 0.01) -> Mask:
    return Mask(scores, keep, learn=learn, keep_min=keep_min, estimator=layer_sum)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 3)
    )


def masked(keep: float = 0.1, method: Method = HARP) -> tuple[nn.Module, Budget]:
    model = network()
    budget = weight_budget(model, keep=keep)
    return attach_masks(model, budget, method), budget


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(5, 1, 6, 6, generator=generator), torch.tensor([0, 1, 2, 0, 1])


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# which entries stay


def test_the_largest_absolute_scores_stay_whatever_their_sign():
    scores = torch.tensor([0.1, -5.0, 2.0, -0.3])
    assert top(scores, 2).tolist() == [False, True, True, False]


def test_of_equal_scores_the_first_stay():
    scores = torch.tensor([1.0, -1.0, 2.0, 1.0, 0.0])
    assert top(scores, 3).tolist() == [True, True, True, False, False]
    assert top(torch.zeros(3, 4), 5).flatten().tolist() == [True] * 5 + [False] * 7


def test_index_order_is_that_of_the_shape_not_of_memory():
    scores = torch.ones(2, 2, 2, 2).contiguous(memory_format=torch.channels_last)
    assert top(scores, 3).flatten().tolist() == [True] * 3 + [False] * 13


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_top_keeps_exactly_the_count_in_every_precision(dtype):
    scores = torch.randn(17, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    for count in (1, 2, 40, 84, 85):
        assert top(scores, count).sum() == count


def test_at_least_one_entry_stays():
    mask = mask_of(torch.arange(1.0, 8.0), keep=0.011)
    assert mask.count == 1
    assert mask.current().tolist() == [False] * 6 + [True]


def test_the_mask_keeps_the_rounded_fraction():
    for keep, expected in ((0.2, 2), (0.26, 3), (0.5, 5), (0.94, 9)):
        assert mask_of(torch.randn(10), keep).current().sum() == expected


# the keep fraction


@pytest.mark.parametrize("keep_min", [0.0, 0.0001, 0.001, 0.1])
def test_logit_of_is_the_exact_inverse(keep_min):
    for keep in (keep_min + 1e-6, 0.11, 0.5, 0.999):
        value = keep_min + (1 - keep_min) / (1 + math.exp(-logit_of(keep, keep_min)))
        assert value == pytest.approx(keep, rel=1e-12)


@pytest.mark.parametrize("keep", [0.1, 0.05, 0.0, 1.0, float("nan")])
def test_a_start_at_or_below_the_floor_is_refused_fault_7_of_the_published_code(keep):
    """Fault 7: an initial fraction below a_min became NaN, and clipping turned 0.01 into 0.011."""
    with pytest.raises(ValueError, match="must start inside"):
        logit_of(keep, 0.1)


def test_a_learned_keep_says_exactly_what_it_was_given_fault_7_of_the_published_code():
    """Fault 7: clipping made 0.01 become 0.011."""
    assert float(mask_of(torch.randn(1000), 0.01, keep_min=0.001).keep.detach()) == pytest.approx(0.01, rel=1e-6)


def test_a_fixed_keep_is_a_whole_number_and_can_say_one():
    mask = mask_of(torch.randn(10), 1.0, frozenset({"scores"}))
    assert mask.logit is None
    assert float(mask.keep) == 1.0
    assert mask.current().all()


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.5, float("nan")])
def test_a_mask_refuses_a_fraction_outside_zero_and_one(keep):
    with pytest.raises(ValueError, match="keep="):
        mask_of(torch.randn(10), keep)


# straight-through gradients


def test_gradients_are_the_straight_through_estimates_by_hand():
    """L = Σ c_i · w_i · M_i, so dL/dM_i = c_i·w_i; dL/dS_i = dL/dM_i · sign(S_i); dL/da = Σ dL/dM_i."""
    weight = torch.tensor([[2.0, -3.0], [0.5, 4.0]])
    scores = torch.tensor([[-1.0, 0.2], [0.3, -2.0]])
    c = torch.tensor([[1.0, 2.0], [-1.0, 0.5]])
    mask = mask_of(scores, 0.5, keep_min=0.1)
    (mask(weight) * c).sum().backward()
    grad_mask = torch.tensor([[2.0, -6.0], [-0.5, 2.0]])
    assert torch.equal(mask.scores.grad, grad_mask * torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
    # Σ dL/dM = −2.5; a = 0.1 + 0.9·σ(r), so da/dr = 0.9·σ·(1−σ) with σ = (0.5 − 0.1)/0.9 = 4/9.
    assert float(mask.logit.grad) == pytest.approx(-2.5 * 0.9 * (4 / 9) * (5 / 9), rel=1e-6)


def test_pruned_entries_get_score_gradients_too():
    mask = mask_of(torch.tensor([3.0, 1.0, -1.0]), 0.34)
    mask(torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert mask.current().tolist() == [True, False, False]
    assert mask.scores.grad.tolist() == [1.0, 2.0, -3.0]


def test_a_weight_that_learns_gets_gradients_only_where_the_mask_stays():
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    mask_of(torch.tensor([0.0, 1.0, 0.0, 2.0]), 0.5)(weight).sum().backward()
    assert weight.grad.tolist() == [0.0, 1.0, 0.0, 1.0]


def test_granularity_is_the_shape_of_the_scores():
    """One score per input channel of a convolution: gradients are sums over all that a score decides about."""
    weight = torch.randn(4, 3, 2, 2)
    mask = mask_of(torch.tensor([1.0, -3.0, 2.0]).view(1, 3, 1, 1), 0.67)
    masked_weight = mask(weight)
    assert masked_weight.abs().sum((0, 2, 3)).eq(0).tolist() == [True, False, False]
    masked_weight.sum().backward()
    per_channel = weight.sum((0, 2, 3)) * torch.tensor([1.0, -1.0, 1.0])
    assert torch.allclose(mask.scores.grad.flatten(), per_channel, atol=1e-6)
    assert mask.size == 3


def test_the_estimator_of_the_keep_gradient_is_replaceable():
    seen = {}

    def nothing(grad_mask, scores, mask):
        seen.update(grad_mask=grad_mask, mask=mask)
        return torch.zeros(())

    mask = Mask(torch.tensor([2.0, 1.0]), 0.5, learn=LEARN_BOTH, keep_min=0.01, estimator=nothing)
    mask(torch.tensor([3.0, 5.0])).sum().backward()
    assert float(mask.logit.grad) == 0.0
    assert seen["grad_mask"].tolist() == [3.0, 5.0]
    assert seen["mask"].tolist() == [True, False]


def test_what_does_not_learn_gets_no_gradient():
    model, _ = masked(method=HYDRA)
    F.cross_entropy(model(batch()[0]), batch()[1]).backward()
    for mask in masks(model).values():
        assert mask.logit is None
        assert mask.scores.grad is not None
    assert model[0].parametrizations.weight.original.grad is None


# finding masks


def test_masks_are_named_like_the_weights_of_the_plain_network():
    plain = {name for name, _ in network().named_parameters()}
    model, _ = masked()
    assert set(masks(model)) == {"0.weight", "4.weight"} <= plain
    assert list(masks(attach_masks(nn.Linear(9, 9), weight_budget(nn.Linear(9, 9), keep=0.5)))) == ["weight"]
    assert masks(network()) == {}


def test_foreign_parametrizations_are_no_masks():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    assert masks(model) == {}


# holding


@pytest.fixture
def calls(monkeypatch):
    counted = []

    def counting(scores, count):
        counted.append(count)
        return top(scores, count)

    monkeypatch.setattr(mask_module, "top", counting)
    return counted


def step(model: nn.Module, attack: PGD) -> torch.Tensor:
    x, y = batch()
    with torch.no_grad():
        model(x)
    torch.manual_seed(5)
    loss = F.cross_entropy(model(attack(model, x, y)), y)
    model.zero_grad()
    loss.backward()
    return loss.detach()


def test_a_step_computes_each_mask_once_however_many_forwards_fault_2_of_the_published_code(calls):
    """Fault 2: every forward sorted every score tensor again, 11 or 12 times per step of PGD-10."""
    model, _ = masked()
    attack = PGD(Threat("linf", 0.1), steps=10)
    with hold_masks(model):
        step(model, attack)
    assert len(calls) == 2  # two layers
    calls.clear()
    step(model, attack)
    assert len(calls) == 2  # without a hold, too


def test_a_held_step_has_the_loss_and_gradients_of_an_unheld_one():
    """torch's own parametrize.cached() raises or loses gradients here: an attack with autograd.grad, a no_grad forward."""
    free, _ = masked()
    held = copy.deepcopy(free)
    attack = PGD(Threat("linf", 0.1), steps=3)
    loss = step(free, attack)
    with hold_masks(held):
        held_loss = step(held, attack)
    assert torch.equal(loss, held_loss)
    expected, found = gradients(free), gradients(held)
    assert expected.keys() == found.keys()
    assert {"0.parametrizations.weight.0.scores", "0.parametrizations.weight.0.logit"} <= found.keys()
    for name, gradient in expected.items():
        assert torch.equal(gradient, found[name]), name


def test_held_masks_stay_although_scores_change_and_are_fresh_afterwards():
    model, _ = masked()
    mask = masks(model)["0.weight"]
    with hold_masks(model):
        before = mask.current().clone()
        with torch.no_grad():
            mask.scores.copy_(mask.scores.flip(0, 2, 3))
        assert torch.equal(mask.current(), before)
    assert not torch.equal(mask.current(), before)


def test_masks_are_released_after_an_exception():
    model, _ = masked()
    with pytest.raises(RuntimeError, match="attack failed"), hold_masks(model):
        raise RuntimeError("attack failed")
    assert all(mask.held is None for mask in masks(model).values())


def test_a_nested_hold_keeps_the_masks_of_the_outer_one(calls):
    model, _ = masked()
    mask = masks(model)["0.weight"]
    with hold_masks(model):
        outer = mask.held
        with hold_masks(model):
            assert mask.held is outer
        assert mask.held is outer
    assert mask.held is None
    assert len(calls) == 2


def test_holding_frozen_or_unmasked_models_does_nothing(calls):
    model, _ = masked()
    freeze_masks(model)
    calls.clear()
    with hold_masks(model), hold_masks(network()):
        model(batch()[0])
    assert calls == []


def test_a_copy_made_inside_a_hold_is_not_held():
    model, _ = masked()
    with hold_masks(model):
        twin = copy.deepcopy(model)
    assert all(mask.held is None for mask in masks(twin).values())


def test_fixed_and_learned_fractions_can_be_held_together():
    model, _ = masked()
    masks(model)["4.weight"].logit = None
    masks(model)["4.weight"].quota = torch.tensor(7)
    with hold_masks(model):
        assert masks(model)["4.weight"].held.sum() == 7


# what travels


def test_a_learning_state_travels():
    source, _ = masked()
    with torch.no_grad():
        for mask in masks(source).values():
            mask.scores.normal_()
            mask.logit.add_(0.7)
    target, _ = masked()
    target.load_state_dict(source.state_dict())
    for name, mask in masks(target).items():
        assert torch.equal(mask.current(), masks(source)[name].current())
        assert torch.equal(mask.keep, masks(source)[name].keep)


def test_a_fixed_quota_travels_with_the_state():
    source, _ = masked(0.2, Method(HYDRA.scores, uniform, frozenset({"scores"})))
    target, _ = masked(0.1, HYDRA)
    target.load_state_dict(source.state_dict())
    assert [m.count for m in masks(target).values()] == [m.count for m in masks(source).values()]
    with pytest.raises(ValueError, match="the fixed quotas keep 68 weights and the budget 34"):
        freeze_masks(target)  # made for half of that


def test_a_frozen_state_turns_a_learning_model_into_the_frozen_one(tmp_path):
    source, _ = masked()
    freeze_masks(source)
    torch.save(source.state_dict(), tmp_path / "state.pt")
    target, _ = masked()
    target.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert all(mask.frozen for mask in masks(target).values())
    assert target.state_dict().keys() == source.state_dict().keys()
    assert torch.equal(target.eval()(batch()[0]), source.eval()(batch()[0]))
    freeze_masks(target)
    assert target[4].parametrizations.weight.original.requires_grad


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_whose_masks_are_booleans_is_read_as_before(assign):
    model, copy = freeze_masks(masked()[0]), masked()[0]
    state = {name: t.bool() if name.endswith(".mask") else t for name, t in model.state_dict().items()}
    assert any(tensor.dtype == torch.bool for tensor in state.values())
    copy.load_state_dict(state, assign=assign)
    assert torch.equal(copy.eval()(batch()[0]), model.eval()(batch()[0]))
    assert all(torch.equal(mask.current(), masks(model)[name].current()) for name, mask in masks(copy).items())


def test_a_learning_state_does_not_fit_a_frozen_model():
    source, _ = masked()
    target, _ = masked()
    freeze_masks(target)
    with pytest.raises(RuntimeError, match="scores"):
        target.load_state_dict(source.state_dict())


def test_a_frozen_state_of_another_shape_is_refused():
    source, _ = masked()
    freeze_masks(source)
    state = source.state_dict()
    state["4.parametrizations.weight.0.mask"] = torch.ones(2, 2, dtype=torch.bool)
    target, _ = masked()
    with pytest.raises(RuntimeError, match="mask"):
        target.load_state_dict(state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", [HARP, HYDRA])
def test_precision_changes_no_count(method, dtype):
    model, budget = masked(0.13, method)
    counts = [mask.count for mask in masks(model).values()]
    model.to(dtype)
    if method is HYDRA:
        assert [mask.count for mask in masks(model).values()] == counts
    x, y = batch()
    loss = F.cross_entropy(model(x.to(dtype)), y)
    loss.backward()
    assert all(mask.scores.grad.dtype == dtype for mask in masks(model).values())
    freeze_masks(model)
    assert sum(mask.count for mask in masks(model).values()) == budget.limit


def test_a_mask_prints_what_it_is():
    model, _ = masked(0.1, HYDRA)
    assert "size=54, keep=0.09259, learning" in repr(masks(model)["0.weight"])
    freeze_masks(model)
    assert "frozen" in repr(masks(model)["0.weight"])
