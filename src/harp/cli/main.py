"""``harp COMMAND …``: find the command, turn what goes wrong into one line that says how to go on."""

import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

HELP = """\
harp: keep 1 % of an adversarially robust network, and its accuracy, clean and under attack.

  harp run digits                                    the whole job on an embedded data set, in minutes

  harp pretrain cifar10-resnet18 --out runs/dense    train a robust network  (or --weights: take an existing one)
  harp prune    runs/dense  --keep 0.01 --out runs/pruned     learn which 1 % of the weights to keep
  harp finetune runs/pruned --out runs/final         train the weights that stayed
  harp evaluate runs/final  --attack autoattack      measure the accuracy that can be believed
  harp shrink   runs/final  --out runs/small         a channel-pruned network, physically smaller
  harp report   runs/*                               one HTML page about all of them
  harp export   runs/final  --out net.harp           one small file that runs without torch
  harp bench    net.harp                             its time, memory and size beside dense engines
  harp compare  runs/dense --methods harp hydra      every method, keep and seed on the same passes: a table, a page

Each stage reads one run directory and writes another. Stop any of them with Ctrl-C; the same command goes on.
Every setting is a flag: `harp COMMAND --help` lists them with their defaults. `harp presets` lists the recipes.
HARP_TRACEBACK=1 in the environment shows where an error comes from, in your own networks and data sets too.
"""


INSTALL = "pip install 'harp-pruning[train]'"


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 when a cell failed, 2 for bad input, 130 when interrupted, 141 unread."""
    arguments = sys.argv[1:] if argv is None else argv
    _print_what_the_terminal_cannot_show()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if arguments[0] == "--version":
        from .. import __version__

        print(f"harp {__version__}")
        return 0
    return _guarded(arguments)


def _print_what_the_terminal_cannot_show() -> None:
    """As a question mark: a log on Windows is written in an old code page, and a γ must not end a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _guarded(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except ModuleNotFoundError as error:
        # What the extra `train` brings and a plain installation, which runs exported networks, does not.
        if os.environ.get("HARP_TRACEBACK") or (error.name or "harp").partition(".")[0] == "harp":
            raise
        print(f"harp {arguments[0]}: {error.name} is not installed: {INSTALL}", file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> int:
    from .commands import COMMANDS
    from .comparing import COMPARISONS

    name, *rest = arguments
    commands = {**COMMANDS, **COMPARISONS}
    if name not in commands:
        print(f"harp: {name!r} is not a command; choose one of {', '.join(commands)} (`harp --help`)", file=sys.stderr)
        return 2
    stop = StopRequest()
    try:
        return commands[name](rest, stop) or 0
    except KeyboardInterrupt:
        print("\nStopped. Nothing is lost: give the same command again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads, `| head` say, has seen enough; what is still to be flushed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell says of SIGPIPE
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        if os.environ.get("HARP_TRACEBACK"):
            raise
        print(f"harp {name}: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        from ..devices import lost_process

        if (said := lost_process(error)) is None:
            raise
        print(f"harp {name}: {said}", file=sys.stderr)
        return 1


class StopRequest:
    """Ctrl-C or SIGTERM asks the work to stop at its next safe point; a second one stops it at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._process = os.getpid()
        # Taken out of the environment: it says nothing to processes that this one starts.
        self._parent = os.environ.pop("HARP_PARENT_PID", None)

    def __call__(self) -> bool:
        return self.asked or self._is_orphan()

    def _is_orphan(self) -> bool:
        """Whether the comparison that started this cell has died: it may be started again, and two would collide."""
        return self._parent is not None and os.getppid() != int(self._parent)

    def listen(self) -> None:
        """Take the signals over: only when work begins, so that parsing dies as any program does."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)

    def release(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker that decodes images: its parent sees to it
            return
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nStopping after this step; once more to stop at once.\n")


Command = Callable[[list[str], StopRequest], int | None]
"""(arguments, stop) → exit code; None is 0."""
