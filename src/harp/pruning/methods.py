"""A pruning method is three choices: where scores start, how the budget is first split, what is learned."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from harp.pruning.estimators import layer_sum, marginal
from harp.pruning.keeps import Split, erk, global_magnitude, lamp, starting_at, uniform
from harp.pruning.mask import Estimator
from harp.pruning.scores import magnitude, random, scaled_magnitude
from harp.recipes import brought, register_name

BOTH, NOTHING = frozenset({"scores", "keeps"}), frozenset[str]()
WEIGHTS = frozenset({"weights"})
GRADUAL = frozenset({"weights", "masks"})
"""Weights learn under masks that follow them (harp.pruning.Gradual, harp.pruning.FlyingBird)."""
Rule = Literal["descent", "ramp", "regrow", "regrow-adaptive"]


@dataclass(frozen=True)
class Method:
    """``scores(weight)`` and ``keeps(weights, keep)`` say where a method starts, ``learn`` what it changes from there.

    ``estimator`` turns the gradient of a mask into that of its keep fraction (:mod:`harp.pruning.estimators`), and
    ``rule`` says how learned fractions reach the budget: by descent on a schedule, or by the growing penalty of the paper.
    Masks that weights learn under ("descent") lose weights along a schedule, or drop and grow them ("regrow" at the budget,
    "regrow-adaptive" above it).
    """

    scores: Callable[[Tensor], Tensor]
    keeps: Split
    learn: frozenset[str] = NOTHING
    estimator: Estimator = marginal
    rule: Rule = "descent"

    def __post_init__(self) -> None:
        if not (self.learn <= BOTH or self.learn in (WEIGHTS, GRADUAL)):
            raise ValueError(
                f"learn={set(self.learn)} may contain only 'scores' and 'keeps', or be 'weights' alone or 'weights' and "
                "'masks'"
            )
        if self.rule not in get_args(Rule):
            raise ValueError(f"rule={self.rule!r} must be one of {', '.join(map(repr, get_args(Rule)))}")
        if self.rule not in ("descent", "ramp") and self.learn != GRADUAL:
            raise ValueError(
                f"rule={self.rule!r} is for methods that learn 'weights' and 'masks', not {set(self.learn)}"
            )


HARP = Method(scaled_magnitude, starting_at(0.1, uniform), BOTH)
RATES_ONLY = Method(scaled_magnitude, starting_at(0.1, uniform), frozenset({"keeps"}))
HYDRA = Method(scaled_magnitude, uniform, frozenset({"scores"}))
LWM = Method(magnitude, uniform)
GLOBAL = Method(magnitude, global_magnitude)
ERK = Method(magnitude, erk)
LAMP = Method(magnitude, lamp)
RANDOM = Method(random, uniform)
HARP_PUBLISHED = Method(scaled_magnitude, starting_at(0.1, uniform), BOTH, layer_sum, rule="ramp")
GMP = Method(magnitude, uniform, GRADUAL)
GMP_ERK = Method(magnitude, erk, GRADUAL)
GMP_LAMP = Method(magnitude, lamp, GRADUAL)
GMP_GLOBAL = Method(magnitude, global_magnitude, GRADUAL)
FLYING_BIRD = Method(magnitude, erk, GRADUAL, rule="regrow")
FLYING_BIRD_PLUS = Method(magnitude, erk, GRADUAL, rule="regrow-adaptive")
R_ADMM = Method(magnitude, uniform, WEIGHTS)  # they learn before there are masks (harp.pruning.Admm); LWM's cut them

METHODS: dict[str, Method] = {
    "harp": HARP,
    "harp-published": HARP_PUBLISHED,
    "rates-only": RATES_ONLY,
    "hydra": HYDRA,
    "lwm": LWM,
    "global": GLOBAL,
    "erk": ERK,
    "lamp": LAMP,
    "random": RANDOM,
    "gmp": GMP,
    "gmp-erk": GMP_ERK,
    "gmp-lamp": GMP_LAMP,
    "gmp-global": GMP_GLOBAL,
    "flying-bird": FLYING_BIRD,
    "flying-bird-plus": FLYING_BIRD_PLUS,
    "r-admm": R_ADMM,
}
"""By the names of recipes and the command line."""


def register_method(name: str, method: Method) -> Method:
    """Put a method of your own into the table, for recipes, the command line and reports to know it by this name.

    A package can bring one without a call: an entry point of the group ``harp.methods`` names it. Raises ValueError for
    a name that another method has.
    """
    if not isinstance(method, Method):
        raise TypeError(
            f"method={method!r} must be a harp.Method: where scores start, the first split, what is learned"
        )
    if METHODS.get(name, method) != method:
        raise ValueError(f"name={name!r} is that of another method; choose one that is free")
    register_name(name)
    METHODS[name] = method
    return method


def method_named(name: str) -> Method:
    """The row of this name, from the package that brings it if need be. Raises ValueError when there is none."""
    if name not in METHODS and name in (points := brought()):
        register_method(name, points[name].load())
    if name not in METHODS:
        raise ValueError(
            f"method={name!r} is not known in this process, only {', '.join(METHODS)}: import the module that calls "
            "harp.register_method first (`--import package.module` on the command line)"
        )
    return METHODS[name]
