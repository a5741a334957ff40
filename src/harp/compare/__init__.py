"""Every combination of methods, keeps, granularities and seeds on the same passes: planned, launched, resumable."""

from harp.compare.grid import Axis, axes_of
from harp.compare.jobs import Job, Todo, finished, outstanding
from harp.compare.launchers import Launcher, LauncherName, cores, make_launcher
from harp.compare.plan import Cell, ComparePlan
from harp.compare.running import Failure, run
from harp.compare.tuning import said, tune, tuned

__all__ = [
    "Axis",
    "Cell",
    "ComparePlan",
    "Failure",
    "Job",
    "Launcher",
    "LauncherName",
    "Todo",
    "axes_of",
    "cores",
    "finished",
    "make_launcher",
    "outstanding",
    "run",
    "said",
    "tune",
    "tuned",
]
