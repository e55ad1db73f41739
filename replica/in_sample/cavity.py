"""Certifies students of an in-sample probe by the two-stage cavity equations.

These are the second form of the theory, in the fields (h1, h2).

An example that neither perceptron has seen has the cavity margins h1 with the probe, h2 with the
student and the teacher's field u > 0: Gaussians of unit variance with correlations R1, R and rho.
Training on it adds the dual variables' push, m1 = h1 + V1 lam1 and m2 = h2 + V21 lam1 + V2 lam2,
where V21 lam1 is what the student learns from the probe's choice. Nothing is shared with the Gordon
form but the panel rule: here the teacher's field is integrated in closed form.
"""

import jax
import jax.numpy as jnp
import numpy as np

from hardset.pytree import pytree_dataclass
from replica.in_sample.gordon import RankedData, components
from theory.quadrature import (
    away_from_zero,
    feature_breaks,
    normal_cdf,
    normal_pdf,
    panel_grid,
    panel_nodes,
)

Array = jnp.ndarray

ORDER = 14
OFFSETS = (-8.0, -3.5, 0.0, 3.5, 8.0)


@pytree_dataclass
class OrderParameters:
    """The unknowns of the second stage.

    `width` and `pull` come with them, since they would lose digits if formed from them.

    Attributes:
        overlap: R.
        probe_overlap: rho.
        margin: kappa.
        response: V2.
        cross_response: V21.
        width: sqrt(1 - rho^2), standard deviation of h2 given h1.
        pull: covariance of u with (h2 - rho h1)/width.
    """

    overlap: Array
    probe_overlap: Array
    margin: Array
    response: Array
    cross_response: Array
    width: Array
    pull: Array

    @classmethod
    def of(cls, data: RankedData, student: Array, count: Array) -> "OrderParameters":
        """Return the order parameters of a student (d, A, B, t - B).

        `count` is its number of support vectors over N.
        """
        d, along_teacher, along_probe, ahead = student
        probe = data.probe
        q1 = probe.orthogonal
        plane = components(probe, along_teacher, along_probe)
        norm = jnp.sqrt(1 + plane @ plane)
        return cls(
            overlap=plane[0] / norm,
            probe_overlap=(plane[0] * probe.overlap + plane[1] * q1) / norm,
            margin=(d + along_probe * probe.mu) / norm,
            response=1 - count,
            # V21 comes from B - t, converted to the unit of lam1 = l q1/V1.
            cross_response=-ahead * probe.response / q1 / norm,
            width=jnp.sqrt(1 + along_teacher**2) / norm,
            pull=q1 * along_teacher / jnp.sqrt(1 + along_teacher**2),
        )


def probe_residual(data: RankedData) -> Array:
    """Return left minus right sides of the probe's own equations, shape (3,).

    R1 = alpha E[lam1 u], 1 = alpha E[lam1 m1], V1 = 1 - alpha P(h1 < kappa1).
    """
    probe = data.probe
    q1, overlap = probe.orthogonal, probe.overlap
    breaks = jnp.asarray([-6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0])
    a, da = panel_nodes(
        jnp.concatenate([breaks, probe.mu * np.linspace(0.1, 0.9, 5)]), -9.0 * q1**0, probe.mu, 20
    )
    density = 2 * probe.alpha * q1 * da * normal_pdf(q1 * a)
    mass = density * normal_cdf(overlap * a)
    dual = q1 * (probe.mu - a) / probe.response
    field = q1 * density * (overlap * a * normal_cdf(overlap * a) + normal_pdf(overlap * a))
    return jnp.stack(
        [
            1 - jnp.sum(dual * field) / overlap,
            1 - probe.margin * jnp.sum(dual * mass),
            probe.response - (1 - jnp.sum(mass)),
        ]
    )


def student_residual(data: RankedData, order: OrderParameters) -> Array:
    """Return the relative residuals of the student's five equations, shape (5,).

    They are left minus right sides of R = alpha E[lam2 u], 1 = alpha E[lam2 m2],
    rho = alpha E[lam2 m1] = alpha E[lam1 m2] and V2 = 1 - alpha P(lam2 > 0), with
    lam2 = (kappa - h2 - V21 lam1)_+/V2 on the kept examples.

    Args:
        data: the ranked data.
        order: the order parameters.
    """
    probe = data.probe
    q1, overlap, rho = probe.orthogonal, probe.overlap, order.probe_overlap
    a, density = (grid.ravel() for grid in _probe_nodes(data, order))
    mean = overlap * a / q1 * q1  # of u/q1 given h1
    dual = q1 * jnp.maximum(probe.mu - a, 0.0) / probe.response
    trained = q1 * jnp.maximum(a, probe.mu)
    spread = jnp.sqrt(q1**2 - order.pull**2)  # of u given both cavity margins
    at_margin = order.margin - rho * q1 * a - order.cross_response * dual
    centre = -order.pull / q1 * jnp.minimum(mean, 0.0)
    turn = away_from_zero(order.pull)

    def inner(mean: Array, at_margin: Array, centre: Array) -> tuple[Array, Array, Array]:
        top = jnp.clip(at_margin / order.width, centre - 9, centre + 9)
        breaks = jnp.concatenate(
            [
                centre + np.linspace(-5.0, 5.0, 4),
                -(q1 * mean + spread * np.array([-3.0, 3.0])) / turn,
            ]
        )
        v, dv = panel_nodes(breaks, centre - 9, top, ORDER)
        field = q1 * mean + order.pull * v
        positive, edge = normal_cdf(field / spread), normal_pdf(field / spread)
        mass = dv * normal_pdf(v)
        slack = at_margin - order.width * v
        return (
            jnp.sum(mass * positive),
            jnp.sum(mass * slack * positive),
            jnp.sum(mass * slack * (field * positive + spread * edge)),
        )

    count, push, push_field = jax.vmap(inner)(mean, at_margin, centre)
    kept = density * data.level(a)
    # Averages of lam1 m2 before the student sees the example: E[v; u > 0] is (pull/q1) phi.
    before = (rho * q1 * a + order.cross_response * dual) * normal_cdf(
        mean
    ) + order.width * order.pull / q1 * normal_pdf(mean)
    push_sum = jnp.sum(kept * push)
    return jnp.stack(
        [
            (order.overlap - jnp.sum(kept * push_field) / order.response)
            / jnp.maximum(jnp.abs(order.overlap), 1e-2),
            1 - order.margin * push_sum / order.response,
            (rho - jnp.sum(kept * push * trained) / order.response) / jnp.maximum(rho, 1e-2),
            (rho - jnp.sum(density * dual * before) - jnp.sum(kept * dual * push))
            / jnp.maximum(rho, 1e-2),
            order.response - (1 - jnp.sum(kept * count)),
        ]
    )


def _probe_nodes(data: RankedData, order: OrderParameters) -> tuple[Array, Array]:
    """Return quadrature nodes in h1/q1, and weights with the density 2 alpha phi(h1)."""
    probe = data.probe
    q1 = probe.orthogonal
    low, high = data.edges
    bottom = -jnp.sqrt(81 + jnp.minimum(low, 0.0) ** 2)
    far = jnp.sqrt(81 / q1**2 + jnp.maximum(high, 0.0) ** 2)
    last = jnp.where(data.levels[1] > 0, high, low)
    top = jnp.where(data.levels[2] > 0, far, jnp.maximum(last, probe.mu))
    # The integrand is steep where the student's margin is reached, with and without the push.
    push = order.cross_response / probe.response
    slope = away_from_zero(q1 * (order.probe_overlap - push))
    plain = away_from_zero(q1 * order.probe_overlap)
    below = (order.margin - push * q1 * probe.mu) / slope
    breaks = jnp.concatenate(
        [
            jnp.stack([low, high, probe.mu]),
            jnp.asarray([-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0]),
            jnp.stack([low, probe.mu, low])
            - jnp.stack(
                [2 * order.width / jnp.abs(slope)] * 2 + [8 * order.width / jnp.abs(slope)]
            ),
            low - jnp.asarray([1.0, 3.0]) / (1 + jnp.abs(jnp.minimum(low, 0.0))),
            feature_breaks(below, jnp.abs(order.width / slope), OFFSETS),
            feature_breaks(order.margin / plain, jnp.abs(order.width / plain), OFFSETS),
            top * np.array([0.05, 0.12, 0.25, 0.4, 0.55, 0.7, 0.85]),
        ]
    )
    a, da = panel_grid(breaks, bottom, top, ORDER)
    return a, 2 * probe.alpha * q1 * da * normal_pdf(q1 * a)
