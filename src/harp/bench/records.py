"""What is measured, as records: one network, batch, thread count and engine each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harp.bench.timing import Times
from harp.files import write_json

OURS = "harp"
PUBLIC = ("network", "keep", "batch", "threads", "engine", "median_ms", "best_ms", "peak_mb")
"""The keys of a record in JSON, these and no others."""


class Setting(NamedTuple):
    """What a record is about, but for the engine."""

    network: str
    keep: float
    batch: int
    threads: int

    def __str__(self) -> str:
        return f"batch {self.batch} on {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True)
class Record:
    """``peak_mb`` is measured at batch 1, in a process of its own, with these threads; None where it is not known."""

    network: str
    keep: float
    batch: int
    threads: int
    engine: str
    times: Times
    peak_mb: float | None

    @property
    def setting(self) -> Setting:
        return Setting(self.network, self.keep, self.batch, self.threads)

    @property
    def median_ms(self) -> float:
        return self.times.median_ms

    def to_json(self) -> dict[str, Any]:
        everything = {**vars(self), **vars(self.times)}
        return {key: everything[key] for key in PUBLIC}


def write_records(path: Path, records: Sequence[Record]) -> None:
    write_json(path, [record.to_json() for record in records])


def settings_of(records: Sequence[Record]) -> list[Setting]:
    """Each once, in the order of the records."""
    return list(dict.fromkeys(r.setting for r in records))


def at(records: Sequence[Record], setting: Setting) -> list[Record]:
    return [r for r in records if r.setting == setting]


@dataclass(frozen=True)
class Duel:
    """In one setting: this runtime, and the dense engine whose median is least."""

    ours: Record
    dense: Record

    @property
    def speedup(self) -> float:
        """How many times faster we are; below 1 is slower."""
        return self.dense.median_ms / self.ours.median_ms


def duel(records: Sequence[Record], setting: Setting) -> Duel | None:
    """None where one of the two was not measured."""
    here = at(records, setting)
    ours = next((r for r in here if r.engine == OURS), None)
    dense = min((r for r in here if r.engine != OURS), key=lambda r: r.median_ms, default=None)
    return Duel(ours, dense) if ours and dense else None


def short(value: float) -> str:
    """Three digits, none behind the third decimal: 0.412, 8.31, 415, 1,290."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.3f}"
