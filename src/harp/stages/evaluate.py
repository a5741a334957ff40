"""Evaluate a finished run on the test set and add the result to its card."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import Any

from torch import nn

from harp.attacks import PGD, AutoAttack, Minimal, Settled
from harp.cards import Evaluation, read_card
from harp.checkpoint import save_tensors
from harp.data import ImageData, Images
from harp.evaluation import Ranks, collect_examples, evaluate, evaluation_order
from harp.files import write_json
from harp.recipes import Compute, Evaluating
from harp.runs.directory import RunDirectory
from harp.runs.inputs import identity
from harp.runs.network import load_network
from harp.runs.opening import open_run
from harp.runtime.torch import SparseModule
from harp.stages.ancestry import load_dense_parent
from harp.stages.attacks import Asked, attacks_of, how_of, name_of
from harp.stages.engine import choose_engine
from harp.stages.inputs import open_inputs
from harp.stages.watch import SILENT, Watch
from harp.training.distributed import launch, make_fabric, place

EXAMPLES = 8
"""Images shown in the report."""
ENGINES = {"torch": "", "sparse": "-sparse"}
"""What attacks run on, and how the name of the file ends that an interrupted evaluation leaves."""
_DIGITS = 1e-5
"""How far two lengths of a step may differ, relative to each other, and be the same: older cards kept six digits."""


def evaluate_run(
    path: Path,
    settings: Evaluating,
    compute: Compute,
    *,
    accept_changes: bool = False,
    watch: Watch = SILENT,
) -> list[Evaluation]:
    """Clean accuracy, then accuracy under the attack at each eps. Results that the card has already are not computed again.

    Accuracy under common corruptions, where it is asked for, goes to the card alone.

    After an interruption the same call continues, on any number of devices. Several devices share the batches of each
    attack and get the same result as one; the first one writes.
    """
    opened_run = open_run(path)
    run, recipe = opened_run.directory, opened_run.recipe
    attacks = attacks_of(settings, recipe)
    alone = make_fabric(compute)
    opened = open_inputs(recipe, run, lambda: launch(alone, compute), accept=accept_changes, progress=watch.on_reading)
    data, fabric = opened.data, opened.fabric
    model = place(load_network(opened_run, data), fabric.device, channels_last=compute.channels_last)
    images = settings.images_of(len(data.test))
    watch.on_start("evaluate", f"{read_card(run.card).name} on {images:,} test images")
    ranks = Ranks(fabric.global_rank, fabric.world_size, fabric.device)
    work = _Work(run, model, data, images, settings, recipe.seed, watch, ranks, opened.inputs)
    work = replace(work, engine=_engine_for(work, attacks, compute))
    results = [work.result_of(attack) for attack in _with_parent(attacks, path, work, compute)]
    if settings.corruptions:
        from harp.stages.corruptions import add_corruptions  # which needs scipy, and nothing else in a run does

        add_corruptions(
            run,
            model,
            data.test,
            images=images,
            batch_size=settings.batch_size,
            device=fabric.device,
            seed=recipe.seed,
            inputs=identity(opened.inputs),
            watch=watch,
            ranks=ranks,
        )
    if settings.attack != "clean" and ranks.rank == 0 and not run.examples.exists():
        shown, stop = _to_show(attacks, recipe.task.eps), watch.should_stop
        examples = collect_examples(model, data.test, shown, k=EXAMPLES, seed=recipe.seed, should_stop=stop)
        save_tensors(run.examples, examples, {"attack": shown.name, "eps": repr(shown.threat.eps)})
    fabric.barrier()
    return results


def _engine_for(work: "_Work", attacks: list[Asked | None], compute: Compute) -> SparseModule | None:
    """What is still to be attacked runs on this, or in torch. Decided before any work, once for all attacks."""
    asked = [attack for attack in attacks if attack is not None]
    left, begun = work.ranks.from_first(lambda: work.standing(asked))
    if not left or compute.engine == "torch":
        return None
    first = evaluation_order(len(work.test))[: min(work.images, work.settings.batch_size)]
    x, y = next(work.test.batches(first, len(first)))
    batch = x.to(work.ranks.device), y.to(work.ranks.device)
    chosen = choose_engine(compute.engine, work.model, batch, begun=begun, ranks=work.ranks, tell=work.watch.on_note)
    return None if chosen is None else chosen.module()


def _with_parent(attacks: list[Asked | None], path: Path, work: "_Work", compute: Compute) -> list[Asked | None]:
    """The attacks, told of the dense network that the run was pruned from where they can use it and it is there."""
    left = [attack for attack in attacks if isinstance(attack, Settled)]
    if not left or not work.ranks.from_first(lambda: work.standing(left))[0]:
        return attacks
    parent = load_dense_parent(path, work.data)
    if parent is None:
        return attacks
    placed = place(parent, work.ranks.device, channels_last=compute.channels_last)
    return [replace(attack, parent=placed) if isinstance(attack, Settled) else attack for attack in attacks]


def _to_show(attacks: list[Asked | None], eps: float) -> PGD:
    """The attack of the report's images: what was asked for, at the radius trained for if that is among them.

    AutoAttack leaves an image that it cannot beat as it was, which shows nothing: PGD-20 stands for it.
    """
    asked = [attack for attack in attacks if attack is not None]
    chosen = next((attack for attack in asked if attack.threat.eps == eps), asked[0])
    return chosen if isinstance(chosen, PGD) else PGD(chosen.threat, steps=20)


@dataclass(frozen=True)
class _Work:
    """What all evaluations of one call share."""

    run: RunDirectory
    model: nn.Module
    data: ImageData
    images: int
    settings: Evaluating
    seed: int
    watch: Watch
    ranks: Ranks
    inputs: dict[str, Any]
    engine: SparseModule | None = None

    @property
    def test(self) -> Images:
        return self.data.test

    def standing(self, attacks: Sequence[Asked]) -> tuple[bool, str | None]:
        """Whether any of these is still to be done, and on what the first that was interrupted has begun."""
        left = [attack for attack in attacks if self._known(attack) is None]
        begun = (name for attack in left for name in ENGINES if self._state(attack, name).exists())
        return bool(left), next(begun, None)

    def result_of(self, attack: Asked | None) -> Evaluation:
        """The card's own result for this attack, or a new one, which is then in the card."""
        found = self.ranks.from_first(lambda: self._known(attack))
        if found is None:
            found = self._evaluate(attack)
            self.watch.on_result(found)
            if self.ranks.rank == 0:
                card = read_card(self.run.card).values  # anew: another process may have added to it meanwhile
                write_json(self.run.card, {**card, "evaluations": [*card["evaluations"], found.to_json()]})
        if self.ranks.rank == 0:
            for name in ENGINES:
                self._state(attack, name).unlink(missing_ok=True)
        return found

    def _known(self, attack: Asked | None) -> Evaluation | None:
        known = read_card(self.run.card).evaluations
        asked = (e for e in known if _answers(e, attack, self.images, self.seed))
        return next((e for e in asked if e.inputs in ("", identity(self.inputs))), None)

    def _evaluate(self, attack: Asked | None) -> Evaluation:
        def tick(done: int, total: int) -> None:
            self.watch.on_images(name_of(attack), done, total)
            if self.ranks.any_of(self.watch.should_stop()):
                raise KeyboardInterrupt(f"stopped in {name_of(attack)}")

        engine = None if attack is None else self.engine
        found = evaluate(
            self.model,
            self.test,
            attack,
            images=self.images,
            batch_size=self.settings.batch_size,
            seed=None if isinstance(attack, AutoAttack | Settled | Minimal) else self.seed,
            state=self._state(attack, "torch" if engine is None else "sparse"),
            on_progress=tick,
            should_stop=self.watch.should_stop,
            ranks=self.ranks,
            engine=engine,
        )
        return replace(found, notes=(*found.notes, *_doubts(self.inputs)), inputs=identity(self.inputs))

    def _state(self, attack: Asked | None, engine: str) -> Path:
        """A file for each question that can be asked, and engine: what one has found is no answer to another."""
        question = repr((attack, self.images, self.settings.batch_size, self.seed, identity(self.inputs))).encode()
        digest = hashlib.blake2b(question, digest_size=4).hexdigest()
        return self.run.evaluations / f"{name_of(attack)}-{digest}{ENGINES[engine]}.json"


def is_evaluated(path: Path, settings: Evaluating, tests: int) -> bool:
    """Whether the card of a finished run has every result of :func:`evaluate_run`; ``tests`` is the size of the test set."""
    return not unanswered(path, settings, tests) and not lacks_corruptions(path, settings, tests)


def lacks_corruptions(path: Path, settings: Evaluating, tests: int) -> bool:
    """Whether common corruptions are asked for and the card of a finished run has no result of so many images."""
    known, run = read_card(RunDirectory(path).card).corruptions, open_run(path)
    found = known is not None and known.is_of(settings.images_of(tests), run.recipe.seed)
    return settings.corruptions and not found


def unanswered(path: Path, settings: Evaluating, tests: int) -> list[Asked | None]:
    """The attacks, None for clean images, that the card of a finished run has no result of."""
    recipe, known = open_run(path).recipe, read_card(RunDirectory(path).card).evaluations
    images = settings.images_of(tests)
    return [a for a in attacks_of(settings, recipe) if not any(_answers(e, a, images, recipe.seed) for e in known)]


def _answers(found: Evaluation, attack: Asked | None, images: int, seed: int) -> bool:
    threat = None if attack is None else attack.threat
    wanted = (name_of(attack), threat and threat.norm, threat and threat.eps, images, seed)
    if (found.attack, found.norm, found.eps, found.images, found.seed) != wanted:
        return False
    step_size, *rest = how_of(attack)
    same_step = found.step_size == step_size or (
        found.step_size is not None and step_size is not None and isclose(found.step_size, step_size, rel_tol=_DIGITS)
    )
    return same_step and [found.random_start, found.restarts] == rest


def _doubts(inputs: dict[str, Any]) -> Iterator[str]:
    """What is to be said of any number found on these inputs."""
    if inputs["accepted"]:
        yield f"inputs changed since the first stage, which was accepted: {'; '.join(inputs['accepted'])}"
    if left_out := inputs["data"].get("left_out"):
        yield f"{len(left_out):,} files of the data set cannot be read and were left out"
