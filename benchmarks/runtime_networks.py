"""The networks that `runtime.py` measures: random weights under ERK masks, and real ones."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import harp
from harp.bench.work import Work, work_of
from harp.exporting import trace
from harp.models import build_model
from harp.runtime.format import read, write
from harp.runtime.graph import Graph
from harp.stages.export import export_run

NETWORKS = ("vgg16_bn", "resnet18")
SHAPE, CLASSES = (3, 32, 32), 10
KEEPS = (0.1, 0.05, 0.01, 0.001)
CALIBRATION = 32
"""Images from which batch normalisations take their statistics, so that signals keep their size through all layers."""


@dataclass(frozen=True)
class Network:
    """One network, as a graph and as a file with float32 values."""

    name: str
    keep: float
    file: Path
    graph: Graph

    @property
    def work(self) -> Work:
        return work_of(self.graph)


def random_network(name: str, keep: float, seed: int, folder: Path) -> Network:
    model = random_model(name, keep, seed)
    graph = trace(model, torch.zeros(1, *SHAPE))
    file = folder / f"{name}-{keep:g}.harp"
    write(file, graph, card={"keep": keep, "seed": seed, "weights": "random"})
    return Network(name, keep, file, graph)


def random_model(name: str, keep: float, seed: int) -> nn.Module:
    """Random weights under ERK masks, batch normalisations with random scales and shifts, baked, in eval mode."""
    torch.manual_seed(seed)
    model = build_model(name, shape=SHAPE, classes=CLASSES)
    harp.attach_masks(model, harp.weight_budget(model, keep=keep), harp.methods.ERK)
    harp.bake_masks(harp.freeze_masks(model))
    for norm in [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
        norm.momentum = None  # the mean of all batches: one batch sets it
    with torch.no_grad():
        model.train()(torch.rand(CALIBRATION, *SHAPE))
        logits = model.eval()(torch.rand(8, *SHAPE))
    if not logits.std(0).any():
        raise RuntimeError(f"{name} at keep={keep} answers alike to all images: no path is left; try another seed")
    return model


def run_network(path: Path, folder: Path) -> Network:
    """The network of a finished run, exported as `harp export` does."""
    file = folder / f"{path.resolve().name}.harp"
    export_run(path, file)
    return file_network(file)


def file_network(file: Path) -> Network:
    graph, _ = read(file)
    return Network(file.stem, round(work_of(graph).keep, 6), file, graph)
