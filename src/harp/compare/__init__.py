"""Every combination of methods, keeps, granularities and seeds on the same passes: planned, launched, resumable."""

from harp.compare.jobs import Job, Todo, finished, outstanding
from harp.compare.launchers import Launcher, LauncherName, cores, make_launcher
from harp.compare.plan import Cell, ComparePlan
from harp.compare.running import Failure, run

__all__ = [
    "Cell",
    "ComparePlan",
    "Failure",
    "Job",
    "Launcher",
    "LauncherName",
    "Todo",
    "cores",
    "finished",
    "make_launcher",
    "outstanding",
    "run",
]
