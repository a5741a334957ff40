"""The settings of a run: one frozen value a stage, checked when it is made, and a recipe of them all."""

import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from harp.recipes.methods import is_method, unknown

Granularity = Literal["weight", "channel"]
Objective = Literal["natural", "pgd-at", "trades", "mart", "n-fgsm", "free-at"]
S2AP_HOSTS = ("harp", "hydra")


def _check(condition: bool, owner: object, name: str, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name}={getattr(owner, name)!r} {expected}")


def _check_choices(owner: object) -> None:
    """Annotations bind nobody in Python: a name that is no choice would only be noticed once it is used."""
    for name, hint in get_type_hints(type(owner)).items():
        if get_origin(hint) is Literal:
            choices = get_args(hint)
            _check(getattr(owner, name) in choices, owner, name, f"must be one of {', '.join(map(repr, choices))}")


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _not_negative(value: float) -> bool:
    return 0 <= value < math.inf


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
        _check_choices(self)
        _check(0 < self.validation < 1, self, "validation", "must lie in (0, 1): the share of training images cut off")
        if self.norm == "linf":
            _check(0 <= self.eps <= 1, self, "eps", "must lie in [0, 1], as images do: 8/255 is 0.03137")
        _check(_not_negative(self.eps), self, "eps", "must not be negative, and finite")
        _check(all(map(math.isfinite, self.mean)), self, "mean", "must be finite, one value per channel")
        _check(len(self.mean) == len(self.std), self, "std", f"must have as many channels as mean={self.mean}")
        _check(all(map(_positive, self.std)), self, "std", "must be positive and finite, one value per channel")
        _check(self.image_size is None or self.image_size > 0, self, "image_size", "must be positive, or None")


def data_title(data: str, root: Path | str | None) -> str:
    """What people call the data: a folder by its own name, any other data set by that of the setting."""
    return (Path(os.path.abspath(root)).name or data) if data == "folder" and root is not None else data


@dataclass(frozen=True)
class Training:
    """How a stage is trained."""

    epochs: int = 100
    """Epochs. With free-at, each epoch takes `replays` steps on every batch, so divide by that."""
    min_steps: int = 0
    """Smallest number of optimiser steps: epochs are added on a data set too small for it."""
    batch_size: int = 128
    """Images per step, over all devices together."""
    objective: Objective = "pgd-at"
    """The robust loss."""
    attack_steps: int = 10
    """PGD steps to attack a training image."""
    attack_step_size: float | None = None
    """Length of one PGD step; None is 2.5 * eps / steps."""
    attack_loss: Literal["ce", "cw"] = "ce"
    """The loss that the attack maximises: cross-entropy or the Carlini-Wagner margin."""
    beta: float | None = None
    """Weight of the robust term in TRADES and MART; None is the value of their papers, 6 and 5."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    """Peak learning rate."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "piecewise", "constant"] = "cosine"
    """How the learning rate falls: to 0 along a cosine, by a factor of 10 at 50 % and 75 %, or not at all."""
    warmup_epochs: float = 0.0
    """Epochs in which the learning rate rises from 0 first."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None for no clipping."""
    replays: int = 4
    """Optimiser steps on each batch under free-at (ImageNet in the paper: 4)."""
    awp_gamma: float = 0.0
    """AWP: how far trainable weights are moved up the loss before each step, relative to their norm; 0 is off,
    the paper uses 0.01 (0.005 with TRADES). Costs one more pass per step."""

    def __post_init__(self) -> None:
        _check_choices(self)
        _check(self.epochs >= 1, self, "epochs", "must be at least 1")
        _check(self.min_steps >= 0, self, "min_steps", "must not be negative; 0 leaves epochs as they are")
        _check(self.batch_size >= 1, self, "batch_size", "must be at least 1")
        _check(self.attack_steps >= 1, self, "attack_steps", "must be at least 1; objective 'natural' uses no attack")
        step_size = self.attack_step_size
        _check(step_size is None or _positive(step_size), self, "attack_step_size", "must be positive, or None")
        if self.objective not in ("pgd-at", "mart"):  # the others climb a loss of their own, or none
            _check(
                self.attack_loss == "ce",
                self,
                "attack_loss",
                f"has no effect on {self.objective}; it is for pgd-at and mart",
            )
        _check(self.beta is None or _not_negative(self.beta), self, "beta", "must not be negative, and finite, or None")
        _check(_positive(self.lr), self, "lr", "must be positive and finite")
        _check(0 <= self.momentum < 1, self, "momentum", "must lie in [0, 1)")
        _check(_not_negative(self.weight_decay), self, "weight_decay", "must not be negative, and finite")
        _check(0 <= self.warmup_epochs < self.epochs, self, "warmup_epochs", f"must lie in [0, epochs={self.epochs})")
        _check(self.clip_norm is None or _positive(self.clip_norm), self, "clip_norm", "must be positive, or None")
        _check(self.replays >= 1, self, "replays", "must be at least 1")
        _check(_not_negative(self.awp_gamma), self, "awp_gamma", "must not be negative, and finite; 0 is off")

    @property
    def steps_per_batch(self) -> int:
        """Optimiser steps on each batch."""
        return self.replays if self.objective == "free-at" else 1

    @property
    def decay_of_scores(self) -> float:
        """Weight decay of the scores of masks, where they learn."""
        return self.weight_decay


@dataclass(frozen=True)
class Pruning(Training):
    """How a network is pruned."""

    epochs: int = 20
    keep: float = 0.01
    """Fraction of the weights to keep."""
    method: str = "harp"
    """How weights are chosen; `harp methods` lists the names."""
    granularity: Granularity = "weight"
    """What to remove: single weights, or whole channels, which makes the network smaller."""
    measure: Literal["macs", "parameters", "both"] = "macs"
    """For channels: what `keep` is a fraction of: multiply-accumulates, parameters, or both."""
    multiple_of: int = 1
    """For channels: every layer keeps a multiple of this number, or all of its channels; 8 suits most kernels."""
    exclude: tuple[str, ...] = ()
    """Name patterns of weights not to prune, e.g. 'classifier.*'."""
    rule: Literal["descent", "ramp"] = "descent"
    """How learned keep fractions reach the budget: descent on a schedule, or the growing penalty of the paper."""
    estimator: Literal["marginal", "layer-sum"] = "marginal"
    """The gradient of a keep fraction: from the weights nearest to the threshold, or the sum over the layer (paper)."""
    gamma_step: float = 0.01
    """For the ramp: growth of the penalty weight per epoch (paper: 0.01; ImageNet 0.1)."""
    start: Literal["uniform", "erk", "lamp", "target"] = "uniform"
    """Where learned keep fractions start: at 10 % (uniform, or split by ERK or LAMP), or at the target."""
    score_weight_decay: float | None = None
    """Weight decay of the scores; None takes that of the stage."""
    s2ap_rho: float = 0.0
    """S2AP, for harp and hydra: how far the scores are moved up the loss before each step, relative to their norm;
    0 is off. Costs one more pass per step."""
    s2ap_warmup: float | None = None
    """Epochs before S2AP begins; None is 5 as in the paper, or a quarter of a stage of fewer than 20 epochs."""
    admm_rho: float | None = None
    """For r-admm: weight of the penalty at the start; None is 0.6 / (lr * steps)."""
    admm_growth: float = 1.3
    """For r-admm: the penalty grows by this factor per round."""
    admm_rounds: int = 10
    """For r-admm: number of rounds of equal length; the sparse target is updated after each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(isinstance(self.method, str) and is_method(self.method), self, "method", unknown(self.method))
        _check(0 < self.keep <= 1, self, "keep", "must lie in (0, 1]: the fraction of the weights to keep, e.g. 0.01")
        _check(self.multiple_of >= 1, self, "multiple_of", "must be at least 1")
        if not self.of_channels:
            _check(self.multiple_of == 1, self, "multiple_of", "is for channels: add granularity 'channel'")
            _check(self.measure == "macs", self, "measure", "is for channels: add granularity 'channel'")
        _check(_positive(self.gamma_step), self, "gamma_step", "must be positive and finite")
        decay = self.score_weight_decay
        _check(decay is None or _not_negative(decay), self, "score_weight_decay", "must not be negative, or None")
        _check(_not_negative(self.s2ap_rho), self, "s2ap_rho", "must not be negative, and finite; 0 is off")
        if self.s2ap_rho > 0:
            _check(self.method in S2AP_HOSTS, self, "method", "must be harp or hydra with s2ap_rho: S2AP moves scores")
        warmup, rho = self.s2ap_warmup, self.admm_rho
        _check(warmup is None or _not_negative(warmup), self, "s2ap_warmup", "must not be negative, or None")
        _check(rho is None or _positive(rho), self, "admm_rho", "must be positive and finite, or None")
        _check(1 <= self.admm_growth < math.inf, self, "admm_growth", "must be at least 1, and finite")
        _check(self.admm_rounds >= 1, self, "admm_rounds", "must be at least 1")

    @property
    def of_channels(self) -> bool:
        """Whether whole channels are removed."""
        return self.granularity == "channel"

    @property
    def decay_of_scores(self) -> float:
        return self.weight_decay if self.score_weight_decay is None else self.score_weight_decay

    def at(self, keep: float, granularity: Granularity) -> "Pruning":
        """These settings for another budget, without what is said of channels alone where weights are pruned."""
        plain = replace(self, keep=keep, granularity=granularity, measure="macs", multiple_of=1)
        return replace(plain, measure=self.measure, multiple_of=self.multiple_of) if plain.of_channels else plain

    @property
    def s2ap_start(self) -> float:
        """The epoch at which S2AP begins."""
        return min(5.0, self.epochs / 4) if self.s2ap_warmup is None else self.s2ap_warmup


@dataclass(frozen=True)
class Evaluating:
    """How a finished network is evaluated on the test set."""

    attack: Literal["clean", "fgsm", "pgd", "cw", "autoattack", "settled", "minimal"] = "autoattack"
    """The attack to run. Report `autoattack`, or `settled`, which goes on where that is in doubt; `minimal` measures distances."""
    images: int | None = 1000
    """Number of test images, drawn at random with a fixed seed; None takes all."""
    eps: tuple[float, ...] = ()
    """Radii of the attack; empty for that of the task."""
    steps: int = 20
    """Steps of pgd and cw."""
    step_size: float | None = None
    """Length of one step; None is 2.5 * eps / steps."""
    batch_size: int = 250

    def __post_init__(self) -> None:
        _check_choices(self)
        _check(self.images is None or self.images >= 1, self, "images", "must be at least 1, or None for all")
        _check(all(map(_not_negative, self.eps)), self, "eps", "must not be negative, and finite")
        _check(self.steps >= 1, self, "steps", "must be at least 1")
        _check(self.step_size is None or _positive(self.step_size), self, "step_size", "must be positive, or None")
        _check(self.batch_size >= 1, self, "batch_size", "must be at least 1")


@dataclass(frozen=True)
class Compute:
    """The devices and the precision of the computation."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    """Devices of this machine to use together (DDP)."""
    num_nodes: int = 1
    """Machines to use together, started by torchrun or SLURM."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    channels_last: bool = True
    """Store images and filters with the channels last; faster on CPUs and GPUs."""
    workers: int | None = None
    """Processes that decode images of data sets too large for memory; None is one per core, at most 8."""
    threads: int | None = None
    """CPU threads; None takes the default of torch. Bit-for-bit repeatability needs the same number."""
    engine: Literal["auto", "torch", "sparse"] = "torch"
    """What attacks of an evaluation run on: torch, harp's sparse engine (on a CPU), or by a timed step the faster one.
    The default keeps the bits of commands that do not name it."""

    def __post_init__(self) -> None:
        _check_choices(self)
        _check(self.devices >= 1, self, "devices", "must be at least 1")
        _check(self.num_nodes >= 1, self, "num_nodes", "must be at least 1")
        _check(self.workers is None or self.workers >= 0, self, "workers", "must not be negative, or None")
        _check(self.threads is None or self.threads >= 1, self, "threads", "must be at least 1, or None")


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
        # numpy, which AutoAttack draws from, takes no other.
        _check(0 <= self.seed < 2**32, self, "seed", "must lie in [0, 2**32)")
