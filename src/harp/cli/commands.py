"""Which file of this folder holds which command, in a function of its name. None is imported before it is asked for."""

from collections.abc import Callable
from importlib import import_module

from harp.cli.stopping import StopRequest

Command = Callable[[list[str], StopRequest], int | None]
"""(arguments, stop) → exit code; None is 0."""

COMMANDS = {
    "run": "run",
    "pretrain": "stages",
    "prune": "stages",
    "finetune": "stages",
    "evaluate": "evaluate",
    "export": "export",
    "shrink": "shrink",
    "report": "report",
    "bench": "bench",
    "presets": "presets",
    "methods": "methods",
    "compare": "compare",
    "cell": "compare",
    "info": "plain",
    "classify": "plain",
}
PLAIN = ("info", "classify")
"""Commands of a base installation, which needs no tyro."""


def command(name: str, arguments: list[str]) -> Command:
    """The function behind a name of the table. A file instead of a run is exported without what runs need."""
    if name == "export" and any(word.endswith(".harp") for word in arguments[:1]):
        return import_module(".export_file", __package__).export_file
    return getattr(import_module(f".{COMMANDS[name]}", __package__), name)
