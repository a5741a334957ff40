"""What worked one version ago still does, and says how it is written now."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def keyword_only(name: str, place: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Take the argument ``name`` at its old ``place`` among the positional ones, too, with a warning."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if len(args) == place + 1:
                called = f"{function.__name__}(…, {name}={args[place]!r})"
                warnings.warn(f"write {called}: {name} by position ends with the next version", DeprecationWarning, 2)
                args, kwargs[name] = args[:place], args[place]  # type: ignore[assignment]
            return function(*args, **kwargs)

        return wrapper

    return decorate
