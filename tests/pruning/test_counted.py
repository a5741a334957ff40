"""Everything is counted: recurrent and bilinear layers, matrices of one's own, embeddings on demand; the rest is named."""

import copy
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from harp.cards import read_card
from harp.pruning import (
    HYDRA,
    Pruner,
    attach_masks,
    bake_masks,
    channel_budget,
    freeze_masks,
    masks,
    summary,
    weight_budget,
)
from harp.recipes import Pruning, Recipe, Task, Training
from harp.stages.train import finetune, pretrain, prune


class Mixed(nn.Module):
    """Rows of an image as a sequence, with a matrix, a table of positions and an embedding of its own."""

    def __init__(self, recurrent: nn.Module):
        super().__init__()
        self.recurrent = recurrent
        self.pairs = nn.Bilinear(12, 12, 10)
        self.matrix = nn.Parameter(torch.randn(10, 6))
        self.bias_by_row = nn.Parameter(torch.randn(8, 8))
        self.places = nn.Embedding(8, 8)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        rows = x[:, 0] + self.bias_by_row + self.places(torch.arange(8, device=x.device))
        mean = self.recurrent(rows)[0].mean(1)
        return self.head(torch.relu(self.pairs(mean, mean) @ self.matrix))


def lstm() -> nn.Module:
    return nn.LSTM(8, 12, num_layers=2, batch_first=True)


RECURRENT = {
    "LSTM": (lstm, 4 * 12 * (8 + 12) + 4 * 12 * (12 + 12)),
    "GRU": (lambda: nn.GRU(8, 6, bidirectional=True, batch_first=True), 2 * 3 * 6 * (8 + 6)),
    "RNN": (lambda: nn.RNN(8, 12, bias=False, batch_first=True), 12 * (8 + 12)),
}
X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def mixed(kind: str = "LSTM") -> Mixed:
    torch.manual_seed(0)
    return Mixed(RECURRENT[kind][0]())


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_and_bilinear_layers_are_pruned_and_come_back_as_they_were(kind):
    model = mixed(kind)
    names, made = [name for name, _ in model.named_parameters()], type(model.recurrent)
    budget = weight_budget(model, keep=0.2, example=X)
    assert budget.total == RECURRENT[kind][1] + 10 * 12 * 12 + 10 * 6 + 6 * 3
    pruner = Pruner(model, budget=budget, steps=4)
    before = {name: mask.scores.detach().clone() for name, mask in masks(model).items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(4):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()
        pruner.step()
    assert all(not torch.equal(mask.scores, before[name]) for name, mask in masks(model).items())
    pruner.freeze()
    expected = model(X)
    assert torch.equal(copy.deepcopy(model)(X), expected)
    pruner.bake()
    assert torch.equal(model(X), expected)
    assert sum(int(model.get_parameter(site).count_nonzero()) for site in budget.sites) == budget.limit
    assert [name for name, _ in model.named_parameters()] == names
    assert type(model.recurrent) is made
    with torch.no_grad():
        model.recurrent.weight_hh_l0.zero_()
    assert not torch.equal(model(X), expected)  # it computes with its parameters again


def test_a_mask_on_a_recurrent_layer_is_what_it_computes_with():
    """Against the same layer with the product written into its weights."""
    model, other = mixed(), mixed()
    freeze_masks(attach_masks(model, weight_budget(model, keep=0.1), HYDRA))
    with torch.no_grad():
        for name, mask in masks(model).items():
            other.get_parameter(name).mul_(mask.current())
    assert torch.equal(model(X), other(X))
    model.double().float()  # what a move to another device does: the list of its weights is made anew
    assert torch.equal(model(X), other(X))


def test_a_cell_is_pruned():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(8, 6)

        def forward(self, x):
            return self.cell(x)

    model = Cell()
    assert weight_budget(model, keep=0.5).sites == ("cell.weight_ih", "cell.weight_hh")
    freeze_masks(attach_masks(model, weight_budget(model, keep=0.5), HYDRA))
    out = model(torch.ones(2, 8))
    bake_masks(model)
    assert torch.equal(model(torch.ones(2, 8)), out)


def test_what_is_not_counted_is_named_with_its_share(caplog):
    model = mixed("RNN")
    parameters = sum(p.numel() for p in model.parameters())
    budget = weight_budget(model, keep=0.5, example=X)
    assert budget.uncounted == (("bias_by_row", 64), ("places.weight", 64))
    share = f"{64 / parameters:.1%}"
    said = f"not counted: bias_by_row ({share}), places.weight ({share}), 128 of {parameters:,} parameters"
    assert said in repr(budget)
    assert said in caplog.text
    assert "bias_by_row" in str(summary(model))
    assert "places.weight" in str(summary(attach_masks(model, budget)))


def test_a_network_in_which_every_matrix_is_counted_says_nothing(caplog):
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm([3]), nn.MultiheadAttention(4, 1, add_bias_kv=True))
    with caplog.at_level(logging.WARNING):
        assert "not counted" not in repr(weight_budget(model, keep=0.5))
    assert caplog.text == ""


def test_a_matrix_is_counted_where_a_pass_shows_that_it_is_a_factor_or_where_it_is_named():
    model = mixed()
    assert "matrix" not in weight_budget(model, keep=0.5).sites
    assert "matrix" in weight_budget(model, keep=0.5, example=X).sites
    assert "matrix" in weight_budget(model, keep=0.5, include=["matrix"]).sites
    assert "matrix" not in weight_budget(model, keep=0.5, example=X, exclude=["matrix"]).sites


def test_an_embedding_is_pruned_on_demand():
    model = mixed()
    budget = weight_budget(model, keep=0.5, include=["places.*"])
    attach_masks(model, budget)
    model(X).square().mean().backward()
    assert masks(model)["places.weight"].scores.grad.abs().sum() > 0
    bake_masks(freeze_masks(model))
    assert 0 < int(model.places.weight.count_nonzero()) < 64


@pytest.mark.parametrize(
    ("include", "said"), [(["nothing.*"], "match no parameter"), ("places.*", "sequence of patterns")]
)
def test_what_cannot_be_included_is_refused(include, said):
    with pytest.raises((ValueError, TypeError), match=said):
        weight_budget(mixed(), keep=0.5, include=include)
    with pytest.raises(ValueError, match=r"include=.* is for single weights"):
        Pruning(granularity="channel", include=("places.*",))


def test_channels_beside_a_recurrent_layer_that_is_left_out_are_followed():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3, padding=1)
            self.mix = nn.Conv2d(8, 8, 3, padding=1)
            self.recurrent = nn.GRU(64, 6, batch_first=True)

        def forward(self, x):
            x = torch.relu(self.mix(torch.relu(self.conv(x))))
            return self.recurrent(x.transpose(1, 2).flatten(2))[0][:, -1]

    budget = channel_budget(Pooled(), torch.zeros(1, 1, 8, 8), keep=0.5, exclude=["recurrent"])
    assert "conv" in budget.sites


TINY = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(16, 12))
        self.table = nn.Parameter(torch.randn(4, 4))
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        return self.head(torch.relu((x + self.table).flatten(1) @ self.matrix))

def network(shape, classes):
    return Own(classes)
"""


def test_stages_prune_a_matrix_of_ones_own_and_cards_name_what_they_leave(tiny: Path):
    (tiny / "own.py").write_text(TINY)
    fast = {"epochs": 1, "batch_size": 8, "objective": "natural"}
    recipe = Recipe(
        task=Task(data="tiny:data", model="own:network", validation=0.2),
        pretrain=Training(**fast),
        prune=Pruning(keep=0.25, **fast),
        finetune=Training(**fast),
    )
    masked = prune(recipe, pretrain(recipe, tiny / "dense").path, tiny / "masks")
    final = read_card(finetune(recipe, masked.path, tiny / "final").card)
    assert (final.kept, final.total) == (round(0.25 * 228), 16 * 12 + 12 * 3)
    assert final.values["uncounted"] == {"table": 16}
    assert set(final.layers) == {"matrix", "head.weight"}
