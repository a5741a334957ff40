"""What `load_data` finds by name, and the data set that needs no files."""

import pytest
import torch

from harp.data import DATASETS, Augment, InMemory, load_data


def test_digits_are_stratified_floats_on_a_scale_of_sixteenths():
    data = load_data("digits")
    assert (data.name, data.shape, data.classes) == ("digits", (1, 8, 8), tuple("0123456789"))
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert isinstance(data.train, InMemory)
    assert torch.equal(data.train.images * 16, (data.train.images * 16).round())
    assert data.train.images.max() == 1
    # Every digit occurs 174 to 183 times; a fifth of each is held back.
    assert data.test.labels.bincount().min() >= 35
    assert data.test.labels.bincount().max() <= 37


def test_digits_are_the_same_every_time_and_not_augmented():
    first, second = load_data("digits"), load_data("digits")
    x, y = next(first.train.batches(torch.arange(64), 64, augment_seed=1))
    again, labels = next(second.train.batches(torch.arange(64), 64))
    assert torch.equal(x, again)
    assert torch.equal(y, labels)


def test_the_augmentation_can_be_replaced():
    data = load_data("digits", augment=Augment(pad=1))
    plain, moved = (next(data.train.batches(torch.arange(32), 32, augment_seed=seed))[0] for seed in (None, 1))
    assert not torch.equal(plain, moved)


def test_digits_can_be_made_smaller():
    assert load_data("digits", image_size=4).shape == (1, 4, 4)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="name='mnist': expected one of digits, fashion-mnist, cifar10"):
        load_data("mnist")


@pytest.mark.parametrize("name", ["digits", "folder", "imagenet"])
def test_what_cannot_be_downloaded_says_so(name):
    with pytest.raises(ValueError, match="download=True"):
        load_data(name, download=True)


def test_digits_need_no_root(tmp_path):
    with pytest.raises(ValueError, match=r"leave --task\.root out"):
        load_data("digits", root=tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "fashion-mnist"])
def test_a_missing_file_is_named_with_the_flag_that_gets_it(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/.+ is missing.*--task\.download") as caught:
        load_data(name, root=tmp_path)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["folder", "imagenet"])
def test_a_folder_needs_a_root_that_exists(name, tmp_path):
    with pytest.raises(ValueError, match=r"--task\.root"):
        load_data(name)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_data(name, root=tmp_path / "nowhere")


@pytest.mark.parametrize("name", DATASETS)
def test_impossible_options_are_refused(name):
    with pytest.raises(ValueError, match="image_size=0"):
        load_data(name, image_size=0)
    with pytest.raises(ValueError, match="workers=-1"):
        load_data(name, workers=-1)
