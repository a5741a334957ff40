"""Versions and hardware, so that a number can be repeated."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from harp import __version__


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """What a card says of the machine. ``device`` is the one that the work was done on."""
    on_gpu = device is not None and device.type == "cuda"
    return {
        "harp": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu" if device is None else device.type,
        "commit": _commit(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _commit() -> str | None:
    """The commit of the checkout that harp runs from, ``-dirty`` when files have changed since; None outside of one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed; a repository further up would be somebody else's
        return None
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
