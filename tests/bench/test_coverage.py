"""The table of networks that can be pruned and exported: tried one by one, kept as they come, and told as they are."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def by_path(name: str, file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def coverage() -> ModuleType:
    """By its path: a tool that measures tests has the same name."""
    return by_path("coverage_of_networks", "coverage.py")


def record(network: str, **found: object) -> dict:
    return {"network": network, "source": "timm", "weights": "ok", "channels": "ok", "export": "ok", **found}


def test_the_list_names_118_networks_of_two_libraries(coverage: ModuleType):
    found = coverage.networks()
    assert len(found) == len(set(found)) == 118
    assert {source for source, _ in found} == {"timm", "tv"}


def test_what_is_refused_is_counted_and_told(coverage: ModuleType):
    refused = record("b", export="ValueError: no <such> | operation")
    text = coverage.table(
        [refused, record("a", size_bytes=1_500_000, difference=2e-7, harp_ms=1.0, onnxruntime_ms=4.0)]
    )
    assert "weights 2 of 2, channels 2 of 2, export 1 of 2. At 5 % harp takes 1/4.0 of" in text
    assert (
        "| a (timm) | ok | ok | ok | 1.50 | 2e-07 | 1.00 | 4.00 |\n| b (timm) | ok | ok | no | – | – | – | – |" in text
    )
    assert "- b (timm), export: `ValueError: no (such) / operation`" in text


def test_records_have_the_same_keys_whatever_was_found(coverage: ModuleType):
    assert coverage.public(record("a", size_bytes=3)) == {
        **record("a"), "difference": None, "harp_ms": None, "onnxruntime_ms": None,
    }  # fmt: skip


def test_what_is_known_is_not_tried_again_and_what_comes_is_kept(coverage: ModuleType, tmp_path, monkeypatch):
    state, asked = tmp_path / "state.jsonl", []
    state.write_text(json.dumps(record("a", weights="old")) + "\n")

    def tried(network, **limits):
        asked.append(network)
        if network == ("timm", "c"):
            raise KeyboardInterrupt
        return record(network[1])

    monkeypatch.setattr(coverage, "tried", tried)
    with pytest.raises(KeyboardInterrupt):
        coverage.try_all([("timm", "a"), ("timm", "b"), ("timm", "c")], state, 1)
    assert asked == [("timm", "b"), ("timm", "c")]
    assert [each["network"] for each in coverage.read_state(state)] == ["a", "b"]


@pytest.mark.parametrize(
    ("again", "steps"),
    [("", None), ("all", ["weights", "channels", "export"]), ("failed", ["channels"]), ("times", [])],
)
def test_what_is_tried_again_is_what_was_asked_for(coverage: ModuleType, again: str, steps: list[str] | None):
    assert coverage.steps_left(record("a", channels="ValueError: no"), again) == steps
    assert coverage.steps_left(None, again) == ["weights", "channels", "export"]
    if again in ("failed", "times"):
        assert coverage.steps_left(record("a", export="no") if again == "times" else record("a"), again) is None


def test_a_failed_export_takes_its_times_with_it(coverage: ModuleType, tmp_path, monkeypatch):
    state = tmp_path / "state.jsonl"
    state.write_text(json.dumps(record("a", harp_ms=1.0, channels="ok")) + "\n")
    monkeypatch.setattr(coverage, "tried", lambda network, **limits: {"network": "a", "source": "timm", "export": "no"})
    (found,) = coverage.try_all([("timm", "a")], state, 1, "export")
    assert found == record("a", export="no")


def test_a_process_that_takes_too_long_or_dies_is_told_as_such(coverage: ModuleType, tmp_path):
    limits = {"memory_gb": 8, "times": False, "files": tmp_path}
    slow = coverage.tried(("timm", "test_vit"), timeout_s=0.05, **limits)
    assert slow == {**record("test_vit"), **dict.fromkeys(("weights", "channels", "export"), "not done after 0.05 s")}
    dead = coverage.tried(("nowhere", "x"), timeout_s=60, **limits)
    assert dead["weights"].startswith("died (2): coverage_one.py: error: argument source: invalid choice")


def test_the_page_keeps_its_words_around_the_table(coverage: ModuleType, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{coverage.BEGIN}\nold\n{coverage.END}\nlast\n")
    coverage.fill(page, [record("a")])
    text = page.read_text()
    assert text.startswith("# Title\n\n<!-- coverage: begin -->")
    assert "old" not in text
    assert "| a (timm) | ok" in text
    assert text.endswith("<!-- coverage: end -->\nlast\n")
    page.write_text("no markers")
    with pytest.raises(ValueError, match="once each"):
        coverage.fill(page, [record("a")])


def test_weights_that_start_as_zeros_are_drawn_and_no_others():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    nn.init.zeros_(model[1].weight)
    before = model[0].weight.detach().clone()
    by_path("one_network", "coverage_one.py").drawn(model)
    assert torch.equal(model[0].weight, before)
    assert model[1].weight.count_nonzero() == 12
