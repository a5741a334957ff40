"""Tries one network for `coverage.py`: weights, channels, export, times. Prints one JSON object after each step.

python benchmarks/coverage_one.py timm resnet18 --file /tmp/resnet18.harp
"""

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import harp
from harp.bench.findings import Bench, bench
from harp.pruning.keeps import erk

KEEP_WEIGHTS, KEEP_MACS, CLASSES = 0.05, 0.5, 10
ENTIRE = 1e-4
"""How far the outputs of the smaller network may be from those of the masked one, relative to their norm."""
SECONDS = 1.0
"""For each engine."""
STEPS = ("weights", "export", "channels")


def build(source: str, name: str) -> nn.Module:
    """The network with random weights, always the same."""
    torch.manual_seed(0)
    return drawn(_made(source, name).eval())


def drawn(model: nn.Module) -> nn.Module:
    """Random numbers in place of weights that start as zeros: with such a classifier any two networks agree."""
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.detach().any():
            nn.init.trunc_normal_(parameter, std=0.02)
    return model


def _made(source: str, name: str) -> nn.Module:
    if source == "timm":
        import timm

        return timm.create_model(name, pretrained=False, num_classes=CLASSES)
    import torchvision

    others = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **others)


def images_for(model: nn.Module, source: str, name: str) -> Tensor:
    """Two images of the size that the network is published for."""
    if source == "timm":
        settings: Any = model.pretrained_cfg
        size = tuple(settings["input_size"])
    else:
        size = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    return torch.rand(2, *size, generator=torch.Generator().manual_seed(0))


def prune_weights(model: nn.Module) -> None:
    budget = harp.weight_budget(model, keep=KEEP_WEIGHTS)
    harp.attach_masks(model, budget, replace(harp.methods.LWM, keeps=erk))
    harp.bake_masks(harp.freeze_masks(model))
    parameters = dict(model.named_parameters())
    kept = sum(int(parameters[site].count_nonzero()) for site in budget.sites)
    if kept > budget.limit:
        raise ValueError(f"{kept:,} weights are left, and {budget.limit:,} may stay")


def prune_channels(model: nn.Module, images: Tensor) -> None:
    budget = harp.channel_budget(model, images[:1], keep=KEEP_MACS)
    harp.attach_masks(model, budget, harp.methods.LWM)
    harp.bake_masks(harp.freeze_masks(model))
    with torch.no_grad():
        masked = model(images)
        off = float((harp.shrink(model, images[:1])(images) - masked).norm() / masked.norm().clamp_min(1e-30))
    if not off <= ENTIRE:
        raise ValueError(f"the smaller network's outputs are off by {off:.1e}")
    if (macs := harp.macs(model, images[:1])) > budget.limit:
        raise ValueError(f"{macs:,} multiply-accumulates are left, and {budget.limit:,} may stay")


def export(model: nn.Module, images: Tensor, file: Path) -> dict[str, Any]:
    file.unlink(missing_ok=True)
    written = harp.export(model, images, file)
    return {"difference": written.agreement.difference, "size_bytes": written.size_bytes}


def times(file: Path) -> dict[str, float]:
    plan = Bench(batches=(1,), engines=("harp", "onnxruntime"), seconds=SECONDS, memory=False)
    return {f"{each.engine}_ms": each.median_ms for each in bench(file, plan).records}


def attempt(step: Callable[[], object]) -> str:
    """`ok`, or what was said against it."""
    try:
        step()
    except Exception as error:  # a network of anybody's may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return "ok"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=["timm", "tv"])
    parser.add_argument("name")
    parser.add_argument("--file", type=Path, required=True, help="of the exported network")
    parser.add_argument("--steps", default=",".join(STEPS), help="of weights, channels and export, those to try")
    parser.add_argument("--no-times", action="store_true")
    flags = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    found: dict[str, Any] = {}

    def tell(**results: Any) -> None:
        found.update(results)
        print(json.dumps(found), flush=True)

    def new() -> nn.Module:
        return build(flags.source, flags.name)

    steps = flags.steps.split(",")
    if "weights" in steps or "export" in steps:
        model = new()
        images = images_for(model, flags.source, flags.name)
        tell(weights=attempt(lambda: prune_weights(model)))
        if "export" in steps:
            tell(export=attempt(lambda: found.update(export(model, images, flags.file))))
        del model
    if flags.file.exists() and not flags.no_times:
        tell(times=attempt(lambda: found.update(times(flags.file))))
    if "channels" in steps:
        model = new()
        tell(channels=attempt(lambda: prune_channels(model, images_for(model, flags.source, flags.name))))


if __name__ == "__main__":
    main()
