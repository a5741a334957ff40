"""Count the images that a model gets right, clean or under attack, believing neither the model nor the attack."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import FunctionType

import torch
from jaxtyping import Int
from torch import Tensor, nn

from harp.attacks import PGD, Attack, as_labels, attacking, check_attack, check_images, check_module, logits_of
from harp.attacks.autoattack import AutoAttack, classified, square_note
from harp.cards import Evaluation
from harp.data import Images
from harp.evaluation.checks import check_model, doubts
from harp.evaluation.journal import Identity, Journal, fingerprint, open_journal, tensor_bytes
from harp.evaluation.networks import Networks, differences
from harp.evaluation.order import evaluation_order
from harp.evaluation.phases import Phase, name_of, phases_of, plain_phase, progress, seed_for, threat_of
from harp.evaluation.ranks import ALONE, Ranks
from harp.evaluation.result import pack
from harp.evaluation.sources import Data, as_images
from harp.evaluation.stopping import asked_before_each_pass
from harp.pruning import hold_masks
from harp.recipes import chance_words
from harp.runtime.torch import SparseModule

log = logging.getLogger(__name__)

_CHOSEN = ("step_size", "random_start", "restarts")
"""What PGD can be told beyond its name."""
BATCH_SIZE = 250
"""The authors' own. On a CPU, AutoAttack of a small network takes as long at 100, 5 % longer at 50, more below."""


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Data,
    attack: Attack | None = None,
    *,
    images: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: torch.device | str | None = None,
    state: Path | None = None,
    seed: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
    look_for_doubts: bool = True,
    engine: SparseModule | None = None,
) -> Evaluation:
    """Accuracy on the first ``images`` images of `evaluation_order` (None: all); ``attack`` None is clean accuracy.

    ``data`` are images in [0, 1] with their labels: a tuple of two tensors, a Dataset of such pairs, a DataLoader, or
    harp's own Images (``harp.data``). The same images in the same order give the same result in each of these forms.

    An image counts under attack only if it is right clean, too, so only those are attacked; AutoAttack's parts run on what
    its earlier parts left. The model is evaluated in eval mode with its masks held; its state is restored afterwards. ``device`` is
    where the images go, by default where the model's weights are; on a CPU a convolutional model in
    ``torch.channels_last`` is evaluated 1.2 to 1.4 times faster.

    ``seed`` draws the random starts (0 if not given); AutoAttack brings its own. ``state`` names a file that is replaced
    after each batch: the same call after an interruption goes on from there and ends with the same result. It is left
    complete, for the caller to delete once the result is kept. ``on_progress(done, total)`` is told how much of the work
    is done, in images; it may raise to interrupt. ``should_stop`` is asked before every pass of the model, in the middle
    of an attack too: when it says so, KeyboardInterrupt is raised.

    A few images are looked at first for signs that the result is not to be believed, which become its notes;
    ``look_for_doubts=False`` saves that.

    With ``engine``, which `harp.exporting.sparse_module` makes of the model, the attack runs on it, at the price of the
    weights that are left. Whether an image is right is still for the model to say; a note counts the images that the
    engine ever decided differently.

    Several processes that call it alike, each with its ``ranks``, share the batches of each attack and all return the
    result that one would have; the first writes the state. If ``on_progress`` interrupts, it must do so on all of them;
    where ``should_stop`` is True, all stop.

    Raises ValueError, before any attack, for images outside [0, 1], labels beyond the model's classes, a model whose
    output is not finite or not (batch, classes), and a state that is damaged or of another evaluation.
    """
    if attack is not None:
        check_attack(attack)
    data = as_images(data, images)
    order = _chosen(data, images, batch_size)
    seed = seed_for(attack, seed)
    place = _device_of(model) if device is None else torch.device(device)
    networks = Networks(model, engine)
    with attacking(model), hold_masks(model), networks.asked(should_stop):
        x, y = next(data.batches(order[:batch_size], batch_size))
        beside = x if batch_size > 1 else next(data.batches(order[:2], 2))[0]
        classes, notes = ranks.unless_stopped(
            lambda: _first_look(model, x.to(place), y.to(place), beside, data.labels[order], attack, look_for_doubts)
        )
        phases = phases_of(attack, classes, seed)
        identity = {} if state is None else _identity(networks, data, attack, order, x, batch_size, seed)
        journal = ranks.from_first(lambda: open_journal(state, identity, len(order)))
        if list(journal.finished) != [phase.name for phase in phases][: len(journal.finished)]:
            raise ValueError(f"{state} has the phases {list(journal.finished)}; delete it to start again")
        for phase in phases[len(journal.finished) :]:
            for _ in _run(phase, networks, data, order, batch_size, place, journal, ranks):
                if state is not None and ranks.rank == 0:
                    journal.save(state)
                if on_progress is not None:
                    on_progress(*progress(journal, phases, batch_size))
    found = _result(attack, journal, [*notes, *journal.notes, *differences(journal)], seed, data.labels[order])
    return replace(found, engine=networks.name)


def collect_examples(
    model: nn.Module,
    data: Images,
    attack: Attack,
    k: int = 8,
    *,
    device: torch.device | str | None = None,
    seed: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Tensor]:
    """The first ``k`` images of `evaluation_order` before and after an attack, with the answers: x, x_adv, y,
    clean_prediction, adversarial_prediction. AutoAttack leaves an image that it cannot beat as it was.
    """
    order = _chosen(data, min(k, len(data)), max(k, 1))
    place = _device_of(model) if device is None else torch.device(device)
    x, y = (batch.to(place) for batch in next(data.batches(order, len(order))))
    with attacking(model), hold_masks(model), asked_before_each_pass(model, should_stop), torch.no_grad():
        check_model(model, x, data.labels[order])
        phase = plain_phase(attack, seed_for(attack, seed))
        x_adv, _ = phase.attack(model, x, y, 0)
        before, after = logits_of(model, x).argmax(1), logits_of(model, x_adv).argmax(1)
    found = {"x": x, "x_adv": x_adv, "y": y, "clean_prediction": before, "adversarial_prediction": after}
    return {name: tensor.cpu() for name, tensor in found.items()}


def _first_look(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    beside: Tensor,
    labels: Tensor,
    attack: Attack | None,
    look_for_doubts: bool,
) -> tuple[int, list[str]]:
    """The number of classes, and what there is to note, from the first batch and, if that is one image, one ``beside``."""
    classes = check_model(model, x, labels)
    return classes, doubts(model, x, y, attack, classes, beside.to(x.device)) if look_for_doubts else []


def _run(
    phase: Phase,
    networks: Networks,
    data: Images,
    order: Tensor,
    batch_size: int,
    place: torch.device,
    journal: Journal,
    ranks: Ranks,
) -> Iterator[None]:
    """Run one phase from where the journal stands, and write each batch down in it; of several ranks, each round of them."""
    began = time.perf_counter()
    entered = journal.survivors.nonzero()[:, 0]
    right = journal.survivors.clone() if journal.right is None else journal.right
    same = torch.ones_like(right) if journal.same is None else journal.same
    batches = entered.split(batch_size) if len(entered) else ()
    mine = batches[journal.batches + ranks.rank :: ranks.world]
    images = data.batches(order[torch.cat(mine)], batch_size) if mine else iter(())
    for first in range(journal.batches, len(batches), ranks.world):
        number, batch = first + ranks.rank, next(images, None)  # none where the other ranks have the last ones
        answer, notes = ranks.unless_stopped(partial(_one_batch, phase, networks, batch, place, number))
        if answer is not None:
            right[batches[number]] = answer[0].cpu()
            same[batches[number]] &= (answer[0] == answer[1]).cpu()
        right = ranks.all_of(right)
        if networks.engine is not None:
            journal.same = same = ranks.all_of(same)
        journal.right, journal.batches = right, min(first + ranks.world, len(batches))
        journal.notes += [note for note in ranks.union(notes) if note not in journal.notes]
        journal.elapsed_s += time.perf_counter() - began
        began = time.perf_counter()
        if journal.batches < len(batches):
            yield
    log.info("%s leaves %d of %d images", phase.name, int(right.sum()), journal.images)
    journal.finish(phase.name, right)
    yield


def _one_batch(
    phase: Phase, networks: Networks, batch: tuple[Tensor, Tensor] | None, place: torch.device, number: int
) -> tuple[tuple[Tensor, Tensor] | None, list[str]]:
    """Which images of a batch are still right after the phase, to the model and to what was attacked; and notes."""
    if batch is None:
        return None, []
    x, y = (part.to(place) for part in batch)
    if phase.name == "clean":
        check_images(x)
    x_adv, notes = phase.attack(networks.attacked, x, y, number)
    logits = logits_of(networks.model, x_adv)
    if phase.name == "clean" and not logits.isfinite().all():
        raise ValueError("the model's output on clean images is NaN or infinite; its weights may be damaged")
    y = as_labels(y, *logits.shape)
    right = classified(logits, y)
    return (right, right if networks.engine is None else classified(logits_of(networks.engine, x_adv), y)), notes


def _result(attack: Attack | None, journal: Journal, notes: list[str], seed: int, labels: Tensor) -> Evaluation:
    *_, right = journal.finished.values()
    remaining = {name: float(left.float().mean()) for name, left in journal.finished.items() if name != "clean"}
    whole = isinstance(attack, AutoAttack)
    threat = None if attack is None else threat_of(attack)
    chosen = {} if not isinstance(attack, PGD) else {name: getattr(attack, name) for name in _CHOSEN}
    found = Evaluation(
        attack="clean" if attack is None else name_of(attack),
        norm=None if threat is None else threat.norm,
        eps=None if threat is None else threat.eps,
        images=journal.images,
        correct=int(right.sum()),
        seed=seed,
        elapsed_s=journal.elapsed_s,
        per_attack=remaining if whole else {},
        notes=tuple(dict.fromkeys([*notes, *(square_note(remaining) if whole else [])])),
        right=pack(right),
        **chosen,
        chance=int(labels.bincount().max()) / len(labels),
    )
    if found.at_chance:
        return replace(found, notes=(*found.notes, chance_words(found.chance or 0.0)))
    return found


def _chosen(data: Images, images: int | None, batch_size: int) -> Int[Tensor, " images"]:
    if len(data) == 0:
        raise ValueError("data has no images")
    if images is not None and not 1 <= images <= len(data):
        raise ValueError(f"images={images} must lie in [1, {len(data)}], the size of the data; None takes all")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    return evaluation_order(len(data))[:images]


def _identity(
    networks: Networks, data: Images, attack: Attack | None, order: Tensor, x: Tensor, batch_size: int, seed: int
) -> Identity:
    """All that decides the result; the images are known by their labels and by the first batch."""
    pixels = hashlib.sha256(tensor_bytes(data.labels[order]) + tensor_bytes(x)).hexdigest()
    by_name = isinstance(attack, FunctionType)  # the repr of a function is its address
    return {
        "model": fingerprint(networks.model),
        "engine": networks.name,
        "data": pixels,
        "attack": f"{attack.__module__}.{attack.__qualname__}" if by_name else repr(attack),
        "images": len(order),
        "batch_size": batch_size,
        "seed": seed,
    }


def _device_of(model: nn.Module) -> torch.device:
    check_module(model)
    first = next(iter([*islice(model.parameters(), 1), *islice(model.buffers(), 1)]), None)
    return torch.device("cpu") if first is None else first.device
