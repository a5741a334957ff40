"""The wheels that `make test-gpu` and `benchmarks/gpu.py` need beside a preinstalled torch and numpy, fetched into a folder.

    python packaging/gpu_wheels.py wheels-gpu                      for this Python, on Linux with x86-64
    python packaging/gpu_wheels.py wheels-gpu --python 3.12        for the Python of the machine that has the GPU
    python packaging/gpu_wheels.py --list                          only say which

There: make test-gpu PYTHON=python3 WHEELS=wheels-gpu. They are installed without their dependencies, into a folder of the
checkout, so the torch of that machine stays as it is.
"""

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

PURE = (
    *("lightning-fabric", "lightning-utilities", "pyautoattack", "jaxtyping", "wadler-lindig", "fsspec", "packaging"),
    *("typing-extensions", "pytest", "pluggy", "iniconfig", "pygments"),
)
NEEDED = (*PURE, "safetensors")
"""The last one is compiled, for every Python from 3.10 on. torchvision, which brings Pillow, is there with torch."""


def download(folder: Path, python: str) -> int:
    """Fetch every wheel; the exit code of pip."""
    platform = [word for tag in ("manylinux_2_28_x86_64", "manylinux2014_x86_64") for word in ("--platform", tag)]
    place = ["--dest", str(folder), "--python-version", python, "--only-binary", ":all:", "--no-deps", *platform]
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", *place, *NEEDED]
    return subprocess.run(command, check=False).returncode


def lighten(wheel: Path) -> None:
    """Keep the modules alone: pyautoattack's wheel is 42 MB, of which its code is a hundredth."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    kept = {n: content for n, content in files.items() if n.endswith((".py", ".so")) or ".dist-info/" in n}
    for name in kept:
        if name.endswith("/RECORD"):
            lines = kept[name].decode().splitlines(keepends=True)
            kept[name] = "".join(line for line in lines if line.split(",")[0] in kept).encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in kept.items():
            archive.writestr(name, content)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("wheels-gpu"))
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}", help="such as 3.12")
    parser.add_argument("--list", action="store_true", help="print the names and fetch nothing")
    flags = parser.parse_args()
    if flags.list:
        print(*NEEDED, sep="\n")
        return 0
    if code := download(flags.folder, flags.python):
        return code
    wheels = list(flags.folder.glob("*.whl"))
    for wheel in flags.folder.glob("pyautoattack-*.whl"):
        lighten(wheel)
    print(f"{len(wheels)} wheels, {sum(wheel.stat().st_size for wheel in wheels) / 2**20:.1f} MiB, in {flags.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
