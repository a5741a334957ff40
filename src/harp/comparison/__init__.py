"""Every combination of methods, keeps, granularities and seeds on the same passes: planned, launched, resumable."""

from .cost import Cost, estimate, seconds_a_pass
from .jobs import Job, Todo, finished, outstanding
from .launchers import Launcher, LauncherName, cores, make_launcher
from .plan import Cell, Comparison
from .running import Failure, run

__all__ = [
    "Cell",
    "Comparison",
    "Cost",
    "Failure",
    "Job",
    "Launcher",
    "LauncherName",
    "Todo",
    "cores",
    "estimate",
    "finished",
    "make_launcher",
    "outstanding",
    "run",
    "seconds_a_pass",
]
