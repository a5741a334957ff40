"""Evaluation: counts that can be believed, intervals, and work that survives an interruption."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pyautoattack
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from harp.attacks import PGD, Threat, fgsm
from harp.attacks.autoattack import AutoAttack
from harp.cards import Evaluation, wilson
from harp.data import InMemory
from harp.evaluation import collect_examples, contradictions, evaluate, evaluation_order
from harp.evaluation.result import pack, unpack
from harp.pruning import HARP, attach_masks, bake_masks, freeze_masks, weight_budget

THREAT = Threat("linf", 0.01)
QUICK = AutoAttack(THREAT, iterations=4, queries=20)
PLAIN = PGD(THREAT, steps=3)


def linear(classes: int = 4) -> nn.Module:
    """All classes meet at the grey image, so each wins its share of `images`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, classes))
    model[1].bias.data = -0.5 * model[1].weight.detach().sum(1)
    return model


def convolutional() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4, bias=False)
    )


def images(model: nn.Module, n: int = 40, wrong: int = 6) -> InMemory:
    """Random interior images, labelled by the model itself but for the last few, which are labelled wrong."""
    x = 0.3 + 0.4 * torch.rand(n, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    mode = model.training
    with torch.no_grad():
        logits = model.eval()(x)
    model.train(mode)
    y = logits.argmax(1)
    y[n - wrong :] = (y[n - wrong :] + 1) % logits.shape[1]
    return InMemory(x, y)


def comparable(result: Evaluation) -> Evaluation:
    return replace(result, elapsed_s=0.0)


# The interval


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (5, 10, 0.236593, 0.763407),
        (583, 1000, 0.552179, 0.613185),
        (0, 1, 0.0, 0.793451),
    ],
)
def test_the_wilson_interval_has_its_known_values(correct, n, low, high):
    assert wilson(correct, n) == pytest.approx((low, high), abs=2e-6)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_contains_the_fraction_and_shrinks_with_more_images(counts):
    correct, n = counts
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    narrower = wilson(4 * correct, 4 * n)
    assert narrower[1] - narrower[0] < high - low


@pytest.mark.parametrize(("correct", "n"), [(-1, 10), (11, 10), (0, 0)])
def test_impossible_counts_are_refused(correct, n):
    with pytest.raises(ValueError, match=f"correct={correct} of images={n}"):
        wilson(correct, n)


# The result


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_flags_survive_the_way_to_text_and_back(flags):
    bits = torch.tensor(flags)
    assert len(pack(bits)) == math.ceil(len(flags) / 4)
    assert torch.equal(unpack(pack(bits), len(flags)), bits)


def test_the_first_image_is_the_highest_bit():
    assert pack(torch.tensor([True, False, False, False, True])) == "88"


def test_contradictions_are_found_and_honest_results_have_none():
    clean = Evaluation("clean", None, None, 1000, 800, 0, 0.0)
    pgd = Evaluation("pgd-20", "linf", 0.03, 1000, 500, 0, 0.0)
    strong = replace(pgd, attack="autoattack", correct=480)
    assert contradictions([clean, pgd, strong, replace(strong, eps=0.06, correct=200)]) == []
    (lie,) = contradictions([clean, replace(pgd, correct=810)])
    assert "81.0 %" in lie
    assert "80.0 %" in lie
    assert len(contradictions([pgd, replace(strong, correct=520)])) == 1
    assert len(contradictions([pgd, replace(pgd, eps=0.06, correct=600)])) == 1
    assert contradictions([pgd, replace(strong, correct=520, norm="l2")]) == []
    assert contradictions([pgd, replace(strong, correct=502)]) == [], "random starts differ"


# Counting


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


class Loose(InMemory):
    """A data set that does not look at its own images."""

    def __post_init__(self) -> None:
        pass


@pytest.mark.parametrize("value", [-0.5, 2.0, float("nan")])
def test_images_outside_zero_and_one_are_refused_wherever_they_are(value):
    model = linear()
    data = images(model)
    for place in (0, 39):
        x = data.images.clone()
        x[evaluation_order(40)[place], 0, 2, 2] = value
        with pytest.raises(
            ValueError, match=r"must lie in \[0, 1\], got .* make normalisation the first layer of the model"
        ):
            evaluate(model, Loose(x, data.labels), PLAIN, batch_size=8)


@pytest.mark.parametrize("label", [4, -1])
def test_labels_beyond_the_models_classes_are_named(label):
    model = linear()
    data = images(model)
    labels = data.labels.clone()
    labels[-1] = label
    with pytest.raises(ValueError, match=f"label {label} is out of range: the model has 4 classes"):
        evaluate(model, Loose(data.images, labels))


def test_a_model_that_answers_nan_is_refused_before_any_attack():
    model = linear()
    data = images(model)
    model[1].weight.data[0, 0] = float("nan")
    for attack in (None, PLAIN, QUICK):
        with pytest.raises(ValueError, match="NaN or infinite"):
            evaluate(model, data, attack)


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (nn.Flatten(0), r"\(800,\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(25, 1)), r"\(32, 1\)"),
        (nn.Identity(), r"\(32, 1, 5, 5\)"),
    ],
)
def test_a_model_that_does_not_answer_batch_by_classes_is_refused(model, answer):
    with pytest.raises(ValueError, match=rf"with {answer}, expected \(batch, classes >= 2\)"):
        evaluate(model, images(linear()))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"images": 41}, r"images=41 must lie in \[1, 40\]"), ({"images": 0}, "images=0"), ({"batch_size": 0}, "batch_size=0")],
)  # fmt: skip
def test_impossible_numbers_are_refused(arguments, words):
    model = linear()
    with pytest.raises(ValueError, match=words):
        evaluate(model, images(model), **arguments)


def test_probabilities_and_missing_gradients_are_noted():
    model = linear()
    data = images(model)
    assert evaluate(model, data, PLAIN).notes == ()
    softmax = nn.Sequential(model, nn.Softmax(1))
    assert any("probabilities" in note for note in evaluate(softmax, data, PLAIN).notes)
    saturated = linear()
    saturated[1].weight.data *= 1e4
    saturated[1].bias.data *= 1e4
    assert any("gradient masking suspected" in note for note in evaluate(saturated, data, PLAIN).notes)


# Interruptions


class Stop(Exception):
    """Raised by a test in the middle of an evaluation."""


TWO_PARTS = AutoAttack(THREAT, attacks=("apgd-ce", "square"), iterations=2, queries=5)


@pytest.mark.parametrize("attack", [None, PGD(THREAT, steps=2), TWO_PARTS], ids=["clean", "pgd", "autoattack"])
def test_interrupted_anywhere_and_resumed_it_ends_the_same(tmp_path, attack):
    model = convolutional()
    data = images(model, 30)
    expected = comparable(evaluate(model, data, attack, batch_size=8))
    steps: list[tuple[int, int]] = []
    evaluate(model, data, attack, batch_size=8, on_progress=lambda done, total: steps.append((done, total)))
    assert len(steps) > 3
    for stop in range(1, len(steps)):
        state, calls = tmp_path / f"{stop}.json", []

        def interrupt(done: int, total: int, calls=calls, stop=stop) -> None:
            calls.append(done)
            if len(calls) == stop:
                raise Stop

        with pytest.raises(Stop):
            evaluate(model, data, attack, batch_size=8, state=state, on_progress=interrupt)
        again: list[int] = []
        resumed = evaluate(
            model, data, attack, batch_size=8, state=state, on_progress=lambda done, total, a=again: a.append(done)
        )
        assert comparable(resumed) == expected
        assert calls + again == [done for done, _ in steps], "nothing is done twice"


def test_progress_never_goes_back_and_ends_at_the_whole():
    model = linear()
    steps = []
    evaluate(model, images(model), QUICK, batch_size=8, on_progress=lambda done, total: steps.append((done, total)))
    assert steps == sorted(steps)
    assert steps[-1] == (40, 40)
    assert steps[0][0] < 10


def test_a_finished_state_answers_at_once(tmp_path):
    model = linear()
    data = images(model)
    first = evaluate(model, data, PLAIN, state=tmp_path / "state.json")
    assert evaluate(model, data, PLAIN, state=tmp_path / "state.json", on_progress=never) == first


def never(done: int, total: int) -> None:
    raise AssertionError("there was nothing left to do")


def test_the_state_of_another_evaluation_is_refused_and_says_what_differs(tmp_path):
    model = linear()
    data = images(model)
    state = tmp_path / "state.json"
    evaluate(model, data, PLAIN, state=state)
    other = linear()
    other[1].bias.data[0] += 1e-7 + abs(other[1].bias[0].item()) * 1e-6
    moved = InMemory(data.images.flip(3), data.labels)
    for complaint, arguments in {
        "another model": {"model": other},
        "another data": {"data": moved},
        "another attack": {"attack": PGD(THREAT, steps=4)},
        "another data, images": {"images": 20},
        "another batch_size": {"batch_size": 41},
        "another seed": {"seed": 1},
    }.items():
        with pytest.raises(ValueError, match=complaint):
            evaluate(**{"model": model, "data": data, "attack": PLAIN, "state": state, **arguments})
    assert evaluate(model, data, PLAIN, state=state).images == 40, "a refusal leaves the state alone"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"format": 1, "identity": {"mo',
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"format": 2}',
        b'{"format": 1, "identity": []}',
    ],
)
def test_a_damaged_state_is_named_and_not_guessed_at(tmp_path, content):
    model = linear()
    state = tmp_path / "state.json"
    state.write_bytes(content)
    with pytest.raises(ValueError, match=r"state\.json"):
        evaluate(model, images(model), PLAIN, state=state)
    assert state.read_bytes() == content


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("batches", -1),
        ("batches", 2),
        ("batches", "2"),
        ("elapsed_s", -1.0),
        ("notes", [1]),
        ("finished", {"clean": "f"}),
        ("finished", {"clean": 5}),
        ("finished", []),
        ("finished", {"square": "f" * 10}),
        ("right", "f" * 10),
    ],
)
def test_a_state_whose_entries_make_no_sense_is_refused(tmp_path, entry, value):
    model = linear()
    state = tmp_path / "state.json"
    evaluate(model, images(model), PLAIN, state=state)
    state.write_text(json.dumps({**json.loads(state.read_text()), entry: value}))
    with pytest.raises(ValueError, match=r"state\.json"):
        evaluate(model, images(model), PLAIN, state=state)


KILLED = """
import os, signal
from pathlib import Path
import torch
from harp.attacks import PGD, Threat
from harp.data import InMemory
from harp.evaluation import evaluate

def kill(done, total):
    if done >= 15:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
tensors = torch.load({tensors!r}, weights_only=True)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(25, 4))
model.load_state_dict(tensors["model"])
data = InMemory(tensors["images"], tensors["labels"])
evaluate(model, data, PGD(Threat("linf", 0.01), steps=3), batch_size=4, state=Path({state!r}), on_progress=kill)
"""


def test_a_killed_evaluation_goes_on_where_it_was(tmp_path):
    model = linear()
    data = images(model, 30)
    state, tensors = tmp_path / "state.json", tmp_path / "tensors.pt"
    torch.save({"model": model.state_dict(), "images": data.images, "labels": data.labels}, tensors)
    script = KILLED.format(state=str(state), tensors=str(tensors))
    killed = subprocess.run([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    again: list[int] = []
    resumed = evaluate(
        model, data, PLAIN, batch_size=4, state=state, on_progress=lambda done, total: again.append(done)
    )
    assert again[0] > 15
    assert comparable(resumed) == comparable(evaluate(model, data, PLAIN, batch_size=4))


# Examples


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
