"""Averages over the kept examples by integrals along the student's in-plane field.

x is that field, v the one across it in the plane of teacher and probe. The selection and the label
depend on x and v alone, and the loss on x and the field outside the plane: for windows and sharp
labels every average is one integral over x of elementary functions.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from replica.erm import nodes
from replica.erm.losses import gaussian_slopes
from replica.erm.measure import Averages, Fields, Kept, Totals, over_copies
from replica.gordon import BEYOND, FAR, Ensemble, Frame
from theory.labels import LabelKernel
from theory.probe_field import NodeWeight
from theory.quadrature import (
    away_from_zero,
    feature_breaks,
    integrate_panels,
    normal_cdf,
    normal_pdf,
    panel_nodes,
)
from theory.weights import IntervalWeight

Array = jnp.ndarray

ORDER = 12
BLOCK = 8
TINY = 1e-300
WIDE = 0.65
STEP = (-8.3, -5.0, -1.7, 1.7, 5.0, 8.3)  # the 12-point rule errs by 1e-14 between them
# Breaks around a bend of the logistic loss, in units of its width.
SLOW = (-600.0, -200.0, -70.0, -25.0, -9.0, -4.0, -1.5, 1.5, 4.0, 9.0, 25.0)


def averages(kept: Kept, fields: Fields, loss: str) -> Averages:
    """Return the averages at a student's fields; see `averages_and_slopes`."""
    return averages_and_slopes(kept, fields, loss)[0]


def averages_and_slopes(kept: Kept, fields: Fields, loss: str) -> tuple[Averages, Array]:
    """Return the averages, and their derivatives by the fields.

    Args:
        kept: the kept examples of one problem (scalars).
        fields: the student's fields.
        loss: "logistic", "hinge", "squared-hinge", "square" or "hard-margin".

    Returns:
        The averages, and the derivative of (pull_t, pull_v, square, curvature) by (along, across,
        apart, prox_step), shape (4, 4).
    """

    def one(part: Kept, count: Array) -> tuple[Averages, Array]:
        scaled = Fields(fields.along, fields.across, fields.apart, fields.prox_step * count)
        of = nodes.averages_and_slopes if isinstance(part.weight, NodeWeight) else _averages
        found, slopes = of(part, scaled, loss)
        power = jnp.stack([count, count, count**2, count])
        slopes = slopes * power[:, None] * jnp.stack([1.0, 1.0, 1.0, count])
        return (
            Averages(found.pull * count, found.square * count**2, found.curvature * count),
            slopes,
        )

    zero = Averages(jnp.zeros(2), jnp.zeros(()), jnp.zeros(()))
    return over_copies(kept, one, (zero, jnp.zeros((4, 4))))


def square_totals(kept: Kept, fields: Fields) -> Totals:
    """Return all averages of the square loss, those that count copies included.

    Only `wrong` and `active` may be differentiated: the label's jump at psi = 0 is lost to the
    others.

    Args:
        kept: the kept examples of one problem (scalars); the probe field must be normal.
        fields: the student's fields.
    """
    frame = _frame(kept, fields)

    def one(part: Kept, count: Array) -> Totals:
        spread, step = fields.apart, fields.prox_step * count

        def integrands(x: Array) -> tuple[Array, ...]:
            v0, v1, _ = _across_moments(part, x, frame)
            mean = frame.norm * x
            e1, e2, e3 = gaussian_slopes("square", mean, spread, step)[0]
            density = 2 * kept.alpha_total * normal_pdf(x)
            v0, v1 = density * v0, density * v1
            wrong, active = ((kink - mean) / spread for kink in (-step, 1.0))
            return (
                e1 * x * v0,
                e1 * v1,
                e2 * v0,
                e3 * v0,
                v0,
                normal_cdf(wrong) * v0,
                normal_cdf(active) * v0,
            )

        scaled = dataclasses.replace(fields, prox_step=step)
        found = _along(part, scaled, "square", frame, integrands)
        along, across = frame.axes()
        averages = Averages(
            pull=(found[0] * along + found[1] * across) * count,
            square=found[2] * count**2,
            curvature=found[3] * count,
        )
        return Totals(
            averages=averages,
            distinct=found[4],
            kept=found[4] * count,
            # What is left of the slack is the force.
            loss=found[2] * count / 2,
            wrong=found[5] * count,
            active=found[6] * count,
        )

    return over_copies(kept, one, Totals.zero())


def _frame(kept: Kept, fields: Fields) -> Frame:
    y = jnp.stack([fields.along, fields.across])
    return Frame.of(Ensemble(kept.alpha_total, kept.of_normal(), kept.theta), y)


def _averages(kept: Kept, fields: Fields, loss: str) -> tuple[Averages, Array]:
    frame = _frame(kept, fields)
    spread, step = fields.apart, fields.prox_step

    def integrands(x: Array) -> tuple[Array, ...]:
        v0, v1, v2 = _across_moments(kept, x, frame)
        (e1, e2, e3), rates = gaussian_slopes(loss, frame.norm * x, spread, step)
        density = 2 * kept.alpha_total * normal_pdf(x)
        v0, v1, v2 = density * v0, density * v1, density * v2
        xv0, xv1, xxv0 = x * v0, x * v1, x * x * v0
        by_mean, by_spread, by_step = rates
        return (
            e1 * xv0,
            e1 * v1,
            e2 * v0,
            e3 * v0,
            e3 * xxv0,
            e3 * xv1,
            e3 * v2,
            by_mean[1] * xv0,
            by_mean[1] * v1,
            by_mean[2] * xv0,
            by_mean[2] * v1,
            by_spread[0] * xv0,
            by_spread[0] * v1,
            by_spread[1] * v0,
            by_spread[2] * v0,
            by_step[0] * xv0,
            by_step[0] * v1,
            by_step[1] * v0,
            by_step[2] * v0,
        )

    found = _along(kept, fields, loss, frame, integrands)
    along, orthogonal = frame.axes()

    def plane(x_part: Array, v_part: Array) -> Array:
        return x_part * along + v_part * orthogonal

    mixed = jnp.outer(along, orthogonal)
    bend = (
        found[4] * jnp.outer(along, along)
        + found[6] * jnp.outer(orthogonal, orthogonal)
        + found[5] * (mixed + mixed.T)
    )
    slopes = jnp.zeros((4, 4))
    slopes = slopes.at[:2, :2].set(bend)
    slopes = slopes.at[2, :2].set(plane(found[7], found[8]))
    slopes = slopes.at[3, :2].set(plane(found[9], found[10]))
    slopes = slopes.at[:2, 2].set(plane(found[11], found[12]))
    slopes = slopes.at[2, 2].set(found[13]).at[3, 2].set(found[14])
    slopes = slopes.at[:2, 3].set(plane(found[15], found[16]))
    slopes = slopes.at[2, 3].set(found[17]).at[3, 3].set(found[18])
    return Averages(plane(found[0], found[1]), found[2], found[3]), slopes


def _along(
    kept: Kept,
    fields: Fields,
    loss: str,
    frame: Frame,
    integrands: Callable[[Array], tuple[Array, ...]],
) -> tuple[Array, ...]:
    """Integrate over x by panels that follow every scale of the integrand."""
    edges = kept.of_normal().breaks()
    edges = jnp.where(jnp.abs(edges) < BEYOND, edges, jnp.nan)
    farthest = jnp.max(jnp.nan_to_num(jnp.abs(edges)), initial=0.0)
    limit = jnp.sqrt(80 + farthest**2)
    norm = jnp.maximum(frame.norm, TINY)
    cos_psi = away_from_zero(frame.cos_psi)
    slope = away_from_zero(frame.cos_probe)
    at, width = kept.labels.at, kept.labels.width
    corners = (edges[:, None] * frame.sin_psi + at * frame.sin_probe) / away_from_zero(
        jnp.sin(kept.theta)
    )
    parts = [
        limit * np.linspace(-0.8, 0.8, 9),
        _steps(at / cos_psi, jnp.sqrt(frame.sin_psi**2 + width**2) / jnp.abs(cos_psi)),
        corners.ravel(),
        _steps(edges / slope, jnp.abs(frame.sin_probe / slope)),
    ]
    if loss == "logistic":
        # The loss's force bends at t = log(1 + gamma), and where it saturates, below -gamma; in
        # between it is a slow function of the distance to both.
        bend = jnp.log1p(fields.prox_step)
        scale = jnp.sqrt(fields.apart**2 + 1) / norm
        scale = jnp.where(scale < WIDE, scale, jnp.nan)
        parts.append(feature_breaks(bend / norm, scale, SLOW))
        parts.append(feature_breaks(-(fields.prox_step + bend) / norm, -scale, SLOW))
    else:
        step = fields.prox_step
        zero, one = jnp.zeros(()), jnp.ones(())
        # The square loss has no kink, but its outcomes have.
        kinks = {"hinge": [one, 1 - step], "square": [one, -step], "separation": [zero]}
        parts.append(_steps(jnp.stack(kinks.get(loss, [one])) / norm, fields.apart / norm))
    high = limit
    if loss not in ("square", "logistic"):
        high = jnp.clip((1 + 9 * fields.apart) / norm, -limit, limit)
    return integrate_panels(
        integrands, jnp.concatenate(parts), -limit, high, order=ORDER, block=BLOCK
    )


def _steps(centre: Array, scale: Array) -> Array:
    """Return breaks around Gaussian steps, none for those as wide as the panels of phi."""
    return feature_breaks(centre, jnp.where(scale < WIDE, scale, jnp.nan), STEP)


def _across_moments(kept: Kept, x: Array, frame: Frame) -> tuple[Array, Array, Array]:
    """Integrate weight times label probability over v, with powers of v.

    The powers are 0, 1 and 2.
    """
    if isinstance(kept.weight, IntervalWeight) and kept.labels.sharp:
        return _sharp_moments(kept.weight, kept.labels, x, frame)
    return _smooth_moments(kept, x, frame)


def _sharp_moments(
    weight: IntervalWeight, labels: LabelKernel, x: Array, frame: Frame
) -> tuple[Array, Array, Array]:
    """Return the integrals in closed form.

    On every piece of the line v the weight is constant.
    """
    across = away_from_zero(frame.sin_probe)
    turn = away_from_zero(frame.sin_psi)
    total = [jnp.zeros_like(x) for _ in range(3)]
    for k in range(weight.level.shape[0]):
        one = (weight.low[k] - x * frame.cos_probe) / across
        two = (weight.high[k] - x * frame.cos_probe) / across
        low = _Edge.of(jnp.clip(jnp.minimum(one, two), -FAR, FAR))
        high = _Edge.of(jnp.clip(jnp.maximum(one, two), -FAR, FAR))
        parts = [labels.base * part for part in _between(low, high)]
        for step in range(labels.jump.shape[0]):
            line = (x * frame.cos_psi - labels.at[step]) / turn
            middle = _Edge.of(jnp.clip(line, low.at, high.at))
            floor, ceiling = _choose(turn > 0, low, middle), _choose(turn > 0, middle, high)
            jump = labels.jump[step]
            more = _between(floor, ceiling)
            parts = [part + jump * new for part, new in zip(parts, more, strict=True)]
        level = weight.level[k]
        total = [sum_ + level * part for sum_, part in zip(total, parts, strict=True)]
    return total[0], total[1], total[2]


class _Edge(NamedTuple):
    """An end of an interval, with phi there and the mass of phi beyond."""

    at: Array
    tail: Array
    pdf: Array

    @classmethod
    def of(cls, at: Array) -> "_Edge":
        return cls(at, normal_cdf(-jnp.abs(at)), normal_pdf(at))


def _choose(first: Array, one: _Edge, two: _Edge) -> _Edge:
    return _Edge(*(jnp.where(first, a, b) for a, b in zip(one, two, strict=True)))


def _between(low: _Edge, high: _Edge) -> tuple[Array, Array, Array]:
    """Return int phi(v) v^k dv between two ends for k = 0, 1, 2."""
    # The difference is taken in the tail where it is small.
    mass = jnp.where(low.at > 0, low.tail - high.tail, 1 - low.tail - high.tail)
    mass = jnp.where(high.at < 0, high.tail - low.tail, mass)
    return mass, low.pdf - high.pdf, mass + low.at * low.pdf - high.at * high.pdf


def _smooth_moments(kept: Kept, x: Array, frame: Frame) -> tuple[Array, Array, Array]:
    """Return the integrals by Gauss-Legendre panels, for smooth weights or noisy labels."""
    limit = 9.0
    weight, labels = kept.of_normal(), kept.labels
    across, turn = away_from_zero(frame.sin_probe), away_from_zero(frame.sin_psi)
    grid = jnp.asarray(np.linspace(-limit, limit, 8))

    def at(x: Array) -> tuple[Array, Array, Array]:
        kinks = (weight.breaks() - x * frame.cos_probe) / across
        steps = (x * frame.cos_psi - labels.at) / turn
        if labels.sharp:
            parts = [grid, kinks, steps]
        else:
            widths = jnp.stack([jnp.min(labels.width), jnp.max(labels.width)])
            parts = [grid, kinks, feature_breaks(steps[0], widths / jnp.abs(turn))]
        breaks = jnp.clip(jnp.concatenate(parts), -limit, limit)
        v, dv = panel_nodes(breaks, jnp.asarray(-limit), jnp.asarray(limit), ORDER)
        u = x * frame.cos_psi - v * frame.sin_psi
        mass = dv * normal_pdf(v) * weight(x * frame.cos_probe + v * frame.sin_probe)
        mass = mass * labels.probability(u)
        return jnp.sum(mass), jnp.sum(mass * v), jnp.sum(mass * v * v)

    flat = jax.vmap(at)(x.ravel())
    return flat[0].reshape(x.shape), flat[1].reshape(x.shape), flat[2].reshape(x.shape)
