import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harp.data.augment import Augment, hash_index

SEEDS = st.integers(-(2**70), 2**70)


def splitmix64(state: int, count: int) -> list[int]:
    """The published generator, in Python's unbounded integers."""
    values = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        values.append(z ^ (z >> 31))
    return values


def test_the_hash_is_splitmix64_started_at_the_hashed_seed():
    assert splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    start = splitmix64(1234567, 1)[0]
    hashed = hash_index(torch.arange(3), 1234567)
    assert [value % 2**64 for value in hashed.tolist()] == splitmix64(start, 3)


def test_every_crop_is_a_window_of_the_padded_image_perhaps_mirrored_and_all_occur_equally_often():
    pad, n = 1, 3600
    image = torch.arange(1, 19, dtype=torch.uint8).view(1, 2, 3, 3)
    padded = torch.nn.functional.pad(image[0], (pad,) * 4)
    windows = [padded[:, top : top + 3, left : left + 3] for top in range(3) for left in range(3)]
    possible = torch.stack(windows + [window.flip(2) for window in windows])
    out = Augment(pad=pad, flip=True)(image.expand(n, -1, -1, -1), torch.arange(n), seed=5)
    matches = (out[:, None] == possible).flatten(2).all(2)
    assert (matches.sum(1) == 1).all()
    # 18 outcomes, 200 each on average; five standard deviations of a binomial are 69.
    assert (matches.sum(0) - n / 18).abs().max() < 69


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, start=st.integers(0, 2**40), cut=st.integers(0, 6))
def test_an_image_is_augmented_alike_in_every_batch(seed, start, cut):
    index = torch.arange(start, start + 6)
    images = torch.rand(6, 1, 4, 5)
    augment = Augment(pad=2, flip=True)
    whole = augment(images, index, seed)
    parts = [augment(images[part], index[part], seed) for part in (slice(0, cut), slice(cut, 6)) if len(index[part])]
    assert torch.equal(whole, torch.cat(parts))


def test_seeds_and_indices_both_change_the_draw():
    images = torch.rand(1, 1, 8, 8).expand(64, -1, -1, -1)
    augment = Augment(pad=4, flip=True)
    first = augment(images, torch.arange(64), 0)
    assert not torch.equal(first, augment(images, torch.arange(64), 1))
    assert not torch.equal(first, augment(images, torch.arange(64, 128), 0))
    assert len({tuple(image.flatten().tolist()) for image in first}) > 40


def test_without_padding_and_flip_nothing_changes():
    images = torch.rand(3, 1, 4, 4)
    assert torch.equal(Augment()(images, torch.arange(3), 7), images)


def test_negative_padding_is_refused():
    with pytest.raises(ValueError, match="pad=-1"):
        Augment(pad=-1)
