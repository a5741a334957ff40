"""How a network is trained and pruned: the settings of a stage, checked when they are made."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harp.recipes.checks import check, check_choices, not_negative, positive
from harp.recipes.methods import GMP, REGROW, is_method, unknown

Granularity = Literal["weight", "channel"]
ObjectiveName = Literal["natural", "pgd-at", "trades", "mart", "n-fgsm", "free-at"]
S2AP_HOSTS = ("harp", "hydra")


@dataclass(frozen=True)
class Training:
    """How a stage is trained."""

    epochs: int = 100
    """Epochs. With free-at, each epoch takes `replays` steps on every batch, so divide by that."""
    min_steps: int = 0
    """Smallest number of optimiser steps: epochs are added on a data set too small for it."""
    batch_size: int = 128
    """Images per step, over all devices together."""
    objective: ObjectiveName = "pgd-at"
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
    ema: float = 0.0
    """EMA: evaluate and save an exponential moving average of the weights and batch-norm statistics, which keeps this
    share of itself at each step, such as 0.998; 0 is off."""
    label_smoothing: float = 0.0
    """Share of every label that is spread evenly over all classes, in the loss and not in the attack; 0 is off."""
    distill: float = 0.0
    """Share of every label that is the answer of the dense parent to the clean image, in the attack and in the loss; 0 is
    off. Costs one more forward pass per step."""
    cutmix: float = 0.0
    """CutMix: share of the batches whose images are mixed, and their labels by area; 0 is off."""
    random_erasing: float = 0.0
    """Share of the images in which a rectangle becomes noise; 0 is off."""
    rand_augment: int = 0
    """RandAugment: how strongly two random operations change each image, up to 30, commonly 9; 0 is off."""
    extra: Path | None = None
    """An .npz of further training images, `image` and `label`."""
    extra_share: float = 0.5
    """Share of every batch that is taken from --extra, in place of images of the data set."""
    keep_last: bool = False
    """Save the weights after the last step, too, beside those of the best epoch: last.safetensors."""

    def __post_init__(self) -> None:
        check_choices(self)
        check(self.epochs >= 1, self, "epochs", "must be at least 1")
        check(self.min_steps >= 0, self, "min_steps", "must not be negative; 0 leaves epochs as they are")
        check(self.batch_size >= 1, self, "batch_size", "must be at least 1")
        check(self.attack_steps >= 1, self, "attack_steps", "must be at least 1; objective 'natural' uses no attack")
        step_size = self.attack_step_size
        check(step_size is None or positive(step_size), self, "attack_step_size", "must be positive, or None")
        if self.objective not in ("pgd-at", "mart"):  # the others climb a loss of their own, or none
            check(
                self.attack_loss == "ce",
                self,
                "attack_loss",
                f"has no effect on {self.objective}; it is for pgd-at and mart",
            )
        check(self.beta is None or not_negative(self.beta), self, "beta", "must not be negative, and finite, or None")
        check(positive(self.lr), self, "lr", "must be positive and finite")
        check(0 <= self.momentum < 1, self, "momentum", "must lie in [0, 1)")
        check(not_negative(self.weight_decay), self, "weight_decay", "must not be negative, and finite")
        check(0 <= self.warmup_epochs < self.epochs, self, "warmup_epochs", f"must lie in [0, epochs={self.epochs})")
        check(self.clip_norm is None or positive(self.clip_norm), self, "clip_norm", "must be positive, or None")
        check(self.replays >= 1, self, "replays", "must be at least 1")
        check(not_negative(self.awp_gamma), self, "awp_gamma", "must not be negative, and finite; 0 is off")
        check(0 <= self.ema < 1, self, "ema", "must lie in [0, 1): 0.998 averages over about 500 steps, 0 is off")
        check(0 <= self.label_smoothing < 1, self, "label_smoothing", "must lie in [0, 1); 0 is off")
        for name in ("distill", "cutmix", "random_erasing"):
            check(0 <= getattr(self, name) <= 1, self, name, "must lie in [0, 1]; 0 is off")
        check(0 <= self.rand_augment <= 30, self, "rand_augment", "must lie in [0, 30]; 0 is off, 9 is common")
        check(0 < self.extra_share <= 1, self, "extra_share", "must lie in (0, 1]: the share of every batch")
        if self.objective == "mart":  # its margin is that of one class
            for name in ("label_smoothing", "distill", "cutmix"):
                check(
                    getattr(self, name) == 0, self, name, "makes labels of several classes, which mart has no loss for"
                )

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
    include: tuple[str, ...] = ()
    """Name patterns of further parameters to prune, e.g. 'embedding.weight': embeddings, matrices of your own modules."""
    rule: Literal["descent", "ramp"] = "descent"
    """How learned keep fractions reach the budget: descent on a schedule, or the growing penalty of the paper, which
    harp-published always has."""
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
    gmp_settle: float = 0.6
    """For gmp: the share of the stage after which the budget is met."""
    gmp_every: int = 8
    """For gmp: optimiser steps from one choice of the masks to the next."""
    bird_drop: float = 0.5
    """For flying-bird: share of each layer's kept weights that is replaced at first; it falls to 0 along a cosine."""
    bird_every: int | None = None
    """For flying-bird: optimiser steps from one replacement to the next; None is a 78th of the stage, as in the authors' code."""
    bird_start: float = 2.0
    """For flying-bird-plus: how many times the budget is kept at the start."""
    bird_settle: float = 0.75
    """For flying-bird-plus: the share of the stage after which the budget is met."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(isinstance(self.method, str) and is_method(self.method), self, "method", unknown(self.method))
        check(0 < self.keep <= 1, self, "keep", "must lie in (0, 1]: the fraction of the weights to keep, e.g. 0.01")
        check(self.multiple_of >= 1, self, "multiple_of", "must be at least 1")
        if not self.of_channels:
            check(self.multiple_of == 1, self, "multiple_of", "is for channels: add granularity 'channel'")
            check(self.measure == "macs", self, "measure", "is for channels: add granularity 'channel'")
        else:
            check(not self.include, self, "include", "is for single weights: leave out granularity 'channel'")
        check(positive(self.gamma_step), self, "gamma_step", "must be positive and finite")
        decay = self.score_weight_decay
        check(decay is None or not_negative(decay), self, "score_weight_decay", "must not be negative, or None")
        check(not_negative(self.s2ap_rho), self, "s2ap_rho", "must not be negative, and finite; 0 is off")
        if self.s2ap_rho > 0:
            check(self.method in S2AP_HOSTS, self, "method", "must be harp or hydra with s2ap_rho: S2AP moves scores")
        warmup, rho = self.s2ap_warmup, self.admm_rho
        check(warmup is None or not_negative(warmup), self, "s2ap_warmup", "must not be negative, or None")
        check(rho is None or positive(rho), self, "admm_rho", "must be positive and finite, or None")
        check(1 <= self.admm_growth < math.inf, self, "admm_growth", "must be at least 1, and finite")
        check(self.admm_rounds >= 1, self, "admm_rounds", "must be at least 1")
        check(
            0 < self.gmp_settle <= 1, self, "gmp_settle", "must lie in (0, 1]: the share of the stage until it is met"
        )
        check(self.gmp_every >= 1, self, "gmp_every", "must be at least 1")
        check(0 < self.bird_drop <= 1, self, "bird_drop", "must lie in (0, 1]: the share that is replaced at first")
        check(self.bird_every is None or self.bird_every >= 1, self, "bird_every", "must be at least 1, or None")
        check(1 <= self.bird_start < math.inf, self, "bird_start", "must be at least 1, and finite")
        check(
            0 < self.bird_settle <= 1, self, "bird_settle", "must lie in (0, 1]: the share of the stage until it is met"
        )
        if self.method in (*GMP, *REGROW):
            check(not self.of_channels, self, "method", "prunes single weights: leave out granularity 'channel'")

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
