"""The user's own code, by import path: found beside the command, named when it is not there."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from harp.importing import import_factory, sources_of


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


def write(root: Path, **modules: str) -> None:
    for name, source in modules.items():
        path = root.joinpath(*name.split("__", 1)).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)


def test_the_sources_of_a_module_are_its_own_and_those_it_uses_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(
        tmp_path,
        src_a="import json\nimport torch\nimport src_b\ndef make():\n    from src_c import block\n    return block()\n",
        src_b="from src_d import VALUE\n",
        src_c="def block(): return 2\n",
        src_d="VALUE = 3\n",
        src_e="unused = True\n",
    )
    found = sources_of("src_a:make")
    assert list(found) == ["src_a", "src_b", "src_c", "src_d"]
    import_factory("src_a:make")()  # loads what it imports only now
    assert sources_of("src_a:make") == found
    write(tmp_path, src_c="def block(): return 4\n")
    after = sources_of("src_a:make")
    assert {name for name in found if found[name] != after[name]} == {"src_c"}


PACKAGE = {
    "src_pack____init__": "",
    "src_pack__inner": "from .blocks import Block\nfrom . import sizes\nimport src_outside\ndef make(): return Block\n",
    "src_pack__blocks": "class Block: pass\n",
    "src_pack__sizes": "WIDTH = 8\n",
    "src_outside": "",
}


def test_the_sources_of_a_package_are_those_it_imports_from_itself_and_from_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, **PACKAGE)
    inside = ["src_pack", "src_pack.blocks", "src_pack.inner", "src_pack.sizes"]
    assert list(sources_of("src_pack.inner:make")) == ["src_outside", *inside]


def test_what_is_installed_beside_a_package_is_none_of_its_sources(tmp_path, monkeypatch):
    place = tmp_path / "site-packages"
    place.mkdir()
    write(place, **{name.replace("src_", "got_"): text.replace("src_", "got_") for name, text in PACKAGE.items()})
    monkeypatch.syspath_prepend(str(place))
    assert list(sources_of("got_pack.inner:make")) == ["got_pack.inner"]


def test_a_network_of_a_library_has_the_version_of_the_library():
    found = sources_of("torchvision.models.resnet:resnet18")
    assert list(found) == ["torchvision", "torchvision.models.resnet"]
    assert found["torchvision"] == version("torchvision")
