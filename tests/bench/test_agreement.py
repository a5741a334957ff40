"""A wrong result is refused, and so is one in a coarser arithmetic that would pass for float32."""

import numpy as np
import pytest
import torch

from harp.bench.agreement import check_agreement, deviation

EXPECTED = np.array([[1.0, -4.0], [0.5, 2.0]], np.float32)


def test_the_deviation_is_relative_to_the_largest_output():
    assert deviation(EXPECTED + np.float32(0.5), EXPECTED) == pytest.approx(0.125)
    assert deviation(np.zeros(3), np.zeros(3)) == 0
    assert deviation(np.ones(3), np.zeros(3)) == float("inf")
    assert deviation(np.full(3, np.nan), np.ones(3)) == float("inf")


def test_sums_in_another_order_pass():
    assert check_agreement({"other": EXPECTED * (1 + np.float32(1e-6))}, EXPECTED)["other"] < 1e-5


def test_bfloat16_does_not_pass_for_float32():
    weight, x = torch.randn(64, 64), torch.rand(8, 64)
    coarse = (x.bfloat16() @ weight.bfloat16()).float()
    with pytest.raises(ValueError, match="openvino deviates from PyTorch"):
        check_agreement({"openvino": coarse.numpy()}, (x @ weight).numpy())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (EXPECTED * 1.01, "quick deviates from PyTorch by 1.0e-02"),
        (np.full_like(EXPECTED, np.nan), "quick deviates from PyTorch by inf"),
        (EXPECTED[:1], r"quick gives outputs of shape \(1, 2\), expected \(2, 2\)"),
    ],
)
def test_a_wrong_result_names_its_engine(wrong, message):
    with pytest.raises(ValueError, match=message):
        check_agreement({"right": EXPECTED, "quick": wrong}, EXPECTED)


def test_a_network_without_finite_outputs_is_no_measure():
    with pytest.raises(ValueError, match="not finite"):
        check_agreement({"any": EXPECTED}, EXPECTED * np.inf)
