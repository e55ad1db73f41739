"""Range checks: one sentence that names the argument, the value and the valid range."""

from typing import Any

import jax
import numpy as np

__all__ = ["check_range", "is_concrete"]


def is_concrete(value: Any) -> bool:
    """Whether `value` holds numbers (a tracer or one of JAX's sentinels does not)."""
    return not isinstance(value, jax.core.Tracer) and isinstance(
        value, (int, float, list, tuple, np.ndarray, np.generic, jax.Array)
    )


def check_range(
    name: str,
    value: Any,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
    unit: str = "",
) -> None:
    """Check that every entry of `value` is a finite number in the interval from `low` to `high`.

    Args:
        name: the argument's name, as the user wrote it.
        value: a scalar or an array; tracers pass unchecked.
        low: lower end of the range.
        high: upper end of the range.
        open_low: whether `low` itself is excluded.
        open_high: whether `high` itself is excluded.
        unit: unit named in the message.

    Raises:
        ValueError: the first offending value and the valid range.
    """
    if isinstance(value, str) or value is None:
        raise ValueError(f"{name} = {value!r} is not a number")
    if not is_concrete(value):
        return
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        text = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:60]}..."
        raise ValueError(f"{name} = {text} is not a number in double precision") from None
    below = array <= low if open_low else array < low
    above = array >= high if open_high else array > high
    bad = ~np.isfinite(array) | below | above
    if np.any(bad):
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f" at index {index}" if array.ndim else ""
        left, right = "(" if open_low else "[", ")" if open_high else "]"
        right = ")" if np.isinf(high) else right
        suffix = f" {unit}" if unit else ""
        raise ValueError(
            f"{name} = {array[index]:.6g}{where} is outside the valid range "
            f"{left}{low:.6g}, {high:.6g}{right}{suffix}"
        )
