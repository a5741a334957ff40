"""What an interrupted evaluation knows so far: a small JSON file, replaced whole after every batch."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from harp.attacks.settled import DOUBTS
from harp.evaluation.notes import Note, doubts, texts
from harp.evaluation.result import pack, unpack
from harp.files import read_json, write_json

FORMAT = 1

Identity = Mapping[str, str | int]
"""What an evaluation is of: two that agree in all of it would give the same answer."""


@dataclass
class Journal:
    """Progress through the phases of one evaluation: first the clean images, then one phase for each attack."""

    identity: Identity
    images: int
    finished: dict[str, Bool[Tensor, " images"]] = field(default_factory=dict)
    """Which images were still right after each finished phase."""
    batches: int = 0
    """Batches done in the phase under way."""
    right: Bool[Tensor, " images"] | None = None
    """Which images are still right in the phase under way."""
    same: Bool[Tensor, " images"] | None = None
    """Which images the sparse engine has always decided as torch did; None where attacks run on torch."""
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    """The kinds of doubt that the notes raise."""
    predicted: Int[Tensor, " images"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """The latest answer to each image, -1 where it is not known."""
    confidence: Float[Tensor, " images"] = field(default_factory=lambda: torch.empty(0, dtype=torch.double))
    """How sure the network was of its answer to each clean image, -1 where it is not known."""
    distance: Float[Tensor, " images"] = field(default_factory=lambda: torch.empty(0, dtype=torch.double))
    """How far the nearest image is that fooled the network, where that was looked for; infinite where none is known."""
    elapsed_s: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.predicted):
            self.predicted = torch.full((self.images,), -1)
        if not len(self.confidence):
            self.confidence = torch.full((self.images,), -1.0, dtype=torch.double)
        if not len(self.distance):
            self.distance = torch.full((self.images,), torch.inf, dtype=torch.double)

    @property
    def survivors(self) -> Bool[Tensor, " images"]:
        """The images that the phase under way began with: all at first."""
        return list(self.finished.values())[-1] if self.finished else torch.ones(self.images, dtype=torch.bool)

    def note(self, notes: Iterable[Note]) -> None:
        """Add what is not there yet."""
        notes = list(notes)
        self.notes += [text for text in dict.fromkeys(texts(notes)) if text not in self.notes]
        self.doubts += [kind for kind in doubts(notes) if kind not in self.doubts]

    def finish(self, phase: str, right: Bool[Tensor, " images"]) -> None:
        self.finished[phase] = right
        self.batches, self.right = 0, None

    def save(self, path: Path) -> None:
        write_json(
            path,
            {
                "format": FORMAT,
                "identity": dict(self.identity),
                "finished": {phase: pack(right) for phase, right in self.finished.items()},
                "batches": self.batches,
                "right": None if self.right is None else pack(self.right),
                "same": None if self.same is None else pack(self.same),
                "notes": self.notes,
                "doubts": self.doubts,
                "predicted": self.predicted.tolist(),
                "confidence": [round(sure, 6) for sure in self.confidence.tolist()],
                "distance": _finite(self.distance),
                "elapsed_s": self.elapsed_s,
            },
        )


def open_journal(path: Path | None, identity: Identity, images: int) -> Journal:
    """The journal in ``path``, or an empty one when there is none.

    Raises ValueError when the file is damaged, or belongs to an evaluation of something else (it says of what).
    """
    if path is None or not path.exists():
        return Journal(identity, images)
    record = read_json(path)
    try:
        journal = _parse(record, images)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not the state of an evaluation ({error}); delete it to start again") from error
    differs = [name for name in identity if journal.identity.get(name) != identity[name]]
    if differs:
        raise ValueError(
            f"state={path} belongs to another evaluation: another {', '.join(differs)}; "
            "delete the file, or give each evaluation its own"
        )
    return journal


def _parse(record: dict[str, Any], images: int) -> Journal:
    if record["format"] != FORMAT:
        raise ValueError(f"format {record['format']!r}, this version reads {FORMAT}")
    record = {"same": None, "doubts": [], "predicted": [], "confidence": [], "distance": [], **record}
    record = {**record, "identity": {"engine": "torch", **record["identity"]}}  # before there was another
    if record["identity"].get("images") != images:  # the flags below could not be read; the caller tells what differs
        return Journal(dict(record["identity"]), images)
    batches, elapsed_s, notes = record["batches"], record["elapsed_s"], record["notes"]
    if type(batches) is not int or batches < 0 or not isinstance(elapsed_s, int | float) or not elapsed_s >= 0:
        raise ValueError(f"batches={batches!r}, elapsed_s={elapsed_s!r}")
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError(f"notes={notes!r}")
    if not isinstance(record["doubts"], list) or not set(record["doubts"]) <= set(DOUBTS):
        raise ValueError(f"doubts={record['doubts']!r}")
    finished = {phase: unpack(bits, images) for phase, bits in record["finished"].items()}
    right = None if record["right"] is None else unpack(record["right"], images)
    if (right is None) != (batches == 0):
        raise ValueError(f"batches={batches} with right={record['right']!r}")
    same = None if record["same"] is None else unpack(record["same"], images)
    return Journal(
        identity=dict(record["identity"]),
        images=images,
        finished=finished,
        batches=batches,
        right=right,
        same=same,
        notes=notes,
        doubts=record["doubts"],
        predicted=_numbers(record["predicted"], images, torch.long, -1),
        confidence=_numbers(record["confidence"], images, torch.double, -1.0),
        distance=_numbers(record["distance"], images, torch.double, math.inf),
        elapsed_s=float(elapsed_s),
    )


def _finite(values: Tensor) -> list[float | None]:
    """With null for what is infinite; empty where all are."""
    if values.isinf().all():
        return []
    return [None if value == math.inf else value for value in values.tolist()]


def _numbers(values: Any, images: int, dtype: torch.dtype, unknown: int | float) -> Tensor:
    """One number per image; where there are none at all, as in journals of earlier versions, all are unknown."""
    if not isinstance(values, list) or len(values) not in (0, images):
        raise ValueError(f"{len(values)} numbers for {images} images")
    known = [math.inf if value is None else value for value in values]
    return torch.tensor(known, dtype=dtype) if known else torch.full((images,), unknown, dtype=dtype)


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all that the model's ``state_dict`` holds."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor_bytes(value) if isinstance(value, Tensor) else repr(value).encode())
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """Type, shape and values; the memory layout does not matter."""
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{tensor.dtype}{tuple(tensor.shape)}".encode() + values
