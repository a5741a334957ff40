"""Pruner: three calls around an ordinary loop, whatever wraps the model, the loss and the optimizer."""

import copy
import logging
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

from harp.attacks import PGD, Threat
from harp.objectives import pgd_at
from harp.pruning import (
    HARP,
    HYDRA,
    LWM,
    Descent,
    Pruner,
    attach_masks,
    bake_masks,
    channel_budget,
    freeze_masks,
    masks,
    trainable,
    weight_budget,
)

STEPS = 12
ROBUST = pgd_at(PGD(Threat("linf", 0.1), steps=2))


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    )


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(16) % 3
    x = torch.rand(STEPS, 16, 1, 6, 6, generator=generator) * 0.4 + y.view(1, -1, 1, 1, 1) * 0.3
    return [(part, y) for part in x]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)


def ordinary(model: nn.Module, optimizer: torch.optim.Optimizer, pruner: Pruner | None = None) -> None:
    torch.manual_seed(2)
    for x, y in batches():
        optimizer.zero_grad()
        ROBUST(model, x, y).backward()
        optimizer.step()
        if pruner is not None:
            pruner.step()


def kept(model: nn.Module) -> int:
    return sum(mask.count for mask in masks(model).values())


def check_exact(pruner: Pruner) -> None:
    """Near the budget before it is frozen, exactly at it afterwards, and plain when baked."""
    model, budget = pruner.model, pruner.budget
    assert pruner.density == pytest.approx(budget.keep, rel=1e-2)
    pruner.freeze()
    assert kept(model) == budget.limit
    pruner.bake()
    assert not masks(model)
    assert sum(int(model.get_parameter(name).count_nonzero()) for name in budget.sites) == budget.limit


def test_three_calls_around_a_loop_do_what_the_verbs_do_to_the_bit():
    mine, theirs = network(), network()
    pruner = Pruner(mine, keep=0.1, steps=STEPS)
    ordinary(mine, sgd(mine), pruner)
    budget = weight_budget(theirs, keep=0.1)
    attach_masks(theirs, budget, HARP)
    descent = Descent(theirs, budget, STEPS)
    optimizer = torch.optim.SGD(trainable(theirs), lr=0.1, momentum=0.9, weight_decay=5e-4)
    torch.manual_seed(2)
    for x, y in batches():
        theirs.zero_grad()
        ROBUST(theirs, x, y).backward()
        optimizer.step()
        descent.step()
    pruner.freeze(), freeze_masks(theirs)
    ordinary(mine, sgd(mine), pruner), ordinary(theirs, sgd(theirs))
    pruner.bake(), bake_masks(theirs)
    for name, value in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value), name


@pytest.mark.parametrize("make", [sgd, lambda model: torch.optim.AdamW(model.parameters(), lr=0.3, weight_decay=1.0)])
def test_weights_rest_and_no_optimizer_moves_the_keep_fractions(make):
    model = network()
    weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.dim() > 1}
    pruner = Pruner(model, keep=0.1, steps=STEPS)
    twin = copy.deepcopy(model)
    by_descent = Descent(twin, pruner.budget, STEPS)
    optimizer, others = make(model), torch.optim.SGD(trainable(twin), lr=0.0)
    x, y = batches()[0]
    for network_, optimizer_ in ((model, optimizer), (twin, others)):
        torch.manual_seed(3)
        ROBUST(network_, x, y).backward()
        optimizer_.step()
    pruner.step(), by_descent.step()
    logits = [mask.logit for mask in masks(model).values()]
    assert torch.equal(torch.stack(logits), torch.stack([mask.logit for mask in masks(twin).values()]))
    for name, before in weights.items():
        prefix, _, tensor_name = name.rpartition(".")
        assert torch.equal(model.get_parameter(f"{prefix}.parametrizations.{tensor_name}.original"), before), name


def test_the_optimizer_of_the_prune_stage_may_go_on_with_the_weights():
    model = network()
    pruner, weight = Pruner(model, keep=0.2, steps=STEPS), model[0].weight
    optimizer = sgd(model)
    ordinary(model, optimizer, pruner)
    pruner.freeze()
    before = model[0].weight.detach().clone()
    ordinary(model, optimizer, pruner)
    assert not torch.equal(model[0].weight, before)
    assert weight.shape == before.shape
    assert kept(model) == pruner.budget.limit


def test_a_method_that_learns_nothing_needs_no_steps():
    model = network()
    pruner = Pruner(model, keep=0.1, method=LWM)
    check_exact(pruner)


def test_a_budget_on_channels_is_met():
    model = network()
    budget = channel_budget(model, torch.zeros(1, 1, 6, 6), keep=0.5)
    pruner = Pruner(model, budget=budget, steps=STEPS)
    ordinary(model, sgd(model), pruner)
    pruner.freeze()
    assert budget.allows({name: mask.count for name, mask in masks(model).items()})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0.1, "steps": 0}, "steps=0 must be at least 1"),
        ({"keep": 0.1}, "steps=None: say how many"),
        ({"steps": 3}, "keep=None and budget=None"),
        ({"keep": 1.5, "steps": 3}, r"keep=1\.5 must lie in"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_model_is_touched(settings, message):
    model = network()
    with pytest.raises(ValueError, match=message):
        Pruner(model, **settings)
    assert not masks(model)


def test_a_budget_settles_what_is_kept():
    model = network()
    with pytest.raises(ValueError, match="settled by the budget"):
        Pruner(model, keep=0.1, budget=weight_budget(model, keep=0.1), steps=3)


def test_a_step_after_the_gradients_are_gone_is_refused():
    model = network()
    pruner = Pruner(model, keep=0.1, steps=STEPS)
    optimizer = sgd(model)
    ROBUST(model, *batches()[0]).backward()
    optimizer.step()
    optimizer.zero_grad()
    with pytest.raises(ValueError, match=r"before optimizer\.zero_grad\(\)"):
        pruner.step()


def test_an_optimizer_that_was_built_too_early_is_noticed(caplog):
    model = network()
    early = sgd(model)
    pruner = Pruner(model, keep=0.1, steps=STEPS)
    with caplog.at_level(logging.WARNING):
        ordinary(model, early, pruner)
    assert "build the optimizer after the Pruner" in caplog.text


def test_freezing_too_early_is_said_and_exact_all_the_same(caplog):
    model = network()
    pruner = Pruner(model, keep=0.05, steps=10 * STEPS)
    with caplog.at_level(logging.WARNING):
        ordinary(model, sgd(model), pruner)
        assert "no score has moved" not in caplog.text
        pruner.freeze()
    assert f"frozen after {STEPS} of {10 * STEPS} steps" in caplog.text
    assert kept(model) == pruner.budget.limit


def test_a_stage_that_was_saved_ends_like_one_that_was_not():
    def half(model: nn.Module, optimizer: torch.optim.Optimizer, pruner: Pruner, part: slice) -> None:
        for x, y in batches()[part]:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            pruner.step()

    whole, first, second = network(), network(), network()
    for model, parts in ((whole, [slice(None)]), (first, [slice(6)])):
        pruner = Pruner(model, keep=0.1, steps=STEPS)
        optimizer = sgd(model)
        half(model, optimizer, pruner, *parts)
    again = Pruner(second, keep=0.1, steps=STEPS)
    optimizer_again = sgd(second)
    again.load_state_dict(pruner.state_dict())
    second.load_state_dict(first.state_dict())
    optimizer_again.load_state_dict(optimizer.state_dict())
    half(second, optimizer_again, again, slice(6, None))
    assert again.done == STEPS
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


# What people put around a loop


class Wrapped(nn.Module):
    """As accelerate wraps a model: a forward of its own around the module's."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
            return self.module(x).float()


class WrappedOptimizer(torch.optim.Optimizer):
    """As accelerate wraps an optimizer: steps and clears only where gradients are complete."""

    def __init__(self, inner: torch.optim.Optimizer):
        self.inner, self.complete = inner, True

    def zero_grad(self, set_to_none: bool = True) -> None:
        if self.complete:
            self.inner.zero_grad(set_to_none)

    def step(self, closure: Callable[[], float] | None = None) -> None:
        if self.complete:
            self.inner.step(closure)


def test_wrappers_in_the_manner_of_accelerate():
    model = network()
    pruner = Pruner(model, keep=0.1, steps=STEPS // 2)
    wrapped, optimizer = Wrapped(model), WrappedOptimizer(sgd(model))
    for number, (x, y) in enumerate(batches()):
        optimizer.complete = number % 2 == 1
        ROBUST(wrapped, x, y).backward()
        optimizer.step()
        if optimizer.complete:
            pruner.step()
        optimizer.zero_grad()
    check_exact(pruner)


def test_lightning():
    fabric = Fabric(accelerator="cpu", devices=1)
    inner = network()
    pruner = Pruner(inner, keep=0.1, steps=STEPS)
    model, optimizer = fabric.setup(inner, sgd(inner))
    images, labels = (torch.cat(part) for part in zip(*batches(), strict=True))
    loader = fabric.setup_dataloaders(DataLoader(TensorDataset(images, labels), batch_size=16))
    for x, y in loader:
        optimizer.zero_grad()
        fabric.backward(ROBUST(model, x, y))
        fabric.clip_gradients(model, optimizer, max_norm=1.0)
        optimizer.step()
        pruner.step()
    check_exact(pruner)


def test_a_gradient_scaler_whose_first_steps_overflow():
    model = network()
    pruner = Pruner(model, keep=0.1, steps=STEPS)
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126, growth_interval=2)
    skipped = []
    for x, y in batches():
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = ROBUST(model, x, y)
        scaler.scale(loss.float()).backward()
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        skipped.append(scaler.get_scale() < before)
        pruner.step()
        assert all(torch.isfinite(mask.logit) for mask in masks(model).values())
    assert any(skipped)
    assert not all(skipped)
    check_exact(pruner)


def test_an_average_of_the_weights_has_masks_of_its_own():
    model = network()
    pruner = Pruner(model, keep=0.1, steps=STEPS)
    average = AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    optimizer = sgd(model)
    for x, y in batches():
        optimizer.zero_grad()
        ROBUST(model, x, y).backward()
        optimizer.step()
        pruner.step()
        average.update_parameters(model)
        with torch.no_grad():
            assert torch.equal(average(x), copy.deepcopy(average)(x))
    mine, theirs = masks(model)["3.weight"], masks(average.module)["3.weight"]
    assert not torch.equal(mine.scores, theirs.scores)
    assert torch.equal(theirs.current(), theirs.best(theirs.count))
    pruner.freeze()
    freeze_masks(average.module)
    assert kept(average.module) == kept(model) == pruner.budget.limit


def test_accumulated_gradients_count_as_one_step():
    model, whole = network().eval(), network().eval()
    x, y = batches()[0]
    pruners = []
    for each, parts in ((model, 2), (whole, 1)):
        pruner = Pruner(each, keep=0.1, steps=1, method=HARP)
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        for part in range(parts):
            (F.cross_entropy(each(x[part::parts]), y[part::parts]) / parts).backward()
        optimizer.step()
        pruner.step()
        pruners.append(pruner)
    for one, other in zip(masks(model).values(), masks(whole).values(), strict=True):
        torch.testing.assert_close(one.logit, other.logit)
        torch.testing.assert_close(one.scores, other.scores)
    check_exact(pruners[0])


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_model():
    torch._dynamo.reset()
    model = network()
    pruner = Pruner(model, keep=0.1, steps=3)
    compiled, optimizer = torch.compile(model, backend="aot_eager"), sgd(model)
    for x, y in batches()[:3]:
        optimizer.zero_grad()
        F.cross_entropy(compiled(x), y).backward()
        optimizer.step()
        pruner.step()
    check_exact(pruner)


RANK = """
import sys
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from harp.attacks import PGD, Threat
from harp.pruning import Pruner, masks

rank, world, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=world)
torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
attack = PGD(Threat("linf", 0.1), steps=2, random_start=False)
x, y = torch.rand(8, 1, 6, 6), torch.arange(8) % 3
x, y = x[rank::world], y[rank::world]


def train(pruner):
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(parallel(attack(model, x, y)), y).backward()
        optimizer.step()
        pruner.step()


pruner = Pruner(model, keep=0.2, steps=6)
train(pruner)
pruner.freeze()
train(pruner)  # another DistributedDataParallel: other parameters learn
assert sum(mask.count for mask in masks(model).values()) == pruner.budget.limit
torch.save(pruner.bake().state_dict(), f"{place}/{world}-{rank}.pt")
"""


@pytest.mark.slow
def test_two_ranks_prune_like_one(tmp_path):
    for world in (1, 2):
        (tmp_path / "meet").unlink(missing_ok=True)
        words = [[sys.executable, "-c", RANK, str(rank), str(world), str(tmp_path)] for rank in range(world)]
        ranks = [subprocess.Popen(each, stderr=subprocess.PIPE, text=True) for each in words]
        for rank in ranks:
            _, said = rank.communicate(timeout=120)
            assert rank.returncode == 0, said
    one, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    for name, value in first.items():
        assert torch.equal(second[name], value), name
        torch.testing.assert_close(value, one[name], rtol=1e-3, atol=1e-4, msg=name)


def test_hydra_learns_its_scores():
    model = network()
    pruner = Pruner(model, keep=0.1, method=HYDRA)
    before = masks(model)["3.weight"].scores.detach().clone()
    ordinary(model, sgd(model), pruner)
    assert not torch.equal(masks(model)["3.weight"].scores, before)
    check_exact(pruner)
