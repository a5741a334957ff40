"""Heads of attention are removed whole: queries, keys and values together, and the number of heads with them."""

import pytest
import torch
from channel_networks import take_through
from torch import nn

from harp.pruning import channel_budget, macs, shrink
from harp.pruning.channels import couple_channels, resize, widths

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    """As most write it: one layer for queries, keys and values, and a reshape by the number of heads."""

    def __init__(self, dim: int = 24, heads: int = 4, inner: int = 16, fused: bool = False, tables: bool = False):
        super().__init__()
        self.num_heads, self.attn_dim, self.head_dim, self.fused = heads, inner, inner // heads, fused
        self.qkv, self.proj = nn.Linear(dim, 3 * inner), nn.Linear(inner, dim)
        self.table = nn.Parameter(torch.randn(9, heads)) if tables else None
        self.register_buffer("index", torch.arange(256).view(16, 16) % 9)

    def forward(self, x):
        b, n, _ = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            y = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
            if self.table is not None:
                scores = scores + self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1)[None]
            y = scores.softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, self.attn_dim))


class Separate(Attention):
    """Three layers for queries, keys and values."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(24, 16) for _ in range(3))

    def forward(self, x):
        q, k, v = (layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scores = torch.einsum("bhnd,bhmd->bhnm", q, k).softmax(-1)
        return self.proj(torch.einsum("bhnm,bhmd->bhnd", scores, v).transpose(1, 2).flatten(2))


class Channelwise(Attention):
    """Attention between the channels of a head, normalised and with a temperature, as XCiT has it."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.rand(4, 1, 1) + 0.5)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 4, 1).unbind(0)
        scores = nn.functional.normalize(q, dim=-1) @ nn.functional.normalize(k, dim=-1).transpose(-2, -1)
        y = (scores * self.temperature).softmax(-1) @ v
        return self.proj(y.permute(0, 3, 1, 2).reshape(b, n, -1))


class Transformer(nn.Module):
    def __init__(self, attention: nn.Module):
        super().__init__()
        self.patches, self.norm, self.attn = nn.Conv2d(3, 24, 4, 4), nn.LayerNorm(24), attention
        self.mlp = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.attn(self.norm(x))
        return self.head((x + self.mlp(x)).mean(1))


def transformer(kind: type[Attention] = Attention, **settings) -> nn.Module:
    torch.manual_seed(0)
    return Transformer(kind(**settings)).eval()


@pytest.mark.parametrize(
    "make",
    [
        transformer,
        lambda: transformer(fused=True),
        lambda: transformer(tables=True),
        lambda: transformer(Separate),
        lambda: transformer(Channelwise),
    ],
    ids=["written out", "fused", "with a table of positions", "three layers", "between channels"],
)
def test_heads_go_whole_and_the_outputs_stay(make):
    model = make()
    coupling = channel_budget(model, IMAGES, keep=0.6).coupling
    assert sorted(coupling.sizes.values()) == [4, 48]
    taken = take_through(model, IMAGES, 0.5)
    assert taken.difference <= 1e-5
    attention = taken.network.attn
    assert attention.num_heads == taken.counts[min(coupling.sizes, key=coupling.sizes.__getitem__)] < 4
    assert attention.proj.in_features == attention.attn_dim == 4 * attention.num_heads
    assert macs(taken.network, IMAGES) == taken.budget.spent(taken.counts) <= taken.budget.limit


def test_a_head_is_the_same_place_in_queries_keys_and_values():
    coupling = couple_channels(transformer(), IMAGES)
    (heads,) = [axis for axis in coupling.of("attn.qkv.weight") if axis.dim == 0]
    (read,) = [axis for axis in coupling.of("attn.proj.weight") if axis.dim == 1]
    assert torch.equal(heads.place, read.place.repeat(3))
    assert read.place.view(4, 4).unique(dim=1).shape == (4, 1)


def test_the_number_of_heads_is_in_the_widths():
    taken = take_through(transformer(), IMAGES, 0.5)
    fresh = resize(transformer(), widths(taken.network))
    fresh.load_state_dict(taken.network.state_dict())
    assert torch.equal(fresh(IMAGES), taken.shrunk)


def test_widths_of_before_heads_could_go_still_fit():
    model = transformer()
    older = {
        name: {k: v for k, v in entry.items() if "head" not in k and k != "attn_dim"}
        for name, entry in widths(model).items()
    }
    assert resize(model, {name: entry for name, entry in older.items() if entry}).attn.num_heads == 4


class Registers(Attention):
    """Tokens without places come first; here there are none of them."""

    def forward(self, x):
        q, k, v = self.qkv(x).view(len(x), -1, 3, self.num_heads, 4).permute(2, 0, 3, 1, 4).unbind(0)
        q = torch.cat([q[:, :, :0], q[:, :, 0:] * 2], 2)
        return self.proj(((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).flatten(2))


def test_a_tensor_without_entries_is_no_obstacle():
    taken = take_through(transformer(Registers), IMAGES, 0.5)
    assert taken.difference <= 1e-5
    assert taken.network.attn.num_heads < 4


class Written(Attention):
    """The number of heads is in the code, where nothing can change it."""

    def forward(self, x):
        q, k, v = self.qkv(x).view(len(x), -1, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_heads_whose_number_is_in_the_code_stay_and_the_rest_is_pruned():
    model = transformer(Written)
    budget = channel_budget(model, IMAGES, keep=0.7)
    assert [*budget.coupling.sizes.values()] == [48]
    assert "channels of attn.qkv (a size is written into the forward of attn" in budget.coupling.why_held()
    assert take_through(model, IMAGES, 0.7).difference <= 1e-5
    with pytest.raises(ValueError, match=r"attn\.qkv \(a size is written .*the smallest reachable is keep=0\.\d+"):
        channel_budget(transformer(Written), IMAGES, keep=0.2)


def test_attention_of_one_head_stays_but_for_its_values():
    model = transformer(heads=1)
    taken = take_through(model, IMAGES, 0.6)
    assert taken.difference <= 1e-5


def test_shrinking_leaves_a_model_that_cannot_be_shrunk_as_it_was():
    model = transformer(Written)
    with torch.no_grad():
        model.attn.proj.weight[:, :4] = 0
    before = model(IMAGES)
    shrink(model, IMAGES)
    assert torch.equal(model(IMAGES), before)
    assert model.attn.qkv.out_features == 48


class Twice(nn.Module):
    """Linear attention on maps and on a second version of them: eight heads of eight channels, made of four."""

    def __init__(self):
        super().__init__()
        self.dim, self.qkv, self.proj = 8, nn.Conv2d(24, 96, 1), nn.Conv2d(64, 24, 1)

    def forward(self, x):
        b, _, h, w = x.shape
        qkv = self.qkv(x)
        q, k, v = torch.cat([qkv, qkv.relu()], 1).reshape(b, -1, 3 * self.dim, h * w).transpose(-1, -2).chunk(3, -1)
        y = q.relu() @ (k.relu().transpose(-1, -2) @ v)
        return x + self.proj(y.transpose(-1, -2).reshape(b, -1, h, w))


def test_the_size_of_a_head_is_not_taken_for_the_number_of_heads():
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5))
    taken = take_through(nn.Sequential(nn.Conv2d(3, 24, 4, 4), Twice(), *head), IMAGES, 0.6)
    assert taken.difference <= 1e-5
    assert taken.network[1].dim == 8
    assert taken.network[1].qkv.out_channels in (24, 48, 72)


def test_channels_that_the_forward_counts_stay():
    class Counted(nn.Module):
        def forward(self, x):
            return x * x.shape[1]

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Counted(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 5, 1))
    budget = channel_budget(model, IMAGES, keep=0.8)
    assert "channels of 0 (the smaller network says something else" in budget.coupling.why_held()
    assert [*budget.coupling.sizes] == ["2"]
