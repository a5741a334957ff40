"""How far `--dry-run` is from the truth: the estimate of a whole run beside the run itself.

    python benchmarks/dry_run.py                the demo, and folder-cpu on 600 drawn images of 3 classes
    python benchmarks/dry_run.py --only demo    one of them
    python benchmarks/dry_run.py --json FILE    also writes the records down

Needs a machine that does nothing else. The estimate is wanted within a factor of 1.5.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image

from harp.environment import environment
from harp.files import write_json

UNITS = {"s": 1, "min": 60, "h": 3600}
CASES = {"demo": ["digits"], "folder-cpu": ["folder-cpu", "--task.root", "photographs", "--task.image-size", "24"]}


@dataclass(frozen=True)
class Record:
    case: str
    estimate_s: float
    taken_s: float

    @property
    def factor(self) -> float:
        return max(self.estimate_s, self.taken_s) / min(self.estimate_s, self.taken_s)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args(arguments)
    print(environment(), flush=True)
    records = []
    for case in [flags.only] if flags.only else CASES:
        records.append(measure(case))
        found = records[-1]
        print(
            f"{case}: {found.estimate_s:.0f} s estimated, {found.taken_s:.0f} s taken, factor {found.factor:.2f}",
            flush=True,
        )
    if flags.json:
        write_json(flags.json, {"environment": environment(), "records": [asdict(each) for each in records]})
    return 0


def measure(case: str) -> Record:
    with tempfile.TemporaryDirectory() as folder:
        draw_photographs(Path(folder) / "photographs")
        command = [Path(sys.executable).with_name("harp"), "run", *CASES[case]]
        said = subprocess.run([*command, "--dry-run"], cwd=folder, check=True, capture_output=True, text=True).stdout
        number, unit = said.splitlines()[-1].removeprefix("the whole run: ").split()[:2]
        began = time.monotonic()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return Record(case, float(number) * UNITS[unit], time.monotonic() - began)


def draw_photographs(folder: Path, classes: int = 3, images: int = 200) -> None:
    """Discs of three colours on noise: `folder/<class>/<number>.png`."""
    for label in range(classes):
        (folder / f"class-{label}").mkdir(parents=True)
        for number in range(images):
            noise = torch.Generator().manual_seed(label * images + number)
            pixels = torch.randint(0, 120, (48, 48, 3), generator=noise, dtype=torch.uint8)
            y, x = torch.randint(12, 36, (2,), generator=noise)
            grid = torch.arange(48)
            disc = (grid[:, None] - y) ** 2 + (grid - x) ** 2 < 100
            pixels[..., label][disc] += 100
            Image.fromarray(pixels.numpy()).save(folder / f"class-{label}" / f"{number}.png")


if __name__ == "__main__":
    sys.exit(main())
