"""Masks and masked weights are computed once per step without being held, and follow every write."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harp.attacks import PGD, Threat
from harp.objectives import pgd_at, trades
from harp.pruning import HARP, HYDRA, attach_masks, freeze_masks, hold_masks, masks, perturbed, weight_budget
from harp.pruning import mask as mask_module
from harp.pruning.remembered import Remembered
from harp.pruning.selection import top
from harp.pruning.sharpness import Sharpness, learned_scores

THREAT = Threat("linf", 0.1)


def masked(kind: str = "harp") -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 16, 3))
    attach_masks(model, weight_budget(model, keep=0.2), HYDRA if kind == "hydra" else HARP)
    return freeze_masks(model) if kind == "frozen" else model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(5, 2, 6, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1])


def what_learns(model: nn.Module) -> torch.Tensor:
    mask, chain = masks(model)["0.weight"], model[0].parametrizations.weight
    return chain.original if mask.frozen else mask.scores


def in_place(tensor: torch.Tensor, model: nn.Module) -> None:
    with torch.no_grad():
        tensor.copy_(tensor.roll(7))


def through_data(tensor: torch.Tensor, model: nn.Module) -> None:
    tensor.data.copy_(tensor.data.roll(7))


def other_storage(tensor: torch.Tensor, model: nn.Module) -> None:
    tensor.data = tensor.data.roll(7)


def loaded(tensor: torch.Tensor, model: nn.Module) -> None:
    model.load_state_dict({name: t.roll(7) if t.numel() == 216 else t for name, t in model.state_dict().items()})


def fused(tensor: torch.Tensor, model: nn.Module) -> None:
    """Changes what it updates and no version, and under a frozen mask only what is kept."""
    F.cross_entropy(model(batch()[0]), batch()[1]).backward()
    before = tensor._version
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=10.0, fused=True).step()
    assert tensor._version == before


def half_precision(tensor: torch.Tensor, model: nn.Module) -> None:
    model.bfloat16()


WRITES = [in_place, through_data, other_storage, loaded, fused, half_precision]


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
@pytest.mark.parametrize("kind", ["harp", "hydra", "frozen"])
@pytest.mark.parametrize("grad", [True, False])
def test_a_masked_weight_follows_every_write(kind, write, grad):
    model = masked(kind)
    with torch.set_grad_enabled(grad):
        before = model[0].weight.clone()
        assert torch.equal(model[0].weight, before)
    write(what_learns(model), model)
    with torch.set_grad_enabled(grad):
        after, fresh = model[0].weight, copy.deepcopy(model)[0].weight
    assert torch.equal(after, fresh)
    assert not torch.equal(after.float(), before)


@pytest.mark.parametrize("write", ["in place", "through data"])
@pytest.mark.parametrize("kind", ["harp", "hydra", "frozen"])
@pytest.mark.parametrize("grad", [True, False])
def test_what_is_written_to_the_product_is_lost_and_said(kind, write, grad, caplog):
    model = masked(kind)
    with torch.set_grad_enabled(grad):
        before = model(batch()[0]).detach()
        product = model[0].weight
        with torch.no_grad():
            (product.data if write == "through data" else product).mul_(3).sub_(1)
        assert torch.equal(model(batch()[0]), before)
    assert "module.parametrizations.weight.original" in caplog.text


def test_a_weight_that_is_swapped_for_its_average_and_back_is_itself_again():
    """As torch_ema does it, around an evaluation without gradients."""
    model = masked("frozen")
    weight = what_learns(model)
    with torch.no_grad():
        before = model(batch()[0])
        kept = weight.data.clone()
        weight.data.copy_(kept * 0.5)
        assert not torch.equal(model(batch()[0]), before)
        weight.data.copy_(kept)
        assert torch.equal(model(batch()[0]), before)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted = []

    def counting(scores, count):
        counted.append(count)
        return top(scores, count)

    monkeypatch.setattr(mask_module, "top", counting)
    return counted


OBJECTIVES = {"pgd-at": pgd_at(PGD(THREAT, steps=5)), "trades": trades(THREAT, steps=3)}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", ["harp", "hydra"])
def test_a_step_computes_each_mask_once_without_a_hold(kind, objective, calls):
    model = masked(kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in (1, 2):
        optimizer.zero_grad()
        OBJECTIVES[objective](model, *batch()).backward()
        optimizer.step()
        assert len(calls) == 2 * step  # two layers


def test_an_evaluation_computes_each_mask_once(calls):
    model = masked().eval()
    with torch.no_grad():
        for _ in range(3):
            model(batch()[0])
    with torch.inference_mode():
        model(batch()[0])
    assert len(calls) == 2


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", ["harp", "hydra", "frozen"])
def test_steps_have_the_bits_of_a_mask_that_remembers_nothing(kind, objective, monkeypatch):
    """Sixty steps, with an ordinary optimizer's zero_grad."""

    def train(model: nn.Module) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
        for _ in range(60):
            optimizer.zero_grad()
            OBJECTIVES[objective](model, *batch()).backward()
            optimizer.step()
        return model.state_dict()

    remembering = train(masked(kind))
    monkeypatch.setattr(Remembered, "is_of", lambda *arguments, **settings: False)
    forgetful = train(masked(kind))
    assert remembering.keys() == forgetful.keys()
    for name, value in remembering.items():
        assert torch.equal(value, forgetful[name]), name


def test_a_graph_may_be_traversed_twice_and_a_second_time_after_a_step():
    model, (x, y) = masked(), batch()
    loss = F.cross_entropy(model(x), y)
    loss.backward(retain_graph=True)
    first = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    loss.backward()
    assert {"0.parametrizations.weight.0.scores", "0.parametrizations.weight.0.logit"} <= first.keys()
    for name, p in model.named_parameters():
        assert p.grad is None or torch.equal(p.grad, first[name]), name


def test_gradients_of_gradients_go_through_a_frozen_mask():
    model, (x, y) = masked("frozen"), batch()
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(F.cross_entropy(model(x), y), x, create_graph=True)
    slope.square().sum().backward()
    weight = what_learns(model)
    assert weight.grad is not None
    assert weight.grad.count_nonzero() > 0
    assert (weight.grad[~masks(model)["0.weight"].current()] == 0).all()


def test_scores_that_are_perturbed_have_their_own_masks():
    model = masked()
    F.cross_entropy(model(batch()[0]), batch()[1]).backward()
    mask = masks(model)["0.weight"]
    before = mask.current().clone()
    with perturbed(model, Sharpness(5.0, learned_scores)):
        assert not torch.equal(mask.current(), before)
    assert torch.equal(mask.current(), before)


def test_a_copy_remembers_nothing_and_follows_its_own_scores():
    model = masked()
    model(batch()[0])
    twin = copy.deepcopy(model)
    in_place(what_learns(twin), twin)
    twin(batch()[0])
    assert masks(twin)["0.weight"].chosen is not masks(model)["0.weight"].chosen
    assert not torch.equal(twin[0].weight, model[0].weight)


def test_a_frozen_network_can_be_differentiated_functionally():
    model = masked("frozen").eval()
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return F.cross_entropy(torch.func.functional_call(model, parameters, (batch()[0],)), batch()[1])

    found = torch.func.grad(loss)(parameters)["0.parametrizations.weight.original"]
    loss(parameters).backward()
    torch.testing.assert_close(found, what_learns(model).grad)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("kind", ["harp", "frozen"])
def test_a_compiled_network_learns_the_same(kind):
    torch._dynamo.reset()
    model, (x, y) = masked(kind), batch()
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, backend="aot_eager")
    for network, called in ((model, model), (twin, compiled)):
        optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(called(x), y).backward()
            optimizer.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[name], value, msg=name)


def test_a_hold_begins_with_what_is_known_and_ends_with_nothing(calls):
    model = masked()
    model(batch()[0])
    with hold_masks(model):
        model(batch()[0])
    assert len(calls) == 2
    assert [mask.chosen for mask in masks(model).values()] == [None, None]


@pytest.mark.parametrize("kind", ["harp", "frozen"])
def test_after_a_gradient_even_the_smallest_unseen_write_is_followed(kind):
    """What an optimizer changes behind autograd's back may be one entry, and none of those that are compared."""
    model, (x, y) = masked(kind), batch()
    F.cross_entropy(model(x), y).backward()
    tensor = what_learns(model)
    place = masks(model)["0.weight"].current().flatten().nonzero()[1, 0] if kind == "frozen" else 1
    tensor.data.view(-1)[place] += 100.0
    assert torch.equal(model[0].weight, copy.deepcopy(model)[0].weight)
    assert model[0].weight.abs().max() > (50.0 if kind == "frozen" else 0.0)
    assert kind == "frozen" or masks(model)["0.weight"].current().view(-1)[1]
