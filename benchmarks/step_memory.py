"""The peak memory of a variant of the step: that of a process that does nothing else.

python benchmarks/step_memory.py prune vgg16_bn 32 0
"""

import resource
import subprocess
import sys
from pathlib import Path

ATTACK_STEPS, STEPS = 1, 2
"""Attack steps free what they allocate: one more needs no more memory. The second step has the momentum."""


def peak_mb(variant: str, network: str, batch: int, seed: int) -> float:
    """The largest resident set of a fresh process that makes two steps, in MB of 10⁶ bytes.

    Freed memory is returned there, so that this is what the step needs and not what the allocator holds back.
    """
    command = [sys.executable, str(Path(__file__).resolve()), variant, network, str(batch), str(seed)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    import torch
    from step_variants import build

    torch.set_num_threads(1)
    variant, network, batch, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    step = build(variant, network, batch, ATTACK_STEPS, seed)
    for _ in range(STEPS):
        step()
    print(largest_resident_set() / 1e6)


def largest_resident_set() -> int:
    """Bytes. Not ru_maxrss where there is another way: on Linux it begins with what the parent of the process had."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
