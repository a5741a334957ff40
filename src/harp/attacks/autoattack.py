"""AutoAttack (Croce and Hein 2020), run by ``pyautoattack``, the authors' own package; here is only the adapter.

The authors' code seeds the global generators, fills the gradients of the weights, leaves a trace function behind, aims at
nine classes even where there are three, and prints its doubts. The adapter undoes all of that and changes no setting:
on the same images, batch size and seed it finds what the authors' ``run_standard_evaluation`` finds.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from pyautoattack import checks
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from harp.attacks.guard import as_images, as_labels, attacking, logits_of, single
from harp.attacks.threat import Threat

log = logging.getLogger(__name__)

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
"""The four attacks of the standard version, in their order."""

FEWEST_CLASSES = {"apgd-ce": 2, "apgd-dlr": 3, "apgd-t": 4, "fab-t": 2, "square": 2}
"""Every attack there is, and the fewest classes it is defined for (the DLR loss compares three logits, targeted four)."""

_Ask = Callable[[Tensor], Tensor]
NORMS = {"linf": "Linf", "l2": "L2"}


@dataclass(frozen=True)
class AutoAttackResult:
    """What AutoAttack made of one batch. An image that survived is returned as it was."""

    x_adv: Float[Tensor, "batch channels h w"]
    survived: Mapping[str, Bool[Tensor, " batch"]]
    """After each attack, in order: which images are still classified right."""
    notes: tuple[str, ...]
    """What the authors' checks found, and where the run differs from the standard one."""
    flat: bool = False
    """Whether one of the attacks met zero gradients."""


@dataclass(frozen=True)
class AutoAttack:
    """The standard AutoAttack inside a threat: each attack runs on the images that survived those before it.

    The last three fields are there for tests and for quick looks. With other values, or other attacks, it is no longer the
    standard AutoAttack, and its notes say so.
    """

    threat: Threat
    seed: int = 0
    attacks: tuple[str, ...] = STANDARD
    iterations: int = 100
    target_classes: int = 9
    queries: int = 5000

    def __post_init__(self) -> None:
        unknown = [name for name in self.attacks if name not in FEWEST_CLASSES]
        if unknown or not self.attacks or len(set(self.attacks)) < len(self.attacks):
            raise ValueError(f"attacks={self.attacks!r} must name one or more of {tuple(FEWEST_CLASSES)}, each once")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed} must lie in [0, 2**63)")
        for name in ("iterations", "target_classes", "queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    @property
    def name(self) -> str:
        return "autoattack"

    def suite(self, classes: int) -> tuple[str, ...]:
        """The attacks that are defined for this many classes: with three, APGD-DLR takes the place of APGD-T.

        Raises ValueError when none is left.
        """
        wanted = ["apgd-dlr" if name == "apgd-t" and classes == 3 else name for name in self.attacks]
        runs = tuple(dict.fromkeys(name for name in wanted if FEWEST_CLASSES[name] <= classes))
        if not runs:
            raise ValueError(f"attacks={self.attacks!r} cannot run with {classes} classes; use {STANDARD}")
        return runs

    def departures(self, classes: int) -> list[str]:
        """In which ways a run with this many classes is not the standard AutoAttack; empty when it is."""
        notes = []
        standard = AutoAttack(self.threat, self.seed)
        changed = [
            f"{field}={getattr(self, field)!r}"
            for field in ("attacks", "iterations", "target_classes", "queries")
            if getattr(self, field) != getattr(standard, field)
        ]
        if changed:
            notes.append(f"not the standard AutoAttack: {', '.join(changed)}")
        runs = self.suite(classes)
        if "apgd-t" in self.attacks and "apgd-t" not in runs:
            instead = "APGD-DLR ran in its place" if "apgd-dlr" in runs else "it was left out"
            notes.append(f"{classes} classes: the targeted DLR loss of APGD-T needs 4, {instead}")
        if self.targets(classes) < self.target_classes and {"apgd-t", "fab-t"} & set(runs):
            notes.append(f"{classes} classes: the targeted attacks aim at all {classes - 1} other classes")
        return notes

    def check(self, model: nn.Module, x: Tensor, y: Tensor) -> list[str]:
        """The authors' checks on clean images: does the model answer at random, in probabilities, or by gradients?

        Raises ValueError for images that one of the attacks cannot handle.
        """
        x = as_images(model, x)
        if self.threat.norm == "l2" and "square" in self.attacks and min(x.shape[2:]) < 5:
            size = f"{x.shape[2]} x {x.shape[3]}"
            raise ValueError(f"Square in l2 needs images of 5 x 5 or more, got {size}; leave it out of attacks")
        logger, said = _listener()
        with attacking(model), seeded(self.seed), torch.no_grad():
            ask = _asking(model)
            checks.check_randomized(ask, x, y, bs=len(x), logger=logger)
            checks.check_range_output(ask, x, logger=logger)
            trace = sys.gettrace()
            checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # it counts over the whole life of the process
            try:
                checks.check_dynamic(ask, x, logger=logger)
            finally:
                sys.settrace(trace)
        return said

    def remarks(self, x: Tensor) -> list[str]:
        """What is to be said of images of this shape."""
        if "square" in self.attacks and x.shape[2] != x.shape[3]:
            return ["Square is made for square images and may be weaker on these"]
        return []

    def attack_once(
        self, name: str, model: nn.Module, x: Tensor, y: Tensor
    ) -> tuple[Float[Tensor, "batch channels h w"], list[str]]:
        """One attack of the suite on one batch: images inside the threat, and what the authors' code warned of.

        Whether an image fooled the model is for the caller to find out from the model.
        """
        x = as_images(model, x)
        if self.threat.eps == 0:
            return x.clone(), []
        logger, said = _listener()
        with attacking(model), seeded(self.seed), torch.no_grad():
            classes = logits_of(model, x[:1]).shape[1]
            attack = self._build(name, _asking(model), classes, x.device, logger)
            found = attack.perturb(single(x).contiguous(), as_labels(y, len(x), classes)).to(x.dtype)
        zero_gradients = [f"{name} met zero gradients, which blind it: compare with Square"] if said else []
        return inside(found, x, self.threat), zero_gradients

    def run(self, model: nn.Module, x: Tensor, y: Tensor) -> AutoAttackResult:
        """The whole suite on one batch. Raises ValueError when the model has a single class."""
        x = as_images(model, x)
        with attacking(model), torch.no_grad():
            logits = logits_of(model, x)
            y = as_labels(y, len(x))
            y = as_labels(y.cpu(), *logits.shape).to(x.device)  # a wrong one on a GPU would end the process
            notes = [*self.departures(logits.shape[1]), *self.check(model, x, y), *self.remarks(x)]
            right, x_adv, flat = classified(logits, y), x.clone(), False
            survived = {}
            for name in self.suite(logits.shape[1]):
                left = right.nonzero()[:, 0]
                if len(left):
                    found, said = self.attack_once(name, model, x[left], y[left])
                    beaten = ~classified(logits_of(model, found), y[left])
                    x_adv[left[beaten]] = found[beaten]
                    right[left[beaten]] = False
                    notes, flat = [*notes, *said], flat or bool(said)
                survived[name] = right.clone()
                log.info("%s leaves %d of %d images", name, int(right.sum()), len(x))
        notes += square_note({name: float(left.float().mean()) for name, left in survived.items()})
        return AutoAttackResult(x_adv, survived, tuple(dict.fromkeys(notes)), flat)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Float[Tensor, "batch channels h w"]:
        return self.run(model, x, y).x_adv

    def cost(self, name: str, classes: int) -> int:
        """About how many forward passes one image costs; a backward pass counts as one."""
        targets = self.targets(classes)
        passes = {"apgd-t": 2 * targets, "fab-t": 4 * targets}.get(name, 2)
        return self.queries if name == "square" else passes * self.iterations

    def targets(self, classes: int) -> int:
        """At how many other classes the targeted attacks aim."""
        return min(self.target_classes, classes - 1)

    def _build(self, name: str, model: _Ask, classes: int, device: torch.device, logger: logging.Logger):
        """The authors' attack, with the settings that their ``version="standard"`` gives it."""
        eps, targets = self.threat.eps, self.targets(classes)
        common = {"norm": NORMS[self.threat.norm], "n_restarts": 1, "eps": eps, "seed": self.seed, "device": device}
        match name:
            case "apgd-ce" | "apgd-dlr":
                loss = name.removeprefix("apgd-")
                return APGDAttack(model, n_iter=self.iterations, loss=loss, rho=0.75, logger=logger, **common)
            case "apgd-t":
                return APGDAttack_targeted(
                    model, n_iter=self.iterations, n_target_classes=targets, rho=0.75, logger=logger, **common
                )
            case "fab-t":
                return FABAttack_PT(
                    model, n_iter=self.iterations, targeted=True, n_target_classes=targets, **common
                )  # fmt: skip
            case _:
                return SquareAttack(model, n_queries=self.queries, p_init=0.8, resc_schedule=False, **common)


def autoattack(threat: Threat, *, seed: int = 0, attacks: tuple[str, ...] = STANDARD) -> AutoAttack:
    """AutoAttack with the authors' settings."""
    return AutoAttack(threat, seed, attacks)


def classified(logits: Float[Tensor, "batch classes"], y: Integer[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
    """True where the answer is finite and its largest logit is the true class."""
    return (logits.argmax(1) == y) & logits.isfinite().all(1)


def inside(
    x_adv: Float[Tensor, "batch channels h w"], x: Float[Tensor, "batch channels h w"], threat: Threat
) -> Float[Tensor, "batch channels h w"]:
    """An attack's answer brought inside the threat, whatever it says of itself; a non-finite image becomes the clean one."""
    finite = x_adv.isfinite().flatten(1).all(1).view(-1, 1, 1, 1)
    return threat.project(torch.where(finite, x_adv, x), x)


def square_note(remaining: Mapping[str, float]) -> list[str]:
    """The authors' sign of masked gradients: Square, which uses none, found what the gradient attacks before it did not."""
    logger, said = _listener()
    checks.check_square_sr({"clean": 1.0, **remaining}, logger=logger)
    return [f"gradient masking suspected: {message}" for message in said]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from this seed inside, the caller's generators untouched outside."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()), device_type="cuda"):
        torch.manual_seed(seed)
        yield


def _asking(model: nn.Module) -> _Ask:
    """The model as the authors' code, which knows nothing of precisions and of odd answers, is to ask it."""
    return lambda x: logits_of(model, x)


def _listener() -> tuple[logging.Logger, list[str]]:
    """A logger of our own for the authors' checks, and the list of what they tell it."""
    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        said.append(record.getMessage().removesuffix(f" See {checks.checks_doc_path} for details."))
        return False  # kept, and neither printed nor passed on

    logger = logging.Logger("pyautoattack")
    logger.addFilter(keep)
    return logger, said
