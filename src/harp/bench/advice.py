"""What to deploy, from what was measured; also when that is not this runtime."""

from collections.abc import Sequence

from harp.bench.records import Duel, Record, duel, settings_of, short

SPARSE_ENOUGH = 0.12
"""Above this keep fraction (10 %, and the layers that pruning leaves alone) a lead depends on the machine."""
CLEAR, CLEAR_WHEN_DENSER = 1.1, 1.5
"""The speed-up from which a runtime of its own is worth it: up to SPARSE_ENOUGH, and above."""
_DISTURBED = "No recommendation: other programs ran beside, so these times are not to be believed; run it again alone."
_ONNX = "the ONNX export (`harp export RUN --format onnx`) with "
_INSTEAD = {
    "torch": "the dense network with PyTorch",
    "inductor": "the dense network compiled by PyTorch's Inductor",
    "onnxruntime": f"{_ONNX}ONNX Runtime",
    "openvino": f"{_ONNX}OpenVINO",
}


def recommend(records: Sequence[Record], disturbed: bool = False) -> list[str]:
    """One sentence on what to deploy, then why: one line a setting. All records are of one network.

    Nothing follows from times that were ``disturbed`` by other programs.
    """
    duels = [found for setting in settings_of(records) if (found := duel(records, setting))]
    if not duels:
        return [
            "No recommendation: harp and at least one dense engine must run; pip install '.[bench]' in a checkout of harp."
        ]
    return [_DISTURBED if disturbed else _verdict(duels), *(_reason(found) for found in duels)]


def wins(found: Duel) -> bool:
    """Whether we are clearly faster: by a margin, and so that our slow calls still beat the other's fast ones."""
    apart = found.ours.times.high_ms < found.dense.times.low_ms
    return apart and found.speedup >= (CLEAR if found.ours.keep <= SPARSE_ENOUGH else CLEAR_WHEN_DENSER)


def _verdict(duels: Sequence[Duel]) -> str:
    won = [str(found.ours.setting) for found in duels if wins(found)]
    rivals = [found.dense.engine for found in duels if not wins(found)]
    if not rivals:
        return "Deploy the .harp file with harp.runtime: it is clearly the fastest in every setting measured."
    instead = _INSTEAD[max(dict.fromkeys(rivals), key=rivals.count)]
    keep = duels[0].ours.keep
    left = f"{keep:.1%} of the weights are left"
    if won:
        return f"Deploy the .harp file for {', '.join(won)}; for the rest, {instead}. {left}."
    if keep > SPARSE_ENOUGH:
        return f"Deploy {instead}: {left}, too many for zeros to pay."
    return f"Deploy {instead}: {left}, and yet harp.runtime is not clearly faster here."


def _reason(found: Duel) -> str:
    lead = f"{short(found.speedup)}x faster" if found.speedup >= 1 else f"{short(1 / found.speedup)}x slower"
    return (
        f"{found.ours.setting}: harp {short(found.ours.median_ms)} ms, "
        f"{lead} than {found.dense.engine} with {short(found.dense.median_ms)} ms"
    )
