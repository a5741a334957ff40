"""One way from an image file to pixels: what a data set reads, the runtime reads, to the last bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from harp.data import load_data
from harp.data.resize import square
from harp.runtime.pixels import open_image, preprocessed, read_pixels, upright_size
from harp.runtime.preprocessing import Preprocessing

ORIENTATION = 0x0112
GRADIENT = np.add.outer(np.arange(23) * 5, np.arange(37) * 3)


def photograph(seed: int, width: int, height: int) -> Image.Image:
    """Smooth and noisy in places, so that filters and crops show."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 60, (height, width, 3))
    rows, columns = np.mgrid[0:height, 0:width]
    slopes = np.stack([columns * 190 // width, rows * 190 // height, (rows + columns) * 190 // (width + height)], 2)
    return Image.fromarray((slopes + noise).astype(np.uint8))


def save(path: Path, image: Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def palette_with_transparency() -> Image.Image:
    image = photograph(5, 31, 40).quantize(16)
    image.info["transparency"] = bytes(range(0, 160, 10))
    return image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Odd sizes, shapes, colours, file formats and orientations, in two classes."""
    for label, name in enumerate(("cat", "dog")):
        folder = tmp_path / name
        for number, (width, height) in enumerate([(64, 64), (96, 64), (33, 57), (150, 31), (20, 17), (7, 90)]):
            image = photograph(10 * label + number, width, height)
            save(folder / f"{number}.png", image)
            save(folder / f"{number}.jpg", image, quality=80)
        save(folder / "grey.png", photograph(20, 45, 51).convert("L"))
        save(folder / "grey_alpha.png", photograph(21, 45, 51).convert("LA"))
        save(folder / "palette.png", palette_with_transparency(), transparency=bytes(range(0, 160, 10)))
        save(folder / "alpha.png", photograph(22, 50, 37).convert("RGBA"))
        save(folder / "black_and_white.png", photograph(23, 50, 37).convert("1"))
        save(folder / "cmyk.jpg", photograph(24, 41, 37).convert("CMYK"))
        for orientation in range(1, 9):
            save(folder / f"turned{orientation}.jpg", photograph(30, 61, 43), exif=turned(orientation))
            save(folder / f"turned{orientation}.tif", photograph(31, 61, 43), exif=turned(orientation))
    return tmp_path


@pytest.mark.parametrize(("name", "size"), [("folder", 32), ("folder", 21), ("imagenet", 24)])
def test_what_training_reads_the_runtime_reads_to_the_last_bit(photos: Path, name: str, size: int):
    root = photos
    if name == "imagenet":
        for split in ("train", "val"):
            (photos / "both" / split).mkdir(parents=True)
            for label in ("cat", "dog"):
                (photos / "both" / split / label).symlink_to(photos / label)
        root = photos / "both"
    data = load_data(name, root=root, image_size=size, workers=0)
    how = data.preprocessing
    assert how is not None
    paths = sorted(str(path) for label in ("cat", "dog") for path in (photos / label).iterdir())
    again = {read_pixels(path, Preprocessing(**how.to_json() | {"size": how.size})).tobytes() for path in paths}
    splits = (data.train, data.test)
    seen = [x for images in splits for x, _ in images.batches(torch.arange(len(images)), 1)]
    assert len(seen) >= len(paths)
    as_bytes = [(x[0] * 255).round().to(torch.uint8).numpy() for x in seen]
    assert {pixels.tobytes() for pixels in as_bytes} == again
    assert all(
        np.array_equal(b.astype(np.float32) / np.float32(255), x[0].numpy())
        for b, x in zip(as_bytes, seen, strict=True)
    )


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_that_lies_on_its_side_is_stood_up(tmp_path: Path, suffix: str, orientation: int):
    upright = Image.new("RGB", (40, 24))
    upright.paste((255, 0, 0), (0, 0, 20, 12))  # red in the upper left
    upright.paste((0, 0, 255), (20, 12, 40, 24))  # blue in the lower right
    turn = Image.Transpose
    lying = {
        1: None, 2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE, 6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = upright if lying is None else upright.transpose(lying)
    path = save(tmp_path / f"photo.{suffix}", stored, exif=turned(orientation))
    found = np.asarray(open_image(path)).astype(int)
    assert np.abs(found - np.asarray(upright).astype(int)).mean() < 8  # JPEG and WebP are not exact
    assert upright_size(path) == (24, 40)


def test_damaged_exif_data_do_not_cost_an_image(tmp_path: Path):
    path = save(tmp_path / "photo.jpg", photograph(0, 8, 8), exif=b"Exif\x00\x00nonsense")
    assert open_image(path).size == upright_size(path) == (8, 8)


def test_an_unknown_orientation_is_upright(tmp_path: Path):
    path = save(tmp_path / "photo.png", photograph(0, 8, 6), exif=turned(42))
    assert open_image(path).size == (8, 6)


def test_grey_images_stay_grey_to_the_bit_and_colours_become_grey(tmp_path: Path):
    grey = GRADIENT.astype(np.uint8)
    path = save(tmp_path / "grey.png", Image.fromarray(grey))
    assert np.array_equal(read_pixels(path, Preprocessing((23, 37), "L")), grey[None])
    assert read_pixels(save(tmp_path / "red.png", photograph(0, 8, 8)), Preprocessing((4, 4), "L")).shape == (1, 4, 4)


def test_bytes_in_memory_are_scaled_as_files_are(tmp_path: Path):
    image = photograph(3, 32, 32)
    path = save(tmp_path / "image.png", image)
    held = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    for size in (32, 24, 16, 5):
        assert np.array_equal(square(held, size)[0].numpy(), read_pixels(path, Preprocessing((size, size))))


def test_the_view_of_imagenet_is_torchvisions():
    how = Preprocessing((28, 28), shorter_side=32, resample="bilinear")
    for width, height in [(64, 64), (97, 61), (61, 97), (32, 32), (33, 45), (31, 200), (20, 20)]:
        image = photograph(width, width, height)
        wanted = v2.Compose([v2.Resize(32, antialias=True), v2.CenterCrop(28), v2.PILToTensor()])(image)
        assert np.array_equal(preprocessed(np.asarray(image).transpose(2, 0, 1), how), wanted.numpy())


def test_the_central_part_has_the_proportions_that_are_wanted():
    planes = np.arange(8 * 20, dtype=np.uint8).reshape(1, 8, 20)
    assert np.array_equal(preprocessed(planes, Preprocessing((8, 4))), planes[:, :, 8:12])
    assert np.array_equal(
        preprocessed(
            planes,
            Preprocessing((2, 20)),
        ),
        planes[:, 3:5],
    )
    assert np.array_equal(preprocessed(planes, Preprocessing((8, 20))), planes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": (0, 4)}, r"size=\(0, 4\): expected \(height, width\)"),
        ({"size": (4, 4), "mode": "HSV"}, "mode='HSV': expected 'RGB' or 'L'"),
        ({"size": (4, 4), "resample": "lanczos"}, "resample='lanczos': expected 'mean-or-bilinear' or 'bilinear'"),
        ({"size": (4, 4), "shorter_side": 3}, "shorter_side=3: expected None, or at least the side"),
        ({"size": (4, 4), "shorter_side": 0}, "shorter_side=0: expected None"),
        ({"size": (4, 6), "shorter_side": 8}, "shorter_side=8: expected None"),
        ({"size": (4, "4")}, r"size=\(4, '4'\): expected"),
    ],
)
def test_what_cannot_be_applied_is_refused(wrong, message):
    how = object.__new__(Preprocessing)  # as where no test checks types
    vars(how).update({**vars(Preprocessing((4, 4))), **wrong})
    with pytest.raises(ValueError, match=message):
        how.__post_init__()
