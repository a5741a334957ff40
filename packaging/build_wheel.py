"""Make a wheel for Linux without a container, and try it where neither a compiler nor torch is.

    python packaging/build_wheel.py --out dist
    python packaging/build_wheel.py --out dist --processor aarch64

Zig's compiler brings the C library of 2014 (glibc 2.17), and compiles for any processor. Needs: pip install ziglang
wheel. Wheels of other systems are made by cibuildwheel, see pyproject.toml and .github/workflows/wheels.yml.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
GLIBC = (2, 17)
MOST_BYTES = 1_500_000
TRIAL = Path(__file__).with_name("try_wheel.py")
PROCESSORS = ("x86_64", "aarch64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dist"), help="a directory (dist)")
    parser.add_argument("--processor", choices=PROCESSORS, default=platform.machine(), help="that of this machine")
    asked = parser.parse_args()
    if missing := [name for name in ("ziglang", "wheel") if find_spec(name) is None]:
        parser.error(f"{', '.join(missing)} is missing: pip install ziglang wheel")
    wheel = build(asked.processor, asked.out)
    check(wheel, asked.processor)
    print(f"{wheel}: {wheel.stat().st_size:,} bytes")
    if asked.processor == platform.machine():
        try_out(wheel)
    else:
        print(f"not tried: this machine is no {asked.processor}")


def build(processor: str, out: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix="harp-wheel-") as folder:
        place = Path(folder)
        surroundings = {**os.environ, **compilers(place, processor)}
        command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "-w", folder]
        subprocess.run([*command, f"--config-settings=build-dir={place / 'build'}"], check=True, env=surroundings)
        (raw,) = place.glob("*.whl")
        tag = f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{processor}.manylinux2014_{processor}"
        subprocess.run([sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", tag, str(raw)], check=True)
        (made,) = place.glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(made, out))


def compilers(place: Path, processor: str) -> dict[str, str]:
    """Environment in which a build compiles for this processor. Zig is called by its path: pip isolates builds."""
    spec = find_spec("ziglang")
    assert spec is not None
    assert spec.origin is not None
    zig = Path(spec.origin).with_name("zig")
    target = f"{processor}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}"
    for name in ("cc", "c++"):
        script = place / f"zig-{name}"
        script.write_text(f'#!/bin/sh\nexec {zig} {name} -target {target} "$@"\n')
        script.chmod(0o755)
    set_up = {"CC": str(place / "zig-cc"), "CXX": str(place / "zig-c++")}
    if processor == platform.machine():
        return set_up
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    return {
        **set_up,
        "CMAKE_ARGS": f"-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR={processor}",
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{version}-{processor}-linux-gnu.so",
        "_PYTHON_HOST_PLATFORM": f"linux-{processor}",
    }


def check(wheel: Path, processor: str) -> None:
    """Raise RuntimeError unless the engine is in it, for this processor and an old C library, and it is small."""
    with zipfile.ZipFile(wheel) as content:
        engines = [name for name in content.namelist() if name.startswith("harp/runtime/_engine")]
        if len(engines) != 1 or processor not in engines[0]:
            raise RuntimeError(f"{wheel} holds the engines {engines}: expected one for {processor}; see the log above")
        needed = re.findall(rb"GLIBC_(\d+)\.(\d+)", content.read(engines[0]))
    newest = max(((int(major), int(minor)) for major, minor in needed), default=GLIBC)
    if newest > GLIBC:
        raise RuntimeError(f"{wheel} needs glibc {newest}: expected at most {GLIBC}")
    if wheel.stat().st_size > MOST_BYTES:
        raise RuntimeError(f"{wheel} has {wheel.stat().st_size:,} bytes: expected at most {MOST_BYTES:,}")


def try_out(wheel: Path) -> None:
    """Install it in a fresh environment, and classify images there with nothing on the path."""
    with tempfile.TemporaryDirectory(prefix="harp-wheel-") as folder:
        place = Path(folder)
        venv.create(place / "fresh", with_pip=True)
        python = place / "fresh" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", wheel.resolve()], check=True)
        command = [python, "-W", "error", TRIAL, ROOT / "examples" / "deploy.py"]
        subprocess.run(command, cwd=place, env={"PATH": str(place / "nothing")}, check=True)


if __name__ == "__main__":
    main()
