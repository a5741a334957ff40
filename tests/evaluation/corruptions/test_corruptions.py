"""Fifteen corruptions of images of any size: in [0, 1], repeatable, and severer from 1 to 5."""

import numpy as np
import pytest
from scipy import ndimage

from harp.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupted

SIZES = [(1, 8, 8), (3, 32, 32), (3, 40, 24), (2, 16, 16)]
UNORDERED = {"elastic", "glass blur", "frost"}
"""Their five strengths trade one parameter for another, as in the original."""


def pictures(shape: tuple[int, ...] = (3, 32, 32), n: int = 4) -> np.ndarray:
    rough = np.random.default_rng(0).random((n, *shape))
    smooth = ndimage.gaussian_filter(rough, (0, 0, shape[1] / 16, shape[2] / 16))
    return ((smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.float32)


def test_there_are_the_fifteen_of_the_benchmark():
    assert len(CORRUPTIONS) == 15
    assert SEVERITIES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_images_of_any_size_stay_images(name, shape):
    x = pictures(shape)
    for severity in (1, 5):
        made = corrupted(x, [0, 1, 2, 3], name, severity)
        assert (made.shape, made.dtype) == (x.shape, np.float32)
        assert made.min() >= 0
        assert made.max() <= 1


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_changes_the_image_the_same_way_every_time_and_with_other_numbers_in_another(name):
    x = pictures()
    made = corrupted(x, [0, 1, 2, 3], name, 3)
    assert np.abs(made - x).mean() > 1e-3
    assert np.array_equal(made, corrupted(x, [0, 1, 2, 3], name, 3))
    assert np.array_equal(made[1:2], corrupted(x[1:2], [1], name, 3)), "what is beside an image does not matter"
    if name not in ("defocus blur", "zoom blur", "brightness", "contrast", "pixelate", "jpeg"):
        assert not np.array_equal(made, corrupted(x, [4, 5, 6, 7], name, 3))
        assert not np.array_equal(made, corrupted(x, [0, 1, 2, 3], name, 3, seed=1))


@pytest.mark.parametrize("name", sorted(CORRUPTIONS.keys() - UNORDERED))
def test_the_fifth_severity_changes_more_than_the_first(name):
    x = pictures()
    mild, severe = (np.abs(corrupted(x, [0, 1, 2, 3], name, severity) - x).mean() for severity in (1, 5))
    assert severe > 1.2 * mild


def test_a_black_and_a_white_image_survive_all_of_them():
    for value in (0.0, 1.0):
        x = np.full((1, 3, 16, 16), value, dtype=np.float32)
        for name in CORRUPTIONS:
            assert np.isfinite(corrupted(x, [0], name, 5)).all()


def test_contrast_brightness_and_impulses_are_what_they_say():
    x = pictures()
    assert np.allclose(corrupted(x, [0] * 4, "contrast", 1).std(), 0.75 * x.std(), rtol=0.05)
    assert np.allclose((corrupted(x, [0] * 4, "brightness", 2).max(1) - x.max(1)).max(), 0.1, atol=1e-6)
    salted = corrupted(np.full((1, 1, 64, 64), 0.5, dtype=np.float32), [0], "impulse noise", 5)
    assert np.isclose((salted != 0.5).mean(), 0.07, atol=0.01)


@pytest.mark.parametrize(
    ("name", "severity", "said"), [("rain", 1, "name='rain' is not"), ("fog", 6, "severity=6 must be")]
)
def test_what_is_not_there_is_refused(name, severity, said):
    with pytest.raises(ValueError, match=said):
        corrupted(pictures(), [0, 1, 2, 3], name, severity)
