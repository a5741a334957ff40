"""Where the numbers are crunched: a Fabric for the recipe's devices, and several processes that work as one."""

import ctypes
import logging
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor, nn

from harp.recipes import Compute
from harp.training.gpu import set_up_gpu

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEEP_BYTES = 2**31 - 1
_ORDERLY = (0, 130)
"""Exit codes of a process that ended as all do: done, or interrupted together with the others."""
_LOOK_EVERY_S = 0.25


def make_fabric(compute: Compute) -> Fabric:
    """The Fabric for these settings, not launched. Raises ValueError for a device that this machine does not have."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True, "auto": True}
    if not available[compute.device]:
        here = [name for name, there in available.items() if there]
        raise ValueError(f"device={compute.device!r} is not available here; this machine offers {here}")
    gpus = {"cuda": torch.cuda.device_count(), "mps": 1}
    kind = next((name for name in gpus if compute.device in (name, "auto") and available[name]), "cpu")
    if compute.devices > gpus.get(kind, compute.devices):
        raise ValueError(f"devices={compute.devices} but this machine has {gpus[kind]} {kind.upper()} devices")
    if compute.precision == "16-mixed" and not (available["cuda"] and compute.device in ("cuda", "auto")):
        raise ValueError("precision='16-mixed' needs a CUDA device; 'bf16-mixed' and '32' work on all")
    keep_freed_memory()
    if kind == "cuda":
        set_up_gpu(compute)
    several = compute.devices * compute.num_nodes > 1
    return Fabric(
        accelerator=compute.device,
        devices=compute.devices,
        num_nodes=compute.num_nodes,
        strategy="ddp" if several else "auto",
        precision={"32": "32-true", "tf32": "32-true"}.get(compute.precision, compute.precision),  # type: ignore[arg-type]
    )


def launch(fabric: Fabric, compute: Compute) -> Fabric:
    """Start the other processes, if there are to be several, and meet them. Raises ValueError for others than started."""
    _check_processes(fabric, compute)
    fabric.launch()
    launcher = fabric.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher) and launcher.procs:
        threading.Thread(target=_watch, args=(launcher.procs,), daemon=True, name="harp-watch").start()
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)  # last: launching several processes sets a number of its own
    return fabric


def _check_processes(fabric: Fabric, compute: Compute) -> None:
    """Processes that wait for others that nobody starts would hang; those that know of no others would write one run."""
    expected = compute.devices * compute.num_nodes
    by_torchrun = os.environ["WORLD_SIZE"] if "TORCHELASTIC_RUN_ID" in os.environ else "1"
    started = max(int(by_torchrun), int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")))
    if started > 1 and started != expected:
        raise ValueError(
            f"devices={compute.devices} times num_nodes={compute.num_nodes} is not {started}, the processes that torchrun "
            "or srun has started: one for each device of each node"
        )
    for here in _processes_on_nodes():
        if started > 1 and here != compute.devices:
            raise ValueError(
                f"devices={compute.devices}, but torchrun or srun has started {here} of its {started} processes on one node: "
                f"say --compute.devices {here} with as many nodes as make {started}, or start {compute.devices} on each"
            )
    ours = isinstance(getattr(fabric.strategy, "cluster_environment", None), LightningEnvironment)
    if ours and compute.num_nodes > 1 and "NODE_RANK" not in os.environ:
        raise ValueError(
            f"num_nodes={compute.num_nodes} needs torchrun or srun, which start this command on every node and tell it "
            "where the others are"
        )


def _processes_on_nodes() -> list[int]:
    """How many processes were started on a node: by torchrun on this one, by srun on each (it writes "2(x3),1")."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return [int(os.environ["LOCAL_WORLD_SIZE"])] if "LOCAL_WORLD_SIZE" in os.environ else []
    counts = re.findall(r"(\d+)(?:\(x(\d+)\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return [int(count) for count, times in counts for _ in range(int(times or 1))]


def _watch(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End this process when one that it started is gone: in a collective it would wait for ever."""
    while any(process.poll() is None for process in processes):
        for process in processes:
            if process.poll() not in (None, *_ORDERLY):
                log.error("process %d of this run %s", process.pid, _AFTERWARDS.format(f"ended with {process.poll()}"))
                for other in processes:
                    other.kill()
                os._exit(1)
        time.sleep(_LOOK_EVERY_S)


_AFTERWARDS = "{}; what was saved last is whole: give the same command again, on as many devices as there are, to go on"


def lost_process(error: RuntimeError) -> str | None:
    """What to tell of an error that means that another process of several is gone; None for any other error."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    text = str(error)
    if not (isinstance(error, torch.distributed.DistError) or "gloo" in text or "NCCL" in text):
        return None
    return "another process of this run " + _AFTERWARDS.format(f"is gone ({text.splitlines()[0]})")


def alone(compute: Compute) -> Compute:
    """The same settings for one device: what is not shared out among several."""
    return replace(compute, devices=1, num_nodes=1)


def leads() -> bool:
    """Whether this process is the one that writes and prints: the only one, or the first of several."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return int(next((os.environ[name] for name in names if name in os.environ), "0")) == 0


def place(model: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """Move a model to a device, and its filters into a memory layout; in place."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return model.to(device, memory_format=layout)  # type: ignore[call-overload]


def average_gradients(fabric: Fabric, model: nn.Module) -> None:
    """One all-reduce of all gradients. Attacks call the model many times per step, so a DDP wrapper would not do."""
    if fabric.world_size > 1:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        _write(mean_over(fabric, _flat(gradients)), gradients)


@contextmanager
def averaged_buffers(fabric: Fabric, model: nn.Module) -> Iterator[None]:
    """What the passes inside do to batch-norm statistics: afterwards every rank has the mean of it.

    So all ranks attack and evaluate the same network, and what one of them writes down is that of all.
    """
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if fabric.world_size == 1 or not buffers:
        yield
        return
    before = _flat(buffers)
    yield
    now = _flat(buffers)
    # Of the change: what no rank changed must stay, and the mean of three equal numbers may be another one.
    change = mean_over(fabric, torch.where(now == before, 0.0, now - before))
    _write(torch.where(change == 0, before, before + change), buffers)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _write(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(value.view_as(tensor))


class Shares:
    """The state of a part that holds tensors for this rank's images, as one for the images of all ranks."""

    def __init__(self, fabric: Fabric, part: Any):
        self.fabric, self.part = fabric, part

    def state_dict(self) -> dict[str, Any]:
        """To be called on every rank. Ranks take every n-th image of an epoch, so their tensors are interleaved."""
        state = self.part.state_dict()
        if self.fabric.world_size == 1:
            return state
        return {name: value if value is None else self._gathered(value) for name, value in state.items()}

    def _gathered(self, value: Tensor) -> Tensor:
        everyone = self.fabric.all_gather(value)
        assert isinstance(everyone, Tensor)
        return everyone.transpose(0, 1).flatten(0, 1)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        mine = slice(self.fabric.global_rank, None, self.fabric.world_size)
        self.part.load_state_dict({name: value if value is None else value[mine] for name, value in state.items()})


def mean_over(fabric: Fabric, values: Tensor) -> Tensor:
    """The mean over all ranks, the same on each; itself where there is one."""
    mean = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean


def share(fabric: Fabric, model: nn.Module) -> None:
    """Give every rank the first one's parameters and buffers, should a user's factory have drawn others."""
    if fabric.world_size > 1:
        with torch.no_grad():
            for tensor in [*model.parameters(), *model.buffers()]:
                first = tensor.detach().contiguous()
                torch.distributed.broadcast(first, src=0)
                tensor.copy_(first)


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks instead of returning each to the kernel; True if it does so now.

    A training step on a CPU frees and allocates the same activations again and again, and without this every page of
    them is faulted in anew: 1.4 times the time of an adversarial step of a small network.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES))


def peak_memory_bytes(device: torch.device) -> int | None:
    """The most memory that this process has held: what torch allocated on a GPU, else the resident set.

    None where the system does not tell, as on Windows.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss there begins with what the parent of the process had
        lines = (line.split() for line in status.read_text(encoding="utf-8").splitlines())
        found = next((words[1] for words in lines if words and words[0] == "VmHWM:"), None)
        return None if found is None else int(found) * 1024
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def batch_per_rank(batch_size: int, world: int) -> int:
    """Images per step on each rank. Raises ValueError when the batch cannot be shared out evenly."""
    if batch_size % world:
        raise ValueError(
            f"batch_size={batch_size} must be divisible by the {world} devices, or gradients weigh unequally"
        )
    return batch_size // world
