import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harp.data import InMemory, load_data
from harp.data.cifar import CIFAR10, CIFAR100, Layout, read_records


def record(label: bytes, red: int, green: int, blue: int) -> bytes:
    return label + bytes([red] * 1024 + [green] * 1024 + [blue] * 1024)


def write_all(directory: Path, layout: Layout) -> None:
    directory.mkdir(parents=True)
    coarse = b"\x07" * (layout.label_bytes - 1)
    for number, name in enumerate((*layout.train, layout.test)):
        (directory / name).write_bytes(record(coarse + bytes([number]), number, 100, 200))
    (directory / layout.names).write_text("\n".join(f"class_{i}" for i in range(layout.classes)) + "\n\n")


@pytest.mark.parametrize("layout", [CIFAR10, CIFAR100], ids=lambda layout: layout.name)
@pytest.mark.parametrize("inside", [True, False], ids=["beside", "inside"])
def test_the_binary_files_are_read_in_order(tmp_path, layout, inside):
    directory = tmp_path / layout.folder
    write_all(directory, layout)
    data = load_data(layout.name, root=directory if inside else tmp_path)
    assert (data.name, data.shape, len(data.classes)) == (layout.name, (3, 32, 32), layout.classes)
    assert data.train.labels.tolist() == list(range(len(layout.train)))
    assert data.test.labels.tolist() == [len(layout.train)]
    assert isinstance(data.train, InMemory)
    assert data.train.images[:, :, 5, 9].tolist() == [[i, 100, 200] for i in range(len(layout.train))]
    assert data.train.augment.flip
    assert data.train.augment.pad == 4


def test_smaller_images_have_smaller_crops(tmp_path):
    write_all(tmp_path / CIFAR10.folder, CIFAR10)
    train = load_data("cifar10", root=tmp_path, image_size=16).train
    assert isinstance(train, InMemory)
    assert (train.shape, train.augment.pad) == ((3, 16, 16), 2)


def test_pixels_run_along_rows(tmp_path):
    path = tmp_path / "batch.bin"
    path.write_bytes(bytes([3]) + bytes(i % 251 for i in range(3072)))
    images, labels = read_records(path, label_bytes=1, classes=10)
    assert labels.tolist() == [3]
    assert images[0, 1, 2, 3] == (1024 + 2 * 32 + 3) % 251


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 3 * 3073).filter(lambda size: size == 0 or size % 3073))
def test_a_truncated_file_is_refused_with_its_path(tmp_path, size):
    path = tmp_path / "batch.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(ValueError, match=f"{path} has {size} bytes"):
        read_records(path, label_bytes=1, classes=10)


def test_a_label_out_of_range_is_refused(tmp_path):
    path = tmp_path / "batch.bin"
    path.write_bytes(record(b"\x0a", 0, 0, 0))
    with pytest.raises(ValueError, match="a label 10, expected 0 to 9"):
        read_records(path, label_bytes=1, classes=10)


def test_the_wrong_number_of_class_names_is_refused(tmp_path):
    write_all(tmp_path / CIFAR10.folder, CIFAR10)
    (tmp_path / CIFAR10.folder / CIFAR10.names).write_text("cat dog")
    with pytest.raises(ValueError, match="names 2 classes, expected 10"):
        load_data("cifar10", root=tmp_path)


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Serves a tiny CIFAR-10 from this machine instead of its authors' site; yields the layout with its checksum."""
    write_all(tmp_path / "original" / CIFAR10.folder, CIFAR10)
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / CIFAR10.archive, "w:gz") as tar:
        tar.add(tmp_path / "original" / CIFAR10.folder, CIFAR10.folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SilentHandler, directory=str(served)))
    monkeypatch.setattr("harp.data.cifar._SITE", f"http://127.0.0.1:{server.server_port}/")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, 0.05)
        yield replace(CIFAR10, md5=md5((served / CIFAR10.archive).read_bytes()).hexdigest())
        server.shutdown()
    server.server_close()


def test_a_download_is_checked_unpacked_and_read(tmp_path, monkeypatch, site):
    monkeypatch.setattr("harp.data.cifar.CIFAR10", site)
    root = tmp_path / "new" / "root"
    assert len(load_data("cifar10", root=root, download=True).train) == 5
    assert sorted(path.name for path in root.iterdir()) == [CIFAR10.folder, CIFAR10.archive]


@pytest.mark.usefixtures("site")
def test_a_download_with_another_checksum_is_refused_before_it_is_unpacked(tmp_path):
    root = tmp_path / "root"
    with pytest.raises(OSError, match="did not arrive whole"):
        load_data("cifar10", root=root, download=True)
    assert not (root / CIFAR10.folder).exists()


def test_a_download_does_not_mix_with_what_is_there(tmp_path):
    write_all(tmp_path / CIFAR10.folder, CIFAR10)
    (tmp_path / CIFAR10.folder / "data_batch_3.bin").unlink()
    with pytest.raises(FileExistsError, match="not complete: remove it"):
        load_data("cifar10", root=tmp_path, download=True)


def test_nothing_is_unpickled(tmp_path):
    directory = tmp_path / "cifar-10-batches-py"
    directory.mkdir()
    (directory / "data_batch_1").write_bytes(b"cos\nabort\n(tR.")
    with pytest.raises(FileNotFoundError, match=r"data_batch_1\.bin"):
        load_data("cifar10", root=tmp_path)


def test_cifar100_takes_the_fine_label(tmp_path):
    path = tmp_path / "train.bin"
    path.write_bytes(record(bytes([19, 99]), 0, 0, 0))
    _, labels = read_records(path, label_bytes=2, classes=100)
    assert torch.equal(labels, torch.tensor([99]))
