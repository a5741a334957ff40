"""A network in C on an emulated Cortex-M4: its results, instructions, flash, memory and stack.

Needs, on Debian:  apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BOARD = Path(__file__).with_name("cortex_m")
COMPILER, SIZE, EMULATOR = "arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm"
CPU = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
LINKED = ("-ffunction-sections", "-fdata-sections", "-nostartfiles", "-Wl,--gc-sections", "--specs=nosys.specs")
_LOOP = 2 * 1_000_000
"""Instructions of the loop that the program times first."""


@dataclass(frozen=True)
class Found:
    """What one program did. ``flash_bytes`` and ``static_bytes`` are the network's own, with what it needs of libraries."""

    results: np.ndarray
    instructions: float
    """Per image."""
    flash_bytes: int
    static_bytes: int
    stack_bytes: int

    @property
    def ram_bytes(self) -> int:
        """Static memory and stack; the image and the result are the caller's."""
        return self.static_bytes + self.stack_bytes


def absence() -> str:
    """Which programs are missing; empty where all are there."""
    missing = [name for name in (COMPILER, SIZE, EMULATOR) if shutil.which(name) is None]
    return f"{', '.join(missing)} is not installed; the Makefile names the packages above test-slow" if missing else ""


def emulate(sources: list[Path], images: np.ndarray, outputs: int, folder: Path, *, optimise: str = "-O2") -> Found:
    """Run the function ``network_run`` of some C files on float32 ``images``; builds in ``folder``, which exists."""
    (folder / "images.bin").write_bytes(np.ascontiguousarray(images, np.float32).tobytes())
    macros = (f"-DCOUNT={len(images)}", f"-DINPUTS={images[0].size}", f"-DOUTPUTS={outputs}")
    with_it = _build(folder / "network.elf", sources, macros, folder, optimise)
    without = _build(folder / "nothing.elf", [BOARD / "nothing.c"], macros, folder, optimise)
    lines = _said(with_it).splitlines()
    loop, stack = (int(word, 16) for word in lines[0].split())
    rows = np.array([[int(word, 16) for word in line.split()] for line in lines[1:]], np.uint32)
    (flash, static), (flash_without, static_without) = _sizes(with_it), _sizes(without)
    return Found(
        results=rows[:, :-1].view(np.float32),
        instructions=float(rows[:, -1].mean()) * _LOOP / loop,
        flash_bytes=flash - flash_without,
        static_bytes=static - static_without,
        stack_bytes=stack,
    )


def _build(program: Path, sources: list[Path], macros: tuple[str, ...], folder: Path, optimise: str) -> Path:
    own = [BOARD / "main.c", BOARD / "images.s"]
    script = ("-T", str(BOARD / "board.ld"), "-Wa,-I", f"-Wa,{folder}")
    files = [str(path) for path in (*own, *sources)]
    command = [COMPILER, *CPU, optimise, *LINKED, *macros, *script, *files, "-lm", "-o", str(program)]
    _run(command)
    return program


def _sizes(program: Path) -> tuple[int, int]:
    """Bytes of flash without the images, and of static memory."""
    sections = {
        name: int(size) for name, size in re.findall(r"^(\.\S+)\s+(\d+)", _run([SIZE, "-A", str(program)]), re.M)
    }
    return sections[".text"] + sections.get(".data", 0), sections.get(".data", 0) + sections.get(".bss", 0)


def _said(program: Path) -> str:
    """One instruction takes a nanosecond of the emulated clock."""
    machine = ("-M", "mps2-an386", "-nographic", "-semihosting-config", "enable=on,target=native", "-icount", "shift=0")
    return _run([EMULATOR, *machine, "-kernel", str(program)])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0 or "fault" in done.stdout:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout + (done.stderr if command[0] == EMULATOR else "")
