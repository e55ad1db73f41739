"""Averages over the kept examples for a probe field of finitely many values.

At each value z of the probe's field the rest is an integral over one normal variable, in two ways.
One takes the field z' beside z in the plane of teacher and probe, and averages the loss over the
field outside the plane in closed form. The other takes what the student's field has beside z, and
averages the label in closed form; the loss is taken bare, with its kinks at the ends of panels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from replica.erm.losses import (
    bare_envelope,
    bare_loss,
    bends,
    gaussian_slopes,
    logistic_prox,
)
from replica.erm.measure import Averages, Fields, Kept
from theory.labels import LabelKernel
from theory.probe_field import NodeWeight
from theory.quadrature import (
    away_from_zero,
    feature_breaks,
    integrate_panels,
    normal_pdf,
)
from theory.weights import LEAST_ANGLE

Array = jnp.ndarray

ORDER = 12
BLOCK = 2
REACH = 9.0  # phi is below the rounding error there
NORMAL = (-6.0, -3.5, -1.2, 1.2, 3.5, 6.0)  # panels of phi itself


def averages_and_slopes(kept: Kept, fields: Fields, loss: str) -> tuple[Averages, Array]:
    """Return the averages by integrals over z', and their derivatives by the fields.

    Args:
        kept: the kept examples of one problem, whose weight is a `NodeWeight`.
        fields: the student's fields.
        loss: name of the loss.

    Returns:
        The averages, and the derivative of (pull_t, pull_v, square, curvature) by (along, across,
        apart, prox_step), shape (4, 4).
    """
    weight = _of_nodes(kept)
    z = weight.nodes
    theta = jnp.maximum(kept.theta, LEAST_ANGLE)
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    along = fields.along * cos + fields.across * sin
    aside = fields.along * sin - fields.across * cos
    labels, spread = kept.labels, fields.apart

    def integrands(beside: Array) -> tuple[Array, ...]:
        at = z[:, None, None]
        u, s = at * cos + beside * sin, at * sin - beside * cos
        mean = along * at + aside * beside
        found = gaussian_slopes(loss, mean, spread, fields.prox_step)
        (e1, e2, e3), (by_mean, by_spread, by_step) = found
        share = normal_pdf(beside) * labels.probability(u, jnp.zeros(()))
        first, second, third = e1 * share, e2 * share, e3 * share
        return (
            first * u,
            first * s,
            second,
            third,
            third * u * u,
            third * u * s,
            third * s * s,
            *(by_mean[k] * share * field for k in (1, 2) for field in (u, s)),
            by_spread[0] * share * u,
            by_spread[0] * share * s,
            by_spread[1] * share,
            by_spread[2] * share,
            by_step[0] * share * u,
            by_step[0] * share * s,
            by_step[1] * share,
            by_step[2] * share,
        )

    parts = [
        jnp.broadcast_to(jnp.asarray(NORMAL), (*z.shape, len(NORMAL))),
        _label_breaks(labels, z * cos, sin, jnp.zeros(())),
    ]
    scale = away_from_zero(jnp.abs(aside))
    for place, width in _bends(loss, fields):
        centre = (place - along * z) / away_from_zero(aside)
        parts.append(jax.vmap(feature_breaks, (0, None))(centre[:, None], width / scale))
    ends = jnp.full_like(z, -REACH), jnp.full_like(z, REACH)
    breaks = jnp.concatenate(parts, axis=-1)
    rows = integrate_panels(integrands, breaks, *ends, order=ORDER, block=BLOCK)
    # Either label is the gauge's y = +1 at one of z and -z.
    share = 2 * kept.alpha_total * weight.mass * weight.level
    found = [jnp.sum(share * row) for row in rows]
    slopes = jnp.stack(
        [
            jnp.stack([found[4], found[5], found[11], found[15]]),
            jnp.stack([found[5], found[6], found[12], found[16]]),
            jnp.stack([found[7], found[8], found[13], found[17]]),
            jnp.stack([found[9], found[10], found[14], found[18]]),
        ]
    )
    return Averages(jnp.stack(found[:2]), found[2], found[3]), slopes


def integrals(kept: Kept, fields: Fields, loss: str, step: Array) -> Array:
    """Return alpha_total times the averages of `plane.totals` by integrals over the field n.

    The student's field is t = a z + S n.

    Args:
        kept: the kept examples of one problem, whose weight is a `NodeWeight`.
        fields: the student's fields.
        loss: name of the loss.
        step: the prox step gamma.

    Returns:
        Those of u M', s M', M'^2, M'', 1, the loss, 1[wrong] and 1[t < 1], shape (8,).
    """
    weight = _of_nodes(kept)

    def terms(t: Array, u: Array, s: Array, label: Array, r: Array) -> tuple[Array, ...]:
        if loss == "logistic":
            chance = jax.nn.sigmoid(-r)
            curve = chance * (1 - chance)
            force, bend, after = -chance, curve / (1 + step * curve), r
        else:
            force, bend, after = bare_envelope(loss, t, step)
        return (
            force * u,
            force * s,
            force**2 * label,
            bend * label,
            label,
            bare_loss(loss, after) * label,
            (after < 0) * label,
            (t < 1) * label,
        )

    first = jnp.zeros(()) if loss == "separation" else jnp.ones(())
    marks = [first, 1 - step, -step / 2 if loss == "logistic" else -step]
    rows = _over_field(weight, kept.theta, kept.labels, fields, loss, step, marks, terms)
    share = 2 * kept.alpha_total * weight.mass * weight.level
    return jnp.stack([jnp.sum(share * row) for row in rows])


def fresh(kept: Kept, fields: Fields, loss: str) -> tuple[Array, Array]:
    """Return the student's error and loss on unselected examples with observed labels.

    The probe's field has the same law on them.

    Args:
        kept: the examples of one problem, whose weight is a `NodeWeight`.
        fields: the student's fields.
        loss: name of the loss; "hard-margin" is judged by the hinge loss.
    """
    weight = _of_nodes(kept)

    def terms(t: Array, u: Array, s: Array, label: Array, r: Array) -> tuple[Array, ...]:
        return (t < 0) * label, bare_loss(loss, t) * label

    marks = [jnp.zeros(()), jnp.ones(())]
    # Without a prox the field itself is the variable.
    smooth = "square" if loss == "logistic" else loss
    rows = _over_field(weight, kept.theta, kept.labels, fields, smooth, jnp.ones(()), marks, terms)
    wrong, price = (jnp.sum(2 * weight.mass * row) for row in rows)
    return wrong, price


def _of_nodes(kept: Kept) -> NodeWeight:
    assert isinstance(kept.weight, NodeWeight)
    return kept.weight


def _bends(loss: str, fields: Fields) -> list[tuple[Array, Array]]:
    """Return the fields at which averages over the noise bend, and over what width."""
    if loss == "square":
        return []
    if loss == "logistic":
        width = jnp.sqrt(fields.apart**2 + 1)
        bend = jnp.log1p(fields.prox_step)
        return [(bend, width), (-(fields.prox_step + bend), width)]
    first = jnp.zeros(()) if loss == "separation" else jnp.ones(())
    places = [first, 1 - fields.prox_step] if loss == "hinge" else [first]
    return [(place, fields.apart) for place in places]


def _label_breaks(labels: LabelKernel, mean: Array, slope: Array, spread: Array) -> Array:
    """Return breaks where the label turns: mean + slope n = at, shape (K, breaks)."""
    slope = away_from_zero(slope)
    scale = jnp.sqrt(labels.width**2 + spread**2) / jnp.abs(slope)
    centre = (labels.at - mean[:, None]) / slope
    return jax.vmap(feature_breaks, (0, None))(centre, scale)


def _over_field(
    weight: NodeWeight,
    theta: Array,
    labels: LabelKernel,
    fields: Fields,
    loss: str,
    step: Array,
    marks: list[Array],
    terms: Callable[[Array, Array, Array, Array, Array], tuple[Array, ...]],
) -> tuple[Array, ...]:
    """Integrate over n at every node; `marks` are fields t at which something jumps."""
    z = weight.nodes
    theta = theta + jax.lax.stop_gradient(jnp.maximum(theta, LEAST_ANGLE) - theta)
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    along = fields.along * cos + fields.across * sin
    aside = fields.along * sin - fields.across * cos
    across = jnp.hypot(aside, fields.apart)
    lean, width = sin * aside / across, sin * fields.apart / across
    start = along * z
    parts = [
        jnp.broadcast_to(jnp.asarray([-REACH, *NORMAL, REACH]), (*z.shape, len(NORMAL) + 2)),
        _label_breaks(labels, z * cos, lean, width),
    ]
    breaks = start[:, None] + across * jnp.clip(jnp.concatenate(parts, axis=-1), -REACH, REACH)
    fixed = jnp.broadcast_to(jnp.stack(marks), (*z.shape, len(marks)))
    breaks = jnp.concatenate([breaks, fixed], axis=-1)

    def at(t: Array, rate: Array, r: Array) -> tuple[Array, ...]:
        n = (t - start[:, None, None]) / across
        node = z[:, None, None]
        mean = node * cos + lean * n
        label = labels.probability(mean, width)
        # E[z' Pi] over what is left of z' at (z, n), by Stein's lemma.
        beside = aside / across * n * label + sin * (fields.apart / across) ** 2 * labels.slope(
            mean, width
        )
        density = normal_pdf(n) / across * rate
        u, s = node * cos * label + sin * beside, node * sin * label - cos * beside
        return tuple(density * value for value in terms(t, u, s, label, r))

    if loss == "logistic":
        # In r = prox(t) every function is explicit.
        fine = bends(step, across)
        ends = logistic_prox(breaks, step)
        fine = jnp.broadcast_to(fine, (*z.shape, len(fine)))
        places = jnp.concatenate([ends, fine], axis=-1)

        def integrands(r: Array) -> tuple[Array, ...]:
            chance = jax.nn.sigmoid(-r)
            return at(r - step * chance, 1 + step * chance * (1 - chance), r)

    else:
        places = breaks

        def integrands(r: Array) -> tuple[Array, ...]:
            return at(r, jnp.ones(()), r)

    low, high = places[:, 0], places[:, len(NORMAL) + 1]
    return integrate_panels(integrands, places, low, high, order=ORDER, block=BLOCK)
