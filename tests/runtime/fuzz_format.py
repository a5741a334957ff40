"""Feeds damaged and hostile files to the loader: `python tests/runtime/fuzz_format.py --minutes 10`.

Each round takes a file of the corpus, changes bits, JSON or blobs, seals most of them again with a right checksum, and
loads them. Only a ValueError is allowed, and no more memory than the limit. What loads is run, too. A file that does
anything else is kept under `fuzz-findings/` and ends the run; put it into the corpus when the fault is mended.
"""

import argparse
import json
import random
import resource
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harp.runtime.container import pack, unpack
from harp.runtime.format import read, read_sparse
from harp.runtime.shapes import shapes

CORPUS = Path(__file__).with_name("corpus")
NASTY: list[Any] = [
    *(0, 1, -1, 2, 3, 255, 256, 2**15, 2**24, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, 10**30),
    *(
        0.5,
        1e308,
        -0.0,
        True,
        False,
        None,
        "",
        "relu",
        "conv",
        "f16",
        "f32",
        "\ud800",
        [],
        {},
        [0, 0],
        [[1]],
        [1, 1, 1],
    ),
]
MOST_PIXELS = 2**20
"""A network whose values are larger is not run: that may take long, and rightly."""


def load(path: Path) -> None:
    """What a user does with a file. Raises ValueError for one that is not sound."""
    graph, _ = read_sparse(path)
    sizes = shapes(graph)
    work = sum(np.prod(node.tensors["weight"].shape) for node in graph.nodes if "weight" in node.tensors)
    if max(int(np.prod(shape)) for shape in sizes) > MOST_PIXELS or work > MOST_PIXELS:
        return
    read(path)
    try:
        from harp.runtime import Session

        session = Session(graph, threads=1, autotune=False)
    except RuntimeError:  # no compiled engine: reading is all that can be tested
        return
    session(np.zeros((2, *graph.input), np.float32))


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Another file: raw damage, or a change below the checksum."""
    if rng.random() < 0.2:
        return _damage(content, rng)
    try:
        texts, blobs = unpack(content)
    except ValueError:
        return _damage(content, rng)
    parts = {name: bytes(blob) for name, blob in blobs.items()}
    for _ in range(rng.choice([1, 1, 1, 1, 2, 5])):
        rng.choice(_CHANGES)(texts, parts, rng)
    try:
        return pack(texts, parts)
    except (ValueError, UnicodeError):
        return _damage(content, rng)


def _damage(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        place = rng.randrange(len(data)) if data else 0
        match rng.randrange(4):
            case 0 if data:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data = data[:place]
            case 2:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
            case _:
                del data[place : place + rng.randrange(1, 9)]
    return bytes(data)


def _change_graph(texts: dict[str, str], parts: dict[str, bytes], rng: random.Random) -> None:
    try:
        graph = json.loads(texts["graph"])
    except (ValueError, KeyError, RecursionError):  # of an earlier change
        return
    texts["graph"] = json.dumps(_change_json(graph, rng))


def _change_json(value: Any, rng: random.Random) -> Any:
    """Descends a random way, and replaces, doubles or removes what is there."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.1:
        return rng.choice([*NASTY, value + 1 if type(value) is int else None])
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if rng.random() < 0.08:
        del value[key]
    elif rng.random() < 0.05 and isinstance(value, list):
        value.insert(key, value[rng.randrange(len(value))])
    else:
        value[key] = _change_json(value[key], rng)
    return value


def _change_blob(texts: dict[str, str], parts: dict[str, bytes], rng: random.Random) -> None:
    if parts:
        name = rng.choice(list(parts))
        parts[name] = _damage(parts[name], rng)


def _change_inside(texts: dict[str, str], parts: dict[str, bytes], rng: random.Random) -> None:
    """Damage below the compression."""
    if not parts:
        return
    name = rng.choice(list(parts))
    try:
        raw = zlib.decompress(parts[name], -15)
    except zlib.error:
        return
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts[name] = packer.compress(_damage(raw, rng)) + packer.flush()


def _bomb(texts: dict[str, str], parts: dict[str, bytes], rng: random.Random) -> None:
    if parts:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        zeros = packer.compress(bytes(rng.choice([10**3, 10**5, 10**7]))) + packer.flush()
        parts[rng.choice(list(parts))] = zeros


def _change_text(texts: dict[str, str], parts: dict[str, bytes], rng: random.Random) -> None:
    texts[rng.choice([*texts, "version", "format"])] = rng.choice(["", "2", "{", "[" * 3000, "harp", "1" * 6000])


_CHANGES: list[Callable[[dict[str, str], dict[str, bytes], random.Random], None]] = [
    *[_change_graph] * 6,
    *[_change_inside] * 3,
    _change_blob,
    _bomb,
    _change_text,
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-gb", type=float, default=4)
    options = parser.parse_args()
    limit = int(options.memory_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    rng = random.Random(options.seed)
    files = [path.read_bytes() for path in sorted(CORPUS.iterdir())]
    findings = Path("fuzz-findings")
    trial = findings / "trial.harp"
    findings.mkdir(exist_ok=True)
    rounds = refused = 0
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        content = rng.choice(files)
        for _ in range(rng.choice([1, 1, 1, 2])):
            content = mutate(content, rng)
        trial.write_bytes(content)  # before it is loaded: a crash leaves it behind
        rounds += 1
        try:
            load(trial)
        except ValueError:
            refused += 1
        except BaseException as error:
            kept = trial.rename(findings / f"round-{options.seed}-{rounds}.harp")
            print(f"{kept}: {error!r}", file=sys.stderr)
            raise
    trial.unlink()
    print(f"{rounds:,} files, {refused:,} refused, {rounds - refused:,} loaded and run, seed {options.seed}: no fault")
    return 0


if __name__ == "__main__":
    sys.exit(main())
