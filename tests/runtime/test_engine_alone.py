"""The engine is portable C++: it builds and runs without Python, here, for Windows and for ARM."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "src" / "harp" / "runtime" / "engine"
PROGRAM = Path(__file__).with_name("engine_alone.cpp")
WINDOWS = "x86_64-w64-mingw32-g++-posix"
"""With the threads of C++11, which the other flavour lacks before GCC 13."""


def need(*programs: str) -> None:
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed; the Makefile names the packages above test-slow")


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path, compiler: str, *options: str) -> Path:
    """The program beside this test with the engine in it, and nothing it would have to find at run time."""
    run(
        "cmake",
        "-S",
        ENGINE,
        "-B",
        folder,
        "-DHARP_PYTHON=OFF",
        "-DHARP_LIBRARY=OFF",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        *options,
    )
    run("cmake", "--build", folder, "--parallel", "2")
    program = folder / "alone.exe"
    library = folder / "libharp_engine.a"
    run(compiler, "-std=c++17", "-O1", f"-I{ENGINE}", PROGRAM, library, "-static", "-pthread", "-o", program)
    return program


@pytest.mark.slow
def test_the_engine_runs_without_python(tmp_path: Path):
    need("cmake", "g++")
    assert "off by" in run(build(tmp_path, "g++"))


@pytest.mark.slow
def test_the_engine_compiles_for_windows_and_runs_where_wine_is(tmp_path: Path):
    need("cmake", WINDOWS)
    program = build(tmp_path, WINDOWS, "-DCMAKE_SYSTEM_NAME=Windows", "-DCMAKE_SYSTEM_PROCESSOR=x86_64")
    assert program.read_bytes()[:2] == b"MZ"
    wine = shutil.which("wine64") or shutil.which("wine64", path="/usr/lib/wine")
    if wine is not None:
        assert "off by" in run(wine, program)


ARM = {
    "aarch64": ("aarch64-linux-gnu-g++", "qemu-aarch64-static"),
    "armv7l": ("arm-linux-gnueabihf-g++", "qemu-arm-static"),
}
"""By processor: a compiler, and what runs its programs here."""


@pytest.mark.slow
@pytest.mark.parametrize("processor", ARM)
def test_the_engine_runs_on_an_emulated_arm_processor_with_its_vectors(tmp_path: Path, processor: str):
    compiler, emulator = ARM[processor]
    need("cmake", compiler, emulator)
    program = build(tmp_path, compiler, "-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={processor}")
    assert "NEON, 2 threads: off by" in run(emulator, program)
    if processor == "armv7l":  # of the first Cortex-A9 some have no NEON, none has a fused multiply-add
        assert "baseline, 2 threads: off by" in run(emulator, "-cpu", "cortex-a9", program)


@pytest.mark.slow
def test_the_extension_is_named_after_the_processor_that_will_load_it(tmp_path: Path):
    compiler = ARM["aarch64"][0]
    need("cmake", compiler)
    system = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={compiler}")
    python = (f"-DPython_EXECUTABLE={sys.executable}", f"-DPython_INCLUDE_DIR={sysconfig.get_path('include')}")
    run("cmake", "-S", ENGINE, "-B", tmp_path, *python, *system)
    rules = "\n".join(path.read_text() for path in tmp_path.rglob("build.make"))
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    assert f"_engine.cpython-{version}-aarch64-linux-gnu.so" in rules
    assert "x86_64-linux-gnu.so" not in rules
