"""The commands that make a run again: its stage with the flags that differ from where they start, and its evaluations."""

import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from harp.cards import Evaluation
from harp.recipes import PRESETS, changes, flags, to_json
from harp.report.reading import Run


def commands(run: Run, parent: Run | None) -> tuple[str, ...]:
    """Command lines, quoted for a shell. A stage takes its parent's recipe over, a first stage that of a preset.

    Without a recipe, or without the parent's, every setting that is known is written out.
    """
    mine = _settings(_recipe_of(run), run.stage)
    if run.parent is not None:
        source = os.path.normpath(run.path / run.parent)
        taken_over = _settings(_recipe_of(parent), run.stage) if parent is not None else {}
    else:
        presets = {name: _settings(to_json(recipe), run.stage) for name, (_, recipe) in PRESETS.items()}
        source = min(presets, key=lambda name: len(changes(presets[name], mine)))
        taken_over = presets[source]
    words = ["harp", run.stage, source, *flags(_known(run, alone=not mine) | changes(taken_over, mine))]
    if isinstance(weights := run.recipe.get("weights"), str):
        words += ["--weights", weights]
    if isinstance(key := run.recipe.get("weights_key"), str):
        words += ["--weights-key", key]
    if run.recipe.get("train_weights") is True:
        words += ["--train-weights"]
    return (shlex.join([*words, "--out", str(run.path)]), *_evaluations(run))


def _recipe_of(run: Run) -> Mapping[str, Any]:
    """The recipe inside recipe.json, which also says stage and parent."""
    recipe = run.recipe.get("recipe")
    return recipe if isinstance(recipe, dict) else {}


def _settings(recipe: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Every setting of one stage by the name of its flag."""
    settings = dict(_section(recipe, stage))
    for group in ("task", "compute") if stage == "pretrain" else ("compute",):
        settings.update({f"{group}.{name}": value for name, value in _section(recipe, group).items()})
    return settings | ({"seed": recipe["seed"]} if "seed" in recipe else {})


def _section(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = recipe.get(name)
    return section if isinstance(section, dict) else {}


def _known(run: Run, alone: bool) -> dict[str, Any]:
    """What the card says about the settings: always how it was pruned, and the seed when there is no recipe."""
    pruned = {"method": run.method, "keep": run.keep} if run.stage == "prune" else {}
    return pruned | ({"seed": run.seed} if alone and run.seed is not None else {})


def _evaluations(run: Run) -> Iterator[str]:
    """One command for each attack and number of images, at all its radii; every attack brings the clean accuracy along."""
    radii: dict[tuple[tuple[str, ...], int, float | None], list[str]] = {}
    for each in run.evaluations:
        if each.eps is not None:
            alone = each.eps if each.attack == "minimal" else None  # it takes one radius at a time
            radii.setdefault((_attack_words(each), each.images, alone), []).append(str(each.eps))
    if not radii:
        radii = {(("clean",), each.images, None): [] for each in run.evaluations}
    if run.corruptions is not None:
        images = str(run.corruptions.images)
        yield shlex.join(["harp", "evaluate", str(run.path), "--attack", "clean", "--images", images, "--corruptions"])
    for (attack, images, _), eps in radii.items():
        words = ["harp", "evaluate", str(run.path), "--attack", attack[0], "--images", str(images), *attack[1:]]
        yield shlex.join([*words, *(["--eps", *eps] if eps else [])])


def _attack_words(each: Evaluation) -> tuple[str, ...]:
    """The name of an attack on the command line, and the flags that make it this one."""
    family, _, steps = each.attack.partition("-")
    if not steps.isdigit():
        return (each.attack,)
    if family == "pgd" and steps == "1" and not each.random_start:
        return ("fgsm",)
    step_size = () if each.step_size is None else ("--step-size", str(each.step_size))
    return (family, "--steps", steps, *step_size)
