"""A comparison whose cells take no process of their own."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from harp.cli import main
from harp.compare import Job, launchers


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cells run in this process, one after the other; the commands that ran. A new process each takes seconds."""
    ran: list[str] = []

    def launch(jobs: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[tuple[Job, int]]:
        for job in jobs:
            ran.append(str(job))
            yield job, main(list(job.words))

    monkeypatch.setattr(launchers, "local", lambda processes: launch)
    monkeypatch.setenv("COLUMNS", "160")
    return ran
