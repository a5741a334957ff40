"""A C file, compiled and run on this machine, so that what was written is what is compared."""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from harp.files import write_bytes

FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic")
_LIMIT_S = 600
_MAIN = """\
#include "{header}"

#include <stdio.h>

static float image[{inputs}], result[{outputs}];

int main(void) {{
  while (fread(image, sizeof image, 1, stdin) == 1) {{
    {name}_run(image, result);
    if (fwrite(result, sizeof result, 1, stdout) != 1) return 1;
  }}
  return 0;
}}
"""


def compiler() -> list[str] | None:
    """The C compiler that CC names in the environment, else cc; None where there is none, or CC is empty."""
    words = shlex.split(os.environ.get("CC", "cc"))
    return words if words and os.name == "posix" and shutil.which(words[0]) else None


def compiled(source: str, header: str, name: str, images: np.ndarray, outputs: int, *, using: list[str]) -> np.ndarray:
    """What the text of a C file, whose functions begin with ``name``, answers to ``images``: float32 (n, outputs).

    Raises ValueError with what the compiler said where it does not take the file.
    """
    with tempfile.TemporaryDirectory(prefix="harp-c-") as folder:
        place = Path(folder)
        main = _MAIN.format(header="network.h", inputs=images[0].size, outputs=outputs, name=name)
        texts = {"network.c": source, "network.h": header, "main.c": main}
        for file, text in texts.items():
            write_bytes(place / file, text.encode())
        command = [*using, *FLAGS, "-o", "program", "network.c", "main.c", "-lm"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=_LIMIT_S)
        if done.returncode != 0:
            raise ValueError(
                f"{shlex.join(using)} does not compile the C file: {done.stderr.strip()[-2000:]}; "
                "name another compiler in CC, or set CC= to compare in numpy"
            )
        given = np.ascontiguousarray(images, np.float32).tobytes()
        ran = subprocess.run([place / "program"], input=given, capture_output=True, timeout=_LIMIT_S, check=True)
    return np.frombuffer(ran.stdout, np.float32).reshape(len(images), outputs)
