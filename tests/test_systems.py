"""What only some systems have is not needed: a whole job runs where it is missing, as on Windows."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harp.recipes import Recipe
from harp.runs import claim as claims
from harp.runs.claim import Claim
from harp.runs.directory import RunDirectory
from harp.training import distributed as devices

PACKAGE = Path(__file__).parents[1] / "src" / "harp"
POSIX = ("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "crypt")

ELSEWHERE = f"""
import os, signal, sys, warnings
from pathlib import Path

# What others need here they may have: it is harp that is asked.
import jinja2, lightning_fabric, PIL.Image, pyautoattack, rich.logging, rich.progress, safetensors.torch, torch, tyro
import torch._dynamo, torch.export, torch.utils.flop_counter

for module in {POSIX!r}:
    sys.modules[module] = None
for name in ("sched_getaffinity", "getloadavg", "fork", "uname", "getuid", "chmod", "umask", "killpg", "setsid"):
    delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "setitimer", "alarm"):
    delattr(signal, name)
exists, read_text = Path.exists, Path.read_text
Path.exists = lambda path, **how: not str(path).startswith("/proc") and exists(path, **how)
# A text without an encoding is read in whatever code page the machine has.
warnings.filterwarnings("error", category=EncodingWarning, module=r"harp[.]")

from harp.cli import main

for command in sys.stdin.read().splitlines():
    status = main(command.split())
    assert status == 0, f"harp {{command}} ended with {{status}}"
"""
TASK = "--task.data tiny:data --task.model tiny:network --task.eps 0.05"
STEPS = "--epochs 1 --attack-steps 1 --batch-size 30"
JOB = f"""\
pretrain digits {TASK} {STEPS} --out dense --dry-run
pretrain digits {TASK} {STEPS} --out dense
prune dense {STEPS} --keep 0.5 --out masks
finetune masks {STEPS} --out final
evaluate final --attack pgd --steps 2
export final --out net.harp
report dense final
"""


def test_a_whole_job_needs_nothing_that_only_posix_has(tiny: Path):
    command = [sys.executable, "-X", "warn_default_encoding", "-c", ELSEWHERE]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tiny), *sys.path])}
    done = subprocess.run(command, input=JOB, capture_output=True, encoding="utf-8", env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tiny / "report.html").exists()
    assert '"peak_memory_mb": null' in RunDirectory(tiny / "final").card.read_text(encoding="utf-8")


def test_no_module_imports_at_its_top_what_only_posix_has():
    for source in PACKAGE.rglob("*.py"):
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not set(names) & set(POSIX), source


def test_where_the_system_does_not_tell_its_memory_none_is_the_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Windows has no such module; containers of some kinds have a status without the peak."""
    status = tmp_path / "status"
    monkeypatch.setattr(devices, "Path", lambda name: status)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert devices.peak_memory_bytes(torch.device("cpu")) is None
    status.write_text("Name:\tpython\nVmRSS:\t100 kB\n\n", encoding="utf-8")
    assert devices.peak_memory_bytes(torch.device("cpu")) is None
    status.write_text("VmHWM:\t  100 kB\n", encoding="utf-8")
    assert devices.peak_memory_bytes(torch.device("cpu")) == 102_400


def test_a_parent_on_another_drive_is_named_in_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def no_way(*paths: Path) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    claim = Claim("prune", Recipe(), RunDirectory(tmp_path / "masks"), parent=tmp_path / "dense")
    assert claim.parent_from_here == "../dense"
    monkeypatch.setattr(claims.os.path, "relpath", no_way)
    assert claim.parent_from_here == (tmp_path / "dense").resolve().as_posix()


def test_a_line_that_the_terminal_cannot_show_ends_no_command():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", "from harp.cli import main; main(['--version']); print('γ = 2')"]
    done = subprocess.run(command, capture_output=True, encoding="ascii", env=environment, timeout=120)
    assert done.stdout.endswith("\n? = 2\n"), done.stderr
