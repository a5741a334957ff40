"""A fingerprint tells two data sets apart, says what changed, and reads no image file of a folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harp.data import ImageData, InMemory, load_data
from harp.data.fingerprint import differences, fingerprint
from harp.data.images import ImageData as Data


def write(root: Path, *names: str, side: int = 6) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(sum(name.encode()))
        Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(root / name)


def folder(root: Path) -> Path:
    write(root, *(f"{part}/{name}/{n}.png" for part in ("train", "test") for name in ("cat", "dog") for n in range(3)))
    return root


def taken(root: Path, **how) -> dict:
    """As it comes back from a file."""
    return json.loads(json.dumps(fingerprint(load_data("folder", root=root, image_size=4, **how))))


def test_nothing_differs_in_a_folder_that_stays_or_moves(tmp_path):
    before = taken(folder(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert differences(before, taken(tmp_path / "there")) == []


def test_files_that_came_went_or_changed_are_named(tmp_path):
    before = taken(folder(tmp_path))
    write(tmp_path, "train/cat/3.png")
    (tmp_path / "test" / "dog" / "0.png").unlink()
    (tmp_path / "test" / "dog" / "1.png").unlink()
    write(tmp_path, "train/dog/2.png", side=12)
    assert differences(before, taken(tmp_path)) == [
        "train/cat/3.png was added",
        "test/dog/0.png, test/dog/1.png were removed",
        "train/dog/2.png was replaced by files of other sizes",
    ]


def test_of_many_files_some_are_named_and_the_others_counted(tmp_path):
    before = taken(folder(tmp_path))
    write(tmp_path, *(f"train/cat/{number}.png" for number in range(10, 20)))
    (found,) = differences(before, taken(tmp_path))
    assert found.startswith("train/cat/10.png, train/cat/11.png")
    assert found.endswith("and 5 more files were added")


def test_of_a_large_set_folders_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("harp.data.listing.NAMED", 5)
    before = taken(folder(tmp_path))
    assert all("sizes" not in entry for entry in before["folders"].values())
    size = (tmp_path / "train" / "cat" / "0.png").stat().st_size
    write(tmp_path, "train/cat/3.png")
    (found,) = differences(before, taken(tmp_path))
    assert found.startswith("train/cat/ had 3 files of ")
    assert " and has 4 of " in found
    assert before["folders"]["train/cat"]["size_bytes"] >= 3 * (size - 50)


def test_classes_that_came_are_named_and_another_order_is_told(tmp_path):
    before = taken(folder(tmp_path))
    write(tmp_path, "train/ant/0.png", "test/ant/0.png")
    assert "the classes ant were added" in differences(before, taken(tmp_path))
    assert "the classes ant were removed" in differences(taken(tmp_path), before)
    swapped = {**before, "classes": before["classes"][::-1]}
    assert differences(before, swapped) == ["the order of the classes was cat, dog and is dog, cat"]


def test_another_shape_is_told(tmp_path):
    folder(tmp_path)
    other = fingerprint(load_data("folder", root=tmp_path, image_size=6))
    assert differences(taken(tmp_path), other) == ["the images were 3 × 4 × 4 and are 3 × 6 × 6"]


def test_another_way_from_file_to_pixels_is_told_unless_it_was_not_noted(tmp_path):
    data = load_data("folder", root=folder(tmp_path), image_size=4)
    before = fingerprint(data)
    now = fingerprint(replace(data, preprocessing=replace(data.preprocessing, resample="bilinear")))
    assert differences(before, now) == ["preparing an image, resample was 'mean-or-bilinear' and is 'bilinear'"]
    older = {name: value for name, value in before.items() if name != "preprocessing"}
    assert differences(older, now) == []


def test_a_file_that_broke_at_its_size_is_told(tmp_path):
    before = taken(folder(tmp_path))
    path = tmp_path / "train" / "cat" / "1.png"
    path.write_bytes(bytes(path.stat().st_size))
    after = taken(tmp_path, skip_broken=True)
    assert differences(before, after) == ["train/cat/1.png cannot be read any more"]
    assert differences(after, before) == ["train/cat/1.png can be read now"]


def test_no_file_is_read(tmp_path, monkeypatch):
    data = load_data("folder", root=folder(tmp_path), image_size=4)
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    assert fingerprint(data)["folders"]["train/cat"]["files"] == 3


def tensors(n: int = 12, seed: int = 0, name: str = "mine") -> Data:
    draw = torch.Generator().manual_seed(seed)
    train, test = (InMemory(torch.rand(n, 1, 4, 4, generator=draw), torch.arange(n) % 3) for _ in range(2))
    return ImageData(name, ("a", "b", "c"), train, test)


def relabelled(data: Data) -> Data:
    return replace(data, train=InMemory(data.train.images, data.train.labels.flip(0)))


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (tensors(), []),
        (tensors(seed=1), ["the images of train changed", "the images of test changed"]),
        (tensors(15), ["train had 12 images and has 15", "test had 12 images and has 15"]),
        (tensors(name="yours"), ["the data set was 'mine' and is 'yours'"]),
        (relabelled(tensors()), ["the labels of train changed"]),
        (replace(tensors(), validation=tensors().test), ["the validation split was added"]),
    ],
)
def test_tensors_are_told_apart_by_name_number_labels_and_brightness(other, found):
    assert differences(fingerprint(tensors()), json.loads(json.dumps(fingerprint(other)))) == found


def test_pixels_that_another_processor_rounds_differently_are_the_same_images():
    data = tensors()
    rounded = replace(data, train=InMemory((data.train.images * (1 - 1e-5)).clamp(0, 1), data.train.labels))
    assert differences(fingerprint(data), fingerprint(rounded)) == []


def test_a_folder_and_tensors_are_different_things(tmp_path):
    both = fingerprint(tensors()), taken(folder(tmp_path))
    assert "the images come from a folder" in differences(*both)
    assert "the images came from a folder and now do not" in differences(*both[::-1])
