"""What can change under a run without its settings: the images, and the code of the user's own networks and data sets.

Every stage notes both in ``inputs.json``; what starts from a run, or goes on with it, compares.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from harp.data import ImageData
from harp.data.fingerprint import differences, fingerprint, listing_in
from harp.data.listing import Listing
from harp.files import read_json
from harp.importing import sources_of
from harp.recipes import Recipe
from harp.runs.directory import RunDirectory

FORMAT = 1


class ChangedInputs(ValueError):
    """The images, or the code that makes or reads them, are not those of the run."""


def inputs_of(recipe: Recipe, data: ImageData) -> dict[str, Any]:
    """What ``inputs.json`` says. ``data`` is as it was loaded, before a validation split is cut off."""
    return {"format": FORMAT, "data": fingerprint(data), "code": code_of(recipe), "accepted": []}


def code_of(recipe: Recipe) -> dict[str, str]:
    """Module → digest of its source, for the factories that the recipe names."""
    paths = [path for path in (recipe.task.data, recipe.task.model) if ":" in path]
    return {
        module: digest
        for path in paths
        if not path.startswith("torchvision:")
        for module, digest in sources_of(path).items()
    }


def read_inputs(run: RunDirectory) -> dict[str, Any] | None:
    """What a run noted; None for a run of an older version. Raises ValueError when the file is damaged."""
    if not run.inputs.exists():
        return None
    record = read_json(run.inputs)
    try:
        if record["format"] != FORMAT:
            raise ValueError(f"{run.inputs} has format={record['format']}; this version of harp reads {FORMAT}")
        differences(record["data"], record["data"])
        _ = dict(record["code"]), list(record["accepted"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{run.inputs} is damaged ({error!r}); make the run again") from error
    return record


def listing_of(run: RunDirectory) -> Listing | None:
    """The files that a run was made from; None where they are not known."""
    record = read_inputs(run)
    return None if record is None else listing_in(record["data"])


def changes(run: RunDirectory, mine: dict[str, Any], *, accept: bool) -> tuple[str, ...]:
    """What has changed since a run noted its inputs. Raises ChangedInputs that says it, unless to ``accept`` it."""
    theirs = read_inputs(run)
    if theirs is None:
        return ()
    images, code = differences(theirs["data"], mine["data"]), _edits(theirs["code"], mine["code"])
    if images and not accept:
        _refuse(run, [*images, *code], " Images that it was trained on may be test images now.")
    if code and not accept:
        _refuse(run, code)
    return (*images, *code)


def check_code(run: RunDirectory, recipe: Recipe, *, accept: bool) -> None:
    """Raise ChangedInputs if the code of a run's own network or data set was edited, unless to ``accept`` it."""
    theirs = read_inputs(run)
    if theirs is not None and not accept and (found := _edits(theirs["code"], code_of(recipe))):
        _refuse(run, found)


def identity(inputs: dict[str, Any]) -> str:
    """A digest of what must be equal for two evaluations to be of the same images."""
    data = inputs["data"]
    splits = {part: (split["images"], split["labels"]) for part, split in data.get("splits", {}).items()}
    folders = {name: folder["digest"] for name, folder in data.get("folders", {}).items()}
    parts = [data["classes"], data["shape"], folders, sorted(data.get("left_out", ())), splits, inputs["code"]]
    if data.get("preprocessing") is not None:
        parts.append(data["preprocessing"])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _refuse(run: RunDirectory, found: Sequence[str], danger: str = "") -> None:
    raise ChangedInputs(
        f"the inputs of {run.path} have changed since it noted them: {'; '.join(found)}.{danger} Restore them, make the "
        "run again with --overwrite, or go on deliberately with --accept-changes (accept_changes=True)"
    )


def _edits(theirs: dict[str, str], mine: dict[str, str]) -> list[str]:
    found = [f"the code of {name} changed" for name, digest in mine.items() if theirs.get(name, digest) != digest]
    found += [f"{name} is now used as well" for name in mine if name not in theirs]
    return [*found, *(f"{name} is no longer used" for name in theirs if name not in mine)]
