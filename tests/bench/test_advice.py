"""What is recommended follows from keep fraction, medians and spread; it is not always us."""

import pytest

from harp.bench.advice import recommend
from harp.bench.records import Record
from harp.bench.timing import Times


def record(engine: str, median: float, *, keep: float = 0.01, batch: int = 1, spread: float = 0.05) -> Record:
    times = Times(median, median * (1 - 2 * spread), median * (1 - spread), median * (1 + spread), 100)
    return Record("net", keep, batch, 1, engine, times, None)


def verdict(*records: Record) -> str:
    return recommend(records)[0]


@pytest.mark.parametrize(
    ("keep", "harp", "openvino", "torch", "expected"),
    [
        (0.01, 0.4, 8.0, 12.0, "Deploy the .harp file with harp.runtime"),
        (0.01, 9.0, 8.0, 12.0, "with OpenVINO: 1.0% of the weights are left, and yet harp.runtime is not clearly"),
        (0.01, 9.0, 12.0, 8.0, "Deploy the dense network with PyTorch: 1.0%"),
        (0.01, 7.5, 8.0, 12.0, "with OpenVINO: 1.0%"),  # 1.07x is not worth another runtime
        (0.10, 7.0, 8.0, 12.0, "Deploy the .harp file with harp.runtime"),
        (0.30, 7.0, 8.0, 12.0, "with OpenVINO: 30.0% of the weights are left, too many for zeros to pay"),
        (0.30, 4.0, 8.0, 12.0, "Deploy the .harp file with harp.runtime"),
        (1.00, 16.0, 8.0, 12.0, "with OpenVINO: 100.0% of the weights are left, too many"),
    ],
)
def test_the_verdict_follows_keep_and_medians(keep, harp, openvino, torch, expected):
    records = [
        record("harp", harp, keep=keep),
        record("openvino", openvino, keep=keep),
        record("torch", torch, keep=keep),
    ]
    assert expected in verdict(*records)


def test_a_lead_inside_the_spread_is_none():
    clear = verdict(record("harp", 5.0, spread=0.05), record("openvino", 8.0, spread=0.05))
    vague = verdict(record("harp", 5.0, spread=0.4), record("openvino", 8.0, spread=0.4))
    assert "Deploy the .harp file" in clear
    assert "not clearly faster" in vague


def test_where_batches_differ_each_gets_its_own_engine():
    mixed = verdict(
        record("harp", 1.0), record("openvino", 8.0), record("onnxruntime", 9.0),
        record("harp", 90.0, batch=64), record("openvino", 95.0, batch=64), record("onnxruntime", 80.0, batch=64),
    )  # fmt: skip
    assert "Deploy the .harp file for batch 1 on 1 thread; for the rest, " in mixed
    assert "ONNX Runtime" in mixed


def test_every_setting_gets_its_reason():
    reasons = recommend(
        [record("harp", 0.5), record("torch", 8.0), record("harp", 20.0, batch=8), record("torch", 10.0, batch=8)]
    )
    assert reasons[1:] == [
        "batch 1 on 1 thread: harp 0.500 ms, 16x faster than torch with 8 ms",
        "batch 8 on 1 thread: harp 20 ms, 2x slower than torch with 10 ms",
    ]


@pytest.mark.parametrize("records", [[], [record("harp", 1.0)], [record("torch", 1.0)]])
def test_without_two_to_compare_nothing_is_recommended(records):
    assert recommend(records) == [
        "No recommendation: harp and at least one dense engine must run; pip install '.[bench]' in a checkout of harp."
    ]


def test_times_that_were_disturbed_recommend_nothing():
    said, *reasons = recommend([record("harp", 0.5), record("torch", 8.0)], disturbed=True)
    assert said.startswith("No recommendation: other programs ran beside")
    assert "fastest" not in said
    assert reasons == ["batch 1 on 1 thread: harp 0.500 ms, 16x faster than torch with 8 ms"]
