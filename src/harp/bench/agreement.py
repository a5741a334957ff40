"""A time is worth nothing when the result is wrong: outputs are compared before anything is timed."""

from collections.abc import Mapping

import numpy as np

TOLERANCE = 1e-4
"""Of the largest output. Sums in another order differ by 1e-6; bfloat16, which must not pass for float32, by 1e-3."""


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference as a fraction of the largest expected output; infinite where a value is not finite."""
    scale = float(np.abs(expected).max(initial=0.0))
    worst = float(np.abs(found - expected).max(initial=0.0))
    return worst / scale if scale > 0 and np.isfinite(worst) else 0.0 if worst == 0 else float("inf")


def check_agreement(outputs: Mapping[str, np.ndarray], expected: np.ndarray) -> dict[str, float]:
    """How far each engine is from the expected outputs.

    Raises ValueError naming the engine whose outputs have another shape or deviate by more than 1e-4 of the largest.
    """
    if not np.isfinite(expected).all():
        raise ValueError("PyTorch computes values that are not finite from this network; there is nothing to compare")
    found = {}
    for name, output in outputs.items():
        if output.shape != expected.shape:
            raise ValueError(
                f"{name} gives outputs of shape {output.shape}, expected {expected.shape}; it is not timed"
            )
        found[name] = deviation(output, expected)
        if found[name] > TOLERANCE:
            raise ValueError(
                f"{name} deviates from PyTorch by {found[name]:.1e} of the largest output, more than {TOLERANCE:.0e}; "
                "a wrong result is not timed"
            )
    return found
