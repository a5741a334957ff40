"""Extra images from an `.npz`: a share of every batch, the same ones after an interruption, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harp.data import InMemory
from harp.data.augment import Augment
from harp.data.extra import WithExtra, read_npz, with_extra


def own(n: int = 20) -> InMemory:
    return InMemory(torch.zeros(n, 3, 4, 4), torch.zeros(n, dtype=torch.int64))


def written(path: Path, n: int = 50, **arrays: np.ndarray) -> Path:
    numbers = np.arange(n, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None] + 100, (n, 4, 4, 3))
    np.savez(path, **({"image": images, "label": np.ones(n, dtype=np.int64)} | arrays))
    return path


def test_the_last_images_of_every_batch_are_extra_ones(tmp_path: Path):
    """Of 8, 8 and 4 images the last 6, 6 and 3."""
    images = with_extra(own(), written(tmp_path / "more.npz"), 0.75, classes=2)
    batches = list(images.batches(torch.arange(20), 8, augment_seed=3))
    assert [y.tolist() for _, y in batches] == [[0] * 2 + [1] * 6, [0] * 2 + [1] * 6, [0] + [1] * 3]
    for x, y in batches:
        assert (x[y == 0] == 0).all()
        assert (x[y == 1] >= 100 / 255).all()
    assert len(images) == 20


def test_which_ones_depends_on_the_seed_and_the_place_alone(tmp_path: Path):
    images = with_extra(own(), written(tmp_path / "more.npz"), 0.5, classes=2)
    whole = list(images.batches(torch.arange(20), 4, augment_seed=7))
    rest = list(images.batches(torch.arange(8, 20), 4, augment_seed=7))
    for (x, y), (x_again, y_again) in zip(whole[2:], rest, strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)
    other = list(images.batches(torch.arange(20), 4, augment_seed=8))
    assert any(not torch.equal(a, b) for (a, _), (b, _) in zip(whole, other, strict=True))


def test_all_of_the_file_takes_part(tmp_path: Path):
    images = with_extra(own(), written(tmp_path / "more.npz", n=5), 1.0, classes=2)
    seen = {float(x.mean()) for seed in range(20) for x, _ in images.batches(torch.arange(20), 1, augment_seed=seed)}
    assert len(seen) == 5


def test_a_share_that_rounds_to_no_image_leaves_a_batch_as_it_is():
    images = WithExtra(own(), own(), 0.1)
    ((x, y),) = images.batches(torch.arange(4), 4)
    assert torch.equal(x, own(4).images)
    assert y.tolist() == [0] * 4


def test_they_are_augmented_as_the_others_are(tmp_path: Path):
    mine = InMemory(torch.zeros(4, 3, 4, 4), torch.zeros(4, dtype=torch.int64), augment=Augment(pad=3))
    images = with_extra(mine, written(tmp_path / "more.npz"), 1.0, classes=2)
    assert any((x == 0).any() for x, _ in images.batches(torch.arange(4), 1, augment_seed=0))


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_both_orders_of_channels_are_read(tmp_path: Path, layout: str):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    stored = pixels if layout == "nhwc" else pixels.transpose(0, 3, 1, 2)
    found = read_npz(written(tmp_path / "more.npz", n=6, image=stored))
    assert torch.equal(found.images, torch.from_numpy(pixels).permute(0, 3, 1, 2))


def test_nothing_is_unpickled(tmp_path: Path):
    labels = np.array([{"a": 1}] * 50, dtype=object)
    with pytest.raises(ValueError, match=r"is not an \.npz of images and labels: Object arrays cannot be loaded"):
        read_npz(written(tmp_path / "more.npz", label=labels))


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path):
    file = written(tmp_path / "more.npz")
    with pytest.raises(ValueError, match=r"has images of \(3, 4, 4\), the data set of \(1, 8, 8\)"):
        with_extra(InMemory(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)), file, 0.5, classes=2)
    with pytest.raises(ValueError, match="has the label 1, and the data set 1 classes"):
        with_extra(own(), file, 0.5, classes=1)
    with pytest.raises(ValueError, match="is not a file"):
        read_npz(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", pixels=np.zeros(3))
    with pytest.raises(ValueError, match=r"it holds \['pixels'\], expected 'image' and 'label'"):
        read_npz(tmp_path / "other.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"is not an \.npz"):
        read_npz(tmp_path / "broken.npz")
