"""What is asked of images, labels and a model is asked at every door: each attack, each loss, each evaluation."""

import warnings
from collections.abc import Callable

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from harp.attacks import PGD, AutoAttack, Threat, attacking, fgsm, guard
from harp.data import InMemory
from harp.evaluation import Evaluation, collect_examples, evaluate
from harp.objectives import free_at, mart, n_fgsm, natural, pgd_at, trades

LINF = Threat("linf", 0.03)
PLAIN = PGD(LINF, steps=2)
STRONG = AutoAttack(LINF, iterations=2, queries=3)
CLASSES = 4


class Loose(InMemory):
    """A data set that does not look at itself."""

    def __post_init__(self) -> None:
        pass


def own(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """An attack of the user's."""
    x = x.clone().requires_grad_(True)
    loss = nn.functional.cross_entropy(model(x), y.long())
    return (x + 0.03 * torch.autograd.grad(loss, x)[0].sign()).detach().clamp(0, 1)


ATTACKS = {"pgd": PLAIN, "cw": PGD(LINF, steps=2, loss="cw", restarts=2), "fgsm": fgsm(LINF), "autoattack": STRONG}
LOSSES = {
    "natural": natural(),
    "pgd-at": pgd_at(PLAIN),
    "pgd-at with an own attack": pgd_at(own),
    "n-fgsm": n_fgsm(LINF),
    "trades": trades(LINF, steps=1),
    "mart": mart(PLAIN),
    "free-at": free_at(LINF),
}
EVALUATIONS: dict[str, Callable] = {
    f"evaluate {name}": lambda model, x, y, attack=attack: evaluate(model, Loose(x, y), attack, batch_size=4)
    for name, attack in {"clean": None, "own": own, **ATTACKS}.items()
}
EXAMPLES = {"examples": lambda model, x, y: collect_examples(model, Loose(x, y), PLAIN)["x_adv"]}
DOORS: dict[str, Callable] = {**ATTACKS, **LOSSES, **EVALUATIONS, **EXAMPLES}
every_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
OURS = {name: door for name, door in DOORS.items() if name != "pgd-at with an own attack"}
"""All but the one where an attack of the user's asks a model that nobody has looked at yet."""
our_doors = pytest.mark.parametrize("door", OURS.values(), ids=OURS)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, CLASSES))


def batch() -> tuple[Tensor, Tensor]:
    x = 0.2 + 0.6 * torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(8) % CLASSES


def answer(door: Callable, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """What comes out, as numbers; the same random draws each time."""
    torch.manual_seed(0)
    found = door(model, x, y)
    return torch.tensor(found.correct) if isinstance(found, Evaluation) else found.detach()


class Answers(nn.Module):
    """A network whose forward returns something else than its logits."""

    def __init__(self, what: Callable[[Tensor], object]):
        super().__init__()
        self.net, self.what = network(), what

    def forward(self, x: Tensor) -> object:
        return self.what(self.net(x))


# Answers


@our_doors
@pytest.mark.parametrize(
    ("what", "named"),
    [
        (lambda logits: {"logits": logits}, "with dict"),
        (lambda logits: (logits, logits), "with tuple"),
        (lambda logits: logits[:, :1], r"with \(\d+, 1\)"),
        (lambda logits: logits.flatten(), r"with \(\d+,\)"),
    ],
    ids=["dict", "tuple", "one class", "flat"],
)
def test_an_answer_that_is_no_logits_is_named(door, what, named):
    with pytest.raises(
        ValueError, match=rf"{named}, expected \(batch, classes >= 2\); wrap it in a module whose forward"
    ):
        door(Answers(what), *batch())


# Labels


@every_door
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_may_be_integers_of_any_width(door, dtype):
    x, y = batch()
    assert torch.equal(answer(door, network(), x, y.to(dtype)), answer(door, network(), x, y))


@every_door
@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (
            lambda y: nn.functional.one_hot(y, CLASSES),
            r"the shape \(\d, 4\), expected \(\d,\): y.argmax\(1\) for one-hot",
        ),
        (lambda y: y[:, None], r"the shape \(\d, 1\), expected \(\d,\): one class number for each image"),
        (lambda y: y.float(), r"are torch.float32, expected integers, the numbers of the classes: y.long\(\)"),
        (lambda y: y > 1, "are torch.bool, expected integers"),
    ],
    ids=["one-hot", "column", "float", "bool"],
)
def test_labels_that_are_no_class_numbers_are_refused(door, make, complaint):
    x, y = batch()
    with pytest.raises(ValueError, match=f"labels y .*{complaint}"):
        door(network(), x, make(y))


@pytest.mark.parametrize("door", [*ATTACKS.values(), *LOSSES.values()], ids=[*ATTACKS, *LOSSES])
def test_labels_that_are_no_tensor_are_refused(door, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    x, y = batch()
    with pytest.raises(TypeError, match=r"labels y are a list, expected a tensor: torch.as_tensor"):
        door(network(), x, y.tolist())


@our_doors
@pytest.mark.parametrize("label", [-1, CLASSES])
def test_labels_beyond_the_classes_are_refused(door, label):
    x, y = batch()
    y[0] = label
    with pytest.raises(ValueError, match=rf"label.*{label}.* the model has {CLASSES} classes"):
        door(network(), x, y)


def test_data_sets_take_integers_of_any_width():
    x, y = batch()
    assert InMemory(x, y.to(torch.int32)).labels.dtype == torch.int64
    with pytest.raises(
        ValueError, match=r"expected integers and \(8,\), one for every image \(`.argmax\(1\)` of one-hot"
    ):
        InMemory(x, nn.functional.one_hot(y))


# Images


@every_door
@pytest.mark.parametrize("value", [-0.5, 2.0, float("nan"), float("inf")])
def test_images_outside_zero_and_one_are_refused(door, value):
    x, y = batch()
    x[3, 0, 2, 2] = value
    with pytest.raises(ValueError, match=r"images x must lie in \[0, 1\], got values from"):
        door(network(), x, y)


@pytest.mark.parametrize("door", {**ATTACKS, **LOSSES}.values(), ids=[*ATTACKS, *LOSSES])
def test_bytes_and_batches_without_images_are_refused(door):
    x, y = batch()
    with pytest.raises(ValueError, match=r"images x are torch.uint8, expected floats in \[0, 1\]: x.float\(\) / 255"):
        door(network(), (x * 255).byte(), y)
    with pytest.raises(ValueError, match=r"the shape \(0, 3, 8, 8\), expected \(batch, ...\) with one image or more"):
        door(network(), x[:0], y[:0])


def test_on_a_gpu_a_training_step_looks_at_a_models_first_images_only(monkeypatch):
    looks = []
    monkeypatch.setattr(guard, "check_images", looks.append)
    monkeypatch.setattr(guard, "_is_on_gpu", lambda x: True)
    model, other, (x, y) = network(), network(), batch()
    for _ in range(3):
        PLAIN(model, x, y)
    assert len(looks) == 1
    PLAIN(other, x, y)
    assert len(looks) == 2, "each model's"
    for _ in range(3):
        PLAIN(model.eval(), x, y)
    assert len(looks) == 5, "all of them where nothing learns"


# Models


@our_doors
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_any_precision_are_attacked(door, dtype):
    x, y = batch()
    found, expected = answer(door, network().to(dtype), x, y), answer(door, network(), x, y)
    tolerance = {"rtol": 0.1, "atol": 2.0 if expected.dtype == torch.int64 else 0.07}
    assert torch.allclose(found.double(), expected.double(), **tolerance)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_images_in_half_precision_stay_inside_the_ball(attack):
    x, y = batch()
    x = x.half()
    found = attack(network().half(), x, y)
    assert found.dtype == torch.float16
    assert 0 < (found.double() - x.double()).abs().max() <= LINF.eps
    assert 0 <= found.min() <= found.max() <= 1


@our_doors
def test_every_door_is_open_inside_inference_mode(door):
    expected = answer(door, network(), *batch()) if door is not LOSSES["free-at"] else None
    model = network()
    with torch.inference_mode():
        x, y = batch()  # made inside, so no gradient could pass them
        if expected is None:
            with pytest.raises(ValueError, match="free_at climbs by the gradient of the backward pass"):
                door(model, x, y)
            return
        assert torch.equal(answer(door, model, x, y), expected)
        assert torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()


def test_attacking_inside_inference_mode_does_not_switch_gradients_on():
    model = network()
    with torch.inference_mode(), attacking(model):
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()
    with torch.enable_grad(), attacking(model):
        assert torch.is_grad_enabled()


@our_doors
def test_weights_made_inside_inference_mode_are_named(door):
    with torch.inference_mode():
        model = network()
    if door in (
        LOSSES["natural"],
        LOSSES["free-at"],
    ):  # torch's own business: they train, which nobody does with such weights
        return
    with pytest.raises(
        ValueError, match=r"weights were made inside torch.inference_mode, and no gradient can pass them"
    ):
        door(model, *batch())


@every_door
@pytest.mark.parametrize("how", ["script", "trace", "freeze"])
def test_scripted_networks_are_taken_as_they_are(door, how):
    model, (x, y) = network().eval(), batch()
    expected = answer(door, model, x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        scripted = torch.jit.trace(model, x) if how == "trace" else torch.jit.script(model)
        scripted = torch.jit.freeze(scripted) if how == "freeze" else scripted
    assert torch.allclose(answer(door, scripted, x, y), expected, atol=1e-5)


@our_doors
def test_what_is_no_module_is_named(door, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match=r"model is a function, expected a torch.nn.Module that returns logits"):
        door(lambda x: x, *batch())


def test_exported_programs_are_refused_where_they_would_have_to_change_their_mode():
    x, y = batch()
    program = torch.export.export(network().eval(), (x,)).module()
    for door in ATTACKS.values():
        with pytest.raises(TypeError, match=r"has no eval mode, as programs of torch.export are: give the module"):
            door(program, x, y)
