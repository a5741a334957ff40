"""What a network computes, written down by torch.export: the first half of an export, which takes long."""

import sys
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from harp.exporting.agreement import answers
from harp.pruning import masks
from harp.pruning.channels import evaluating
from harp.runtime.graph import Shape

_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
"""What torch puts around a network, and what the network is called inside."""


@dataclass(frozen=True)
class Program:
    """What a network computes in eval mode, with the weights of the moment it was written down."""

    exported: ExportedProgram
    shape: Shape
    """Of an image."""
    kind: str
    """The name of the network's class."""


def program_of(model: nn.Module, example: Tensor) -> Program:
    """What a network computes in eval mode. It does not depend on the values of weights."""
    check_exportable(model, example)
    with evaluating(model), torch.no_grad():
        return Program(_program(model, example), tuple(example.shape[1:]), type(model).__name__)


def check_exportable(model: nn.Module, example: Tensor) -> None:
    """Raise ValueError unless this is a plain float32 network without masks, and the example a batch of images."""
    kind = type(model).__name__
    if kind in _WRAPPERS:
        raise ValueError(f"the model is wrapped in {kind}: export model.{_WRAPPERS[kind]}")
    other = {str(p.dtype) for p in model.parameters() if p.is_floating_point() and p.dtype != torch.float32}
    if other:
        raise ValueError(f"the model has weights of {', '.join(sorted(other))}: call model.float(), then export it")
    found = masks(model)
    if found:
        first = "" if all(mask.frozen for mask in found.values()) else "freeze_masks(model) and "
        raise ValueError(f"the model has masks on {len(found)} weights; call {first}bake_masks(model), then export it")
    if not isinstance(example, Tensor):
        raise TypeError(f"example is a {type(example).__name__}: expected a tensor, float32 of shape (n, c, h, w)")
    if example.dim() != 4 or example.dtype != torch.float32 or 0 in example.shape:
        got = f"{example.dtype} of shape {tuple(example.shape)}"
        raise ValueError(f"example must be a batch of images, float32 of shape (n, c, h, w); got {got}")


def _program(model: nn.Module, example: Tensor) -> ExportedProgram:
    """What the model computes, as ATen operations of which none works in place."""
    name = type(model).__name__
    batch = torch.cat([example[:1]] * 2)  # of a single image, torch would take the batch for a constant
    answers(model, batch)
    try:
        program = torch.export.export(model, (batch,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)
    except Exception as error:  # torch raises whatever it likes here
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"torch.export cannot follow {name}, which may not branch on its images: {reason}") from error
    for batches in program.range_constraints.values():
        if batches.lower > 2 or batches.upper < sys.maxsize:
            raise ValueError(f"{name} branches on the size of a batch: it must do the same for one image as for many")
    return program.run_decompositions({})
