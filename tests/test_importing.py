"""The user's own code, by import path: found beside the command, named when it is not there."""

import sys
from pathlib import Path

import pytest

from harp.importing import import_factory


def test_a_module_of_the_working_directory_is_found_and_the_path_is_as_before(tiny):
    before = list(sys.path)
    assert str(tiny) not in before
    assert len(import_factory("tiny:data")().train) == 60
    assert sys.path == before


def test_a_module_in_a_package_is_found(tmp_path, monkeypatch):
    (tmp_path / "own_package_for_test").mkdir()
    (tmp_path / "own_package_for_test" / "inner.py").write_text("def make():\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    assert import_factory("own_package_for_test.inner:make")() == 7


@pytest.mark.parametrize("path", ["no_such:f", "json:nothing", ":f", "json:", "json", ".json:loads", "a b:c", ""])
def test_a_path_that_leads_nowhere_is_repeated_with_what_was_expected(path):
    with pytest.raises(ValueError, match=r"Expected package\.module:factory") as caught:
        import_factory(path)
    assert f"name={path!r}" in str(caught.value)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match=r"name='json:__name__' is a str: expected a function"):
        import_factory("json:__name__")


def test_what_the_module_itself_lacks_is_told_and_the_path_is_as_before(tmp_path, monkeypatch):
    Path(tmp_path, "own_broken_for_test.py").write_text("import a_library_that_is_not_here\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    with pytest.raises(ValueError, match="a_library_that_is_not_here"):
        import_factory("own_broken_for_test:make")
    assert sys.path == before
