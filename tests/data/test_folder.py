from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from harp.data import InMemory, Streamed, load_data
from harp.data.folder import EXTENSIONS
from harp.recipes import Recipe, Task
from harp.runs.images import open_data


def write_image(path: Path, value: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    pixels[0, 0] = value
    Image.fromarray(pixels).convert(mode).save(path)


def write_tree(root: Path, per_class: int = 3, classes: tuple[str, ...] = ("cat", "dog")) -> None:
    for label, name in enumerate(classes):
        for number in range(per_class):
            write_image(root / name / f"{number}.png", 100 * label + number)


def write_splits(root: Path, test: str = "test") -> None:
    write_tree(root / "train")
    write_tree(root / test, per_class=2)


def pixels_of(images, count: int | None = None) -> torch.Tensor:
    order = torch.arange(len(images) if count is None else count)
    return torch.cat([x for x, _ in images.batches(order, 2)])


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation", "Test"])
def test_train_and_test_are_found_under_their_usual_names(tmp_path, test):
    root = tmp_path / "pets"
    write_splits(root, test)
    data = load_data("folder", root=str(root))
    assert (data.name, data.classes, data.shape) == ("pets", ("cat", "dog"), (3, 8, 8))
    assert (len(data.train), len(data.test), data.validation) == (6, 4, None)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (pixels_of(data.train)[:, 0, 0, 0] * 255).round().tolist() == [0, 1, 2, 100, 101, 102]


def test_a_validation_directory_beside_a_test_directory_is_the_validation_split(tmp_path):
    write_splits(tmp_path)
    write_tree(tmp_path / "val", per_class=1)
    data = load_data("folder", root=tmp_path)
    assert data.validation is not None
    assert (len(data.train), len(data.test), len(data.validation)) == (6, 4, 2)


def test_one_tree_is_split_by_its_seed(tmp_path):
    write_tree(tmp_path, per_class=10)
    first, again, other = (load_data("folder", root=tmp_path, split_seed=seed) for seed in (0, 0, 1))
    assert first.train.labels.unique().tolist() == first.test.labels.unique().tolist() == [0, 1]
    assert torch.equal(pixels_of(first.test), pixels_of(again.test))
    assert not torch.equal(pixels_of(first.test), pixels_of(other.test))
    seen = torch.cat([pixels_of(first.train), pixels_of(first.test)])[:, 0, 0, 0]
    assert len(seen.unique()) == 20


def test_a_file_more_brings_no_training_image_into_the_test_split(tmp_path):
    write_tree(tmp_path, per_class=30)
    before = load_data("folder", root=tmp_path)
    write_image(tmp_path / "cat" / "0a.png", 200)
    after = load_data("folder", root=tmp_path)
    trained, tested = set(before.train.names), set(after.test.names)
    assert len(trained) > 30
    assert not trained & tested
    assert set(before.test.names) <= tested


def test_the_root_may_be_the_working_directory(tmp_path, monkeypatch):
    write_tree(tmp_path, per_class=10)
    expected = load_data("folder", root=tmp_path)
    monkeypatch.chdir(tmp_path)
    for root in (".", "./"):
        data = load_data("folder", root=root)
        assert (data.train.names, data.test.names) == (expected.train.names, expected.test.names)
        assert data.files == expected.files


def test_a_class_may_be_called_train(tmp_path):
    write_tree(tmp_path, per_class=5, classes=("car", "train"))
    assert load_data("folder", root=tmp_path).classes == ("car", "train")


@pytest.mark.parametrize("extension", [*EXTENSIONS, ".PNG", ".JpG"])
def test_every_extension_is_read_in_any_case(tmp_path, extension):
    write_splits(tmp_path)
    write_image(tmp_path / "train" / "cat" / f"more{extension}", 7)
    assert len(load_data("folder", root=tmp_path).train) == 7


def test_other_and_hidden_files_are_left_out_and_deeper_directories_are_read(tmp_path):
    write_splits(tmp_path)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / "cat" / "._0.png").write_text("not an image either")
    (tmp_path / "train" / ".cache").mkdir()
    write_image(tmp_path / "train" / "dog" / "batch_2" / "0.png", 7)
    data = load_data("folder", root=tmp_path)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_every_8_bit_image_becomes_rgb(tmp_path, mode):
    write_splits(tmp_path)
    path = tmp_path / "train" / "cat" / "0.png"
    write_image(path, 0, mode=mode)
    expected = np.asarray(Image.open(path).convert("RGB"))
    x = pixels_of(load_data("folder", root=tmp_path).train)[0]
    assert np.array_equal((x * 255).round().permute(1, 2, 0).numpy(), expected)


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    write_splits(tmp_path)
    image = Image.new("P", (8, 8))
    image.putpalette([10, 20, 30] * 256)
    image.save(tmp_path / "train" / "cat" / "0.png", transparency=bytes([0, 255]))
    x = pixels_of(load_data("folder", root=tmp_path).train)[0]
    assert (x[:, 0, 0] * 255).round().tolist() == [10, 20, 30]


def test_more_than_8_bits_are_refused_instead_of_clipped(tmp_path):
    write_splits(tmp_path)
    path = tmp_path / "train" / "cat" / "0.png"
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(path)
    with pytest.raises(ValueError, match=f"{path}.*8 bits"):
        load_data("folder", root=tmp_path)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "text": b"hello" * 100}[how])


@pytest.mark.parametrize("how", ["empty", "truncated", "text"])
@pytest.mark.parametrize("name", ["1.png", "1.jpg"])
def test_a_corrupt_image_names_its_path(tmp_path, how, name):
    write_splits(tmp_path)
    path = tmp_path / "train" / "dog" / name
    write_image(path, 1)
    damage(path, how)
    with pytest.raises(ValueError, match=f"cannot read the image {path}"):
        load_data("folder", root=tmp_path)


def test_all_corrupt_images_are_listed_at_once_whichever_split_they_are_in(tmp_path):
    write_splits(tmp_path)
    broken = [
        tmp_path / "train" / "cat" / "0.png",
        tmp_path / "train" / "dog" / "2.png",
        tmp_path / "test" / "cat" / "1.png",
    ]
    for path, how in zip(broken, ["empty", "truncated", "text"], strict=True):
        damage(path, how)
    with pytest.raises(ValueError, match=r"3 of 10 images cannot be read.*--task\.skip-broken") as refused:
        load_data("folder", root=tmp_path)
    assert all(f"cannot read the image {path}" in str(refused.value) for path in broken)


def test_corrupt_images_can_be_left_out(tmp_path, caplog):
    write_splits(tmp_path)
    damage(tmp_path / "train" / "dog" / "1.png", "truncated")
    damage(tmp_path / "test" / "cat" / "0.png", "empty")
    data = load_data("folder", root=tmp_path, skip_broken=True)
    assert data.train.names == (
        "train/cat/0.png",
        "train/cat/1.png",
        "train/cat/2.png",
        "train/dog/0.png",
        "train/dog/2.png",
    )
    assert (pixels_of(data.train)[:, 0, 0, 0] * 255).round().tolist() == [0, 1, 2, 100, 102]
    assert data.files is not None
    assert sorted(data.files.left_out) == ["test/cat/0.png", "train/dog/1.png"]
    assert "2 of 10 images cannot be read and are left out" in caplog.text


def test_a_link_that_leads_nowhere_is_a_corrupt_image(tmp_path):
    write_splits(tmp_path)
    (tmp_path / "train" / "cat" / "9.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"1 of 11 images cannot be read[^\n]*\n.*train/cat/9\.png"):
        load_data("folder", root=tmp_path)


def test_images_of_several_sizes_need_an_image_size(tmp_path):
    write_splits(tmp_path)
    path = tmp_path / "train" / "dog" / "big.png"
    write_image(path, 1, size=(12, 10))
    with pytest.raises(ValueError, match=rf"{path} has 12 × 10 pixels, others 8 × 8.*--task.image-size"):
        load_data("folder", root=tmp_path)
    assert load_data("folder", root=tmp_path, image_size=4).shape == (3, 4, 4)


def test_classes_that_differ_are_named(tmp_path):
    write_splits(tmp_path)
    write_tree(tmp_path / "train", classes=("eel",))
    write_tree(tmp_path / "test", classes=("fox",))
    with pytest.raises(ValueError, match=r"eel is only in .*train; fox is only in .*test"):
        load_data("folder", root=tmp_path)


def test_a_class_without_images_is_named(tmp_path):
    write_splits(tmp_path)
    (tmp_path / "train" / "eel").mkdir()
    with pytest.raises(ValueError, match=r"train/eel holds no image"):
        load_data("folder", root=tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a directory of images for every class.*found none"):
        load_data("folder", root=tmp_path)


def test_images_without_class_directories_are_refused(tmp_path):
    write_image(tmp_path / "0.png", 0)
    with pytest.raises(ValueError, match="a directory of images for every class"):
        load_data("folder", root=tmp_path)


@pytest.mark.parametrize("flat", ["test", "val"])
def test_a_test_directory_without_classes_is_described_as_it_is(tmp_path, flat):
    write_tree(tmp_path / "train")
    for number in range(3):
        write_image(tmp_path / flat / f"{number}.png", number)
    expected = rf"has train/<class>/ but a {flat}/ with 3 images directly in it: put test images into test/<class>/"
    with pytest.raises(ValueError, match=expected):
        load_data("folder", root=tmp_path)


def test_a_train_directory_without_classes_is_described_as_it_is(tmp_path):
    write_tree(tmp_path / "test")
    write_image(tmp_path / "train" / "0.png", 0)
    with pytest.raises(ValueError, match=r"has test/<class>/ but a train/ with 1 images directly in it"):
        load_data("folder", root=tmp_path)


def test_two_flat_directories_are_not_taken_for_the_classes_train_and_test(tmp_path):
    for part in ("train", "test"):
        write_image(tmp_path / part / "0.png", 0)
    with pytest.raises(ValueError, match=r"a test/ with 1 images directly in it and a train/ with 1 images"):
        load_data("folder", root=tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_read_upright(tmp_path, orientation):
    upright = np.zeros((6, 4, 3), np.uint8)
    upright[0, 0] = 200
    turned = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}
    lying = {n + 4: pixels.transpose(1, 0, 2) for n, pixels in turned.items()}
    stored = Image.fromarray(np.ascontiguousarray((turned | lying)[orientation]))
    exif = stored.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            stored.save(tmp_path / part / name / "0.png", exif=exif)
    data = load_data("folder", root=tmp_path)
    assert data.shape == (3, 6, 4)
    assert np.array_equal((pixels_of(data.train)[0] * 255).round().permute(1, 2, 0).numpy(), upright)


@pytest.mark.parametrize(("present", "missing"), [("train", "none of test/, val/"), ("test", "no train/<class>/")])
def test_half_a_data_set_is_not_taken_for_a_tree_of_classes(tmp_path, present, missing):
    write_tree(tmp_path / present)
    with pytest.raises(ValueError, match=missing):
        load_data("folder", root=tmp_path)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harp.data.folder.MEMORY_LIMIT_BYTES", 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_streamed_images_are_those_in_memory(tmp_path, no_memory, monkeypatch, workers):
    write_splits(tmp_path)
    streamed = load_data("folder", root=tmp_path, image_size=4, workers=workers)
    monkeypatch.undo()
    held = load_data("folder", root=tmp_path, image_size=4)
    assert isinstance(streamed.train, Streamed)
    assert isinstance(held.train, InMemory)
    assert streamed.shape == held.shape
    order = torch.tensor([5, 0, 3, 3, 1])
    indices = torch.tensor([3, 2])
    for seed in (None, 11):
        for a, b in ((streamed.train, held.train), (streamed.test.subset(indices), held.test.subset(indices))):
            part = order[: len(a)].clamp(max=len(a) - 1)
            for (x, y), (again, labels) in zip(
                a.batches(part, 2, augment_seed=seed), b.batches(part, 2, augment_seed=seed), strict=True
            ):
                assert torch.equal(x, again)
                assert torch.equal(y, labels)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_in_a_stream_names_its_path(tmp_path, no_memory, workers):
    write_splits(tmp_path)
    path = tmp_path / "train" / "dog" / "1.png"
    damage(path, "truncated")
    train = load_data("folder", root=tmp_path, image_size=4, workers=workers).train
    with pytest.raises(ValueError, match=f"^cannot read the image {path}"):
        list(train.batches(torch.arange(6), 2))


def test_a_stream_needs_an_image_size(tmp_path, no_memory):
    write_splits(tmp_path)
    with pytest.raises(ValueError, match=r"--task\.image-size"):
        load_data("folder", root=tmp_path)


def test_a_stream_leaves_the_global_generator_alone(tmp_path, no_memory):
    write_splits(tmp_path)
    train = load_data("folder", root=tmp_path, image_size=4, workers=1).train
    before = torch.get_rng_state()
    list(train.batches(torch.arange(6), 4, augment_seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_can_be_entered_in_the_middle_and_left_early(tmp_path, no_memory):
    write_splits(tmp_path)
    train = load_data("folder", root=tmp_path, image_size=8, workers=1).train
    order = torch.tensor([3, 1, 4, 0, 5, 2])
    x, _ = next(train.batches(order[2:], 2, augment_seed=9))
    whole = [x for x, _ in train.batches(order, 2, augment_seed=9)]
    assert torch.equal(whole[1], x)


def test_a_run_outlives_the_place_of_its_images(tmp_path, monkeypatch):
    write_splits(tmp_path / "old")
    recipe = Recipe(task=Task(data="folder", root=tmp_path / "old"))
    before = open_data(recipe)
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(FileNotFoundError, match="say where they are now in the environment: HARP_DATA="):
        open_data(recipe)
    monkeypatch.setenv("HARP_DATA", str(tmp_path / "new"))
    assert torch.equal(pixels_of(open_data(recipe).test), pixels_of(before.test))
    assert open_data(Recipe()).name == "digits"  # which has no root to stand in for
