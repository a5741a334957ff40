"""What cannot be evaluated is refused, with what is wrong."""

import pytest
from evaluated_networks import PLAIN, QUICK, images, linear
from torch import nn

from harp.data import InMemory
from harp.evaluation import evaluate, evaluation_order


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
