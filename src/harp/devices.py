"""Where the numbers are crunched: a Fabric for the recipe's devices, and a CPU that does not waste its time."""

import ctypes
import logging
import platform
import sys

import torch
from lightning_fabric import Fabric

from .recipes import Compute

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEEP_BYTES = 2**31 - 1


def make_fabric(compute: Compute) -> Fabric:
    """The Fabric for these settings, not launched. Raises ValueError for a device that this machine does not have."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True, "auto": True}
    if not available[compute.device]:
        here = [name for name, there in available.items() if there]
        raise ValueError(f"device={compute.device!r} is not available here; this machine offers {here}")
    if compute.device == "cuda" and compute.devices > torch.cuda.device_count():
        raise ValueError(f"devices={compute.devices} but this machine has {torch.cuda.device_count()} CUDA devices")
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    keep_freed_memory()
    several = compute.devices * compute.num_nodes > 1
    return Fabric(
        accelerator=compute.device,
        devices=compute.devices,
        num_nodes=compute.num_nodes,
        strategy="ddp" if several else "auto",
        precision={"32": "32-true"}.get(compute.precision, compute.precision),  # type: ignore[arg-type]
    )


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks instead of returning each to the kernel; True if it does so now.

    A training step on a CPU frees and allocates the same activations again and again, and without this every page of
    them is faulted in anew: 1.4 times the time of an adversarial step of a small network.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES))
