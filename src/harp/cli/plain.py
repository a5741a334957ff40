"""``harp info`` and ``harp classify``: what a base installation can do, with nothing but argparse to parse."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harp.cli.stopping import StopRequest

_TOLD = ("method", "model", "data", "seed", "stage", "run", "parent", "model_sha256")
"""Entries of a card that are printed as they are."""


def info(arguments: list[str], stop: StopRequest) -> None:
    parser = argparse.ArgumentParser("harp info", description="Print what an exported network or a run contains.")
    parser.add_argument(
        "file", type=Path, metavar="FILE|RUN", help="a file that `harp export` wrote, or a run directory"
    )
    parser.add_argument("--json", action="store_true", help="print all of it as one JSON object")
    asked = _parse(parser, arguments)
    known = _of_run(asked.file) if asked.file.is_dir() else _of_file(asked.file)
    print(json.dumps(known, indent=1) if asked.json else "\n".join(_lines(known)))


def classify(arguments: list[str], stop: StopRequest) -> None:
    parser = argparse.ArgumentParser(
        "harp classify", description="Print the class of every image. Images are read exactly as in training."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a file that `harp export` wrote")
    parser.add_argument("images", type=Path, nargs="+", help="image files, or directories of them")
    parser.add_argument("--threads", type=int, help="CPUs to use; all by default")
    parser.add_argument("--batch", type=int, default=64, help="batch size (64)")
    asked = _parse(parser, arguments)

    from harp.runtime import load
    from harp.runtime.classifying import image_files

    session = load(asked.file, threads=asked.threads)
    paths = image_files(asked.images)
    for start in range(0, len(paths), max(1, asked.batch)):
        for found in session.classify(paths[start : start + max(1, asked.batch)], batch=asked.batch):
            print(f"{found.path}\t{found.label if found.name is None else found.name}", flush=True)


def _parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    return parser.parse_args(arguments)


def _of_file(path: Path) -> dict[str, Any]:
    """What a ``.harp`` file holds; counted in the file, not taken from its card."""
    from harp.runtime.format import read_sparse

    graph, card = read_sparse(path)
    weights = [node.tensors["weight"] for node in graph.nodes if "weight" in node.tensors]
    tensors = [tensor for node in graph.nodes for tensor in node.tensors.values()]
    ops = [node.op for node in graph.nodes]
    return {
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "dense_bytes": 4 * sum(_elements(tensor.shape) for tensor in tensors),
        "input": list(graph.input),
        "kept": sum(int((weight.values != 0).sum()) for weight in weights),
        "total": sum(_elements(weight.shape) for weight in weights),
        "operations": {op: ops.count(op) for op in dict.fromkeys(ops)},
        "card": card,
    }


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _of_run(path: Path) -> dict[str, Any]:
    """The card of a run. Raises ValueError where there is none, or it is damaged."""
    file = path / "card.json"
    if not file.is_file():
        raise ValueError(f"{path} has no card.json: it is no run directory, or the run is not finished")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}); the card is damaged") from None
    if not isinstance(card, dict):
        raise ValueError(f"{file} is not a JSON object; the card is damaged")
    return {"run": str(path), **{key: card[key] for key in ("kept", "total") if key in card}, "card": card}


def _lines(known: Mapping[str, Any]) -> list[str]:
    card = known["card"]
    rows = {
        "input": " × ".join(map(str, known["input"])) if "input" in known else None,
        "weights": _weights(known),
        "size": _size(known),
        "operations": ", ".join(f"{count} {op}" for op, count in known.get("operations", {}).items()) or None,
        "classes": _classes(card.get("classes")),
        "preprocessing": _preprocessing(card.get("preprocessing")),
        **{name: card[name] for name in _TOLD if card.get(name) is not None},
        **{f"{name}, %": accuracy for name, accuracy in _accuracies(card.get("evaluations"))},
    }
    title = f"{known.get('file', known.get('run'))}: {card.get('name', 'a network without a name')}"
    return [title, *(f"  {name:<14} {value}" for name, value in rows.items() if value is not None)]


def _weights(known: Mapping[str, Any]) -> str | None:
    kept, total = known.get("kept"), known.get("total")
    if type(kept) is not int or type(total) is not int:
        return None
    return f"{kept:,} of {total:,} ({kept / max(1, total):.2%})"


def _size(known: Mapping[str, Any]) -> str | None:
    if "size_bytes" not in known:
        return None
    from harp.runtime.container import compared_sizes

    return f"{known['size_bytes']:,} bytes, {compared_sizes(known['size_bytes'], known['dense_bytes'])}"


def _classes(names: Any) -> str | None:
    if not isinstance(names, list):
        return None
    shown = [str(name) for name in names[:10]]
    return f"{len(names)}: {', '.join(shown)}{', …' if len(names) > len(shown) else ''}"


def _preprocessing(described: Any) -> str:
    from harp.runtime.preprocessing import read_preprocessing

    return "not recorded" if described is None else str(read_preprocessing(described))


def _accuracies(evaluations: Any) -> list[tuple[str, str]]:
    found = []
    for evaluation in evaluations if isinstance(evaluations, list) else []:
        match evaluation:
            case {"attack": str(attack), "correct": int(correct), "images": int(images)} if images:
                eps = evaluation.get("eps")
                name = attack if eps is None else f"{attack}, {evaluation.get('norm')} {eps:.4g}"
                found.append((name, f"{100 * correct / images:.1f} ({correct:,}/{images:,} test images)"))
    return found
