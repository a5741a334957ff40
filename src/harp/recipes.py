"""Every setting of a run as a frozen value, and the presets. Plain data: nothing here imports torch.

Paper settings: Zhao and Wressnegger, ICLR 2023, section 4 and appendix.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Objective = Literal["natural", "pgd-at", "trades", "mart", "n-fgsm"]
MethodName = Literal["harp", "rates-only", "hydra", "lwm", "global", "erk", "lamp", "random"]


def _check(condition: bool, owner: object, name: str, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name}={getattr(owner, name)!r} {expected}")


@dataclass(frozen=True)
class Task:
    """What is classified, by which network, against whom."""

    data: str = "digits"
    """digits, fashion-mnist, cifar10, cifar100, svhn, imagenet, or folder (any folder of images)."""
    root: Path | None = None
    """Where the data set lies; for `folder` the tree itself."""
    image_size: int | None = None
    """Resize images to this many pixels a side; None keeps their own size."""
    download: bool = False
    """Fetch the data set from its official address when it is missing."""
    validation: float = 0.1
    """Share of the training set that is cut off to choose the best epoch. The test set never chooses anything."""
    model: str = "vgg_small"
    """One of harp's networks, `torchvision:NAME`, or your own as `package.module:factory`."""
    mean: tuple[float, ...] = ()
    """Channel means of a normalisation as the network's first layer; none given leaves images as they are."""
    std: tuple[float, ...] = ()
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the adversary's ball."""
    eps: float = 0.1
    """Radius of the adversary's ball, for images in [0, 1]: 8 / 255 is 0.03137."""

    def __post_init__(self) -> None:
        _check(0 < self.validation < 1, self, "validation", "must lie in (0, 1): the share of training images cut off")
        _check(
            0 <= self.eps <= (1 if self.norm == "linf" else float("inf")), self, "eps", "must lie in [0, 1]: images do"
        )
        _check(len(self.mean) == len(self.std), self, "std", f"must have as many channels as mean={self.mean}")
        _check(all(s > 0 for s in self.std), self, "std", "must be positive")
        _check(self.image_size is None or self.image_size > 0, self, "image_size", "must be positive, or None")


@dataclass(frozen=True)
class Training:
    """How a stage learns."""

    epochs: int = 100
    """Passes over the training images."""
    batch_size: int = 128
    """Images a step, over all devices together."""
    objective: Objective = "pgd-at"
    """The robust loss."""
    attack_steps: int = 10
    """PGD steps that craft a training image."""
    attack_step_size: float | None = None
    """Length of one PGD step; None is 2.5 * eps / steps."""
    attack_loss: Literal["ce", "cw"] = "ce"
    """The loss the attack climbs: cross-entropy or the Carlini-Wagner margin."""
    beta: float = 6.0
    """Weight of the robust term in TRADES (paper: 6) and MART (paper: 5)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    """Peak learning rate."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "piecewise", "constant"] = "cosine"
    """How the learning rate falls, step by step: to 0 along a cosine, by 10 at 50 % and 75 %, or not at all."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate first climbs from 0."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None clips nothing."""

    def __post_init__(self) -> None:
        _check(self.epochs >= 1, self, "epochs", "must be at least 1")
        _check(self.batch_size >= 1, self, "batch_size", "must be at least 1")
        _check(self.attack_steps >= 1, self, "attack_steps", "must be at least 1; objective 'natural' uses no attack")
        _check(self.attack_step_size is None or self.attack_step_size > 0, self, "attack_step_size", "must be positive")
        _check(self.beta >= 0, self, "beta", "must not be negative")
        _check(self.lr > 0, self, "lr", "must be positive")
        _check(0 <= self.momentum < 1, self, "momentum", "must lie in [0, 1)")
        _check(self.weight_decay >= 0, self, "weight_decay", "must not be negative")
        _check(0 <= self.warmup_epochs < self.epochs, self, "warmup_epochs", f"must lie in [0, epochs={self.epochs})")
        _check(self.clip_norm is None or self.clip_norm > 0, self, "clip_norm", "must be positive, or None")


@dataclass(frozen=True)
class Pruning(Training):
    """How a network is pruned."""

    epochs: int = 20
    keep: float = 0.01
    """Fraction of the weights that stays."""
    method: MethodName = "harp"
    """A row of the method table."""
    exclude: tuple[str, ...] = ()
    """Name patterns of weights to leave alone, e.g. 'classifier.*'."""
    rule: Literal["descent", "ramp"] = "descent"
    """How learned keep fractions reach the budget: harp's bounded descent, or the paper's growing penalty."""
    gamma_step: float = 0.01
    """For the ramp: growth of the penalty's weight each epoch (paper: 0.01; ImageNet 0.1)."""
    score_weight_decay: float | None = None
    """Weight decay of the scores; None is that of the stage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(0 < self.keep <= 1, self, "keep", "must lie in (0, 1]: the fraction of weights that stays, e.g. 0.01")
        _check(self.gamma_step > 0, self, "gamma_step", "must be positive")
        _check(
            self.score_weight_decay is None or self.score_weight_decay >= 0,
            self,
            "score_weight_decay",
            "must not be negative",
        )


@dataclass(frozen=True)
class Testing:
    """How a finished network is judged, on the test set, once."""

    attack: Literal["clean", "fgsm", "pgd", "cw", "autoattack"] = "autoattack"
    """The strongest attack to run. `autoattack` is the number to believe."""
    images: int | None = 1000
    """Test images, a fixed random draw; None takes all."""
    eps: tuple[float, ...] = ()
    """Radii to attack at; none given is the task's own."""
    steps: int = 20
    """Steps of pgd and cw."""
    step_size: float | None = None
    """Length of one of them; None is 2.5 * eps / steps."""
    batch_size: int = 250

    def __post_init__(self) -> None:
        _check(self.images is None or self.images >= 1, self, "images", "must be at least 1, or None for all")
        _check(all(e >= 0 for e in self.eps), self, "eps", "must not be negative")
        _check(self.steps >= 1, self, "steps", "must be at least 1")
        _check(self.step_size is None or self.step_size > 0, self, "step_size", "must be positive, or None")
        _check(self.batch_size >= 1, self, "batch_size", "must be at least 1")


@dataclass(frozen=True)
class Compute:
    """Where and how precisely the numbers are crunched."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    """Devices of this machine to use together (DDP)."""
    num_nodes: int = 1
    """Machines to use together, started by torchrun or SLURM."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    channels_last: bool = True
    """Keep images and filters channels last in memory; faster on CPUs and GPUs alike."""
    workers: int | None = None
    """Processes that decode images of data sets too large for memory; None is one a core, at most 8."""
    threads: int | None = None
    """CPU threads; None leaves torch's choice. The same bits need the same number."""

    def __post_init__(self) -> None:
        _check(self.devices >= 1, self, "devices", "must be at least 1")
        _check(self.num_nodes >= 1, self, "num_nodes", "must be at least 1")
        _check(self.workers is None or self.workers >= 0, self, "workers", "must not be negative")
        _check(self.threads is None or self.threads >= 1, self, "threads", "must be at least 1, or None")


@dataclass(frozen=True)
class Recipe:
    """All stages of one pipeline."""

    task: Task = field(default_factory=Task)
    pretrain: Training = field(default_factory=Training)
    prune: Pruning = field(default_factory=Pruning)
    finetune: Training = field(default_factory=lambda: Training(lr=0.01))
    test: Testing = field(default_factory=Testing)
    compute: Compute = field(default_factory=Compute)
    seed: int = 0
    """Everything random follows from it."""


def to_json(value: Any) -> Any:
    """A recipe (or part of one) as plain JSON values."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(inner) for key, inner in item.items()}
        return (
            [plain(i) for i in item]
            if isinstance(item, (list, tuple))
            else str(item)
            if isinstance(item, Path)
            else item
        )

    return plain(asdict(value))


def from_json(kind: type, value: Any, where: str = "recipe") -> Any:
    """The recipe that :func:`to_json` wrote. Raises ValueError naming an unknown field or a value of a wrong type."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {value!r}")
    hints = get_type_hints(kind)
    unknown = sorted(set(value) - {f.name for f in fields(kind)})
    if unknown:
        raise ValueError(f"{where} has unknown fields {unknown}; it was written by another version of harp")
    return kind(**{name: _typed(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and type(None) in options:
            return None
        return _typed(next(o for o in options if o is not type(None)), value, where)
    if origin is Literal and value in options:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(options[0], item, where) for item in value)
    if isinstance(hint, type):
        if hint is Path and isinstance(value, str):
            return Path(value)
        if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if hint in (int, str, bool) and type(value) is hint:
            return value
        if hint not in (Path, float, int, str, bool):
            return from_json(hint, value, where)
    raise ValueError(f"{where}={value!r} is not of type {hint}")


def recipe_in(file: Path) -> Recipe:
    """The recipe of the run whose ``recipe.json`` this is; needs no torch. Raises ValueError naming the file."""
    if not file.is_file():
        raise ValueError(f"{file.parent} is not a run directory: it has no {file.name}; `harp pretrain` makes one")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return from_json(Recipe, record["recipe"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged or not written by harp: {error}") from error


def _presets() -> dict[str, tuple[str, Recipe]]:
    presets = {
        "digits": ("1,797 digits of 8x8 pixels, embedded; minutes on a laptop", _digits()),
        "fashion-mnist": ("70,000 garments of 28x28 pixels, a small network; an evening on a CPU", _fashion_mnist()),
        "folder-cpu": ("any folder of 32x32 images, half a million weights, N-FGSM; two hours on a CPU", _folder_cpu()),
    }
    names = {"vgg16": "vgg16_bn", "resnet18": "resnet18", "wrn28-4": "wrn28_4"}
    for data, title in (("cifar10", "CIFAR-10"), ("svhn", "SVHN")):
        for short, model in names.items():
            presets[f"{data}-{short}"] = (f"the paper's settings for {title} and {model}; a GPU", _paper(data, model))
    presets["imagenet-resnet50"] = (
        "the paper's lengths for ImageNet and ResNet-50, N-FGSM for Free-AT; GPUs",
        _imagenet(),
    )
    return presets


def _paper(data: str, model: str) -> Recipe:
    """Section 4 of the paper: PGD-10, 100 + 20 + 100 epochs, eps 8/255."""
    attack: dict[str, Any] = {"attack_steps": 10, "attack_step_size": 2 / 255}
    return Recipe(
        task=Task(data=data, model=model, eps=8 / 255),
        pretrain=Training(epochs=100, **attack),
        prune=Pruning(epochs=20, **attack),
        finetune=Training(epochs=100, lr=0.01, **attack),
        test=Testing(images=None),
    )


def _imagenet() -> Recipe:
    """The paper's ImageNet lengths. Its Free-AT is not built yet; N-FGSM costs two passes a step instead."""
    common: dict[str, Any] = {"batch_size": 256, "weight_decay": 1e-4, "objective": "n-fgsm"}
    return Recipe(
        task=Task(
            data="imagenet",
            model="resnet50",
            eps=4 / 255,
            validation=0.02,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        pretrain=Training(epochs=90, **common),
        prune=Pruning(epochs=5, gamma_step=0.1, **common),
        finetune=Training(epochs=25, lr=0.01, **common),
        test=Testing(images=5000),
        compute=Compute(workers=8, precision="bf16-mixed"),
    )


def _digits() -> Recipe:
    attack: dict[str, Any] = {"batch_size": 64, "attack_steps": 5}
    return Recipe(
        task=Task(data="digits", model="vgg_small", eps=0.15),
        pretrain=Training(epochs=20, **attack),
        prune=Pruning(epochs=20, **attack),
        finetune=Training(epochs=20, lr=0.05, **attack),
        test=Testing(images=None),
        compute=Compute(device="cpu"),
    )


def _fashion_mnist() -> Recipe:
    attack: dict[str, Any] = {"attack_steps": 5}
    return Recipe(
        task=Task(data="fashion-mnist", model="resnet_small", eps=0.1),
        pretrain=Training(epochs=20, **attack),
        prune=Pruning(epochs=10, **attack),
        finetune=Training(epochs=20, lr=0.05, **attack),
    )


def _folder_cpu() -> Recipe:
    return Recipe(
        task=Task(data="folder", model="vgg_medium", eps=8 / 255),
        pretrain=Training(epochs=6, objective="n-fgsm"),
        prune=Pruning(epochs=4, objective="n-fgsm"),
        finetune=Training(epochs=5, lr=0.05, objective="n-fgsm"),
        compute=Compute(device="cpu"),
    )


PRESETS = _presets()
"""name → (what it is, recipe)."""
