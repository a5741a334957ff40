from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from harp.data import InMemory, load_data
from harp.data.svhn import read_mat

LABELS = np.array([[1], [9], [10]], np.uint8)


def some_pixels(n: int = 3) -> np.ndarray:
    return (np.arange(32 * 32 * 3 * n) % 256).astype(np.uint8).reshape(32, 32, 3, n)


def write_both(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    for name in ("train_32x32.mat", "test_32x32.mat"):
        savemat(directory / name, {"X": some_pixels(), "y": LABELS}, do_compression=True)


@pytest.mark.parametrize("place", ["", "svhn"])
def test_the_ten_is_a_zero_and_digits_are_never_mirrored(tmp_path, place):
    write_both(tmp_path / place)
    data = load_data("svhn", root=tmp_path)
    assert data.train.labels.tolist() == [1, 9, 0]
    assert isinstance(data.train, InMemory)
    assert (data.train.augment.pad, data.train.augment.flip) == (4, False)
    assert data.train.images[2, 1, 3, 4] == some_pixels()[3, 4, 1, 2]


@pytest.mark.parametrize(
    "content",
    [
        {"X": some_pixels()},
        {"X": some_pixels(), "y": LABELS[:2]},
        {"X": some_pixels()[:16], "y": LABELS},
        {"X": some_pixels().astype(np.float64), "y": LABELS},
        {"X": some_pixels(), "y": LABELS + 1},
        {"X": some_pixels(), "y": LABELS - 1},
    ],
    ids=["no labels", "too few labels", "half images", "floats", "label 11", "label 0"],
)
def test_other_contents_are_refused_with_the_path(tmp_path, content):
    path = tmp_path / "train.mat"
    savemat(path, content)
    with pytest.raises(ValueError, match=f"cannot read {path}"):
        read_mat(path)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_file_is_refused_with_its_path(tmp_path, data):
    whole = tmp_path / "whole.mat"
    savemat(whole, {"X": some_pixels(), "y": LABELS}, do_compression=True)
    content = whole.read_bytes()
    path = tmp_path / "cut.mat"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=f"cannot read {path}"):
        read_mat(path)


def test_smaller_images(tmp_path):
    write_both(tmp_path)
    data = load_data("svhn", root=tmp_path, image_size=16)
    assert data.shape == (3, 16, 16)
    assert torch.equal(data.test.labels, torch.tensor([1, 9, 0]))
