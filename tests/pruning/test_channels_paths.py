"""One traced image stands for all, in eval and in training mode, or the network is refused; and what holds channels is named."""

import logging
import re

import pytest
import torch
from channel_networks import take_through
from torch import nn
from torch.nn.utils import prune

from harp.pruning import channel_budget, shrink, weight_budget
from harp.pruning.channels import couple_channels

IMAGES = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Choice(nn.Module):
    """Goes one way for bright images and another for dark ones."""

    def __init__(self, choose=lambda x: x.mean() > 0.3):
        super().__init__()
        self.bright, self.dark, self.choose = nn.Conv2d(16, 8, 3), nn.Conv2d(16, 8, 3), choose

    def forward(self, x):
        return self.bright(x) if self.choose(x) else self.dark(x)


class Early(nn.Module):
    def __init__(self, choose=lambda x: x.mean() > 0.3):
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1)
        self.choice, self.head = Choice(choose), nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 5))

    def forward(self, x):
        return self.head(self.choice(self.wide(self.stem(x))).mean((2, 3)))


@pytest.mark.parametrize(
    "choose",
    [
        lambda x: x.mean() > 0.3,
        lambda x: x.mean().item() > 0.3,
        lambda x: int(x.argmax()) % 2,
        lambda x: x.detach().numpy().mean() > 0.3,
        lambda x: x.flatten().tolist()[0] > 0.3,
    ],
)
def test_a_branch_on_the_image_is_refused_and_can_be_left_out(choose):
    torch.manual_seed(0)
    model = Early(choose).eval()
    with pytest.raises(ValueError, match=r"choice reads a number off its images .*exclude=\['choice'\]"):
        channel_budget(model, IMAGES, keep=0.5)
    with pytest.raises(ValueError, match="choice reads a number off its images"):
        shrink(model, IMAGES)
    taken = take_through(model, IMAGES, 0.8, exclude=["choice"])
    assert set(taken.counts) == {"stem", "head.0"}
    for scale in (-9.0, 9.0):
        assert taken.network(IMAGES * scale).isfinite().all()


def test_a_skip_that_the_image_chooses_holds_what_goes_around_it():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            return self.conv(x) if x.sum() > 1e9 else x

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Skip(), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 5, 1))
    assert couple_channels(model, IMAGES, ["1"]).sizes == {"2": 6}


def test_a_branch_in_the_model_itself_says_to_make_a_module_of_it():
    with pytest.raises(ValueError, match=r"the model itself reads a number off its images .*a module of its own"):
        channel_budget(Choice(), torch.rand(1, 16, 8, 8), keep=0.5)


def test_a_number_that_does_not_depend_on_the_image_is_no_branch():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1)
            self.register_buffer("steps", torch.tensor(3.0))

        def forward(self, x):
            return self.b(self.a(x)) * (1.0 if self.steps > 2 else self.steps.item())

    assert channel_budget(Counting(), IMAGES, keep=0.5).coupling.sizes == {"a": 8}


class Auxiliary(nn.Module):
    """A second head that only training uses, with dropout and a batch norm."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3), nn.Linear(8, 5)
        self.aux = nn.Sequential(nn.Linear(16, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 5))

    def forward(self, x):
        h = self.a(x).relu()
        y = self.head(self.b(h).relu().mean((2, 3)))
        return (y, self.aux(h.mean((2, 3)))) if self.training else y


def test_a_head_that_only_training_uses_is_cut_with_the_rest():
    torch.manual_seed(0)
    model = Auxiliary().eval()
    before = torch.get_rng_state(), {name: t.clone() for name, t in model.state_dict().items()}
    budget = channel_budget(model, IMAGES, keep=0.5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(t, before[1][name]) for name, t in model.state_dict().items())
    assert budget.coupling.only_trained == {"aux.0.weight", "aux.3.weight"}
    assert budget.total == 10 * 10 * 16 * 27 + 8 * 8 * 8 * 144 + 40  # the head of training costs nothing
    taken = take_through(model, IMAGES, 0.5)
    assert taken.difference <= 1e-5
    assert model.aux[0].in_features == model.a.out_channels < 16
    answer, aux = model.train()(IMAGES)
    (answer.sum() + aux.sum()).backward()


def test_a_size_written_into_a_path_of_training_holds_what_it_counts_and_nothing_else():
    class Written(Auxiliary):
        def forward(self, x):
            h = self.a(x).relu()
            y = self.head(self.b(h).relu().mean((2, 3)))
            return (y, self.aux(h.mean((2, 3)).view(-1, 16))) if self.training else y

    budget = channel_budget(Written(), IMAGES, keep=0.9)
    assert set(budget.coupling.sizes) == {"b", "aux.0"}
    assert re.search(r"16 channels of a \(a size is written into the forward of", budget.coupling.why_held())


def test_weights_that_no_pass_reaches_are_named(caplog):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1))
    model[0].extra = nn.Sequential(nn.Linear(8, 5), nn.Linear(5, 5))
    with caplog.at_level(logging.WARNING):
        channel_budget(model, IMAGES, keep=0.5)
    (record,) = caplog.records
    assert "no pass reaches ['0.extra.*'], neither in eval nor in training mode" in record.message


def test_a_parameter_that_one_module_hands_to_another_is_no_obstacle():
    class Add(nn.Module):
        def forward(self, x, token):
            return x + token

    class Token(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.add = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1), Add()
            self.token = nn.Parameter(torch.randn(1, 8, 1, 1))

        def forward(self, x):
            return self.b(self.add(self.a(x), self.token.expand(len(x), -1, -1, -1)))

    model = Token().eval()
    assert take_through(model, IMAGES, 0.5).difference <= 1e-5
    assert all(parameter.requires_grad for parameter in model.parameters())


# the order of operands


@pytest.mark.parametrize("product", [lambda gate, h: gate * h, lambda gate, h: h * gate])
def test_a_gate_of_one_channel_gates_from_either_side(product):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.gate, self.b, self.head = (
                nn.Conv2d(3, 16, 3),
                nn.Conv2d(16, 1, 1),
                nn.Conv2d(16, 8, 3),
                nn.Linear(8, 5),
            )
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            h = self.a(x).relu()
            h = product(self.scale, product(self.gate(h).sigmoid(), h))
            return self.head(self.b(h).relu().mean((2, 3)))

    torch.manual_seed(0)
    taken = take_through(Gated().eval(), IMAGES, 0.5)
    assert set(taken.counts) == {"a", "b"}
    assert taken.difference <= 1e-5


# what holds channels


def test_remade_and_shared_weights_are_the_named_cause_where_nothing_can_go():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            weight = nn.functional.batch_norm(self.weight.flatten(1)[None], None, None, training=True)
            return self._conv_forward(x, weight.view_as(self.weight), self.bias)

    model = nn.Sequential(Standardised(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3))
    with pytest.raises(ValueError, match=r"8 channels of 0 \(its weight is remade by batch_norm before it is used\)"):
        channel_budget(model, IMAGES, keep=0.5)
    tied = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1))
    tied[2].weight = tied[1].weight
    with pytest.raises(ValueError, match=r"1\.weight and 2\.weight share one weight"):
        channel_budget(tied, IMAGES, keep=0.5)
    pruned = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1))
    for layer in pruned:
        prune.l1_unstructured(layer, "weight", 0.5)
    with pytest.raises(ValueError, match=r"8 channels of 0 \(its weight is remade by mul before it is used\)"):
        channel_budget(pruned, IMAGES, keep=0.5)


def test_a_budget_out_of_reach_names_the_operation_that_holds_the_channels():
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Softmax(1), nn.Conv2d(64, 4, 3), nn.Conv2d(4, 5, 1))
    with pytest.raises(ValueError, match=r"64 channels of 0 \(softmax in 1\).*; the smallest reachable is keep=0\."):
        channel_budget(model, IMAGES, keep=0.5)


def test_who_excludes_everything_reads_that_it_is_left_out():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1))
    with pytest.raises(
        ValueError, match=r"no channel outside exclude=\['0'\] can go.*8 channels of 0 \(it is left out\)"
    ):
        channel_budget(model, IMAGES, keep=0.5, exclude=["0"])


# words


def test_a_budget_is_short_to_print_and_has_a_table():
    model = nn.Sequential(nn.Conv2d(3, 256, 1), nn.Conv2d(256, 512, 1), nn.Conv2d(512, 5, 1))
    budget = channel_budget(model, IMAGES, keep={"macs": 0.5, "parameters": 0.4})
    assert repr(budget) == (
        f"ChannelBudget(keep=0.5: {budget.limit:,} of {budget.total:,.0f} macs may stay; keep=0.4: "
        f"{budget.also.limit:,} of {budget.also.total:,.0f} parameters may stay; 768 channels in 2 groups)"
    )
    assert [line.split()[0] for line in budget.table().splitlines()] == ["0", "1"]
    assert "256 channels" in budget.table()
    assert len(repr(budget.coupling)) < 100
    weights = weight_budget(model, keep=0.5)
    assert repr(weights) == "Budget(keep=0.5: 67,200 of 134,400 weights may stay, in 3 layers)"
    assert weights.table().splitlines()[1].split() == ["1.weight", "131,072"]
