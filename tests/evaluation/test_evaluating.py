"""Evaluation: counts that can be believed, the same for every model and release."""

from dataclasses import dataclass, replace

import pyautoattack
import pytest
import torch
from evaluated_networks import PLAIN, QUICK, THREAT, comparable, convolutional, images, linear
from torch import Tensor, nn

from harp.attacks import PGD, Threat, fgsm
from harp.attacks.autoattack import AutoAttack
from harp.data import InMemory
from harp.evaluation import collect_examples, evaluate, evaluation_order
from harp.evaluation.result import unpack
from harp.pruning import HARP, attach_masks, bake_masks, freeze_masks, weight_budget


def test_clean_accuracy_counts_the_right_answers():
    model = linear()
    result = evaluate(model, images(model, 40, wrong=6))
    assert (result.attack, result.correct, result.images, result.norm, result.eps) == ("clean", 34, 40, None, None)


def test_the_flags_say_which_images_in_the_order_of_the_evaluation():
    model = linear()
    data = images(model, 40, wrong=6)
    right = unpack(evaluate(model, data, batch_size=7).right, 40)
    assert torch.equal(right, evaluation_order(40) < 34)


@pytest.mark.parametrize("attack", [PLAIN, QUICK], ids=["pgd", "autoattack"])
def test_on_a_linear_model_robust_accuracy_is_the_closed_form(attack):
    model = linear(2)
    data = images(model, 60, wrong=5)
    weight = model[1].weight.detach()
    with torch.no_grad():
        margin = model(data.images)
    margin = margin.gather(1, data.labels[:, None]) - margin.gather(1, 1 - data.labels[:, None])
    left = margin[:, 0] - THREAT.eps * (weight[0] - weight[1]).abs().sum()
    assert left.abs().min() > 1e-4
    assert 0 < int((left > 0).sum()) < 55
    assert evaluate(model, data, attack).correct == int((left > 0).sum())


def test_the_order_is_the_same_for_every_model_and_every_release():
    assert evaluation_order(10).tolist() == [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]
    assert not torch.equal(evaluation_order(1000)[:100], torch.arange(100))


def test_fewer_images_are_the_first_of_the_order():
    model = linear()
    data = images(model)
    whole = unpack(evaluate(model, data).right, 40)
    assert torch.equal(unpack(evaluate(model, data, images=11).right, 11), whole[:11])


def test_autoattack_over_several_batches_finds_what_the_authors_find():
    model = linear(10)
    data = images(model, 30)
    order = evaluation_order(30)
    x, y = data.images[order], data.labels[order]
    attack = AutoAttack(THREAT, seed=3, attacks=("apgd-ce", "square"))
    with torch.random.fork_rng():
        authors = pyautoattack.AutoAttack(
            model, norm="Linf", eps=THREAT.eps, seed=3, version="custom", attacks=["apgd-ce", "square"]
        )
        authors.apgd.n_restarts = 1
        authors.square.n_queries = 100
        theirs, _ = authors.run_standard_evaluation(x, y, batch_size=8)
    result = evaluate(model, data, replace(attack, queries=100), batch_size=8)
    with torch.no_grad():
        assert torch.equal(unpack(result.right, 30), model(theirs).argmax(1) == y)
    assert 0 < result.correct < 24


def test_what_remains_after_each_attack_is_kept():
    model = linear()
    result = evaluate(model, images(model), QUICK)
    assert list(result.per_attack) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    remaining = list(result.per_attack.values())
    assert remaining == sorted(remaining, reverse=True)
    assert remaining[-1] == pytest.approx(result.accuracy)
    assert any("not the standard AutoAttack" in note for note in result.notes)


def test_an_image_that_is_wrong_clean_is_never_attacked():
    model = linear()
    data = images(model, 20, wrong=20)
    seen = []

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append(len(x))
        return x

    assert evaluate(model, data, attack).correct == 0
    assert seen == []


def test_names_threats_and_seeds_are_recorded():
    model = linear()
    data = images(model, 10)
    assert evaluate(model, data, PGD(THREAT, steps=4)).attack == "pgd-4"
    assert evaluate(model, data, PGD(THREAT, steps=4, loss="cw")).attack == "cw-4"
    assert evaluate(model, data, fgsm(THREAT)).attack == fgsm(THREAT).name
    result = evaluate(model, data, replace(QUICK, seed=9))
    assert (result.attack, result.norm, result.eps, result.seed) == ("autoattack", "linf", 0.01, 9)


def own_attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """As users write them: counts on gradients being on, and fills those of the weights."""
    x = x.clone().requires_grad_(True)
    nn.functional.cross_entropy(model(x), y).backward()
    return (x + 0.01 * x.grad.sign()).clamp(0, 1).detach()


@dataclass(frozen=True)
class Jump:
    """An attack with a name and a ball, and no class of harp's."""

    threat: Threat
    name: str = "my-jump"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return (x + 10 * self.threat.eps).clamp(0, 1)


def test_an_attack_with_a_name_and_a_threat_is_recorded_with_both_and_held_to_its_ball():
    found = evaluate(linear(), images(linear()), Jump(Threat("linf", 0.001)))
    assert (found.attack, found.norm, found.eps) == ("my-jump", "linf", 0.001)
    assert any("outside" in note for note in found.notes)


def test_an_attack_of_ones_own_is_a_function():
    model = linear()
    data = images(model)
    result = evaluate(model, data, own_attack)
    assert (result.attack, result.norm, result.eps) == ("own_attack", None, None)
    assert result.correct == evaluate(model, data, fgsm(THREAT)).correct
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_attack_outside_zero_and_one_is_refused():
    model = linear()
    with pytest.raises(
        ValueError, match=r"<lambda> returned no images: .* must lie in \[0, 1\], got values from 1\.\d+ to 1\.\d+"
    ):
        evaluate(model, images(model), lambda model, x, y: x + 1)


def test_the_seed_decides_the_random_starts_and_nothing_else_does():
    model = convolutional()
    data = images(model, 60)
    attack = PGD(Threat("linf", 0.03), steps=1, step_size=1e-9)
    torch.manual_seed(1)
    first = evaluate(model, data, attack, seed=1)
    torch.manual_seed(2)
    assert comparable(evaluate(model, data, attack, seed=1)) == comparable(first)
    assert evaluate(model, data, attack, seed=2).right != first.right


def test_two_seeds_that_disagree_are_refused():
    model = linear()
    with pytest.raises(ValueError, match="seed=1 but the AutoAttack has seed=0"):
        evaluate(model, images(model), QUICK, seed=1)


@pytest.mark.parametrize("attack", [None, PLAIN, QUICK], ids=["clean", "pgd", "autoattack"])
def test_model_gradients_and_generators_are_left_as_they_were(attack):
    model = convolutional().train()
    model[1].eval()
    model[4].weight.requires_grad_(False)
    data = images(model, 12)
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    generator = torch.get_rng_state()
    evaluate(model, data, attack)
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, True, False]


def test_a_masked_model_is_judged_as_what_it_will_be_when_baked():
    model = convolutional()
    budget = weight_budget(model, keep=0.3)
    attach_masks(model, budget, HARP)
    data = images(convolutional(), 40)
    learning = evaluate(model, data, PLAIN)
    assert learning.images == 40
    freeze_masks(model)
    frozen = evaluate(model, data, PLAIN)
    bake_masks(model)
    assert comparable(evaluate(model, data, PLAIN)) == comparable(frozen)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_channels_last_gives_the_same_answers(norm):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten()).eval()
    x = torch.rand(20, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        data = InMemory(x, model(x).argmax(1))
    attack = replace(QUICK, threat=Threat(norm, 0.01 if norm == "linf" else 0.05))
    expected = evaluate(model, data, attack)
    assert 0 < expected.correct < 20
    assert evaluate(model.to(memory_format=torch.channels_last), data, attack).right == expected.right


# Refusals


@pytest.mark.parametrize("attack", [PLAIN, QUICK], ids=["pgd", "autoattack"])
def test_examples_are_the_first_images_of_the_order_before_and_after(attack):
    model = convolutional()
    data = images(model)
    found = collect_examples(model, data, attack, k=5)
    assert torch.equal(found["x"], data.images[evaluation_order(40)[:5]])
    assert torch.equal(found["y"], data.labels[evaluation_order(40)[:5]])
    assert (found["x_adv"] - found["x"]).abs().max() <= THREAT.eps * (1 + 1e-6)
    with torch.no_grad():
        model.eval()
        assert torch.equal(found["clean_prediction"], model(found["x"]).argmax(1))
        assert torch.equal(found["adversarial_prediction"], model(found["x_adv"]).argmax(1))
    assert {name: tensor.dtype for name, tensor in found.items() if not name.startswith("x")} == dict.fromkeys(
        ("y", "clean_prediction", "adversarial_prediction"), torch.int64
    )


def test_examples_are_no_more_than_there_are_images():
    model = linear()
    assert len(collect_examples(model, images(model, 3, wrong=0), PLAIN)["x"]) == 3
