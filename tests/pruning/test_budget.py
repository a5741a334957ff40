"""Budgets: what is counted, what is refused, what is exceeded, and how quotas become exact."""

import math

import jaxtyping
import pytest
import torch
from torch import nn

from harp.pruning import Budget, Ramp, Term, attach_masks, exact_counts, masks, prunable_weights, weight_budget


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(32, 5)
    )


SIZES = {"0.weight": 216, "3.weight": 72, "5.weight": 160}


# what is counted


def test_weights_of_convolutions_and_linear_layers_are_counted_and_nothing_else():
    budget = weight_budget(network(), keep=0.5)
    assert {term.sites[0]: term.cost for term in budget.terms} == SIZES
    assert budget.total == 448
    assert budget.limit == 224


def test_excluded_layers_are_neither_pruned_nor_counted():
    model = network()
    budget = weight_budget(model, keep=0.5, exclude=["5.*", "3.weight"])
    assert budget.sites == ("0.weight",)
    assert budget.total == 216
    attach_masks(model, budget)
    assert list(masks(model)) == ["0.weight"]
    assert model[5].weight.count_nonzero() == 160


def test_exclude_patterns_that_match_nothing_are_named_all_of_them():
    with pytest.raises(ValueError, match=r"\['head\.\*', 'conv9'\] match no weight.*0\.weight"):
        weight_budget(network(), keep=0.5, exclude=["head.*", "0.*", "conv9"])


def test_a_lone_string_is_not_a_list_of_patterns():
    with pytest.raises(TypeError, match=r"write \['5\.\*'\]"):
        weight_budget(network(), keep=0.5, exclude="5.*")


def test_a_module_used_twice_counts_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)
            self.alias = self.layer

        def forward(self, x):
            return self.alias(self.layer(x))

    assert weight_budget(Twice(), keep=0.5).total == 36


def tied() -> nn.Module:
    model = nn.ModuleDict({"first": nn.Linear(5, 5), "second": nn.Linear(5, 5), "other": nn.Linear(5, 5)})
    model["second"].weight = model["first"].weight
    return model


def test_shared_weights_are_refused_and_the_proposed_exclude_works():
    with pytest.raises(ValueError, match=r"first\.weight and second\.weight share one weight") as caught:
        weight_budget(tied(), keep=0.5)
    exclude = eval(str(caught.value).rpartition("exclude=")[2])
    assert weight_budget(tied(), keep=0.5, exclude=exclude).sites == ("other.weight",)
    with pytest.raises(ValueError, match="share one weight"):
        weight_budget(tied(), keep=0.5, exclude=["first.weight"])


def test_a_weight_tied_to_an_embedding_is_refused_and_the_proposed_exclude_works():
    model = nn.ModuleDict({"embed": nn.Embedding(10, 4), "head": nn.Linear(4, 10), "other": nn.Linear(4, 4)})
    model["head"].weight = model["embed"].weight
    with pytest.raises(ValueError, match=r"embed\.weight and head\.weight") as caught:
        weight_budget(model, keep=0.5)
    exclude = eval(str(caught.value).rpartition("exclude=")[2])
    assert weight_budget(model, keep=0.5, exclude=exclude).sites == ("other.weight",)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_a_weight_that_something_else_computes_is_refused_not_silently_left_out(norm):
    model = nn.Sequential(norm(nn.Linear(6, 6)), nn.Linear(6, 6))
    with pytest.raises(ValueError, match=r"\['0\.weight'\] are computed"):
        weight_budget(model, keep=0.5)
    budget = weight_budget(model, keep=0.5, exclude=["0.weight"])
    assert budget.sites == ("1.weight",)
    attach_masks(model, budget)
    model(torch.rand(2, 6)).sum().backward()


def test_a_lazy_layer_has_to_see_a_batch_first():
    with pytest.raises(ValueError, match=r"0\.weight has no shape yet; run one batch"):
        weight_budget(nn.Sequential(nn.LazyLinear(3)), keep=0.5)


def test_a_model_with_masks_has_its_budget_already():
    model = network()
    attach_masks(model, weight_budget(model, keep=0.1))
    with pytest.raises(ValueError, match="already has masks"):
        weight_budget(model, keep=0.1)


def test_a_model_without_weights_to_prune_is_refused():
    with pytest.raises(ValueError, match="nothing is left to prune"):
        weight_budget(nn.Sequential(nn.BatchNorm2d(4), nn.Embedding(3, 3)), keep=0.5)
    with pytest.raises(ValueError, match="nothing is left to prune"):
        weight_budget(network(), keep=0.5, exclude=["*"])


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_empty_weights_do_not_count():
    assert list(prunable_weights(nn.Sequential(nn.Linear(0, 4), nn.Linear(4, 2)))) == ["1.weight"]


# the limit


@pytest.mark.parametrize("keep", [0, 0.0, -0.1, 1.0001, math.nan, math.inf])
def test_keep_outside_zero_and_one_is_refused(keep):
    with pytest.raises(ValueError, match=r"keep=.* must lie in \(0, 1\]"):
        weight_budget(network(), keep=float(keep))
    with pytest.raises(ValueError, match=r"keep=.* must lie in \(0, 1\]"):
        Budget(float(keep), (Term(1.0, ("a",)),))


@pytest.mark.parametrize("keep", [True, "0.1", None])
def test_booleans_and_strings_are_no_fractions(keep, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse them first, here only
    with pytest.raises(ValueError, match=rf"keep={keep!r} must lie in \(0, 1\]"):
        weight_budget(network(), keep=keep)
    assert weight_budget(network(), keep=1).limit == 448


def test_a_budget_smaller_than_the_number_of_layers_is_refused_with_the_smallest_possible():
    with pytest.raises(ValueError, match=r"leaves 2 of 448 weights for 3 layers.*keep >= 0\.0067"):
        weight_budget(network(), keep=0.005)
    assert weight_budget(network(), keep=0.0067).limit == 3


# how much is used


def test_used_and_excess_follow_their_formulas():
    """excess = max(used / keep − 1, 0), used = Σ n_l·a_l / N."""
    model = network()
    budget = weight_budget(model, keep=0.05)
    attach_masks(model, budget)
    assert budget.used(model).item() == pytest.approx(0.1, rel=1e-6)
    assert budget.excess(model).item() == pytest.approx(1.0, rel=1e-6)
    with torch.no_grad():
        masks(model)["0.weight"].logit.fill_(0.0)
    floor = 0.1 * 0.05
    half = floor + (1 - floor) / 2
    assert budget.used(model).item() == pytest.approx((216 * half + 232 * 0.1) / 448, rel=1e-6)
    with torch.no_grad():
        for mask in masks(model).values():
            mask.logit.fill_(-30.0)
    assert budget.used(model).item() == pytest.approx(floor, rel=1e-5)
    assert budget.excess(model).item() == 0.0


def test_the_excess_pulls_logits_by_their_share_of_the_cost():
    """∂excess/∂r_l = n_l/N · a'(r_l) / keep."""
    model = network()
    budget = weight_budget(model, keep=0.05)
    attach_masks(model, budget)
    budget.excess(model).backward()
    floor, keep = 0.005, 0.1
    sigmoid = (keep - floor) / (1 - floor)
    for name, mask in masks(model).items():
        slope = (1 - floor) * sigmoid * (1 - sigmoid)
        assert mask.logit.grad.item() == pytest.approx(SIZES[name] / 448 * slope / 0.05, rel=1e-5)


def test_a_model_without_this_budgets_masks_is_named():
    with pytest.raises(ValueError, match=r"no mask at \['0\.weight', '3\.weight', '5\.weight'\]; call attach_masks"):
        weight_budget(network(), keep=0.1).used(network())


# γ


def test_gamma_starts_even_when_nothing_is_exceeded_and_takes_tensors():
    ramp = Ramp(0.1)
    assert [ramp(torch.tensor(0.0)) for _ in range(3)] == [0.1, 0.1, 0.1]


def test_gamma_grows_for_as_long_as_the_budget_is_exceeded():
    ramp = Ramp(0.5)
    assert [ramp(1e-6) for _ in range(4)] == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan])
def test_gamma_needs_a_positive_step(step):
    with pytest.raises(ValueError, match="step="):
        Ramp(step)


# exact quotas


def test_masks_that_spend_the_budget_already_freeze_as_they_are():
    """1000.49, 2.49 and 2.49 entries: the masks in force keep 1000 + 2 + 2. Shifting all to a sum of 1004 and handing out
    by remainder would give 999, 3 and 2."""
    sizes = {"a": 10_000, "b": 100, "c": 100}
    keeps = {"a": 0.100049, "b": 0.0249, "c": 0.0249}
    assert exact_counts(keeps, sizes, 1004) == {"a": 1000, "b": 2, "c": 2}


def test_every_layer_keeps_one_when_there_is_just_one_each():
    sizes = {"a": 1, "b": 10_000_000, "c": 50}
    assert exact_counts({"a": 1.0, "b": 1.0, "c": 0.5}, sizes, 3) == dict.fromkeys("abc", 1)


def test_everything_can_stay():
    sizes = {"a": 7, "b": 3_000_000}
    for keeps in ({"a": 0.1, "b": 0.1}, {"a": 1e-9, "b": 1.0}, {"a": 0.0, "b": 1e-9}):
        assert exact_counts(keeps, sizes, sum(sizes.values())) == sizes


def test_a_full_layer_gives_way_after_less_full_ones():
    """A fraction of 1 stays the largest, however far all have to come down."""
    counts = exact_counts({"a": 1.0, "b": 0.999, "c": 0.5}, dict.fromkeys("abc", 1000), 1200)
    assert counts["a"] >= counts["b"] >= counts["c"]
    assert sum(counts.values()) == 1200


@pytest.mark.parametrize("total", [2, 16])
def test_a_total_that_cannot_be_is_refused(total):
    with pytest.raises(ValueError, match="must lie between the 3 layers and their 15 entries"):
        exact_counts(dict.fromkeys("abc", 0.5), dict.fromkeys("abc", 5), total)


def test_fractions_that_diverged_are_named():
    with pytest.raises(ValueError, match=r"\{'b': nan\} must lie in \[0, 1\]; if learning diverged"):
        exact_counts({"a": 0.5, "b": math.nan}, {"a": 5, "b": 5}, 4)
