"""The tables of the channel benchmark are computed from its records."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("channel_tables")


def record(method: str, keep: float, seed: int, clean: float, attacked: float | None, macs: int, ms: float) -> dict:
    times = {"median_ms": ms, "low_ms": ms - 0.1, "high_ms": ms + 0.1, "calls": 9}
    made = {"network": "vgg", "method": method, "keep": keep, "seed": seed, "clean": clean, "autoattack": attacked}
    return {**made, "macs": macs, "parameters": macs // 10, "latency": {"torch, 1": times}}


RECORDS = [
    record("harp", 0.5, 1, 0.44, 0.24, 480, 1.2), record("harp", 0.5, 0, 0.40, 0.20, 500, 1.0),
    record("harp", 0.25, 0, 0.30, None, 250, 0.5), record("hydra", 0.5, 0, 0.35, 0.15, 490, 1.0),
    record("dense", 1.0, 0, 0.45, 0.21, 1000, 2.2),
]  # fmt: skip


def test_seeds_are_averaged_with_their_spread_and_sizes_span_them(tables: ModuleType):
    _, lines = tables.accuracies(RECORDS)
    assert ["vgg", "HARP, 50 %", "2", "42.0 ± 2.8", "22.0 ± 2.8", "480–500", "48–50"] in lines
    assert ["vgg", "HARP, 25 %", "1", "30.0", "–", "250", "25"] in lines


def test_the_dense_network_comes_first_and_methods_stand_together_at_their_budget(tables: ModuleType):
    _, lines = tables.accuracies(RECORDS)
    assert [line[1] for line in lines] == ["dense, 100 %", "HARP, 50 %", "HYDRA, 50 %", "HARP, 25 %"]


def test_times_are_beside_those_of_the_dense_parent(tables: ModuleType):
    head, lines = tables.latencies(RECORDS)
    assert head[2:] == ["torch, 1"]
    assert ["vgg", "HARP, 50 %", "1.1 (0.9–1.3), 2.00×"] in lines
    assert ["vgg", "dense, 100 %", "2.2 (2.1–2.3), 1.00×"] in lines
