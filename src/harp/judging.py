"""Judge a finished run on the test set, once, and note the result in its card."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .attacks import PGD, AutoAttack, Threat, autoattack, fgsm
from .checkpoint import read_json, save_tensors, write_json
from .data import Images
from .devices import make_fabric
from .evaluation import Evaluation, collect_examples, evaluate
from .recipes import Compute, Testing
from .runs import load_network, open_data, open_run, recipe_of
from .stages import SILENT, Watch

EXAMPLES = 8
"""Images shown in the report."""


def judge(path: Path, testing: Testing, compute: Compute, *, watch: Watch = SILENT) -> list[Evaluation]:
    """Clean accuracy, then accuracy under the attack at each eps. What the card holds already is not computed again.

    Interrupted, the same call goes on where it was.
    """
    run = open_run(path)
    recipe = recipe_of(path)
    fabric = make_fabric(compute)
    fabric.launch()
    data = open_data(recipe)
    model = load_network(path, data).to(fabric.device, memory_format=torch.channels_last)
    images = min(testing.images or len(data.test), len(data.test))
    card = read_json(run.card)
    watch.on_start("evaluate", f"{card['name']} on {images:,} test images")
    results = []
    for attack in _attacks(testing, Threat(recipe.task.norm, recipe.task.eps), recipe.seed):
        name = "clean" if attack is None else attack.name
        threat = None if attack is None else attack.threat
        done = _find(card, name, threat, images, recipe.seed)
        if done is None:
            state = run.evaluations / f"{name}-{images}-{recipe.seed}-{0.0 if threat is None else threat.eps:.6f}.json"
            done = _evaluate(model, data.test, attack, state, images, testing, recipe.seed, watch)
            card["evaluations"] = [*card["evaluations"], done.to_json()]
            write_json(run.card, card)
        results.append(done)
    if testing.attack != "clean" and not run.examples.exists():
        shown = PGD(Threat(recipe.task.norm, recipe.task.eps), steps=20)
        examples = collect_examples(model, data.test, shown, k=EXAMPLES, seed=recipe.seed)
        save_tensors(run.examples, examples, {"attack": shown.name, "eps": repr(shown.threat.eps)})
    return results


def _attacks(testing: Testing, threat: Threat, seed: int) -> Iterator[PGD | AutoAttack | None]:
    """None, for the clean images, then the attack at each radius."""
    yield None
    for eps in testing.eps or (threat.eps,):
        at = Threat(threat.norm, eps)
        match testing.attack:
            case "fgsm":
                yield fgsm(at)
            case "pgd":
                yield PGD(at, steps=testing.steps, step_size=testing.step_size)
            case "cw":
                yield PGD(at, steps=testing.steps, step_size=testing.step_size, loss="cw")
            case "autoattack":
                yield autoattack(at, seed=seed)


def _find(card: dict[str, Any], name: str, threat: Threat | None, images: int, seed: int) -> Evaluation | None:
    """The card's own result for this attack, if it has one."""
    wanted = (name, threat.norm if threat else None, threat.eps if threat else None, images, seed)
    for record in card["evaluations"]:
        found = Evaluation.from_json(record)
        if (found.attack, found.norm, found.eps, found.images, found.seed) == wanted:
            return found
    return None


def _evaluate(
    model: nn.Module,
    test: Images,
    attack: PGD | AutoAttack | None,
    state: Path,
    images: int,
    testing: Testing,
    seed: int,
    watch: Watch,
) -> Evaluation:
    name = "clean" if attack is None else attack.name

    def tick(done: int, total: int) -> None:
        watch.on_images(name, done, total)
        if watch.should_stop():
            raise KeyboardInterrupt(f"stopped in {name}")

    return evaluate(
        model,
        test,
        attack,
        images=images,
        batch_size=testing.batch_size,
        seed=None if isinstance(attack, AutoAttack) else seed,
        state=state,
        on_progress=tick,
    )
