"""What an interrupted evaluation knows so far: a small JSON file, replaced whole after every batch."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

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
    elapsed_s: float = 0.0

    @property
    def survivors(self) -> Bool[Tensor, " images"]:
        """The images that the phase under way began with: all at first."""
        return list(self.finished.values())[-1] if self.finished else torch.ones(self.images, dtype=torch.bool)

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
    record = {"same": None, **record, "identity": {"engine": "torch", **record["identity"]}}  # before there was another
    if record["identity"].get("images") != images:  # the flags below could not be read; the caller tells what differs
        return Journal(dict(record["identity"]), images)
    batches, elapsed_s, notes = record["batches"], record["elapsed_s"], record["notes"]
    if type(batches) is not int or batches < 0 or not isinstance(elapsed_s, int | float) or not elapsed_s >= 0:
        raise ValueError(f"batches={batches!r}, elapsed_s={elapsed_s!r}")
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError(f"notes={notes!r}")
    finished = {phase: unpack(bits, images) for phase, bits in record["finished"].items()}
    right = None if record["right"] is None else unpack(record["right"], images)
    if (right is None) != (batches == 0):
        raise ValueError(f"batches={batches} with right={record['right']!r}")
    same = None if record["same"] is None else unpack(record["same"], images)
    return Journal(dict(record["identity"]), images, finished, batches, right, same, notes, float(elapsed_s))


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
