"""Every combination of methods, keeps, granularities and seeds on the same passes: planned, launched, resumable."""

from harp.compare.grid import TuneAxis, axes_of
from harp.compare.jobs import Job, Todo, finished, outstanding
from harp.compare.launchers import Launcher, LauncherName, cores, make_launcher
from harp.compare.plan import Cell, ComparePlan
from harp.compare.running import FailedJob, run
from harp.compare.tuning import said, tune, tuned

__all__ = [
    "Cell",
    "ComparePlan",
    "FailedJob",
    "Job",
    "Launcher",
    "LauncherName",
    "Todo",
    "TuneAxis",
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
