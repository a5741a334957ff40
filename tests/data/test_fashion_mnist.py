import gzip
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harp.data import InMemory, load_data
from harp.data.fashion_mnist import DEBIAN_PACKAGE, read_idx


def idx(tensor: torch.Tensor) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in tensor.shape)
    return bytes([0, 0, 8, tensor.ndim]) + sizes + bytes(tensor.flatten().tolist())


def write_all(directory: Path, suffix: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for part, n in (("train", 4), ("t10k", 2)):
        images = torch.arange(n * 784).view(n, 28, 28) % 256
        for name, tensor in (("images-idx3", images), ("labels-idx1", torch.arange(n))):
            content = idx(tensor)
            (directory / f"{part}-{name}-ubyte{suffix}").write_bytes(gzip.compress(content) if suffix else content)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["", "FashionMNIST/raw"])
def test_files_are_found_plain_and_gzipped_and_as_torchvision_lays_them(tmp_path, suffix, place):
    write_all(tmp_path / place, suffix)
    data = load_data("fashion-mnist", root=tmp_path)
    assert (data.shape, len(data.train), len(data.test), len(data.classes)) == ((1, 28, 28), 4, 2, 10)
    x, y = next(data.test.batches(torch.arange(2), 2))
    assert torch.equal(y, torch.arange(2))
    assert torch.equal((x * 255).round().flatten(), torch.arange(2 * 784) % 256.0)


def test_half_the_size_is_the_mean_over_pixel_blocks(tmp_path):
    write_all(tmp_path, "")
    full, half = (load_data("fashion-mnist", root=tmp_path, image_size=size).test for size in (None, 14))
    assert isinstance(full, InMemory)
    assert isinstance(half, InMemory)
    means = full.images.float().view(2, 1, 14, 2, 14, 2).mean((3, 5))
    assert torch.equal(half.images, means.round().to(torch.uint8))


def test_the_debian_package_is_found_without_a_root(tmp_path, monkeypatch):
    write_all(tmp_path, ".gz")
    monkeypatch.setattr("harp.data.fashion_mnist.DEBIAN_PACKAGE", tmp_path)
    assert len(load_data("fashion-mnist").train) == 4


@pytest.mark.skipif(not DEBIAN_PACKAGE.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_the_real_data_set_has_6000_and_1000_images_a_class():
    data = load_data("fashion-mnist")
    assert data.train.labels.bincount().tolist() == [6000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10


GOOD = idx(torch.arange(2 * 3 * 4).view(2, 3, 4))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(packed=st.booleans(), data=st.data())
def test_a_truncated_file_is_refused_with_its_path(tmp_path, packed, data):
    content = gzip.compress(GOOD) if packed else GOOD
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=str(path)):
        read_idx(path, dimensions=3)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 15), value=st.integers(0, 255))
def test_a_changed_header_is_refused(tmp_path, position, value):
    content = bytearray(GOOD)
    content[position] = value
    path = tmp_path / "images"
    path.write_bytes(content)
    if bytes(content) == GOOD:
        assert read_idx(path, dimensions=3).shape == (2, 3, 4)
    else:
        with pytest.raises(ValueError, match="cannot read"):
            read_idx(path, dimensions=3)


@pytest.mark.parametrize("name", ["huge", "huge.gz"])
def test_a_header_that_promises_more_than_the_file_can_hold_allocates_nothing(tmp_path, name):
    content = bytes([0, 0, 8, 3]) + b"\xff\xff\xff\xff" * 3 + bytes(100)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if path.suffix else content)
    with pytest.raises(ValueError, match="which the file cannot hold"):
        read_idx(path, dimensions=3)


def test_values_past_the_end_are_refused(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(GOOD + b"\0")
    with pytest.raises(ValueError, match="promises 24 values"):
        read_idx(path, dimensions=3)
