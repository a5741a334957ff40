"""Files that are whole or not there, and readers that nothing can fool: neither full disks, nor kills, nor hostile files."""

import json
import math
import resource
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from harp.checkpoint import load_state, load_tensors, save_state, save_tensors

DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)
DEEP = 100_000


def same(a: Any, b: Any) -> bool:
    """Equal in value and type, down to the bits of tensors; NaN is itself."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(one, other)
            for pair in zip(a.items(), b.items(), strict=True)
            for one, other in zip(*pair, strict=True)
        )
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


# Writing


def test_tied_and_strided_tensors_are_written_out(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    save_tensors(tmp_path / "t", {"a": whole, "b": whole, "row": whole[1], "column": whole[:, 1], "t": whole.T})
    found = load_tensors(tmp_path / "t")
    assert torch.equal(found["a"], whole)
    assert torch.equal(found["b"], whole)
    assert torch.equal(found["column"], whole[:, 1])
    assert torch.equal(found["t"], whole.T)


def test_the_same_tensors_and_metadata_are_the_same_bytes(tmp_path):
    """safetensors orders metadata anew at every call."""
    written = set()
    for i in range(20):
        save_tensors(tmp_path / f"{i}", {"a": torch.arange(3.0)}, {name: f'"{name} é' for name in "dacb"})
        written.add((tmp_path / f"{i}").read_bytes())
    assert len(written) == 1
    with safe_open(tmp_path / "0", framework="pt") as file:
        assert file.metadata() == {name: f'"{name} é' for name in "abcd"}
        assert torch.equal(file.get_tensor("a"), torch.arange(3.0))


def test_what_is_no_tensor_is_named_instead_of_written(tmp_path):
    with pytest.raises(TypeError, match=r"extra.*dict.*get_extra_state"):
        save_tensors(tmp_path / "t", {"extra": {"a": 1}})
    assert not (tmp_path / "t").exists()


# Reading safetensors


def safetensors(header: dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


HOSTILE = {
    "promises 10^12 bytes": safetensors({"w": {"dtype": "F32", "shape": [25 * 10**10], "data_offsets": [0, 10**12]}}),
    "shape beyond data": safetensors({"w": {"dtype": "F32", "shape": [10**6], "data_offsets": [0, 4]}}, b"1234"),
    "overflowing shape": safetensors({"w": {"dtype": "F32", "shape": [2**63, 4], "data_offsets": [0, 4]}}, b"1234"),
    "overlapping": safetensors(
        {
            "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
            "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]},
        },
        b"123456",
    ),
    "endless header": safetensors({}, length=2**62),
    "unknown type": safetensors({"w": {"dtype": "X9", "shape": [1], "data_offsets": [0, 1]}}, b"1"),
    "deep header": struct.pack("<Q", 2 * DEEP) + b'{"' * DEEP,
    "empty": b"",
    "text": b"this is not a checkpoint",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("load", [load_tensors, load_state])
def test_a_hostile_file_is_a_value_error_and_costs_no_memory(load, kind, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(HOSTILE[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_a_file_cut_short_anywhere_is_a_value_error(tmp_path):
    save_state(tmp_path / "whole", {"w": torch.arange(20.0), "step": 3})
    content = (tmp_path / "whole").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut").write_bytes(content[:length])
        for load in (load_tensors, load_state):
            with pytest.raises(ValueError, match="cut"):
                load(tmp_path / "cut")


def test_no_flipped_bit_is_anything_but_a_value_error_or_another_state(tmp_path):
    """safetensors has no check sum: a flip in the numbers goes unseen, but none may end in another kind of error."""
    save_state(tmp_path / "whole", {"w": torch.arange(4.0), 3: [None, True, "a"]})
    content = (tmp_path / "whole").read_bytes()
    refused = 0
    for place in range(0, 8 * (len(content) - 16), 7):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        (tmp_path / "flipped").write_bytes(flipped)
        try:
            load_state(tmp_path / "flipped")
        except ValueError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    "skeleton",
    [
        '{"tensor": "7"}',
        '{"tensor": [1]}',
        '{"a": 1, "b": 2}',
        '{"list": 3}',
        '{"dict": [[[1], 2]]}',
        '{"dict": [1]}',
        "{}",
        "[",
        '{"list":[' * DEEP,
    ],
    ids=lambda s: s[:20],
)
def test_a_state_that_contradicts_itself_is_a_value_error(skeleton, tmp_path):
    save_tensors(tmp_path / "s", {"0": torch.zeros(1)}, {"harp.state": skeleton})
    with pytest.raises(ValueError, match=r"s is not a resume state of harp.*delete it"):
        load_state(tmp_path / "s")


def test_a_missing_file_and_a_directory_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.safetensors does not exist"):
        load_tensors(tmp_path / "no.safetensors")
    with pytest.raises(FileNotFoundError, match="is a directory"):
        load_tensors(tmp_path)


# States


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    values = torch.arange(math.prod(shape)).view(shape)
    return (values - draw(st.integers(-3, 3))).to(draw(st.sampled_from(DTYPES)))


KEYS = st.one_of(st.text(max_size=5), st.integers(), st.booleans(), st.none())
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), tensors())
STATES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=30, deadline=None)
@given(STATES)
def test_a_state_comes_back_as_it_was_written(state):
    with tempfile.TemporaryDirectory() as folder:
        save_state(Path(folder, "s"), state)
        assert same(load_state(Path(folder, "s")), state)


def test_views_of_one_memory_come_back_apart(tmp_path):
    whole = torch.arange(6.0)
    save_state(tmp_path / "s", {"whole": whole, "part": whole[2:4], "again": whole, "pair": (whole, 1)})
    found = load_state(tmp_path / "s")
    found["part"].zero_()
    assert torch.equal(found["whole"], whole)
    assert torch.equal(found["pair"][0], whole)
    assert found["pair"][1] == 1


@pytest.mark.parametrize("value", [{"a": {1, 2}}, {"a": [b"bytes"]}, {(1, 2): "a"}, {"a": object()}])
def test_a_state_of_anything_else_is_refused_before_it_is_written(value, tmp_path):
    with pytest.raises(TypeError, match=r"state.* holds a (set|bytes|tuple|object)"):
        save_state(tmp_path / "s", value)
    assert not (tmp_path / "s").exists()
