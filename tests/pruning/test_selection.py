"""top: the largest entries by a selected threshold, on either kind of device, in any memory layout."""

import pytest
import torch

from harp.pruning.selection import _on_gpu, top


def by_sorting(scores: torch.Tensor, count: int) -> torch.Tensor:
    """The definition: sort by size, ties by index, take the first."""
    order = scores.abs().flatten().sort(descending=True, stable=True).indices
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[order[:count]] = True
    return mask.view(scores.shape)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_selection_is_that_of_a_stable_sort(layout, ties):
    scores = torch.randn(8, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    scores = scores.mul(2).round() if ties else scores
    scores = scores.to(memory_format=layout)
    for count in (1, 7, 100, 431, 432):
        expected = by_sorting(scores, count)
        assert torch.equal(top(scores, count), expected)
        assert torch.equal(top(scores, torch.tensor(count)), expected)
        assert torch.equal(_on_gpu(scores.abs(), count), expected)
        assert torch.equal(_on_gpu(scores.abs(), torch.tensor(count)), expected)
        assert top(scores, count).is_contiguous(memory_format=layout)


def test_the_scores_stay_as_they_are():
    scores = torch.randn(50)
    before = scores.clone()
    top(scores, 10)
    assert torch.equal(scores, before)
