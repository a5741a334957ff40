import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harp.data import Augment, ImageData, Images, InMemory, split


def some_images(n: int = 12, augment: Augment | None = None) -> InMemory:
    """Image i is filled with i / 255, its label is i mod 3."""
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 2, 4, 5).contiguous()
    return InMemory(images, torch.arange(n) % 3, augment or Augment())


def pixels(images: Images) -> torch.Tensor:
    return next(images.batches(torch.arange(len(images)), len(images)))[0]


def test_in_memory_images_are_images():
    images = some_images()
    assert isinstance(images, Images)
    assert (len(images), images.shape) == (12, (2, 4, 5))


def test_batches_follow_the_order_as_floats_between_0_and_1():
    order = torch.tensor([7, 0, 7, 11, 3])
    batches = list(some_images().batches(order, 2))
    assert [len(y) for _, y in batches] == [2, 2, 1]
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    assert x.dtype == torch.float32
    assert torch.equal(x[:, 0, 0, 0], order / 255)
    assert torch.equal(y, order % 3)


def test_bytes_stay_bytes_in_memory():
    assert some_images().subset(torch.tensor([1, 2])).images.dtype == torch.uint8


def test_a_batch_is_a_copy_that_may_be_changed():
    images = InMemory(torch.rand(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64))
    before = images.images.clone()
    for x, _ in images.batches(torch.arange(4), 4, augment_seed=1):
        x.zero_()
    assert torch.equal(images.images, before)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), batch_size=st.integers(1, 5), seed=st.integers(0, 2**63 - 1))
def test_an_epoch_entered_in_the_middle_gives_the_rest_of_its_images(data, batch_size, seed):
    order = torch.tensor(data.draw(st.permutations(range(12))))
    images = InMemory(torch.rand(12, 1, 6, 6), torch.arange(12), Augment(pad=2, flip=True))
    whole = list(images.batches(order, batch_size, augment_seed=seed))
    skip = data.draw(st.integers(0, len(whole)))
    torch.rand(3)  # the global generator has moved on since
    rest = list(images.batches(order[skip * batch_size :], batch_size, augment_seed=seed))
    assert len(rest) == len(whole) - skip
    for (x, y), (again, labels) in zip(whole[skip:], rest, strict=True):
        assert torch.equal(x, again)
        assert torch.equal(y, labels)


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(12)), batch_size=st.integers(1, 12))
def test_an_image_is_augmented_alike_wherever_it_comes_in_the_order(order, batch_size):
    images = InMemory(torch.rand(12, 1, 6, 6), torch.arange(12), Augment(pad=2, flip=True))
    sorted_x, _ = next(images.batches(torch.arange(12), 12, augment_seed=8))
    x = torch.cat([x for x, _ in images.batches(torch.tensor(order), batch_size, augment_seed=8)])
    assert torch.equal(x, sorted_x[order])


def test_augmentation_leaves_the_global_generator_alone():
    images = some_images(augment=Augment(pad=1, flip=True))
    before = torch.get_rng_state()
    list(images.batches(torch.arange(12), 5, augment_seed=3))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_seed_nothing_is_augmented():
    images = some_images(augment=Augment(pad=2, flip=True))
    x, _ = next(images.batches(torch.arange(12), 12))
    assert torch.equal(x, images.images / 255)


def test_an_empty_order_has_no_batches():
    assert list(some_images().batches(torch.arange(0), 3)) == []


@pytest.mark.parametrize(
    ("order", "batch_size", "message"),
    [
        (torch.arange(3), 0, "batch_size=0"),
        (torch.tensor([0, 12]), 2, "there are 12 images"),
        (torch.tensor([-1, 0]), 2, "from -1"),
        (torch.tensor([0.5]), 2, "vector of int64"),
        (torch.zeros(2, 2, dtype=torch.int64), 2, "vector of int64"),
    ],
)
def test_impossible_orders_are_refused(order, batch_size, message):
    with pytest.raises(ValueError, match=message):
        list(some_images().batches(order, batch_size))


LABELS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.full((2, 1, 2, 2), 1.01), LABELS, r"images lie in \[1.01, 1.01\].*Divide by 255"),
        (torch.full((2, 1, 2, 2), -0.5), LABELS, r"images lie in \[-0.5"),
        (torch.full((2, 1, 2, 2), torch.nan), LABELS, "images lie in"),
        (torch.rand(2, 1, 2, 2).double(), LABELS, "float64"),
        (torch.rand(2, 4), LABELS, r"shape \(2, 4\)"),
        (torch.rand(2, 1, 2, 2), torch.tensor([0, 1, 2]), r"expected integers and \(2,\)"),
        (torch.rand(2, 1, 2, 2), torch.tensor([0.0, 1.0]), "float32"),
        (torch.rand(2, 1, 2, 2), torch.tensor([0, -1]), "a label is -1"),
        (torch.rand(0, 1, 2, 2), torch.tensor([], dtype=torch.int64), "there are no images"),
    ],
)
def test_tensors_that_are_no_labelled_images_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        InMemory(images, labels)


@pytest.mark.parametrize(
    ("images", "labels", "named"),
    [(torch.rand(2, 1, 2, 2), [0, 1], "labels"), (torch.rand(2, 1, 2, 2).numpy(), LABELS, "images")],
)
def test_lists_and_arrays_are_refused_with_the_word_that_makes_tensors(images, labels, named, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match=rf"{named} is a \w+: expected a tensor, torch.as_tensor\({named}\)"):
        InMemory(images, labels)


def test_a_data_set_can_be_made_of_tensors():
    data = ImageData("mine", ("a", "b", "c"), some_images(), some_images(6), validation=some_images(3))
    assert data.shape == (2, 4, 5)
    assert ImageData("mine", ("a", "b", "c"), some_images(), some_images()).validation is None


@pytest.mark.parametrize("part", ["train", "test", "validation"])
def test_a_label_without_a_class_is_refused(part):
    splits = {"train": some_images(2), "test": some_images(2), "validation": some_images(2), part: some_images(3)}
    with pytest.raises(ValueError, match=f"a label of {part} is 2"):
        ImageData("mine", ("a", "b"), **splits)


def test_splits_of_different_shapes_are_refused():
    other = InMemory(torch.rand(1, 2, 4, 4), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"images of test are \(2, 4, 4\), those of train \(2, 4, 5\)"):
        ImageData("mine", ("a", "b", "c"), some_images(), other)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="two or more"):
        ImageData("mine", ("a",), some_images(1), some_images(1))


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(0, 15), min_size=2, max_size=4).filter(lambda counts: max(counts) > 1),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**63 - 1),
)
def test_a_split_is_stratified_and_loses_and_doubles_nothing(counts, fraction, seed):
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    parts = split(InMemory(images, labels), fraction, seed)
    again = split(InMemory(images, labels), fraction, seed)
    assert all(torch.equal(pixels(a), pixels(b)) for a, b in zip(parts, again, strict=True))
    assert sorted(torch.cat([pixels(part) * 255 for part in parts]).flatten().round().tolist()) == list(
        range(len(labels))
    )
    for label, count in enumerate(counts):
        held = int((parts[1].labels == label).sum())
        assert abs(held - fraction * count) <= 1
        if count > 1:
            assert 0 < held < count


def test_another_seed_gives_another_split():
    images = some_images(60)
    assert not torch.equal(pixels(split(images, 0.5, 0)[1]), pixels(split(images, 0.5, 1)[1]))


def test_a_split_is_the_same_on_every_machine():
    _, validation = split(some_images(), 0.25, 0)
    assert (pixels(validation)[:, 0, 0, 0] * 255).round().tolist() == [1, 9, 11]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_split_into_nothing_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction="):
        split(some_images(), fraction, 0)


def test_single_images_of_every_class_cannot_be_split():
    with pytest.raises(ValueError, match="too few"):
        split(some_images(3), 0.5, 0)
