"""benchmarks/gpu.py: slices of time that go on where the one before stopped, and images as one file that travels."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("gpu_benchmark", BENCHMARKS / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_benchmark", module)  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_slice_stops_at_its_end_and_the_next_goes_on(gpu: ModuleType, tmp_path: Path):
    clock, progress = Clock(), dict.fromkeys("abc", 0)

    def job(name: str):
        def work(watch: object) -> None:
            while progress[name] < 6:
                if watch.should_stop():  # type: ignore[attr-defined]
                    raise KeyboardInterrupt
                clock.now, progress[name] = clock.now + 1, progress[name] + 1

        return gpu.Job(name, work, start_s=1.0, images=12)

    finished = [gpu.Slice(tmp_path, clock.now + 8, clock).run([job(name) for name in "abc"]) for _ in range(3)]
    assert finished == [False, False, True]
    assert progress == {"a": 6, "b": 6, "c": 6}  # nothing was done twice
    records = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "results" / "done").iterdir()}
    assert {name: record["seconds"] for name, record in records.items()} == {"a": 6.0, "b": 6.0, "c": 6.0}
    assert records["b"]["images_per_s"] == 2.0


def test_what_does_not_fit_the_slice_is_not_begun(gpu: ModuleType, tmp_path: Path):
    clock = Clock()
    long = gpu.Job("long", lambda watch: pytest.fail("it was begun"), start_s=20.0)
    assert not gpu.Slice(tmp_path, 10.0, clock).run([long])


def test_an_interruption_from_outside_is_passed_on(gpu: ModuleType, tmp_path: Path):
    def stopped(watch: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gpu.Slice(tmp_path, 10.0, Clock()).run([gpu.Job("a", stopped)])


def test_a_parcel_holds_all_test_images_and_what_fits_of_the_others(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    parcel = tmp_path / "parcel.npz"
    monkeypatch.setattr(sys, "argv", ["gpu_data", str(tmp_path / "images"), str(parcel), "--mib", str(2000 / 2**20)])
    assert gpu.gpu_data.main() == 0
    monkeypatch.setenv(gpu.gpu_data.VARIABLE, str(parcel))
    data = gpu.gpu_data.data()
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (6, 4)
    assert sorted(data.test.labels.tolist()) == [0, 0, 1, 1]
