"""Files that are whole or not there, whatever the disk does, and JSON that is read with care."""

import errno
import math
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from harp import files
from harp.files import PARTIAL, read_json, write_bytes, write_json, write_json_lines
from harp.runtime.format import write as write_network
from harp.runtime.graph import Graph, Node

DEEP = 100_000

# Writing


def full_disk(*arguments: Any, **more: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (os, "replace"), (Path, "write_bytes"), (Path, "mkdir")])
def test_on_a_full_disk_the_old_file_stays_whole_and_the_error_names_it(owner, call, tmp_path, monkeypatch):
    file = tmp_path / "card.json"
    file.write_bytes(b"old")
    with monkeypatch.context() as patched:
        patched.setattr(owner, call, full_disk)
        with pytest.raises(
            OSError, match=r"could not write 3 bytes to .*card.json: No space left.*unchanged"
        ) as caught:
            write_bytes(file, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert file.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["card.json"]
    write_bytes(file, b"new")
    assert file.read_bytes() == b"new"


def test_a_kill_between_writing_and_replacing_leaves_the_old_file_whole(tmp_path, monkeypatch):
    file = tmp_path / "card.json"
    write_bytes(file, b"old")

    def killed(*arguments: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        patched.setattr(Path, "unlink", lambda self, missing_ok=False: None)  # the dead clean nothing up
        with pytest.raises(SystemExit):
            write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    leftover = [entry for entry in tmp_path.iterdir() if entry != file]
    assert [entry.name.endswith(PARTIAL) for entry in leftover] == [True]
    write_bytes(file, b"new")
    assert file.read_bytes() == b"new"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_file_has_the_permissions_that_the_umask_leaves_like_any_other(umask, tmp_path):
    before = os.umask(umask)
    try:
        (tmp_path / "plain").write_bytes(b"")
        write_json(tmp_path / "card.json", {})
        write_network(tmp_path / "net.harp", Graph((1, 2, 2), (Node("flatten", (0,)),)), card={})
    finally:
        os.umask(before)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("plain", "card.json", "net.harp"), 0o666 & ~umask)


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match=r"could not write .* to .*runs/dense/recipe.json"):
        write_json(tmp_path / "runs" / "dense" / "recipe.json", {})


def test_json_never_holds_what_is_no_number(tmp_path):
    for write, value in ((write_json, {"a": math.nan}), (write_json_lines, [{"a": math.inf}])):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write(tmp_path / "x.json", value)
    assert list(tmp_path.iterdir()) == []


# Reading JSON


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b'{"a": 1', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"a": NaN}', "NaN is no number"),
        (b"[1, 2]", "holds a JSON list, expected an object"),
        (b"null", "NoneType"),
        (b"[" * DEEP, "not valid JSON"),
        (b'{"a":' * DEEP, "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
    ids=["empty", "truncated", "binary", "nan", "list", "null", "deep list", "deep object", "endless number"],
)
def test_damaged_json_is_a_value_error_that_names_the_file(content, said, tmp_path):
    file = tmp_path / "card.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"card\.json.*{said}"):
        read_json(file)


def test_json_larger_than_anything_harp_writes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 10)
    (tmp_path / "card.json").write_text('{"a": "long"}')
    with pytest.raises(ValueError, match=r"card\.json has 13 bytes"):
        read_json(tmp_path / "card.json")
