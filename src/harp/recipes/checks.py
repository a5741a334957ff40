"""How settings check themselves: every complaint names the field, its value, and what was expected."""

import math
from typing import Literal, get_args, get_origin, get_type_hints


def check(condition: bool, owner: object, name: str, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name}={getattr(owner, name)!r} {expected}")


def check_choices(owner: object) -> None:
    """Annotations bind nobody in Python: a name that is no choice would only be noticed once it is used."""
    for name, hint in get_type_hints(type(owner)).items():
        if get_origin(hint) is Literal:
            choices = get_args(hint)
            check(getattr(owner, name) in choices, owner, name, f"must be one of {', '.join(map(repr, choices))}")


def positive(value: float) -> bool:
    return 0 < value < math.inf


def not_negative(value: float) -> bool:
    return 0 <= value < math.inf
