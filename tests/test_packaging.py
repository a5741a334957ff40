"""Wheels are small, hold the engine of their processor, and are tried on what they are for."""

import importlib.util
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "packaging" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(folder: Path, *files: str, size: int = 10) -> Path:
    with zipfile.ZipFile(folder / "harp.whl", "w") as content:
        for file in files:
            content.writestr(file, b"x" * size)
    return folder / "harp.whl"


def test_a_wheel_without_the_engine_of_its_processor_is_refused(tmp_path: Path):
    build = script("build_wheel")
    build.check(wheel(tmp_path, "harp/runtime/_engine.cpython-311-aarch64-linux-gnu.so"), "aarch64")
    for files in ((), ("harp/runtime/_engine.cpython-311-x86_64-linux-gnu.so",)):
        with pytest.raises(RuntimeError, match="expected one for aarch64"):
            build.check(wheel(tmp_path, *files), "aarch64")


def test_a_large_wheel_is_refused(tmp_path: Path):
    large = wheel(tmp_path, "harp/runtime/_engine.cpython-311-x86_64-linux-gnu.so", size=1_500_001)
    with pytest.raises(RuntimeError, match="expected at most 1,500,000"):
        script("build_wheel").check(large, "x86_64")


def test_a_wheel_for_a_newer_c_library_is_refused(tmp_path: Path):
    build, name = script("build_wheel"), "harp/runtime/_engine.cpython-311-x86_64-linux-gnu.so"
    with zipfile.ZipFile(tmp_path / "harp.whl", "w") as content:
        content.writestr(name, b"GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9")
    with pytest.raises(RuntimeError, match=r"needs glibc \(2, 34\): expected at most \(2, 17\)"):
        build.check(tmp_path / "harp.whl", "x86_64")


def test_the_trial_compares_the_engine_with_numpy(monkeypatch: pytest.MonkeyPatch):
    trial = script("try_wheel")
    trial.compare(8, 0)
    session = trial.Session
    monkeypatch.setattr(trial.Session, "__call__", lambda self, x, real=session.__call__: 1.001 * real(self, x))
    with pytest.raises(RuntimeError, match=r"images of 8 pixels, seed 0: off by 0\.001"):
        trial.compare(8, 0)


def test_the_trial_refuses_an_environment_with_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["try_wheel.py", str(ROOT / "examples" / "deploy.py")])
    with pytest.raises(RuntimeError, match="torch is installed here"):
        script("try_wheel").main()


def test_every_python_that_harp_supports_gets_a_wheel_that_is_tried():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = project["tool"]["cibuildwheel"]
    assert project["project"]["requires-python"] == ">=3.11"
    assert asked["build"].split()[0] == "cp311-*"
    files = [word.removeprefix("{project}/") for word in asked["test-command"].split() if "{project}" in word]
    assert len(files) == 2
    assert all((ROOT / file).is_file() for file in files)
