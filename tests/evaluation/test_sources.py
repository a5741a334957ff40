"""An evaluation takes images as people have them, and finds the same in every form."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

from harp.attacks import PGD, Threat
from harp.data import InMemory
from harp.evaluation import evaluate

IMAGES = 37
ATTACK = PGD(Threat("linf", 0.2), steps=3)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


X = torch.rand(IMAGES, 1, 4, 4, generator=torch.Generator().manual_seed(1))
Y = network()(X).argmax(1)


class Pairs(Dataset):
    """Reads one item at a time, and counts."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read.append(int(index))
        return X[index], int(Y[index])


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y.tolist(), strict=True)


FORMS = {
    "tensors": lambda: (X, Y),
    "list": lambda: [X, Y.int()],
    "dataset": lambda: TensorDataset(X, Y),
    "lazy dataset": Pairs,
    "loader": lambda: DataLoader(Pairs(), batch_size=5),
    "shuffled loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=10, shuffle=True, drop_last=True),
    "stream": Stream,
    "loader of a stream": lambda: DataLoader(Stream(), batch_size=4),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("images", [None, 10])
def test_every_form_of_the_same_images_gives_the_same_result(form, images):
    expected = evaluate(network(), InMemory(X, Y), ATTACK, images=images, batch_size=8)
    found = evaluate(network(), FORMS[form](), ATTACK, images=images, batch_size=8)
    assert 0 < expected.correct < expected.images
    assert replace(found, elapsed_s=0.0) == replace(expected, elapsed_s=0.0)


def test_only_the_images_that_are_asked_for_are_read():
    pairs = Pairs()
    evaluate(network(), pairs, images=5)
    assert len(pairs.read) == 5


def test_a_sampler_says_which_images_there_are():
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, sampler=SubsetRandomSampler([1, 2, 3]))
    assert evaluate(network(), loader).images == 3


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (TensorDataset(X), ValueError, "batches of Tensor: expected two tensors"),
        (TensorDataset(X * 2, Y), ValueError, r"images lie in .*: expected \[0, 1\]"),
        (DataLoader([{"x": 1.0}] * 3), ValueError, "batches of dict"),
        ((X, Y.float()), ValueError, "labels has type torch.float32"),
        ((X, Y[:-1]), ValueError, "one for every image"),
        ("digits", TypeError, "data is a str: expected Images"),
    ],
    ids=["no labels", "not in [0, 1]", "dicts", "labels that are none", "too few labels", "a name"],
)
def test_what_holds_no_labelled_images_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        evaluate(network(), data)
