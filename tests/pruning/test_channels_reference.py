"""The groups found, held against an independent program where it is right: Torch-Pruning's dependency graph."""

import warnings
from collections import Counter

import pytest
import torch
from channel_networks import lively
from torch import nn

from harp.models import build_model
from harp.pruning.channels import couple_channels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    reference = pytest.importorskip("torch_pruning")


def sizes_of_reference(model: nn.Module, x: torch.Tensor) -> Counter[int]:
    """How many groups of each number of channels; the classes, which it counts as a group, left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = reference.DependencyGraph().build_dependency(model, example_inputs=x)
        last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        return Counter(len(group[0].idxs) for group in graph.get_all_groups(ignored_layers=[last]))


@pytest.mark.parametrize("name", ["vgg_tiny", "resnet_small", "resnet18"])
def test_plain_and_residual_networks_have_the_same_groups(name):
    torch.manual_seed(0)
    model = lively(build_model(name, shape=(3, 16, 16), classes=10))
    x = torch.rand(1, 3, 16, 16)
    assert Counter(couple_channels(model, x).sizes.values()) == sizes_of_reference(model, x)
