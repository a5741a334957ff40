"""Three layers of 8, 4 and 2 weights; every number below was worked out on paper, the working beside it."""

import pytest
import torch

from harp.pruning import GLOBAL, LAMP, LWM, attach_masks, freeze_masks, masks, weight_budget
from harp.pruning.keeps import erk, global_magnitude, lamp

A = [[4.0, 3.0, 2.0, 1.0], [0.4, 0.3, 0.2, 0.1]]  # 2 × 4
B = [[0.9, 0.8], [0.1, 0.05]]  # 2 × 2
C = [[0.6], [0.5]]  # 2 × 1
WEIGHTS = {"a": torch.tensor(A), "b": torch.tensor(B), "c": torch.tensor(C)}


def test_erk_without_a_full_layer():
    """Raw densities Σdims/Πdims: a 6/8, b 4/4, c 3/2; times sizes: 6, 4, 3, together 13.
    keep 0.25 of 14 is 3.5 weights, so the scale is 3.5/13 and the densities 0.75, 1, 1.5 times that."""
    assert erk(WEIGHTS, 0.25) == pytest.approx({"a": 0.2019230769, "b": 0.2692307692, "c": 0.4038461538})


def test_erk_with_a_full_layer():
    """keep 0.7 of 14 is 9.8: scale 9.8/13 = 0.7538, c would be 1.13 > 1, so c is dense (2 weights).
    The rest, 7.8 over 6 + 4: scale 0.78, a 0.585, b 0.78. Check: 8·0.585 + 4·0.78 + 2 = 9.8."""
    assert erk(WEIGHTS, 0.7) == pytest.approx({"a": 0.585, "b": 0.78, "c": 1.0})


def test_global_magnitude():
    """The 7 largest of 14: 4, 3, 2, 1 | 0.9, 0.8 | 0.6. Shares 4/8, 2/4, 1/2."""
    assert global_magnitude(WEIGHTS, 0.5) == {"a": 0.5, "b": 0.5, "c": 0.5}


def test_lamp():
    """LAMP score = w² / (sum of squares not smaller in its layer).
    a: 16/16 = 1, 9/25 = 0.36, 4/29 = 0.138, 1/30 = 0.033, 0.16/30.16 = 0.0053, …
    b: 0.81/0.81 = 1, 0.64/1.45 = 0.441, 0.01/1.46 = 0.0068, …
    c: 0.36/0.36 = 1, 0.25/0.61 = 0.410.
    In order: 1, 1, 1, 0.441 (b), 0.410 (c), 0.36 (a), 0.138 (a), 0.033 (a). The 7 largest: a 3, b 2, c 2."""
    assert lamp(WEIGHTS, 0.5) == {"a": 3 / 8, "b": 2 / 4, "c": 2 / 2}


def network() -> torch.nn.Sequential:
    model = torch.nn.Sequential(*[torch.nn.Linear(len(w[0]), 2, bias=False) for w in (A, B, C)])
    with torch.no_grad():
        for layer, weight in zip(model, (A, B, C), strict=True):
            layer.weight.copy_(torch.tensor(weight))
    return model


@pytest.mark.parametrize(
    ("method", "a", "b", "c"),
    [
        (LWM, [1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0], [1, 0]),
        (GLOBAL, [1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0], [1, 0]),
        (LAMP, [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 0], [1, 1]),
    ],
    ids=["lwm", "global", "lamp"],
)
def test_masks_at_one_half(method, a, b, c):
    """Uniform at 0.5 gives 4, 2, 1 too: here it agrees with the one threshold, LAMP does not."""
    model = network()
    attach_masks(model, weight_budget(model, keep=0.5), method)
    freeze_masks(model)
    assert [m.current().flatten().int().tolist() for m in masks(model).values()] == [a, b, c]


def test_global_leaves_a_weight_in_a_layer_below_the_threshold():
    """keep 4/14: the four largest are all of layer a. b and c keep one each all the same, so a keeps 2."""
    model = network()
    attach_masks(model, weight_budget(model, keep=4 / 14), GLOBAL)
    freeze_masks(model)
    assert [m.current().flatten().int().tolist() for m in masks(model).values()] == [
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0],
        [1, 0],
    ]
