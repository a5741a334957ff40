"""The settings of a run: one frozen value a stage, checked when it is made, and a recipe of them all."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harp.recipes.attacks import AttackName
from harp.recipes.checks import check, check_choices, not_negative, positive
from harp.recipes.training import Pruning, Training


@dataclass(frozen=True)
class Task:
    """The data set, the network and the attacker."""

    data: str = "digits"
    """digits, fashion-mnist, cifar10, cifar100, svhn, imagenet, or folder (any folder of images)."""
    root: Path | None = None
    """The directory of the data set; for `folder` the directory of images itself."""
    image_size: int | None = None
    """Resize images to this many pixels per side; None keeps their own size."""
    download: bool = False
    """Download the data set from its official address if it is missing."""
    skip_broken: bool = False
    """Leave out image files that cannot be decoded, and record which. Without this flag they are an error."""
    validation: float = 0.1
    """Share of the training set to set aside for choosing the best epoch. The test set never chooses anything."""
    model: str = "vgg_small"
    """One of harp's networks, `tv:NAME` of torchvision, `timm:NAME`, or your own as `package.module:factory`."""
    mean: tuple[float, ...] = ()
    """Channel means of a normalisation as the first layer of the network; empty for no normalisation."""
    std: tuple[float, ...] = ()
    """Channel standard deviations of that normalisation."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the attacker's ball around an image."""
    eps: float = 0.1
    """Radius of the ball, for images in [0, 1]: 0.1, or as a fraction, 8/255."""

    def __post_init__(self) -> None:
        check_choices(self)
        check(0 < self.validation < 1, self, "validation", "must lie in (0, 1): the share of training images cut off")
        if self.norm == "linf":
            check(0 <= self.eps <= 1, self, "eps", "must lie in [0, 1], as images do: 8/255 is 0.03137")
        check(not_negative(self.eps), self, "eps", "must not be negative, and finite")
        check(all(map(math.isfinite, self.mean)), self, "mean", "must be finite, one value per channel")
        check(len(self.mean) == len(self.std), self, "std", f"must have as many channels as mean={self.mean}")
        check(all(map(positive, self.std)), self, "std", "must be positive and finite, one value per channel")
        check(self.image_size is None or self.image_size > 0, self, "image_size", "must be positive, or None")


def data_title(data: str, root: Path | str | None) -> str:
    """What people call the data: a folder by its own name, any other data set by that of the setting."""
    return (Path(os.path.abspath(root)).name or data) if data == "folder" and root is not None else data


@dataclass(frozen=True)
class Evaluating:
    """How a finished network is evaluated on the test set."""

    attack: AttackName = "autoattack"
    """The attack to run. Report `autoattack`, or `settled`, which goes on where that is in doubt; `minimal` measures distances."""
    images: int | None = 1000
    """Number of test images, drawn at random with a fixed seed; None takes all."""
    eps: tuple[float, ...] = ()
    """Radii of the attack; empty for that of the task."""
    steps: int = 20
    """Steps of pgd and cw."""
    step_size: float | None = None
    """Length of one step; None is 2.5 * eps / steps."""
    corruptions: bool = False
    """Also evaluate on images with fifteen common corruptions in five severities."""
    batch_size: int = 250

    def __post_init__(self) -> None:
        check_choices(self)
        check(self.images is None or self.images >= 1, self, "images", "must be at least 1, or None for all")
        check(all(map(not_negative, self.eps)), self, "eps", "must not be negative, and finite")
        check(self.steps >= 1, self, "steps", "must be at least 1")
        check(self.step_size is None or positive(self.step_size), self, "step_size", "must be positive, or None")
        check(self.batch_size >= 1, self, "batch_size", "must be at least 1")

    def images_of(self, tests: int) -> int:
        """How many of so many test images are evaluated."""
        return min(self.images or tests, tests)


@dataclass(frozen=True)
class Compute:
    """The devices and the precision of the computation."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    """Devices of this machine to use together (DDP)."""
    num_nodes: int = 1
    """Machines to use together, started by torchrun or SLURM."""
    precision: Literal["32", "tf32", "bf16-mixed", "16-mixed"] = "32"
    """32 computes in 32 bits on a GPU, too; tf32 rounds the factors of products to 10 bits there, and is faster."""
    channels_last: bool = True
    """Store images and filters with the channels last; faster on CPUs and GPUs."""
    workers: int | None = None
    """Processes that decode images of data sets too large for memory; None is one per core, at most 8."""
    threads: int | None = None
    """CPU threads; None takes the default of torch. Bit-for-bit repeatability needs the same number."""
    engine: Literal["auto", "torch", "sparse"] = "torch"
    """What attacks of prune, finetune and evaluate, and in finetune the step of the weights, run on: torch, harp's sparse
    engine (on a CPU), or, with auto, the one on which a timed step is faster. Only torch gives the bits of earlier versions."""
    compile: bool = False
    """Compile the attacks of pretrain, prune and finetune with torch.compile: faster on a GPU after a minute's wait."""
    deterministic: bool = False
    """On a GPU, the same bits from the same command; slower. On a CPU that is always so."""
    log: Literal["none", "csv", "tensorboard", "wandb"] = "none"
    """Where the metrics of each epoch go beside metrics.jsonl: metrics.csv, TensorBoard or Weights & Biases."""

    def __post_init__(self) -> None:
        check_choices(self)
        check(self.devices >= 1, self, "devices", "must be at least 1")
        check(self.num_nodes >= 1, self, "num_nodes", "must be at least 1")
        check(self.workers is None or self.workers >= 0, self, "workers", "must not be negative, or None")
        check(self.threads is None or self.threads >= 1, self, "threads", "must be at least 1, or None")
        check(not self.compile or self.engine == "torch", self, "compile", "is for the engine torch")


@dataclass(frozen=True)
class Recipe:
    """All stages of one pipeline."""

    task: Task = field(default_factory=Task)
    pretrain: Training = field(default_factory=Training)
    prune: Pruning = field(default_factory=Pruning)
    finetune: Training = field(default_factory=lambda: Training(lr=0.01))
    test: Evaluating = field(default_factory=Evaluating)
    compute: Compute = field(default_factory=Compute)
    seed: int = 0
    """The seed of all random numbers."""

    def __post_init__(self) -> None:
        check(self.pretrain.distill == 0, self.pretrain, "distill", "is for prune and finetune, which have a parent")
        # numpy, which AutoAttack draws from, takes no other.
        check(0 <= self.seed < 2**32, self, "seed", "must lie in [0, 2**32)")
