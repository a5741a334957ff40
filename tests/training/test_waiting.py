"""Where a step would wait for a GPU, found out on a CPU: tensors that say they are on a GPU, and count what looks at them.

It is a stand-in. What torch does inside a call is not seen; ``tests/gpu`` asks a GPU itself.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

import harp
from harp.attacks import PGD, Threat
from harp.data import InMemory
from harp.objectives import pgd_at
from harp.pruning import (
    GMP_LAMP,
    HARP,
    LWM,
    Descent,
    Gradual,
    Sharpness,
    attach_masks,
    freeze_masks,
    learned_scores,
    learned_weights,
    mask,
    weight_budget,
)
from harp.recipes import Pruning
from harp.training.averaging import Average
from harp.training.loop import Course, train_step
from harp.training.optimizer import make_optimizer

GPU = torch.device("cuda", 0)
LOOKS = {
    *(
        "item",
        "tolist",
        "__bool__",
        "__float__",
        "__int__",
        "__index__",
        "cpu",
        "numpy",
        "nonzero",
        "equal",
        "allclose",
    ),
    *("masked_select", "unique", "is_nonzero", "__contains__"),
}
MAKE = {"tensor", "as_tensor", "from_numpy"}
SOURCE = str(Path(harp.__file__).parent)


class OnGPU(Tensor):
    """Says so, and lies in the memory of the CPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU


class Watching(TorchFunctionMode):
    """Keeps results of tensors on the GPU there, and notes in which function of harp something looks at them."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        there = any(isinstance(each, OnGPU) for each in tree_flatten((args, kwargs))[0])
        to_gpu = any(isinstance(each, torch.device) and each.type == "cuda" for each in tree_flatten((args, kwargs))[0])
        if (there and (name in LOOKS or _picks_by_booleans(name, args))) or (
            to_gpu and (name in MAKE or (name == "to" and not there and not kwargs.get("non_blocking")))
        ):
            self._note(name)
        args, kwargs = tree_map(_here, (args, kwargs))
        out = func(*args, **kwargs)
        return tree_map(_there, out) if (there or to_gpu) and name != "cpu" else tree_map(_plain, out)

    def _note(self, name: str) -> None:
        ours = [frame for frame in traceback.extract_stack() if frame.filename.startswith(SOURCE)]
        self.waits.append(f"{ours[-1].name if ours else '?'}: {name}")


def _picks_by_booleans(name: str, args: Any) -> bool:
    index = args[1] if name in ("__getitem__", "__setitem__") else None
    return any(isinstance(each, Tensor) and each.dtype == torch.bool for each in tree_flatten(index)[0])


def _here(value: Any) -> Any:
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == "cuda" else value


def _there(value: Any) -> Any:
    return value.as_subclass(OnGPU) if type(value) is Tensor else value


def _plain(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, OnGPU) else value


class There(Fabric):
    @property
    def device(self) -> torch.device:
        return GPU


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.detach().as_subclass(OnGPU))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.as_subclass(OnGPU)
    return model.train()


def waits_of(kind: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the third step waits."""
    monkeypatch.setattr(mask, "_is_traced", lambda tensor: False)
    x, y = torch.rand(12, 1, 6, 6), torch.arange(12) % 3
    with Watching() as watching:
        model, rule, sharpness, average = network(), None, None, None
        if kind in ("prune", "s2ap", "finetune", "awp", "gradual"):
            budget = weight_budget(model, keep=0.3)
            attach_masks(model, budget, {"prune": HARP, "s2ap": HARP, "gradual": GMP_LAMP}.get(kind, LWM))
            if kind in ("prune", "s2ap"):
                rule = Descent(model, budget, 50)
            elif kind == "gradual":
                rule = Gradual(model, budget, 50, method=GMP_LAMP, every=8)
            else:
                freeze_masks(model)
        if kind in ("s2ap", "awp"):
            sharpness = Sharpness(0.01, learned_scores if kind == "s2ap" else learned_weights)
        if kind == "average":
            average = Average(model, 0.9)
        settings, fabric = Pruning(lr=0.01), There(accelerator="cpu")
        optimizer: Any = make_optimizer(model, settings, rule=rule)
        objective = pgd_at(PGD(Threat("linf", 0.1), steps=2))
        course = Course(
            *("gpu", settings, objective, InMemory(x, y), lambda model: (0.0, 0.0), 0),
            rule=rule, sharpness=sharpness, average=average,
        )  # fmt: skip
        step: Callable[[], Tensor] = lambda: train_step(model, course, fabric, optimizer, x, y)  # noqa: E731
        optimizer = fabric.setup_optimizers(optimizer)
        step(), step()
        watching.waits.clear()
        step()
    return watching.waits


ONCE = ["hold_masks: tolist", "step: cpu"]
LISTED = {"prune": ONCE, "s2ap": ["hold_masks: tolist", *ONCE]}
"""One transfer of all keep fractions when masks are held, and one of their gradients. Other steps wait nowhere."""


@pytest.mark.parametrize("kind", ["dense", "prune", "finetune", "s2ap", "awp", "gradual", "average"])
def test_a_step_looks_at_the_gpu_where_it_is_said_and_nowhere_else(kind: str, monkeypatch: pytest.MonkeyPatch):
    assert waits_of(kind, monkeypatch) == LISTED.get(kind, [])
