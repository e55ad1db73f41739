"""Averages over the kept examples by integrals over the student's whole field and the probe's.

x is the student's field W.x over its standard deviation, y what the probe's field has beside it.
Given both, the teacher's field is Gaussian, and the label's share of it is a closed form. The loss
is taken bare, with its kinks at the ends of panels. All panels move with the parameters, so that a
plain derivative through the sums is right for window edges, angles and noise too.
"""

import jax
import jax.numpy as jnp
import numpy as np

from replica.erm import nodes
from replica.erm.losses import bare_envelope, bare_loss, bends, logistic_prox
from replica.erm.measure import Averages, Fields, Kept, Totals, over_copies
from theory.labels import LabelKernel
from theory.probe_field import NodeWeight
from theory.quadrature import (
    away_from_zero,
    feature_breaks,
    integrate_panels,
    normal_pdf,
    panel_nodes,
)
from theory.weights import LEAST_ANGLE, IntervalWeight

Array = jnp.ndarray

ORDER = 12
BLOCK = 2
INNER = 1
WIDE = 0.65
REACH = 9.0  # phi is below the rounding error there
COARSE = (-8.0, -4.5, -1.6, 1.6, 4.5, 8.0)  # the 12-point rule errs by 1e-12 between them


def averages(kept: Kept, fields: Fields, loss: str) -> Averages:
    """Return the averages of the envelope's derivatives; see `totals`."""
    return totals(kept, fields, loss).averages


def totals(kept: Kept, fields: Fields, loss: str) -> Totals:
    """Return all averages over the kept examples, differentiable in every argument.

    Args:
        kept: the kept examples of one problem (scalars).
        fields: the student's fields.
        loss: "logistic", "hinge", "squared-hinge", "square", "hard-margin", or "separation", a
            hard margin of 0.
    """

    def one(part: Kept, count: Array) -> Totals:
        of = nodes.integrals if isinstance(part.weight, NodeWeight) else _integrals
        found = of(part, fields, loss, fields.prox_step * count)
        return Totals(
            averages=Averages(found[:2] * count, found[2] * count**2, found[3] * count),
            distinct=found[4],
            kept=found[4] * count,
            loss=found[5] * count,
            wrong=found[6] * count,
            active=found[7] * count,
        )

    return over_copies(kept, one, Totals.zero())


def _integrals(kept: Kept, fields: Fields, loss: str, step: Array) -> Array:
    theta = kept.theta
    theta = theta + jax.lax.stop_gradient(jnp.maximum(theta, LEAST_ANGLE) - theta)
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    along = fields.along * cos + fields.across * sin
    aside = fields.along * sin - fields.across * cos
    across = jnp.hypot(aside, fields.apart)
    norm = jnp.hypot(along, across)
    # z = mix x + rest y, and n = rest x - mix y is the field of the student beside the probe.
    mix, rest = along / norm, across / norm
    lean, width = sin * aside / across, sin * fields.apart / across
    labels = kept.labels
    spread = jnp.sqrt(width**2 + jnp.min(labels.width) ** 2)
    overlap = fields.along / norm
    away_from_zero(overlap)

    edges = jnp.clip(kept.of_normal().breaks(), -38.0, 38.0)
    safe_mix, safe_lean = away_from_zero(mix), away_from_zero(lean)
    # Where the label turns at the edge of a window: z = edge and z cos + lean n = at.
    beside = (labels.at - edges[:, None] * cos) / safe_lean
    corner = (edges[:, None] * mix + beside * rest).ravel()
    scale = jnp.sqrt(jnp.maximum(1 - overlap**2, 0.0) + jnp.min(labels.width) ** 2)
    base = np.linspace(-7.0, 7.0, 9)
    parts = [
        jnp.asarray(base),
        _spread(labels.at / away_from_zero(overlap), scale / jnp.abs(overlap + 1e-300)),
        _spread(edges / safe_mix, rest / jnp.abs(safe_mix)),
        _spread(corner, rest * spread / jnp.abs(safe_lean)),
    ]
    kinks = {
        "logistic": [-step / 2, jnp.ones(())],
        "hinge": [jnp.ones(()), 1 - step, -step],
        "squared-hinge": [jnp.ones(()), -step],
        "square": [jnp.ones(()), -step],
        "hard-margin": [jnp.ones(())],
        "separation": [jnp.zeros(())],
    }[loss]
    breaks = jnp.concatenate([*(part.ravel() for part in parts), jnp.stack(kinks) / norm])
    breaks = jnp.where(jnp.isfinite(breaks), breaks, REACH)

    def over_y(x: Array) -> tuple[Array, Array, Array]:
        """Integrate wt(z) Pi, and that times u and s, over y at the fields x."""
        deep = x[..., None, None, None]  # intervals, nodes and panels

        def integrands(y: Array) -> tuple[Array, ...]:
            z, n = mix * deep + rest * y, rest * deep - mix * y
            mean = z * cos + lean * n
            density = normal_pdf(y)
            if not isinstance(kept.weight, IntervalWeight):
                density = density * kept.of_normal()(z)
            share = density * labels.probability(mean, width)
            slope = density * labels.slope(mean, width)
            # The in-plane field across the probe: its mean given the student's field, and what
            # the label adds to it.
            other = (aside / across) * n * share + sin * (fields.apart / across) ** 2 * slope
            return share, z * cos * share + sin * other, z * sin * share - cos * other

        # mean = (mix cos + lean rest) x + (rest cos - lean mix) y
        turn = away_from_zero(rest * cos - lean * mix)
        still = (mix * cos + lean * rest) * x
        centre = (labels.at - still[..., None]) / turn
        inner = [
            jnp.broadcast_to(jnp.asarray([-5.0, -2.5, 0.0, 2.5, 5.0]), (*x.shape, 5)),
            _spread(centre, spread / jnp.abs(turn)),
        ]
        if not labels.sharp:
            widest = jnp.sqrt(width**2 + jnp.max(labels.width) ** 2)
            inner.append(_spread(centre[..., :1], widest / jnp.abs(turn)))
        weight = kept.weight
        if isinstance(weight, IntervalWeight):
            # All intervals at once, in one more axis.
            ends = [
                jnp.clip((jnp.clip(end, -38.0, 38.0) - mix * x[..., None]) / rest, -REACH, REACH)
                for end in (weight.low, weight.high)
            ]
            level = weight.level
        else:
            inner.append((edges - mix * x[..., None]) / rest)
            ends = [jnp.full((*x.shape, 1), end) for end in (-REACH, REACH)]
            level = jnp.ones(1)
        marks = jnp.concatenate(inner, axis=-1)[..., None, :]
        marks = jnp.broadcast_to(marks, (*x.shape, *level.shape, marks.shape[-1]))
        found = integrate_panels(integrands, marks, *ends, order=ORDER, block=INNER)
        share, teacher, plane = (jnp.sum(level * each, axis=-1) for each in found)
        return share, teacher, plane

    def at(t: Array, rate: Array, force: Array, bend: Array, after: Array) -> tuple[Array, ...]:
        """Return the integrands of x at the fields t, `rate` being dt over the variable."""
        x = t / norm
        share, teacher, plane = over_y(x)
        density = 2 * kept.alpha_total * normal_pdf(x) / norm * rate
        whole = density * share
        return (
            density * force * teacher,
            density * force * plane,
            whole * force**2,
            whole * bend,
            whole,
            whole * bare_loss(loss, after),
            whole * (after < 0),
            whole * (t < 1),
        )

    if loss == "logistic":
        marks = logistic_prox(breaks * norm, step)
        marks = jnp.concatenate([marks, bends(step, norm)])
        low, high = logistic_prox(jnp.asarray([-REACH, REACH]) * norm, step)

        def integrands(variable: Array) -> tuple[Array, ...]:
            r = variable
            chance = jax.nn.sigmoid(-r)
            curve = chance * (1 - chance)
            rate = 1 + step * curve
            return at(r - step * chance, rate, -chance, curve / rate, r)

    else:
        marks, low, high = breaks * norm, -REACH * norm, REACH * norm

        def integrands(variable: Array) -> tuple[Array, ...]:
            t = variable
            force, bend, after = bare_envelope(loss, t, step)
            return at(t, jnp.ones(()), force, bend, after)

    found = integrate_panels(integrands, marks, low, high, order=ORDER, block=BLOCK)
    return jnp.stack(found)


def _spread(centre: Array, scale: Array) -> Array:
    """Return breaks around Gaussian steps in a last axis, in the shape (..., breaks).

    There are none around steps as wide as the panels of phi.
    """
    scale = jnp.where(scale < WIDE, scale, jnp.nan)
    marks = centre[..., None] + scale * jnp.asarray(COARSE)
    return marks.reshape(*centre.shape[:-1], -1)


def test_loss(labels: LabelKernel, overlap: Array, norm: Array, loss: str) -> Array:
    """Return the mean loss on unselected examples with their observed labels.

    A hard-margin student is judged by the hinge loss.

    Args:
        labels: the label channel.
        overlap: R, in [-1, 1].
        norm: standard deviation of the student's field, > 0.
        loss: name of the loss.
    """
    spread = jnp.sqrt(jnp.maximum(1 - overlap**2, 1e-30))
    scale = jnp.sqrt(spread**2 + labels.width**2) / away_from_zero(jnp.abs(overlap))
    limit = jnp.asarray(REACH)
    breaks = jnp.concatenate(
        [
            jnp.asarray(np.linspace(-7.5, 7.5, 11)),
            feature_breaks(labels.at / away_from_zero(overlap), scale),
            feature_breaks(jnp.zeros(()), 1 / norm, (-30.0, -9.0, -3.0, 3.0, 9.0, 30.0)),
            (1 / norm)[None],
        ]
    )
    x, dx = panel_nodes(breaks, -limit, limit, ORDER)
    chance = labels.probability(overlap * x, spread)
    return 2 * jnp.sum(dx * normal_pdf(x) * chance * bare_loss(loss, norm * x))
