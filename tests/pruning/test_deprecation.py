"""What was written otherwise one version ago works, and says how it is written now."""

import pytest
import torch
from torch import nn

import harp
from harp.pruning import channel_budget, weight_budget


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 2))


def test_keep_by_position_warns_and_is_taken():
    with pytest.warns(DeprecationWarning, match=r"write weight_budget\(…, keep=0\.5\)"):
        assert weight_budget(network(), 0.5) == weight_budget(network(), keep=0.5)
    with pytest.warns(DeprecationWarning, match=r"write channel_budget\(…, keep=0\.5\)"):
        assert channel_budget(network(), torch.zeros(1, 4), 0.5).limit == 30


def test_other_mistakes_are_those_of_any_function():
    with pytest.raises(TypeError):
        weight_budget(network())
    with pytest.raises(TypeError):
        weight_budget(network(), 0.5, ["0.*"])


@pytest.mark.parametrize("name", ["HARP", "HYDRA", "LWM", "GLOBAL", "ERK", "LAMP", "RANDOM", "RATES_ONLY", "METHODS"])
def test_methods_have_moved_and_their_old_names_warn(name):
    with pytest.warns(DeprecationWarning, match=rf"harp\.{name} is harp\.methods\.{name} now"):
        old = getattr(harp, name)
    assert old is getattr(harp.methods, name)
    assert name not in dir(harp)
