"""Count the images that a network gets right under every common corruption, in every severity; resumable."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from harp.attacks import as_labels, attacking, logits_of
from harp.attacks.autoattack import classified
from harp.cards import Corruptions
from harp.data import Images
from harp.evaluation.checks import check_model
from harp.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from harp.evaluation.journal import Identity, fingerprint, tensor_bytes
from harp.evaluation.networks import Networks
from harp.evaluation.order import evaluation_order
from harp.evaluation.ranks import ALONE, Ranks
from harp.evaluation.result import pack, unpack
from harp.files import read_json, write_json
from harp.pruning import hold_masks

_FORMAT = 1


@dataclass
class _Journal:
    """What is finished: which images were right, by corruption and severity."""

    identity: Identity
    finished: dict[str, Tensor] = field(default_factory=dict)
    elapsed_s: float = 0.0


@torch.no_grad()
def evaluate_corrupted(
    model: nn.Module,
    data: Images,
    *,
    images: int | None = None,
    batch_size: int = 250,
    device: torch.device | str = "cpu",
    state: Path | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> Corruptions:
    """Accuracy on the first ``images`` images of `evaluation_order` under fifteen corruptions, five severities each.

    The random numbers of an image follow from its number, the corruption and ``seed``. ``state``, ``on_progress``,
    ``should_stop`` and ``ranks`` are as in `evaluate`; work is kept by corruption and severity.
    """
    order, place = evaluation_order(len(data))[:images], torch.device(device)
    networks, kinds = Networks(model, None), [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    with attacking(model), hold_masks(model), networks.asked(should_stop):
        x, _ = next(data.batches(order[:batch_size], batch_size))
        ranks.unless_stopped(lambda: check_model(model, x.to(place), data.labels[order]))
        identity = {} if state is None else _identity(model, data, order, x, batch_size, seed)
        journal = ranks.from_first(lambda: _open(state, identity, len(order)))
        for number, (name, severity) in enumerate(kinds):
            if (key := f"{name} {severity}") in journal.finished:
                continue
            began = time.perf_counter()
            right = torch.ones(len(order), dtype=torch.bool)
            for rows, x, y in _shared(data, order, batch_size, ranks):
                seen = _corrupted(x, order[rows], name, severity, seed)
                answers = ranks.unless_stopped(lambda seen=seen: logits_of(model, seen.to(place)).cpu())
                right[rows] = classified(answers, as_labels(y, *answers.shape))
            journal.finished[key] = ranks.all_of(right)
            journal.elapsed_s += time.perf_counter() - began
            if state is not None and ranks.rank == 0:
                _save(state, journal)
            if on_progress is not None:
                on_progress(len(order) * (number + 1) // len(kinds), len(order))
    return _result(journal, len(order), seed)


def _shared(data: Images, order: Tensor, batch_size: int, ranks: Ranks) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """This rank's batches, each with the places of its images in the order; every rank has as many, some of them again."""
    places = torch.arange(len(order)).split(batch_size)
    for first in range(0, len(places), ranks.world):
        rows = places[min(first + ranks.rank, len(places) - 1)]
        x, y = next(data.batches(order[rows], len(rows)))
        yield rows, x, y


def _corrupted(x: Tensor, numbers: Tensor, name: str, severity: int, seed: int) -> Tensor:
    pixels = np.ascontiguousarray(x.float().numpy())
    return torch.from_numpy(corrupted(pixels, numbers.tolist(), name, severity, seed)).to(x.dtype)


def _result(journal: _Journal, images: int, seed: int) -> Corruptions:
    counts = {
        name: tuple(int(journal.finished[f"{name} {severity}"].sum()) for severity in SEVERITIES)
        for name in CORRUPTIONS
    }
    by_image = torch.stack(list(journal.finished.values())).sum(0).tolist()
    return Corruptions(images, counts, tuple(by_image), seed, journal.elapsed_s)


def _identity(model: nn.Module, data: Images, order: Tensor, x: Tensor, batch_size: int, seed: int) -> Identity:
    return {
        "model": fingerprint(model),
        "data": _digest(data.labels[order], x),
        "images": len(order),
        "batch_size": batch_size,
        "seed": seed,
    }


def _digest(*tensors: Tensor) -> str:
    """SHA-256 of the tensors' bytes."""
    return hashlib.sha256(b"".join(map(tensor_bytes, tensors))).hexdigest()


def _save(path: Path, journal: _Journal) -> None:
    finished = {key: pack(right) for key, right in journal.finished.items()}
    record = {
        "format": _FORMAT,
        "identity": dict(journal.identity),
        "finished": finished,
        "elapsed_s": journal.elapsed_s,
    }
    write_json(path, record)


def _open(path: Path | None, identity: Identity, images: int) -> _Journal:
    if path is None or not path.exists():
        return _Journal(identity)
    record = read_json(path)
    try:
        known, elapsed_s = dict(record["identity"]), float(record["elapsed_s"])
        if record["format"] != _FORMAT:
            raise ValueError(f"format {record['format']!r}, this version reads {_FORMAT}")
        differs = [name for name in identity if known.get(name) != identity[name]]
        finished = {} if differs else {key: unpack(bits, images) for key, bits in record["finished"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not the state of an evaluation ({error}); delete it to start again") from error
    if differs:
        raise ValueError(f"state={path} belongs to another evaluation: another {', '.join(differs)}; delete the file")
    return _Journal(identity, finished, elapsed_s)
