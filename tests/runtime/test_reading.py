"""The reader in C++, which the compiled engine and the C library have, and the one in Python take the same files."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from harp.runtime.format import _read, write
from harp.runtime.graph import Graph
from harp.runtime.session import Session

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def engine() -> ModuleType:
    return pytest.importorskip("harp.runtime._engine", reason="no compiled engine")


@pytest.fixture(scope="session")
def draw(draw_graph: Callable, draw_map_graph: Callable) -> Callable[[int], Graph]:
    """(seed) → a network of maps, or one with tensors."""

    def graph(seed: int) -> Graph:
        return (draw_graph, draw_map_graph)[seed % 2](seed, (0.02, 0.1, 0.5, 0.95)[seed // 2 % 4], 8 + seed % 9)

    return graph


def taken(read: Callable[[bytes], Any], content: bytes) -> Any:
    """None where it is refused."""
    try:
        return read(content)
    except ValueError:
        return None


def check_same(graph: Graph, tensors: dict[str, Any]) -> None:
    for place, node in enumerate(graph.nodes):
        for name, tensor in node.tensors.items():
            positions, values = tensors.pop(f"{place}.{name}")
            assert np.array_equal(positions, tensor.positions) or positions is tensor.positions is None
            assert values.tobytes() == tensor.values.tobytes()
    assert not tensors


def test_both_readers_take_and_refuse_the_same_hostile_files(engine: ModuleType, fuzz: ModuleType):
    rng = random.Random(2)
    files = [path.read_bytes() for path in sorted((HERE / "corpus").iterdir())]
    both = 0
    for content in [*files, *(fuzz.mutate(rng.choice(files), rng) for _ in range(250))]:
        ours, theirs = taken(_read, content), taken(engine.read, content)
        assert (ours is None) == (theirs is None), content
        if ours is not None:
            check_same(ours[0], theirs[2])
            both += 1
    assert both > 10


@pytest.mark.parametrize("values", ["f32", "f16", "int8"])
def test_both_readers_find_the_same_numbers(engine: ModuleType, draw_graph: Callable, tmp_path: Path, values: Any):
    for seed in range(3):
        graph = draw_graph(seed, keep=(0.05, 0.9)[seed % 2], nodes=12)
        write(tmp_path / "net.harp", graph, card={"name": "é\ud800"}, values=values)
        content = (tmp_path / "net.harp").read_bytes()
        read, _ = _read(content)
        check_same(read, engine.read(content)[2])


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ('{"a": 1e999, "b": -0.5e-3, "c": 123456789012345678901234567890}', True),
        ('{"a": NaN, "b": -Infinity}', True),
        ('{"a": 1, "a": 2}', True),
        ('{"a": "\\ud83d\\ude00 \\ud83d \\u00e9"}', True),
        ("[" * 100 + "]" * 100, False),  # no object
        ('{"a":' + "[" * 99 + "]" * 99 + "}", True),
        ('{"a":' + "[" * 100 + "]" * 100 + "}", False),
        ('{"a": 01}', False),
        ('{"a": 1.}', False),
        ('{"a": "\t"}', False),
        ('{"a": "\\x"}', False),
        ('{"a": 1,}', False),
        ("{'a': 1}", False),
        ('{"a": ' + "1" * 4301 + "}", False),
        ('{"a": ' + "1" * 4300 + "}", True),
        ('\ufeff{"a": 1}', False),
        ('{"a": 1} x', False),
    ],
)
def test_both_readers_have_the_same_json(engine: ModuleType, text: str, sound: bool):
    from harp.runtime.container import pack, unpack

    texts, blobs = unpack((HERE / "corpus" / "good-0.harp").read_bytes())
    content = pack({**texts, "card": text}, {name: bytes(blob) for name, blob in blobs.items()})
    assert (taken(_read, content) is not None) == (taken(engine.read, content) is not None) == sound


def test_a_small_file_that_promises_many_numbers_is_refused(engine: ModuleType, tmp_path: Path):
    from harp.runtime.container import pack, unpack
    from harp.runtime.graph import Node

    write(
        tmp_path / "net.harp",
        Graph((3, 2, 2), (Node("constant", (), {}, {"value": np.zeros(8, np.float32)}),)),
        card={},
    )
    texts, blobs = unpack((tmp_path / "net.harp").read_bytes())
    graph = texts["graph"].replace('"shape":[8]', f'"shape":[{2**27}]')
    content = pack({**texts, "graph": graph}, {name: bytes(blob) for name, blob in blobs.items()})
    for read in (_read, engine.read):
        with pytest.raises(ValueError, match="packed that tightly"):
            read(content)


def outputs_of(engine: ModuleType, content: bytes, x: np.ndarray) -> np.ndarray:
    """Of a network that was read, lowered and trimmed in C++."""
    model = engine.Model(content)
    result, sizes, _ = model.sizes(x.shape[1:])
    out = np.empty((len(x), math.prod(result)), np.float32)
    engine.Engine(model, 1, "").run(x, sizes, out, False)
    return out.reshape(len(x), *result)


@pytest.mark.parametrize("values", ["f32", "int8"])
def test_a_network_lowered_in_cpp_gives_the_same_bits(engine: ModuleType, draw: Callable, tmp_path: Path, values: Any):
    for seed in range(5):
        write(tmp_path / "net.harp", draw(seed), card={}, values=values)
        content = (tmp_path / "net.harp").read_bytes()
        session = Session(_read(content)[0], threads=1, autotune=False)
        x = np.random.default_rng(seed).random((3, *session.input), np.float32)
        assert session(x).tobytes() == outputs_of(engine, content, x).tobytes()


@pytest.mark.slow
def test_many_networks_lowered_in_cpp_give_the_same_bits(engine: ModuleType, draw: Callable, tmp_path: Path):
    for seed in range(100, 400):
        write(tmp_path / "net.harp", draw(seed), card={})
        content = (tmp_path / "net.harp").read_bytes()
        session = Session(_read(content)[0], threads=1, autotune=False)
        x = np.random.default_rng(seed).random((3, *session.input), np.float32)
        assert session(x).tobytes() == outputs_of(engine, content, x).tobytes()
