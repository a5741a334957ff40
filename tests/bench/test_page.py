"""The page of the runtime benchmark is made from its measurements, between two markers."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("runtime_page", BENCHMARKS / "runtime_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["runtime_page"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(engine: str, median: float, *, keep: float, threads: int = 1, peak: float | None = 10.0):
    times = {
        "median_ms": median,
        "best_ms": median - 0.1,
        "low_ms": median - 0.05,
        "high_ms": median + 0.05,
        "calls": 9,
    }
    about = {"network": "vgg", "keep": keep, "batch": 1, "threads": threads, "engine": engine}
    return {**about, "times": times, "peak_mb": peak}


SIZES = {"file": 1_000, "f16": 500, "dense": 100_000, "compressed": 10_000, "onnx": 101_000, "compressor": "zstd -12"}
WORK = {"weights": 100, "kept": 1, "macs": 400_000_000, "macs_left": 4_000_000}
DETAILS = {
    "here": {"cpu": "a CPU", "cores": 2, "isa": "avx2", "platform": "Linux", "torch": "2.0", "commit": "abc"},
    "seed": 0,
    "effort": {"seconds": 3.0, "rounds": 10},
    "notes": ["openvino is left out"],
    "peaks": {"1": 80.0, "2": 160.0},
    "networks": [
        {"network": "vgg", "keep": keep, "work": WORK, "sizes": SIZES, "peak_mb": 2.0, "first_ms": 12.3}
        for keep in (0.1, 0.01)
    ],
    "records": [
        record("harp", 2.0, keep=0.1), record("torch", 10.0, keep=0.1), record("onnxruntime", 8.0, keep=0.1),
        record("harp", 0.5, keep=0.01), record("torch", 10.0, keep=0.01), record("onnxruntime", 8.0, keep=0.01),
        record("harp", 0.25, keep=0.01, threads=2), record("onnxruntime", 5.0, keep=0.01, threads=2, peak=None),
    ],
}  # fmt: skip


def rows(page: ModuleType) -> set[str]:
    return set(page.tables(DETAILS).splitlines())


def test_speed_ups_are_over_the_fastest_dense_engine_of_the_setting(page: ModuleType):
    assert "| vgg: batch, threads | fastest dense | 10 % | 1 % |" in rows(page)
    assert "| 1, 1 | 8 (onnxruntime) | 2, **4x** | 0.500, **16x** |" in rows(page)
    assert "| 1, 2 | 5 (onnxruntime) | – | 0.250, **20x** |" in rows(page)


def test_a_dense_engine_is_listed_once_and_ours_for_every_keep(page: ModuleType):
    listed = [line for line in page.tables(DETAILS).splitlines() if line.startswith("| vgg | 1 | 1 |")]
    assert [line.split(" | ")[3] for line in listed] == ["harp, 10 %", "torch", "onnxruntime", "harp, 1 %"]


def test_work_scaling_sizes_and_memory_are_computed_from_the_records(page: ModuleType):
    assert "| vgg | 1 % | 1 | 1 | 4 of 400 | 16 | 20% |" in rows(page)
    assert "| vgg | 1 % | 1 | 2 | 2.00 | 1.60 |" in rows(page)
    assert "| vgg | 1 % | 100 | 1, 1/100 | 0, 1/200 | 10, 1/10 | 101, 1/0.990 |" in rows(page)
    assert "| vgg | 10 % | 2.0 | 10.0 | 10.0 | 1/5 | 12.3 |" in rows(page)


def test_tables_are_put_between_the_markers_and_nothing_else_changes(page: ModuleType, tmp_path: Path):
    target = tmp_path / "performance.md"
    target.write_text(f"# Above\n\n{page.BEGIN}\nold\n{page.END}\n\nBelow\n", encoding="utf-8")
    for _ in range(2):
        page.fill(target, DETAILS)
        text = target.read_text(encoding="utf-8")
        assert text == f"# Above\n\n{page.BEGIN}\n\n{page.tables(DETAILS)}\n\n{page.END}\n\nBelow\n"


@pytest.mark.parametrize("text", ["", "<!-- runtime: end -->\n<!-- runtime: begin -->", "<!-- runtime: begin -->"])
def test_a_page_without_markers_is_left_alone(text: str, page: ModuleType, tmp_path: Path):
    target = tmp_path / "page.md"
    target.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="must have <!-- runtime: begin -->"):
        page.fill(target, DETAILS)
    assert target.read_text(encoding="utf-8") == text


def test_the_committed_page_has_its_markers(page: ModuleType):
    text = (BENCHMARKS.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    assert text.index(page.BEGIN) < text.index(page.END)
