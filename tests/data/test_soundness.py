"""Broken files are found before they are needed, in sets that are streamed as in those in memory."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harp.data.soundness import LISTED, report_broken, unreadable


def write(path: Path, name: str = "good.jpg", side: int = 64) -> Path:
    draw = np.random.default_rng(len(name))
    Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path / name)
    return path / name


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "bmp", "tiff"])
def test_a_file_cut_anywhere_is_found_and_a_whole_one_is_not(tmp_path, kind):
    whole = write(tmp_path, f"whole.{kind}")
    content = whole.read_bytes()
    cut = [tmp_path / f"{share}.{kind}" for share in (0, 10, 50, 90)]
    for path in cut:
        path.write_bytes(content[: len(content) * int(path.stem) // 100])
    found = unreadable([str(whole), *map(str, cut)])
    assert sorted(found) == sorted(map(str, cut))
    assert all(f"cannot read the image {path}" in reason for path, reason in found.items())


def test_every_file_is_counted_and_a_stop_is_heard(tmp_path):
    paths = [str(write(tmp_path, f"{number}.png", side=4)) for number in range(70)]
    seen = []
    assert unreadable(paths, threads=2, progress=lambda done, total: seen.append((done, total))) == {}
    assert seen == [(64, 70), (70, 70)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unreadable(paths, progress=stop)


def test_a_long_list_ends_with_its_number():
    broken = {f"{i}.png": f"cannot read the image {i}.png: cut" for i in range(LISTED + 5)}
    with pytest.raises(ValueError, match=r"105 of 1,000 images cannot be read") as refused:
        report_broken(broken, 1000, skip=False)
    assert "\n  … and 5 more" in str(refused.value)
    assert "image 99.png" in str(refused.value)
    assert "image 100.png" not in str(refused.value)
