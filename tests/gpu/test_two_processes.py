"""Two processes on a GPU learn the masks that one learns: with gloo on one device, with nccl on two.

Run as a script, this file is what each of them does.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
from gpu_parts import DEVICE, THREAT, images, need_gpu, seeded_network
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from harp.attacks import PGD
from harp.objectives import pgd_at
from harp.pruning import HARP, Descent, attach_masks, masks, weight_budget
from harp.recipes import Pruning
from harp.training.distributed import place
from harp.training.loop import Course, train_step
from harp.training.optimizer import make_optimizer

TOLERANCE = 1e-3
"""Of scores after three steps: the mean of two halves sums the same numbers in another order, and TF32 is off."""


def learned(fabric: Fabric, out: Path) -> None:
    """Three steps of prune on this process's half of a batch, in eval mode: batch norm would normalise halves."""
    torch.backends.cudnn.allow_tf32 = False
    model = place(seeded_network(), fabric.device, channels_last=True).eval()
    budget = weight_budget(model, keep=0.2)
    attach_masks(model, budget, HARP)
    rule, settings = Descent(model, budget, 100), Pruning(lr=0.01)
    optimizer = fabric.setup_optimizers(make_optimizer(model, settings, rule=rule))
    objective = pgd_at(PGD(THREAT, steps=2, random_start=False))
    course = Course("gpu", settings, objective, images(24, 0), lambda model: (0.0, 0.0), seed=0, rule=rule)
    mine = slice(fabric.global_rank, None, fabric.world_size)
    for _ in range(3):
        train_step(model, course, fabric, optimizer, images(24, 0).images[mine], images(24, 0).labels[mine])
    scores = {name: m.scores.detach().cpu() for name, m in masks(model).items() if m.scores is not None}
    torch.save(scores, out / f"{fabric.world_size}-{fabric.global_rank}.pt")


def meet(number: int) -> Fabric:
    """A node of its own for each process, so that both may have the same device."""
    several = DEVICE == "cuda" and torch.cuda.device_count() > 1
    strategy = DDPStrategy(process_group_backend="nccl" if several else "gloo")
    fabric = Fabric(accelerator=DEVICE, devices=[number] if several else 1, num_nodes=2, strategy=strategy)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


if __name__ == "__main__":
    learned(meet(int(sys.argv[1])), Path(sys.argv[2]))
else:
    need_gpu()


def test_two_processes_learn_the_scores_of_one(tmp_path: Path):
    learned(Fabric(accelerator=DEVICE, devices=1), tmp_path)
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29713", "LOCAL_RANK": "0", "OMP_NUM_THREADS": "1"}
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(number), str(tmp_path)],
            env={**os.environ, **together, "NODE_RANK": str(number), "PYTHONPATH": paths},
        )
        for number in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    one, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    for name, scores in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], scores, rtol=0, atol=TOLERANCE)
