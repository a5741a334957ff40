import numpy as np
import pytest
import torch
from PIL import Image

from harp.data import Streamed, load_data


@pytest.fixture
def photographs(tmp_path):
    """Two classes of photographs of 80 × 60 pixels whose red grows to the right and green downwards."""
    rows, columns = np.mgrid[0:60, 0:80]
    pixels = np.stack([columns * 3, rows * 4, np.zeros_like(rows)], 2).astype(np.uint8)
    for split in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def test_photographs_are_streamed_at_224_pixels(photographs):
    data = load_data("imagenet", root=photographs, workers=0)
    assert isinstance(data.train, Streamed)
    assert (data.shape, data.classes, len(data.test)) == ((3, 224, 224), ("n01440764", "n01443537"), 4)
    x, y = next(data.test.batches(torch.tensor([3, 0]), 2))
    assert x.shape == (2, 3, 224, 224)
    assert y.tolist() == [1, 0]


def test_the_plain_view_is_the_centre(photographs):
    x, _ = next(load_data("imagenet", root=photographs, image_size=32, workers=0).train.batches(torch.arange(1), 1))
    # The shorter side becomes 37 pixels of 60: the middle 32 of them span 52 source pixels around (40, 30).
    centre = x[0, :, 15:17, 15:17].mean((1, 2)) * 255
    torch.testing.assert_close(centre, torch.tensor([39.5 * 3, 29.5 * 4, 0]), atol=3, rtol=0)
    assert x[0, 0, 16, 0] * 255 == pytest.approx((39.5 - 16 * 60 / 37) * 3, abs=5)


def test_the_augmented_view_depends_on_seed_and_image_alone(photographs):
    train = load_data("imagenet", root=photographs, image_size=16, workers=0).train
    order = torch.tensor([2, 0, 3, 1])
    first = torch.cat([x for x, _ in train.batches(order, 1, augment_seed=4)])
    torch.rand(5)
    again = torch.cat([x for x, _ in train.batches(order[2:], 2, augment_seed=4)])
    other = torch.cat([x for x, _ in train.batches(order, 4, augment_seed=5)])
    assert torch.equal(first[2:], again)
    assert not torch.equal(first, other)
    assert len({tuple(x.flatten().tolist()) for x in first}) == 4


def test_augmentation_leaves_the_global_generator_alone(photographs):
    train = load_data("imagenet", root=photographs, image_size=16, workers=0).train
    before = torch.get_rng_state()
    list(train.batches(torch.arange(4), 2, augment_seed=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_single_tree_is_not_imagenet(photographs):
    with pytest.raises(ValueError, match="has no train/<class>/ and val/<class>/"):
        load_data("imagenet", root=photographs / "train")
