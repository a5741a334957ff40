"""``harp COMMAND …``: find the command, turn what goes wrong into one line that says how to go on."""

import io
import os
import sys

from harp.cli.commands import COMMANDS, PLAIN, command
from harp.cli.imports import do_imports
from harp.cli.stopping import StopRequest

HELP = """\
harp: prune adversarially robust networks to as little as 1 % of their weights, and evaluate the result.

  harp run digits                                    the whole job on an embedded data set, in minutes

  harp pretrain cifar10-resnet18 --out runs/dense    train a robust network  (--weights: use an existing one)
  harp prune    runs/dense  --keep 0.01 --out runs/pruned     learn which 1 % of the weights to keep
  harp finetune runs/pruned --out runs/final         train the remaining weights
  harp evaluate runs/final  --attack autoattack      accuracy on clean and on attacked images
  harp shrink   runs/final  --out runs/small         remove the channels that were pruned
  harp report   runs/*                               one HTML page about several runs
  harp export   runs/final  --out net.harp           one small file that runs without torch
  harp export   net.harp --format c --out net.c      the same network as C for a microcontroller
  harp info     net.harp                             what a file or a run contains
  harp classify net.harp photos/                     the class of every image
  harp bench    net.harp                             time, memory and size beside dense engines
  harp compare  runs/dense --methods harp hydra      every method, keep fraction and seed, with equal compute

Each stage reads one run directory and writes another. Stop it with Ctrl-C; the same command continues.
Every setting is a flag: `harp COMMAND --help` lists them with their defaults. `harp presets` lists the recipes.
`harp methods` lists the pruning methods. --import package.module adds those that your module registers.
Set HARP_TRACEBACK=1 in the environment to see the traceback of an error.
"""


INSTALL = "pip install '.[train]' in a checkout of harp"


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 when a cell failed, 2 for bad input, 130 when interrupted, 141 unread."""
    arguments = sys.argv[1:] if argv is None else argv
    _print_what_the_terminal_cannot_show()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if arguments[0] == "--version":
        from harp import __version__

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
        said = str(error) if arguments[0] in PLAIN else f"{error.name} is not installed: {INSTALL}"
        print(f"harp {arguments[0]}: {said}", file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> int:
    name = arguments[0]
    if name not in COMMANDS and not name.startswith("--import"):
        print(f"harp: {name!r} is not a command; choose one of {', '.join(COMMANDS)} (`harp --help`)", file=sys.stderr)
        return 2
    stop = StopRequest()
    try:
        name, *rest = do_imports(arguments)
        return command(name, rest)(rest, stop) or 0
    except KeyboardInterrupt:
        print("\nStopped. Nothing is lost: give the same command again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads, `| head` say, has seen enough; what is still to be flushed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell says of SIGPIPE
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        if os.environ.get("HARP_TRACEBACK"):
            raise
        print(f"harp {name}: {_said(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        from harp.training.distributed import lost_process
        from harp.training.gpu import out_of_memory

        if (said := out_of_memory(error, name) or lost_process(error)) is None:
            raise
        print(f"harp {name}: {said}", file=sys.stderr)
        return 1


def _said(error: Exception) -> str:
    """What an error says; the system's own, such as ``[Errno 2] …``, in words and with the file first."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    if error.filename is None:  # our own words
        return error.strerror
    seen = f"; check the path, seen from {os.getcwd()}" if isinstance(error, FileNotFoundError) else ""
    return f"{error.filename}: {error.strerror.lower()}{seen}"
