"""attach → freeze → bake: what rests, what wakes, what is refused, and that the plain network comes back."""

import copy
import warnings

import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from torch import nn

from harp.pruning import (
    HARP,
    HYDRA,
    LWM,
    Budget,
    Term,
    attach_frozen_masks,
    attach_masks,
    bake_masks,
    freeze_masks,
    hold_masks,
    keep_logits,
    masks,
    trainable,
    weight_budget,
)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.gain = nn.Parameter(torch.ones(1))
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.conv(x)) * self.gain).mean((2, 3)))


def network() -> nn.Module:
    torch.manual_seed(0)
    return Block()


def masked(keep: float = 0.2, method=HARP) -> nn.Module:
    model = network()
    return attach_masks(model, weight_budget(model, keep=keep), method)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(6, 2, 5, 5, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2])


def loss(model: nn.Module) -> torch.Tensor:
    x, y = batch()
    return F.cross_entropy(model(x), y)


def learns(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


# what rests and what wakes


def test_while_masks_learn_weights_rest_and_norms_learn():
    assert learns(masked()) == {
        "bn.weight",
        "bn.bias",
        "conv.parametrizations.weight.0.scores",
        "conv.parametrizations.weight.0.logit",
        "fc.parametrizations.weight.0.scores",
        "fc.parametrizations.weight.0.logit",
    }


def test_after_freezing_weights_learn_and_scores_are_gone():
    model = freeze_masks(masked())
    originals = {"conv.parametrizations.weight.original", "fc.parametrizations.weight.original"}
    assert learns(model) == originals | {"conv.bias", "fc.bias", "gain", "bn.weight", "bn.bias"}
    assert {name for name, _ in model.named_parameters()} == learns(model)


def test_what_the_user_froze_stays_frozen_through_all_phases():
    model = network()
    model.conv.weight.requires_grad_(False)
    model.fc.bias.requires_grad_(False)
    model.bn.weight.requires_grad_(False)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    attach_masks(model, weight_budget(model, keep=0.2))
    assert "bn.weight" not in learns(model)
    bake_masks(freeze_masks(model))
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == frozen


def test_excluded_layers_rest_with_the_others_and_wake():
    model = network()
    attach_masks(model, weight_budget(model, keep=0.2, exclude=["fc.*"]))
    assert "fc.weight" not in learns(model)
    assert "fc.weight" in learns(freeze_masks(model))


def test_trainable_is_what_the_optimiser_gets_in_each_phase():
    model = network()
    assert len(trainable(model)) == 7
    attach_masks(model, weight_budget(model, keep=0.2))
    moved_by_descent = {id(logit) for logit in keep_logits(model)}
    assert len(moved_by_descent) == len(masks(model)) == 2
    assert {id(p) for p in trainable(model)} == {
        id(p) for p in model.parameters() if p.requires_grad
    } - moved_by_descent
    assert len(trainable(model)) == 4
    assert len(trainable(freeze_masks(model))) == 7


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4), nn.InstanceNorm1d(4, affine=True), nn.SyncBatchNorm(4)],
    ids=lambda norm: type(norm).__name__,
)
def test_every_kind_of_normalisation_goes_on_learning(norm):
    model = nn.Sequential(nn.Linear(4, 4), norm)
    attach_masks(model, weight_budget(model, keep=0.5))
    assert all(p.requires_grad for p in norm.parameters())
    assert not model[0].bias.requires_grad


def test_resting_weights_get_no_gradient_and_do_not_move():
    model = masked()
    before = model.conv.parametrizations.weight.original.detach().clone()
    optimizer = torch.optim.SGD(trainable(model), lr=1.0, weight_decay=0.1)
    loss(model).backward()
    optimizer.step()
    assert model.conv.parametrizations.weight.original.grad is None
    assert torch.equal(model.conv.parametrizations.weight.original, before)


def test_modes_stay_as_they_were():
    model = network().eval()
    attach_masks(model, weight_budget(model, keep=0.2))
    assert not any(module.training for module in model.modules())
    model = network()
    model.bn.eval()
    attach_masks(model, weight_budget(model, keep=0.2))
    assert [name for name, module in model.named_modules() if not module.training] == ["bn"]


# freezing


def test_pruned_weights_get_zero_gradients_and_no_optimiser_brings_them_back():
    model = freeze_masks(masked())
    chosen = {name: mask.current().clone() for name, mask in masks(model).items()}
    optimizer = torch.optim.SGD(trainable(model), lr=0.5, momentum=0.9, weight_decay=0.1, nesterov=True)
    for _ in range(3):
        optimizer.zero_grad()
        loss(model).backward()
        for name, mask in chosen.items():
            gradient = model.get_submodule(name.rpartition(".")[0]).parametrizations.weight.original.grad
            assert gradient[~mask].count_nonzero() == 0
            assert gradient[mask].count_nonzero() > 0
        optimizer.step()
    bake_masks(model)
    for name, mask in chosen.items():
        assert torch.equal(model.get_parameter(name) != 0, mask)


def test_freezing_twice_changes_nothing():
    model = freeze_masks(masked())
    before = {name: mask.current().clone() for name, mask in masks(model).items()}
    state = list(freeze_masks(model).state_dict())
    assert state == list(model.state_dict())
    for name, mask in masks(model).items():
        assert torch.equal(mask.current(), before[name])


def test_freezing_keeps_the_best_scores_of_each_layer():
    model = masked()
    scores = {name: mask.scores.detach().abs() for name, mask in masks(model).items()}
    freeze_masks(model)
    for name, mask in masks(model).items():
        assert scores[name][mask.current()].min() >= scores[name][~mask.current()].max()


def test_scores_that_diverged_are_named_not_frozen():
    model = masked()
    with torch.no_grad():
        masks(model)["fc.weight"].scores[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"scores of \['fc\.weight'\] are not finite"):
        freeze_masks(model)
    model = masked()
    with torch.no_grad():
        masks(model)["conv.weight"].logit.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"'conv\.weight': nan"):
        freeze_masks(model)
    assert not any(mask.frozen for mask in masks(model).values())


def test_freezing_through_a_wrapper_is_refused_because_weights_would_not_wake():
    wrapper = nn.Sequential(masked())
    with pytest.raises(ValueError, match="the module that attach_masks was given"):
        freeze_masks(wrapper)
    assert not any(mask.frozen for mask in masks(wrapper).values())


# baking


def plain_twin(model: nn.Module) -> nn.Module:
    twin = network()
    twin.load_state_dict(model.state_dict())
    return twin


@pytest.mark.parametrize("method", [HARP, HYDRA, LWM])
def test_baking_gives_back_the_plain_network_with_the_masks_that_ran_fault_1_of_the_published_code(method):
    """Fault 1: the exported file applied one uniform fraction and was not the model that had been evaluated."""
    plain = network()
    model = masked(0.1, method)
    loss(model).backward()
    torch.optim.SGD(trainable(model), lr=0.1).step()
    freeze_masks(model).eval()
    frozen = model(batch()[0])
    bake_masks(model)
    assert torch.equal(model(batch()[0]), frozen)
    assert type(model.conv) is nn.Conv2d
    assert [(n, t.shape, t.dtype) for n, t in model.state_dict().items()] == [
        (n, t.shape, t.dtype) for n, t in plain.state_dict().items()
    ]
    assert [name for name, _ in model.named_modules()] == [name for name, _ in plain.named_modules()]
    assert torch.equal(plain_twin(model).eval()(batch()[0]), frozen)


def test_parameters_stay_the_objects_they_were():
    """So optimisers made before attach_masks, or during finetuning, hold the baked network's own parameters."""
    model = network()
    before = list(model.parameters())
    bake_masks(freeze_masks(attach_masks(model, weight_budget(model, keep=0.2))))
    assert all(p is q for p, q in zip(before, model.parameters(), strict=True))


def test_a_baked_model_can_be_pruned_again():
    model = bake_masks(freeze_masks(masked(0.5)))
    bake_masks(freeze_masks(attach_masks(model, weight_budget(model, keep=0.1), LWM)))
    assert sum(int(w.count_nonzero()) for w in (model.conv.weight, model.fc.weight)) == round(0.1 * 126)


def test_masks_that_still_learn_are_not_baked():
    with pytest.raises(ValueError, match=r"\['conv\.weight', 'fc\.weight'\] still learn; call freeze_masks"):
        bake_masks(masked())


def test_masks_over_their_budget_are_not_baked():
    model = freeze_masks(masked(0.1))
    masks(model)["fc.weight"].mask.fill_(True)
    with pytest.raises(ValueError, match="keep 29 entries, too many for a budget of 13"):
        bake_masks(model)


def test_a_parametrization_that_joined_later_is_named():
    model = freeze_masks(masked())
    nn.utils.parametrize.register_parametrization(model.fc, "bias", nn.Identity())
    with pytest.raises(ValueError, match=r"\['bias'\] of fc has a parametrization that is no mask"):
        bake_masks(model)


@pytest.mark.parametrize("first", ["original", "copy"])
def test_baking_a_copy_or_its_original_leaves_the_other_working(first):
    """torch's remove_parametrizations breaks here: the copy shares the injected class, whose property it deletes."""
    model = freeze_masks(masked()).eval()
    twin = copy.deepcopy(model)
    expected = model(batch()[0])
    one, other = (model, twin) if first == "original" else (twin, model)
    bake_masks(one)
    assert torch.equal(one(batch()[0]), expected)
    assert torch.equal(other(batch()[0]), expected)
    assert list(masks(other)) == ["conv.weight", "fc.weight"]
    with torch.no_grad():
        one.conv.weight.zero_()
    assert torch.equal(other(batch()[0]), expected)
    bake_masks(other)
    assert torch.equal(other(batch()[0]), expected)


def test_a_copy_of_a_learning_model_learns_on_its_own():
    model = masked()
    twin = copy.deepcopy(model)
    loss(twin).backward()
    torch.optim.SGD(trainable(twin), lr=1.0).step()
    assert all(p.grad is None for p in model.parameters())
    fresh = masked()
    for name, mask in masks(model).items():
        assert torch.equal(mask.scores, masks(fresh)[name].scores)
    bake_masks(freeze_masks(twin))
    assert learns(twin) == learns(network())
    assert not any(mask.frozen for mask in masks(model).values())


def test_moving_to_another_memory_format_or_precision_changes_no_mask():
    model = freeze_masks(masked())
    chosen = {name: mask.current().clone() for name, mask in masks(model).items()}
    model.to(memory_format=torch.channels_last).double()
    for name, mask in masks(model).items():
        assert torch.equal(mask.current(), chosen[name])
    bake_masks(model)
    assert model.conv.weight.dtype == torch.float64
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_the_baked_network_compiles_without_a_warning(backend):
    model = bake_masks(freeze_masks(masked())).eval()
    expected = model(batch()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch._dynamo.reset()
        assert torch.allclose(torch.compile(model, backend=backend, fullgraph=True)(batch()[0]), expected, atol=1e-6)


# wrappers


@pytest.fixture
def one_process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_learning_model_trains_in_distributed_data_parallel(one_process_group):
    alone, model = masked(), masked()
    ddp = nn.parallel.DistributedDataParallel(model)
    assert list(masks(ddp.module)) == ["conv.weight", "fc.weight"]
    for m in (alone, ddp):
        with hold_masks(m):
            loss(m).backward()
    for name, mask in masks(model).items():
        assert torch.allclose(mask.scores.grad, masks(alone)[name].scores.grad)
        assert torch.allclose(mask.logit.grad, masks(alone)[name].logit.grad)
    freeze_masks(ddp.module)
    ddp = nn.parallel.DistributedDataParallel(model)
    loss(ddp).backward()
    assert model.conv.parametrizations.weight.original.grad is not None


# masks learned before


def test_masks_learned_before_are_attached_frozen_and_weights_learn():
    chosen = {name: mask.current() for name, mask in masks(freeze_masks(masked())).items()}
    model = attach_frozen_masks(network(), chosen)
    assert len(trainable(model)) == 7
    assert torch.equal(masks(model)["fc.weight"].current(), chosen["fc.weight"])
    freeze_masks(model)
    bake_masks(model)
    assert torch.equal(model.fc.weight != 0, chosen["fc.weight"])


def test_attached_masks_are_copies():
    chosen = {"fc.weight": torch.ones(3, 6, dtype=torch.bool)}
    model = attach_frozen_masks(network(), chosen)
    chosen["fc.weight"].zero_()
    assert masks(model)["fc.weight"].current().all()


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        ({"fc.weight": torch.ones(3, 6)}, r"fc\.weight must be torch\.bool of shape \(3, 6\), got torch\.float32"),
        ({"fc.weight": torch.ones(6, 3, dtype=torch.bool)}, r"got torch\.bool \(6, 3\)"),
        ({"head.weight": torch.ones(3, 6, dtype=torch.bool)}, r"no prunable weight \['head\.weight'\]"),
    ],
)
def test_masks_that_do_not_fit_are_refused_before_any_is_attached(chosen, complaint):
    model = network()
    good = {"conv.weight": torch.ones(6, 2, 3, 3, dtype=torch.bool)}
    with pytest.raises(ValueError, match=complaint):
        attach_frozen_masks(model, good | chosen)
    assert masks(model) == {}


# refusals


def test_a_model_has_one_set_of_masks():
    model = masked()
    with pytest.raises(ValueError, match="already has masks"):
        attach_masks(model, Budget(0.1, (Term(18.0, ("fc.weight",)),)))
    with pytest.raises(ValueError, match="already has masks"):
        attach_frozen_masks(model, {})


def test_freezing_and_baking_need_masks():
    for verb in (freeze_masks, bake_masks):
        with pytest.raises(ValueError, match="has no masks; call attach_masks"):
            verb(network())


def test_a_budget_of_another_model_is_refused():
    budget = weight_budget(nn.Sequential(nn.Linear(6, 3)), keep=0.5)
    with pytest.raises(ValueError, match=r"no prunable weight \['0\.weight'\]; make the budget from this very model"):
        attach_masks(network(), budget)
    wider = nn.ModuleDict({"fc": nn.Linear(60, 3), "conv": nn.Conv2d(2, 6, 3)})
    with pytest.raises(ValueError, match=r"fc\.weight has 18 weights and the budget counts 180"):
        attach_masks(network(), weight_budget(wider, keep=0.5))


def test_weights_that_are_not_finite_are_refused_before_any_mask_is_attached():
    model = network()
    budget = weight_budget(model, keep=0.5)
    with torch.no_grad():
        model.fc.weight[1, 1] = float("inf")
    with pytest.raises(ValueError, match=r"\['fc\.weight'\] hold weights that are not finite"):
        attach_masks(model, budget)
    assert masks(model) == {}
    assert learns(model) == learns(network())


def test_a_parametrization_of_the_bias_is_in_the_way_and_named():
    model = network()
    budget = weight_budget(model, keep=0.5)
    nn.utils.parametrize.register_parametrization(model.fc, "bias", nn.Identity())
    with pytest.raises(ValueError, match=r"fc already has a parametrization \['bias'\]"):
        attach_masks(model, budget)
