"""The C library: built, installed, called by GCC and Clang, and fed with hostile files under sanitizers."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from harp.runtime.format import _read, write
from harp.runtime.graph import Graph
from harp.runtime.session import Session
from harp.runtime.shapes import shapes

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "src" / "harp" / "runtime" / "engine"
EXAMPLE = ROOT / "examples" / "libharp" / "classify.c"
HERE = Path(__file__).parent


DAMAGED, NEWER, INVALID = "2", "3", "4"
"""Of harp_status."""


def is_taken(path: Path) -> bool:
    try:
        Session(_read(path.read_bytes())[0], threads=1, autotune=False)
    except ValueError:
        return False
    return True


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=1200, env=env)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def built(folder: Path, *options: str) -> Path:
    """The library with its header, installed into a folder."""
    if shutil.which("cmake") is None or shutil.which("g++") is None:
        pytest.skip("cmake or g++ is not installed")
    run("cmake", "-S", ENGINE, "-B", folder / "build", "-DHARP_PYTHON=OFF", "-DCMAKE_INSTALL_LIBDIR=lib", *options)
    run("cmake", "--build", folder / "build", "--parallel", "2")
    run("cmake", "--install", folder / "build", "--prefix", folder / "there")
    return folder / "there"


def classifier(draw: Callable) -> Graph:
    """A random network that ends with a number for each of several classes."""
    graphs = (draw(seed, 0.3, 9) for seed in range(999))
    return next(g for g in graphs if len(shapes(g)[-1]) == 1 and shapes(g)[-1][0] > 5)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("library"))


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("linked", ["shared", "static"])
def test_the_example_classifies_as_python_does(
    library: Path, draw_map_graph: Any, tmp_path: Path, compiler: str, linked: str
):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    program = tmp_path / "classify"
    options = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I", library / "include"]
    static = [library / "lib" / "libharp.a", "-lstdc++", "-lm", "-pthread"]
    shared = ["-L", library / "lib", "-lharp", f"-Wl,-rpath,{library / 'lib'}"]
    run(compiler, *options, EXAMPLE, "-o", program, *(static if linked == "static" else shared))
    graph = classifier(draw_map_graph)
    write(tmp_path / "net.harp", graph, card={"classes": [f"class {i}" for i in range(99)]})
    session = Session(graph, threads=1, autotune=False)
    pixels = np.random.default_rng(0).integers(0, 256, (1, *graph.input[1:], graph.input[0]), np.uint8)
    (tmp_path / "image.rgb").write_bytes(pixels.tobytes())
    label, *name, logit = run(program, tmp_path / "net.harp", tmp_path / "image.rgb").split()
    logits = session(pixels)[0]
    assert int(label) == logits.argmax()
    assert name == ["class", label]
    assert np.float32(float(logit)) == logits.max()


@pytest.mark.slow
def test_hostile_files_and_callers_are_refused_under_sanitizers(tmp_path: Path, fuzz: ModuleType):
    there = built(tmp_path, "-DHARP_SANITIZE=ON")
    program, sanitize = tmp_path / "fuzz", "-fsanitize=address,undefined"
    source = HERE / "library_fuzz.c"
    run(
        "gcc",
        "-g",
        sanitize,
        "-I",
        there / "include",
        source,
        there / "lib" / "libharp.a",
        "-lstdc++",
        "-lm",
        "-o",
        program,
    )
    rng = random.Random(3)
    corpus = sorted((HERE / "corpus").iterdir())
    contents = [path.read_bytes() for path in corpus]
    files = [*corpus]
    for number in range(1500):
        files.append(tmp_path / f"{number}.harp")
        files[-1].write_bytes(fuzz.mutate(rng.choice(contents), rng))
    env = {**os.environ, "UBSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "max_allocation_size_mb=2048"}
    answers = run(program, *files, env=env).split()
    assert [answer == "taken" for answer in answers] == [is_taken(path) for path in files]
    assert {"taken", DAMAGED, NEWER, INVALID} <= set(answers)


ARM = {
    "aarch64": ("aarch64-linux-gnu", "qemu-aarch64-static"),
    "armv7l": ("arm-linux-gnueabihf", "qemu-arm-static"),
}
"""By processor: the prefix of a compiler, and what runs its programs here."""


@pytest.mark.slow
@pytest.mark.parametrize("processor", ARM)
def test_random_networks_give_the_same_on_an_emulated_arm_processor(
    draw_graph: Any, draw_map_graph: Any, tmp_path: Path, processor: str
):
    prefix, emulator = ARM[processor]
    missing = [name for name in (f"{prefix}-g++", emulator) if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed; the Makefile names the packages above test-slow")
    system = ("-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={processor}")
    there = built(tmp_path, f"-DCMAKE_CXX_COMPILER={prefix}-g++", *system)
    program, source = tmp_path / "outputs", HERE / "library_outputs.c"
    libraries = (there / "lib" / "libharp.a", "-lstdc++", "-lm", "-pthread")
    run(f"{prefix}-gcc", "-static", "-I", there / "include", source, *libraries, "-o", program)
    expected = []
    for seed in range(120):
        graph = (draw_graph, draw_map_graph)[seed % 2](seed, (0.02, 0.1, 0.5, 0.95)[seed // 2 % 4], 8 + seed % 9)
        write(tmp_path / f"{seed}.harp", graph, card={})
        x = np.random.default_rng(seed).random((5, *graph.input), np.float32)
        x.tofile(tmp_path / f"{seed}.in")
        expected.append(Session(graph, threads=1, autotune=False)(x).reshape(-1))
    assert "NEON" in run(emulator, program, *(tmp_path / str(seed) for seed in range(120)))
    for seed, wanted in enumerate(expected):
        found = np.fromfile(tmp_path / f"{seed}.out", np.float32)
        scale = np.abs(wanted).max() + 1e-3
        assert np.allclose(found, wanted, rtol=0, atol=2e-4 * scale), seed
