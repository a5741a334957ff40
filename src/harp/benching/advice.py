"""What to deploy, from what was measured; also when that is not this runtime."""

from collections.abc import Sequence

from .records import Duel, Record, duel, settings_of

SPARSE_ENOUGH = 0.1
"""Above this keep fraction a lead depends on the machine more than on the network."""
CLEAR, CLEAR_WHEN_DENSER = 1.1, 1.5
"""The speed-up from which a runtime of its own is worth it: up to SPARSE_ENOUGH, and above."""
_ONNX = "the ONNX export (`harp export RUN --format onnx`) with "
_INSTEAD = {
    "torch": "the dense network with PyTorch",
    "inductor": "the dense network compiled by PyTorch's Inductor",
    "onnxruntime": f"{_ONNX}ONNX Runtime",
    "openvino": f"{_ONNX}OpenVINO",
}


def recommend(records: Sequence[Record]) -> list[str]:
    """One sentence on what to deploy, then why: one line a setting. All records are of one network."""
    duels = [(setting, duel(records, setting)) for setting in settings_of(records)]
    compared = [(setting, found) for setting, found in duels if found.speedup is not None]
    if not compared:
        return ["No recommendation: harp and at least one dense engine must run; pip install 'harp-pruning[bench]'."]
    reasons = [_reason(batch, threads, found) for (_, _, batch, threads), found in compared]
    won = [_where(batch, threads) for (_, keep, batch, threads), found in compared if wins(keep, found)]
    return [_verdict(compared[0][0][1], won, [found for _, found in compared]), *reasons]


def wins(keep: float, found: Duel) -> bool:
    """Whether we are clearly faster: by a margin, and so that our slow calls still beat the other's fast ones."""
    if found.ours is None or found.dense is None or found.speedup is None:
        return False
    apart = found.ours.times.high_ms < found.dense.times.low_ms
    return apart and found.speedup >= (CLEAR if keep <= SPARSE_ENOUGH else CLEAR_WHEN_DENSER)


def _verdict(keep: float, won: list[str], duels: list[Duel]) -> str:
    if len(won) == len(duels):
        return "Deploy the .harp file with harp.runtime: it is clearly the fastest in every setting measured."
    # The rival of the settings that are lost comes from those alone.
    rivals = [found.dense.engine for found in duels if found.dense and not wins(keep, found)]
    instead = _INSTEAD[max(dict.fromkeys(rivals), key=rivals.count)]
    left = f"{keep:.1%} of the weights are left"
    if won:
        return f"Deploy the .harp file for {', '.join(won)}; for the rest, {instead}. {left}."
    if keep > SPARSE_ENOUGH:
        return f"Deploy {instead}: {left}, too many for zeros to pay."
    return f"Deploy {instead}: {left}, and yet harp.runtime is not clearly faster here."


def _reason(batch: int, threads: int, found: Duel) -> str:
    assert found.ours is not None and found.dense is not None and found.speedup is not None
    lead = f"{found.speedup:.3g}x faster" if found.speedup >= 1 else f"{1 / found.speedup:.3g}x slower"
    return (
        f"{_where(batch, threads)}: harp {found.ours.median_ms:.3g} ms, "
        f"{lead} than {found.dense.engine} with {found.dense.median_ms:.3g} ms"
    )


def _where(batch: int, threads: int) -> str:
    return f"batch {batch} on {threads} thread{'s' if threads > 1 else ''}"
