"""Which examples are kept: a weight of the probe field, one class a policy."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_range, is_concrete
from theory._pytree import pytree_dataclass
from theory.policies_by_weight import Custom, Steps
from theory.policy import Policy
from theory.policy_names import check_policy
from theory.weights import (
    IntervalWeight,
    SelectionWeight,
    abs_normal_quantile,
    signed_margin_quantile,
    survival,
)

__all__ = [
    "Custom",
    "Easy",
    "EasySigned",
    "Hard",
    "HardSigned",
    "Mixture",
    "Moderate",
    "Policy",
    "Random",
    "Steps",
    "Window",
    "policy_from_name",
]

Array = jnp.ndarray


@pytree_dataclass
class Hard(Policy):
    """Keep the smallest unsigned margins: abs(z) < g, g = Hinv((1 - f)/2)."""

    name: ClassVar[str] = "hard"

    def kept_weight(self, keep_fraction: Array, theta: Array, redundancy: Array) -> SelectionWeight:
        edge = abs_normal_quantile(keep_fraction, 1 - keep_fraction)
        return _intervals([(-edge, edge, 1.0)])


@pytree_dataclass
class Easy(Policy):
    """Keep the largest unsigned margins: abs(z) > g, g = Hinv(f/2)."""

    name: ClassVar[str] = "easy"

    def kept_weight(self, keep_fraction: Array, theta: Array, redundancy: Array) -> SelectionWeight:
        edge = abs_normal_quantile(1 - keep_fraction, keep_fraction)
        return _intervals([(-jnp.inf, -edge, 1.0), (edge, jnp.inf, 1.0)])


@pytree_dataclass
class Moderate(Policy):
    """Keep the middle f of the abs(z) ranking: quantiles (1-f)/2 to (1+f)/2."""

    name: ClassVar[str] = "moderate"

    def kept_weight(self, keep_fraction: Array, theta: Array, redundancy: Array) -> SelectionWeight:
        return _ranked_window((1 - keep_fraction) / 2, keep_fraction)


@pytree_dataclass
class Window(Policy):
    """Keep the abs(z) ranking from quantile lo to lo + f, skipping the very hardest examples.

    Attributes:
        lo: quantile of abs(z) where the window starts, 0 <= lo <= 1 - f; lo = 0 is `Hard`,
            (1-f)/2 `Moderate`, 1-f `Easy`.
    """

    lo: ArrayLike = 0.0

    name: ClassVar[str] = "window"

    def kept_weight(self, keep_fraction: Array, theta: Array, redundancy: Array) -> SelectionWeight:
        return _ranked_window(jnp.asarray(self.lo), keep_fraction)

    def check(self, keep_fraction: ArrayLike, theta: ArrayLike | None) -> None:
        check_range("lo", self.lo, 0.0, 1.0)
        if is_concrete(self.lo) and is_concrete(keep_fraction):
            # Decimal fractions such as .7 + .3 exceed 1 by rounding only.
            check_range("lo + keep_fraction", np.add(self.lo, keep_fraction) - 1e-12, 0.0, 1.0)

    def fits(self, keep_fraction: Array) -> Array:
        lo = jnp.asarray(self.lo)
        return (lo >= 0) & (lo + keep_fraction <= 1 + 1e-12)

    def parameters(self) -> dict[str, Any]:
        return {"lo": self.lo}


@pytree_dataclass
class Mixture(Policy):
    """Keep the w f hardest, and the rest of the budget uniformly from the others.

    The weight is 1 below the abs(z) quantile w f and (1 - w) f/(1 - w f) above.

    Attributes:
        w: share of the budget spent on the hardest examples, in [0, 1].
    """

    w: ArrayLike = 0.5

    name: ClassVar[str] = "mixture"

    def kept_weight(self, keep_fraction: Array, theta: Array, redundancy: Array) -> SelectionWeight:
        w = jnp.asarray(self.w)
        edge = abs_normal_quantile(w * keep_fraction, 1 - w * keep_fraction)
        outside = (1 - w) * keep_fraction / jnp.maximum(1 - w * keep_fraction, 1e-150)
        outside = survival(_at_most_one(outside), redundancy)
        return _intervals([(-jnp.inf, jnp.inf, outside), (-edge, edge, 1 - outside)])

    def check(self, keep_fraction: ArrayLike, theta: ArrayLike | None) -> None:
        check_range("w", self.w, 0.0, 1.0)

    def fits(self, keep_fraction: Array) -> Array:
        w = jnp.asarray(self.w)
        return (w >= 0) & (w <= 1)

    def parameters(self) -> dict[str, Any]:
        return {"w": self.w}


@pytree_dataclass
class Random(Policy):
    """Keep a fraction f of everything, whatever z."""

    name: ClassVar[str] = "random"

    def kept_weight(self, keep_fraction: Array, theta: Array, redundancy: Array) -> SelectionWeight:
        return _intervals([(-jnp.inf, jnp.inf, survival(keep_fraction, redundancy))])


@pytree_dataclass
class HardSigned(Policy):
    """Keep the smallest SIGNED probe margins y z: what the probe gets wrong comes first."""

    name: ClassVar[str] = "hard-signed"

    def kept_weight(self, keep_fraction: Array, theta: Array, redundancy: Array) -> SelectionWeight:
        edge = signed_margin_quantile(keep_fraction, 1 - keep_fraction, theta)
        return _intervals([(-jnp.inf, edge, 1.0)])


@pytree_dataclass
class EasySigned(Policy):
    """Keep the largest SIGNED probe margins y z: what the probe gets right with most confidence."""

    name: ClassVar[str] = "easy-signed"

    def kept_weight(self, keep_fraction: Array, theta: Array, redundancy: Array) -> SelectionWeight:
        edge = signed_margin_quantile(1 - keep_fraction, keep_fraction, theta)
        return _intervals([(edge, jnp.inf, 1.0)])


_NAMED: dict[str, Callable[..., Policy]] = {
    cls.name: cls for cls in (Hard, Easy, Moderate, Random, HardSigned, EasySigned, Window, Mixture)
}


def policy_from_name(name: str, **parameters: ArrayLike) -> Policy:
    """The policy called `name`, one of `theory.POLICY_NAMES`.

    Args:
        name: e.g. "hard".
        **parameters: `lo` for "window", `w` for "mixture"; nothing for the others.

    Raises:
        ValueError: unknown name, or a parameter that the policy lacks or does not take.
    """
    check_policy(name, parameters)
    return _NAMED[name](**parameters)


def _intervals(rows: list[tuple[ArrayLike, ArrayLike, ArrayLike]]) -> IntervalWeight:
    low, high, level = (
        jnp.stack([jnp.asarray(value, jnp.float64) for value in column])
        for column in zip(*rows, strict=True)
    )
    return IntervalWeight(low=low, high=high, level=level)


def _ranked_window(lo: Array, keep_fraction: Array) -> IntervalWeight:
    inner = abs_normal_quantile(lo, 1 - lo)
    outside = jnp.maximum(1 - lo - keep_fraction, 0.0)
    outer = abs_normal_quantile(_at_most_one(lo + keep_fraction), outside)
    return _intervals([(-outer, -inner, 1.0), (inner, outer, 1.0)])


def _at_most_one(value: Array) -> Array:
    """min(value, 1) with the derivative of `value` at 1, where rounding decides."""
    return jnp.where(value > 1, 1.0, value)
