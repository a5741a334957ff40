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
from pathlib import Path

PURE = (
    *("lightning-fabric", "lightning-utilities", "pyautoattack", "jaxtyping", "wadler-lindig", "fsspec", "packaging"),
    *("typing-extensions", "pytest", "pluggy", "iniconfig", "pygments"),
)
NEEDED = (*PURE, "safetensors", "pillow")
"""The last two are compiled, for every Python and for one."""


def download(folder: Path, python: str) -> int:
    """Fetch every wheel; the exit code of pip."""
    platform = [word for tag in ("manylinux_2_28_x86_64", "manylinux2014_x86_64") for word in ("--platform", tag)]
    place = ["--dest", str(folder), "--python-version", python, "--only-binary", ":all:", "--no-deps", *platform]
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", *place, *NEEDED]
    return subprocess.run(command, check=False).returncode


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
    print(f"{len(wheels)} wheels, {sum(wheel.stat().st_size for wheel in wheels) / 2**20:.1f} MiB, in {flags.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
