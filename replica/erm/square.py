"""Computes averages of the square loss from moments of the kept fields.

The force is linear in the student's field, so that the mass, the means and the second moments of
the teacher's field u and of s, the one across it, are all that the equations need: integrals over
the probe field alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hardset.pytree import pytree_dataclass
from replica.erm.measure import Averages, Fields, Kept, over_copies
from theory.labels import LabelKernel
from theory.probe_field import NodeWeight
from theory.quadrature import away_from_zero, feature_breaks, integrate_panels, normal_pdf
from theory.weights import LEAST_ANGLE, IntervalWeight, SelectionWeight

Array = jnp.ndarray

ORDER = 14
BLOCK = 4
FARTHEST = 38.0  # phi vanishes beyond it
WIDE = 2.0  # a step of the label this wide needs no panels of its own
STEP = (-8.3, -5.5, -2.7, 0.0, 2.7, 5.5, 8.3)
TAILS = (-25.0, -18.0, -13.0, 13.0, 18.0, 25.0)


@pytree_dataclass
class Moments:
    """Moments of the kept examples, whose mass is the kept fraction.

    The gauge is that in which every observed label is +1.

    Attributes:
        mass: of 1, scalar.
        mean: of (u, s), shape (2,).
        second: of the products of u and s, shape (2, 2).
    """

    mass: Array
    mean: Array
    second: Array


def moments(kept: Kept) -> Moments:
    """Return the moments of one copy of every example, differentiable in every argument."""
    theta = kept.theta
    theta = theta + jax.lax.stop_gradient(jnp.maximum(theta, LEAST_ANGLE) - theta)
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    labels = kept.labels
    spread = jnp.sqrt(labels.width**2 + sin**2)

    def integrands(z: Array, mass: Array) -> tuple[Array, ...]:
        # z' is the field across the probe: u = z cos + z' sin, and Stein's lemma averages its
        # powers.
        arms = (z[..., None] * cos - labels.at) / spread
        steps = labels.jump * normal_pdf(arms) / spread
        chance = mass * labels.probability(z * cos, sin)
        slope = sin * mass * jnp.sum(steps, axis=-1)
        bend = chance - sin**2 * mass * jnp.sum(steps * arms / spread, axis=-1)
        return chance, z * chance, slope, z * z * chance, z * slope, bend

    if isinstance(kept.weight, NodeWeight):
        at = kept.weight
        found = tuple(jnp.sum(row) for row in integrands(at.nodes, 2 * at.mass * at.level))
    else:
        found = _over_probe(kept.weight, labels, cos, sin, integrands)
    turn = jnp.stack([jnp.stack([cos, sin]), jnp.stack([sin, -cos])])
    probe = jnp.stack([jnp.stack(found[3:5]), jnp.stack(found[4:6])])
    return Moments(
        mass=found[0],
        mean=turn @ jnp.stack(found[1:3]),
        second=turn @ probe @ turn,
    )


def _over_probe(
    weight: SelectionWeight,
    labels: LabelKernel,
    cos: Array,
    sin: Array,
    integrands: Callable[[Array, Array], tuple[Array, ...]],
) -> tuple[Array, ...]:
    """Integrate over a normal probe field, by panels that follow the label and the edges."""
    # Steps with widths lie at one place (theory.labels).
    at, widths = labels.at, labels.width
    if not labels.sharp:
        at, widths = at[:1], jnp.stack([jnp.min(widths), jnp.max(widths)])
    scale = jnp.sqrt(widths**2 + sin**2) / away_from_zero(cos)
    scale = jnp.where(scale < WIDE, scale, jnp.nan)
    spacing = 1.5 if isinstance(weight, IntervalWeight) else 0.75
    smooth = jnp.concatenate(
        [
            jnp.asarray(np.arange(-9.0, 9.1, spacing)),
            jnp.asarray(TAILS),
            feature_breaks(at / away_from_zero(cos), scale, STEP),
        ]
    )
    breaks = jnp.concatenate([weight.breaks(), jax.lax.stop_gradient(smooth)])
    least, most = weight.reach()
    low, high = jnp.clip(least, -FARTHEST, FARTHEST), jnp.clip(most, -FARTHEST, FARTHEST)

    def rows(z: Array) -> tuple[Array, ...]:
        return integrands(z, 2 * normal_pdf(z) * weight(z))

    return integrate_panels(rows, breaks, low, high, order=ORDER, block=BLOCK)


def averages(kept: Kept, fields: Fields) -> Averages:
    """Return the averages at a student's fields, differentiable in every argument."""
    return averages_and_slopes(kept, fields)[0]


def averages_and_slopes(kept: Kept, fields: Fields) -> tuple[Averages, Array]:
    """Return the averages, and their derivatives by the fields; see line.averages_and_slopes."""

    def one(part: Kept, count: Array) -> tuple[Averages, Array]:
        at = moments(part)
        scale = count * kept.alpha_total / (1 + count * fields.prox_step)
        rate = count / (1 + count * fields.prox_step)
        a = jnp.stack([fields.along, fields.across])
        toward = at.second @ a
        pull = scale * (toward - at.mean)
        lack = at.mass * (1 + fields.apart**2) - 2 * a @ at.mean + a @ toward
        square = scale * rate * lack
        bend = scale * at.mass
        zero = jnp.zeros(())
        slopes = jnp.concatenate(
            [
                jnp.concatenate(
                    [scale * at.second, jnp.zeros((2, 1)), -rate * pull[:, None]], axis=1
                ),
                jnp.stack(
                    [
                        jnp.concatenate(
                            [
                                2 * rate * pull,
                                jnp.stack([2 * rate * bend * fields.apart, -2 * rate * square]),
                            ]
                        ),
                        jnp.stack([zero, zero, zero, -rate * bend]),
                    ]
                ),
            ]
        )
        return Averages(pull, square, bend), slopes

    zero = Averages(jnp.zeros(2), jnp.zeros(()), jnp.zeros(()))
    return over_copies(kept, one, (zero, jnp.zeros((4, 4))))
