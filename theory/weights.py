"""Computes selection weights of the probe field, their quantiles and kept fractions.

A weight wt(z) is a function of the probe field z in the gauge y = +1.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, ndtri
from jax.typing import ArrayLike

from hardset.float64 import float64
from hardset.pytree import BRANCH, STATIC, pytree_dataclass
from theory.labels import LabelKernel
from theory.quadrature import feature_breaks, normal_cdf, normal_pdf, panel_nodes

Array = jnp.ndarray

FIELD_LIMIT = 38.0  # phi vanishes in float64 beyond it
# The theory is smooth in the angle at 0: this floor loses less than the rounding error.
LEAST_ANGLE = 1e-11
NUMBER_LIMIT = 37.0  # phi is a normal number up to here
# An edge that cuts off nothing is put here for its derivatives: no float64 f < 1 reaches farther.
LAST_EDGE = 8.3


@pytree_dataclass
class IntervalWeight:
    """A selection weight that is a step function of the probe field.

    It is wt(z) = sum_k level_k 1[low_k < z < high_k] in the gauge y = +1.

    Attributes:
        low: lower ends, shape (K,), may be -inf.
        high: upper ends, shape (K,), may be +inf.
        level: weight of each interval, shape (K,); overlapping intervals add up.
    """

    low: Array
    high: Array
    level: Array

    def __call__(self, z: Array) -> Array:
        """Return wt at the fields z, any shape."""
        inside = (z[..., None] > self.low) & (z[..., None] < self.high)
        return jnp.sum(jnp.where(inside, self.level, 0.0), axis=-1)

    def breaks(self) -> Array:
        """Return the fields where wt jumps, shape (2 K,)."""
        return jnp.concatenate([self.low, self.high])

    def reach(self) -> tuple[Array, Array]:
        """Return the smallest interval outside which wt vanishes."""
        return jnp.min(self.low), jnp.max(self.high)


@pytree_dataclass
class FunctionWeight:
    """A selection weight from a user's function w.

    wt(z) is the survival 1 - (1 - w)^r at z, or its average over z and -z. It is smooth between its
    breakpoints.

    Attributes:
        function: maps an array of fields, and the parameters, to weights in [0, 1], same shape.
        even: whether to average over z and -z (w takes the probe field z, not y z).
        redundancy: copies r of each example, scalar.
        parameters: a tuple of further arguments of the function.
        breakpoints: fields where wt or its slope jumps, shape (K,).
    """

    function: Callable[..., Array] = dataclasses.field(metadata=STATIC)
    even: bool = dataclasses.field(metadata=STATIC)
    redundancy: Array
    parameters: tuple[Any, ...] = dataclasses.field(metadata=BRANCH)
    breakpoints: Array

    def __call__(self, z: Array) -> Array:
        """Return wt at the fields z, any shape."""
        weight = survival(self._probability(z), self.redundancy)
        if self.even:
            weight = (weight + survival(self._probability(-z), self.redundancy)) / 2
        return weight

    def _probability(self, z: Array) -> Array:
        return call_weight(self.function, z, self.parameters)

    def breaks(self) -> Array:
        """Return the fields where wt or its slope jumps, shape (K,)."""
        return self.breakpoints

    def reach(self) -> tuple[Array, Array]:
        """Return the whole line, since nothing is known of a user's function."""
        return jnp.asarray(-jnp.inf), jnp.asarray(jnp.inf)


SelectionWeight = IntervalWeight | FunctionWeight


def call_weight(function: Callable[..., Array], z: Array, parameters: tuple[Any, ...]) -> Array:
    """Return a user's weight at the fields z.

    Raises:
        ValueError: the function cannot be traced by JAX, or returns another shape.
    """
    name = getattr(function, "__name__", repr(function))
    try:
        found = jnp.asarray(function(z, *parameters))
    except (
        jax.errors.TracerArrayConversionError,
        jax.errors.ConcretizationTypeError,  # of `if z > 0` too
    ):
        raise ValueError(
            f"the custom weight {name} takes its argument for numbers, which JAX does not know "
            "while it compiles: write it with jax.numpy in place of numpy, and jnp.where in "
            "place of if"
        ) from None
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the custom weight {name} cannot be called with an array of fields and "
            f"{len(parameters)} parameters, in jax.numpy, and sees nothing else: {error}"
        ) from error
    if jnp.iscomplexobj(found):
        raise ValueError(f"the custom weight {name} returns complex numbers; it must be real")
    weight = found.astype(jnp.float64)
    if weight.shape != z.shape:
        raise ValueError(
            f"the custom weight returns the shape {weight.shape} for fields of shape {z.shape}; "
            "it must return one weight for each field"
        )
    return weight


@jax.custom_jvp
def survival(weight: Array, redundancy: Array) -> Array:
    """Return 1 - (1 - w)^r, the probability that one of r copies is kept."""
    rest = jnp.log1p(-jnp.minimum(weight, 1 - 1e-16))
    return jnp.where(weight >= 1, 1.0, -jnp.expm1(redundancy * rest))


@survival.defjvp
def _survival_rate(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    weight, redundancy = primals
    lost = jnp.maximum(1 - weight, 0.0)
    by_weight = redundancy * lost ** (redundancy - 1)
    by_redundancy = -(lost**redundancy) * jnp.log(jnp.maximum(lost, 1e-300))
    return survival(*primals), by_weight * tangents[0] + by_redundancy * tangents[1]


@jax.custom_jvp
def abs_normal_quantile(lower: Array, upper: Array) -> Array:
    """Return the quantile of abs(z) at the level `lower`, for z ~ N(0, 1).

    `upper` is 1 - `lower`; both are in [0, 1]. Both are passed because the smaller one carries the
    digits.
    """
    small = jnp.minimum(lower, 0.5)
    centre = np.sqrt(2) * jax.lax.erf_inv(small)
    # One Newton step restores the last digits of the inverse error function.
    centre = centre - (erf(centre / np.sqrt(2)) - small) / (2 * normal_pdf(centre))
    return jnp.where(lower < 0.5, centre, -ndtri(jnp.clip(upper, 0.0, 0.5) / 2))


@abs_normal_quantile.defjvp
def _quantile_rate(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    quantile = abs_normal_quantile(*primals)
    edge = jnp.where(jnp.isinf(quantile), LAST_EDGE, quantile)
    return quantile, tangents[0] / (2 * normal_pdf(edge))


def label_probability(z: Array, theta: Array) -> Array:
    """Return P(teacher field > 0 | probe field z) = Phi(z cot theta)."""
    return normal_cdf(z * jnp.cos(theta) / jnp.maximum(jnp.sin(theta), 1e-300))


def field_nodes(
    weight: SelectionWeight, theta: Array, at: ArrayLike = 0.0, order: int = 16
) -> tuple[Array, Array]:
    """Return quadrature nodes and weights for integrals over the probe field z.

    They suit integrals of phi(z) wt(z) h(z) with h smooth at the scales 1 and tan theta, which is
    that of turns at u = z cos(theta) = `at`.
    """
    # The places of the nodes change no integral, and must not be differentiated.
    theta, at = jax.lax.stop_gradient((theta, jnp.asarray(at)))
    scale = jnp.minimum(jnp.tan(jnp.minimum(theta, 1.5)), 2.0)
    breaks = jnp.concatenate(
        [
            jnp.nan_to_num(weight.breaks(), posinf=FIELD_LIMIT, neginf=-FIELD_LIMIT),
            feature_breaks(at / jnp.maximum(jnp.cos(theta), 1e-3), scale),
            jnp.arange(-10.0, 11.0),
            jnp.array([-25.0, -18.0, -13.0, 13.0, 18.0, 25.0]),
        ]
    )
    return panel_nodes(breaks, jnp.asarray(-FIELD_LIMIT), jnp.asarray(FIELD_LIMIT), order)


@float64
def kept_mass(
    weight: SelectionWeight, theta: ArrayLike, labels: LabelKernel | None = None
) -> Array:
    """Return the kept fraction of a weight in the gauge y = +1.

    It is 2 int phi(z) E Pi(z cos theta + sin(theta) xi) wt(z) dz, for clean labels 2 int phi(z)
    Phi(z cot theta) wt(z) dz.
    """
    theta = jnp.asarray(theta, jnp.float64)
    if labels is not None:
        sin = jnp.maximum(jnp.sin(theta), LEAST_ANGLE)
        # Both the sharpest and the widest turn of the label are resolved.
        width = jnp.sqrt(jnp.min(labels.width) ** 2 + sin**2)
        z, dz = field_nodes(weight, jnp.arctan2(width, jnp.cos(theta)), labels.at)
        return 2 * jnp.sum(
            dz * normal_pdf(z) * labels.probability(z * jnp.cos(theta), sin) * weight(z)
        )
    z, dz = field_nodes(weight, theta)
    return 2 * jnp.sum(dz * normal_pdf(z) * label_probability(z, theta) * weight(z))


@jax.custom_jvp
def signed_margin_quantile(lower: Array, upper: Array, theta: Array) -> Array:
    """Return the quantile of the signed probe margin at the probability `lower`.

    The quantile g of the margin m = y z solves 2 int_{-inf}^g phi(m) Phi(m cot theta) dm = lower.

    Args:
        lower: probability below, in (0, 1].
        upper: probability above, 1 - `lower`; the smaller of the two carries the digits.
        theta: probe-teacher angle in radians.

    Returns:
        The quantile; +inf at lower = 1 and -37 sin(theta) at upper = 1, which cuts off nothing.
    """
    use_lower = lower <= 0.5
    target = jnp.where(use_lower, lower, upper)
    tail = jnp.where(use_lower, 1.0, -1.0)
    # P(abs(z) < g) <= P(m < g) <= 2 Phi(g), and the mirror image above.
    inner = abs_normal_quantile(target, 1 - target)
    outer = ndtri(target / 2)
    low = jnp.where(use_lower, outer, -inner)
    high = jnp.where(use_lower, inner, -outer)

    def tail_mass(g: Array) -> Array:
        whole = IntervalWeight(
            low=jnp.where(use_lower, -jnp.inf, g)[None],
            high=jnp.where(use_lower, g, jnp.inf)[None],
            level=jnp.ones(1),
        )
        return kept_mass(whole, theta)

    def density(g: Array) -> Array:
        return 2 * normal_pdf(g) * label_probability(g, theta)

    def step(i: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, g = state
        mass = tail_mass(g)
        above = tail * (mass - target) > 0
        low, high = jnp.where(above, low, g), jnp.where(above, g, high)
        newton = g - tail * (mass - target) / jnp.maximum(density(g), 1e-300)
        # Bisection comes first: far out in the tail mass and density have no correct digit.
        inside = (i >= 30) & (newton >= low) & (newton <= high)
        return low, high, jnp.where(inside, newton, (low + high) / 2)

    g = jax.lax.fori_loop(0, 35, step, (low, high, (low + high) / 2))[2]
    g = jnp.where(theta > 0, g, jnp.maximum(g, 0.0))  # a perfect probe has no negative margin
    g = jnp.where(lower >= 1, jnp.inf, g)
    # Below it a teacher field is positive with a probability too small for float64.
    return jnp.where(upper >= 1, -NUMBER_LIMIT * jnp.sin(theta), g)


@signed_margin_quantile.defjvp
def _signed_quantile_rate(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    _, upper, theta = primals
    quantile = signed_margin_quantile(*primals)
    nothing_below = upper >= 1
    g = jnp.where(jnp.isinf(quantile), LAST_EDGE, quantile)
    g = jnp.where(nothing_below, -LAST_EDGE * jnp.sin(theta), g)
    # d/d theta of the mass below g: a Gaussian integral over the label's boundary.
    boundary = jnp.where(nothing_below, -LAST_EDGE, g / jnp.maximum(jnp.sin(theta), 1e-150))
    turn = jnp.exp(-(boundary**2) / 2) / np.pi
    density = 2 * normal_pdf(g) * label_probability(g, theta)
    return quantile, (tangents[0] - turn * tangents[2]) / jnp.maximum(density, 1e-300)


def observed_margin_quantile(
    lower: Array, upper: Array, theta: Array, labels: LabelKernel
) -> Array:
    """Return the quantile of y z, y the observed label, at the probability `lower`.

    The quantile g solves 2 int_{-inf}^g phi(m) E Pi(m cos theta + sin(theta) xi) dm = lower. It is
    differentiable in all arguments, by one Newton step from the solution.

    Args:
        lower: probability below, in [0, 1].
        upper: probability above, 1 - `lower`; the smaller of the two carries the digits.
        theta: probe-teacher angle in radians.
        labels: the channel from the teacher's field to the observed label.

    Returns:
        The quantile; -inf at lower = 0 and +inf at upper = 0.
    """
    theta = theta + jax.lax.stop_gradient(jnp.maximum(theta, LEAST_ANGLE) - theta)
    use_lower = lower <= 0.5
    target = jnp.where(use_lower, lower, upper)
    tail = jnp.where(use_lower, 1.0, -1.0)

    def density(m: Array, theta: Array, labels: LabelKernel) -> Array:
        return 2 * normal_pdf(m) * labels.probability(m * jnp.cos(theta), jnp.sin(theta))

    def tail_mass(g: Array, theta: Array, labels: LabelKernel) -> Array:
        cos = jnp.maximum(jnp.cos(theta), 1e-3)
        widths = jnp.stack([jnp.min(labels.width), jnp.max(labels.width)])
        scale = jnp.minimum(jnp.sqrt(jnp.sin(theta) ** 2 + widths**2) / cos, 4.0)
        breaks = jnp.concatenate(
            [
                feature_breaks(labels.at[:, None] / cos, scale),
                jnp.arange(-10.0, 11.0),
                jnp.array([-25.0, -18.0, -13.0, 13.0, 18.0, 25.0]),
            ]
        )
        low = jnp.where(use_lower, -FIELD_LIMIT, g)
        high = jnp.where(use_lower, g, FIELD_LIMIT)
        m, dm = panel_nodes(breaks, low, high, 16)
        return jnp.sum(dm * density(m, theta, labels))

    fixed = jax.lax.stop_gradient((theta, labels))
    aim = jax.lax.stop_gradient(target)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        above = tail * (tail_mass(middle, *fixed) - aim) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    start = (jnp.asarray(-FIELD_LIMIT), jnp.asarray(FIELD_LIMIT))
    low, high = jax.lax.fori_loop(0, 60, halve, start)
    g = (low + high) / 2
    rate = jnp.maximum(density(g, *fixed), 1e-300)
    g = g - tail * (tail_mass(g, theta, labels) - target) / rate
    g = jnp.where(upper <= 0, jnp.inf, g)
    return jnp.where(lower <= 0, -jnp.inf, g)
