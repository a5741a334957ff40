"""A finished run with masks on channels → a run of the same network without them: smaller, faster, the same answers."""

import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.cards import read_card
from harp.checkpoint import save_tensors
from harp.data import ImageData
from harp.environment import environment
from harp.files import write_json
from harp.pruning import bake_masks, macs, shrink
from harp.pruning.channels import evaluating, widths
from harp.runs.claim import Claim
from harp.runs.directory import RunDirectory
from harp.runs.images import open_data
from harp.runs.inputs import check_code, read_inputs
from harp.runs.network import load_network
from harp.runs.opening import open_run

_TIMED, _UNTIMED, _LONGEST_S = 50, 5, 5.0


def shrink_run(path: Path, out: Path, *, overwrite: bool = False, accept_changes: bool = False) -> RunDirectory:
    """Write a run of the physically smaller network, its widths beside it. Its card has the sizes before and after.

    Raises ValueError when the run has no masks on channels. What was shrunk already is not shrunk again.
    """
    opened = open_run(path)
    run, recipe = opened.directory, opened.recipe
    if run.widths.exists():
        raise ValueError(f"{path} is shrunk already")
    if read_card(run.card).values.get("channels") is None:
        raise ValueError(
            f"{path} has no masks on channels; `harp prune DENSE --granularity channel` makes a run that can be shrunk"
        )
    claim = Claim("shrink", recipe, RunDirectory(out), parent=path, split_seed=opened.split_seed)
    if claim.is_done(overwrite=overwrite):
        return claim.settle()
    check_code(run, recipe, accept=accept_changes)
    data = open_data(recipe, split_seed=claim.split_seed, run=run)
    model, image = bake_masks(load_network(opened, data)), _image(data)
    before = sizes(model, image)
    shrink(model, image, exclude=recipe.prune.exclude)
    claim.begin(read_inputs(run))
    _write(claim, model, before, sizes(model, image))
    return claim.settle()


def _write(claim: Claim, model: nn.Module, before: dict[str, Any], after: dict[str, Any]) -> None:
    assert claim.parent is not None
    card = dict(read_card(RunDirectory(claim.parent).card).values)
    for measure in ("macs", "parameters"):
        if card["channels"][measure]["kept"] != after[measure]:
            raise RuntimeError(
                f"the card says {card['channels'][measure]['kept']:,} {measure}, the network has {after[measure]:,}"
            )
    card |= {
        "stage": claim.stage,
        "parent": claim.parent_from_here,
        "parameters": after["parameters"],
        "shrunk": {"before": before, "after": after},
        "environment": environment(),
        "evaluations": [],
    }
    save_tensors(claim.run.model, model.state_dict())
    write_json(claim.run.widths, widths(model))
    write_json(claim.run.card, card)


def sizes(model: nn.Module, image: Tensor) -> dict[str, Any]:
    """What a network costs: multiply-accumulates, parameters, and seconds for one image on this machine."""
    return {
        "macs": macs(model, image),
        "parameters": sum(p.numel() for p in model.parameters()),
        "latency_s": latency_s(model, image),
    }


def latency_s(model: nn.Module, image: Tensor) -> float:
    """The median time of one forward pass, seconds."""
    times: list[float] = []
    began = time.perf_counter()
    with evaluating(model), torch.no_grad():
        while len(times) < _UNTIMED + _TIMED and (
            len(times) < _UNTIMED + 3 or time.perf_counter() - began < _LONGEST_S
        ):
            start = time.perf_counter()
            model(image)
            times.append(time.perf_counter() - start)
    return statistics.median(times[_UNTIMED:])


def _image(data: ImageData) -> Tensor:
    """One image of the validation split, as the network sees it."""
    images = data.train if data.validation is None else data.validation
    x, _ = next(iter(images.batches(torch.tensor([0]), 1)))
    return x
