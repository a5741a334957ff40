"""What a GPU is told before it computes, and what to do when its memory is full."""

import os

import torch

from harp.recipes import Compute

_OF_ONE = ("pretrain", "prune", "finetune", "evaluate")
"""Commands whose flags have no prefix of a stage."""


def set_up_gpu(compute: Compute) -> None:
    """TF32 only where ``precision`` says so (torch itself computes convolutions in it), and the same bits twice on request.

    These are settings of the process.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = compute.precision != "32"
    if compute.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first product
    torch.use_deterministic_algorithms(compute.deterministic)
    torch.backends.cudnn.benchmark = False


def out_of_memory(error: RuntimeError, command: str) -> str | None:
    """What to tell of a full GPU, with the flags that help; None for any other error."""
    if not isinstance(error, torch.OutOfMemoryError):
        return None
    flags = [f"a smaller --{'' if command in _OF_ONE else 'STAGE.'}batch-size"]
    if command != "evaluate":
        flags += ["--compute.precision bf16-mixed", "more --compute.devices, which share a batch"]
    return f"the GPU's memory is full ({str(error).splitlines()[0]}); what helps: {', '.join(flags)}"
