"""Budgets and quotas worked out on paper, the working beside them."""

import pytest
import torch

from harp.pruning import Budget, Ramp, Term, exact_counts


def test_a_budget_of_macs_is_a_polynomial_of_degree_two():
    """A chain image → conv1 → conv2 → class output with groups g1 (out of conv1) and g2 (out of conv2).
    MACs: conv1 100·a1, conv2 600·a1·a2, fc 300·a2. At a1 = 0.5, a2 = 0.2: 50 + 60 + 60 = 170 of 1000."""
    budget = Budget(0.1, (Term(100.0, ("g1",)), Term(600.0, ("g1", "g2")), Term(300.0, ("g2",))))
    a1, a2 = torch.tensor(0.5, requires_grad=True), torch.tensor(0.2, requires_grad=True)
    share = budget.share({"g1": a1, "g2": a2})
    assert share.item() == pytest.approx(0.170)
    # ∂/∂a1 = (100 + 600·0.2) / 1000 = 0.22; ∂/∂a2 = (600·0.5 + 300) / 1000 = 0.6.
    share.backward()
    assert (a1.grad.item(), a2.grad.item()) == (pytest.approx(0.22), pytest.approx(0.6))
    assert budget.sites == ("g1", "g2")
    assert budget.total == 1000
    assert budget.limit == 100


def test_a_group_that_is_read_and_written_counts_squared():
    """A depth-wise convolution reads and writes one group: cost·a². 0.3² = 0.09."""
    assert Budget(0.5, (Term(10.0, ("g", "g")),)).share({"g": 0.3}).item() == pytest.approx(0.09)


def test_the_three_phases_of_gamma():
    """Phases 1 and 2: γ = 0.01·(e+1) grows by a constant step while the budget is exceeded. Phase 3: the fourth epoch
    ended with excess 0, so γ stays what it was in that epoch, for good, even if the budget is exceeded again."""
    ramp = Ramp(0.01)
    excess = [9.0, 4.0, 1.5, 0.2, 0.0, 0.0, 0.3]
    gamma = [0.01, 0.02, 0.03, 0.04, 0.04, 0.04, 0.04]
    assert [ramp(e) for e in excess] == pytest.approx(gamma)


def test_exact_counts_at_the_common_offset():
    """Fractions 0.5 and 0.1 of 100 entries each, 30 wanted. Odds 1 and 1/9, shifted by a common factor t:
    100·t/(1+t) + 100·t/(9+t) = 30 ⇒ 100t(9+t) + 100t(1+t) = 30(1+t)(9+t) ⇒ 170t² + 700t − 270 = 0
    ⇒ t = (−700 + √(490000 + 183600))/340 = (−700 + 820.7314)/340 = 0.355092.
    Shares 26.204 and 3.796: 26 and 3, and the one left over to the larger remainder, 3.796 → 4."""
    assert exact_counts({"a": 0.5, "b": 0.1}, {"a": 100, "b": 100}, 30) == {"a": 26, "b": 4}


def test_exact_counts_gives_equal_remainders_in_order():
    """Three layers of 4 entries at one half hold 6. Of 7, each would have 2.33: the first one gets the extra entry."""
    assert exact_counts(dict.fromkeys("abc", 0.5), dict.fromkeys("abc", 4), 7) == {"a": 3, "b": 2, "c": 2}


def test_exact_counts_lets_a_small_layer_keep_its_one_entry():
    """Uniform 0.1 of 10, 100 and 1000 would be 1, 10, 100 (111). With 20 to spend: odds t on all, a is held at 1,
    1100·q = 19, q = 0.017273: b 1.727, c 17.273. Down to 1, 17, and the entry left over goes to b (0.727)."""
    assert exact_counts(dict.fromkeys("abc", 0.1), {"a": 10, "b": 100, "c": 1000}, 20) == {"a": 1, "b": 2, "c": 17}
