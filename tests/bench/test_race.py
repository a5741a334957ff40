"""Nothing is timed before all results are right; thread counts are those of this machine."""

import numpy as np
import pytest

from harp.bench import race as racing
from harp.bench.engines import ENGINES, Engine, Subject
from harp.bench.race import Entrant, Race, busy, race, thread_counts

COURSE = Race((2, 6, 6), batch=2, threads=1, seconds=0.02, rounds=2)


@pytest.fixture
def cheat(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """An engine that is a percent off, and what it was called with."""
    seen: list[np.ndarray] = []

    def open(subject: Subject, batch: int, threads: int):
        run = ENGINES["torch"].open(subject, batch, threads)
        return lambda x: (seen.append(x), run(x) * np.float32(1.01))[1]

    monkeypatch.setitem(ENGINES, "cheat", Engine(open, ()))
    return seen


def test_all_engines_of_a_race_are_timed(net):
    entrants = {"one": Entrant("torch", Subject(net)), "other": Entrant("torch", Subject(net))}
    found = race(entrants, COURSE)
    assert list(found) == ["one", "other"]
    assert all(times.calls >= 2 and 0 < times.best_ms <= times.median_ms for times in found.values())


def test_a_wrong_result_is_refused_before_anything_is_timed(net, cheat):
    with pytest.raises(ValueError, match=r"cheat deviates from PyTorch by 1\.0e-02"):
        race({"torch": Entrant("torch", Subject(net)), "cheat": Entrant("cheat", Subject(net))}, COURSE)
    assert len(cheat) == 1


def test_engines_get_images_of_the_batch_in_the_unit_interval(net, cheat):
    with pytest.raises(ValueError, match="cheat"):
        race({"cheat": Entrant("cheat", Subject(net))}, COURSE)
    assert cheat[0].shape == (2, 2, 6, 6)
    assert cheat[0].dtype == np.float32
    assert 0 <= cheat[0].min() < cheat[0].max() <= 1


def test_all_threads_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(racing, "usable_cores", lambda: 4)
    assert thread_counts([1, "all"]) == [1, 4]
    assert thread_counts([4, "all", 2]) == [4, 2]
    for wrong in ([0], [5], []):
        with pytest.raises(ValueError, match="between 1 and the 4 cores"):
            thread_counts(wrong)


@pytest.mark.parametrize(("load", "says"), [(0.1, False), (3.2, True)])
def test_a_busy_machine_is_told(load: float, says: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.getloadavg", lambda: (load, 9.0, 9.0))
    told = busy()
    assert ("a load of 3.2" in told) if says else told is None
