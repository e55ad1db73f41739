"""Computes the averages of the Gordon form for a student of an in-sample probe.

The student is the second stage. The averages are over the data as the probe's training left them.

Everything is in units of the student's part q outside span(T, J1), and the fields of the data in
units of q1, the probe's part orthogonal to the teacher. An example has the probe's cavity margin
q1 a, the teacher's field q1 b > 0 and the probe's dual variable, proportional to l = (mu1 - a)_+
with alpha E[l^2] = 1. Trained on it, the probe's margin is q1 max(a, mu1). The student
J = A T + B J1 + a vector outside has the slack

    s = d - A b - B (a - mu1)_+ + t l - xi,   d = kappa - B kappa1,   xi ~ N(0, 1),

where t is the multiplier of a constraint that the probe's training left behind: the rows' parts
outside span(T, J1), weighted by the probe's dual variables, add up to zero.
"""

import jax
import jax.numpy as jnp
import numpy as np

from hardset.pytree import pytree_dataclass
from replica.in_sample.probe import TrainedProbe
from theory.quadrature import (
    away_from_zero,
    feature_breaks,
    normal_cdf,
    normal_pdf,
    panel_grid,
    panel_nodes,
)

Array = jnp.ndarray

ORDER = 12
OFFSETS = (-6.5, -2.2, 2.2, 6.5)
FAR = 9.0  # the normal law's reach, in standard deviations


@pytree_dataclass
class RankedData:
    """The data that the in-sample probe has ranked, and the shares that are kept.

    Attributes:
        probe: the first stage.
        edges: ascending cavity margins a where the kept share changes, shape (2,), finite.
        levels: kept share below, between and above the edges, shape (3,).
    """

    probe: TrainedProbe
    edges: Array
    levels: Array

    def level(self, a: Array) -> Array:
        """Return the kept share at the cavity margins a, any shape."""
        low, high = self.edges
        return jnp.where(
            a < low, self.levels[0], jnp.where(a < high, self.levels[1], self.levels[2])
        )

    def kept(self) -> Array:
        """Return the number of kept distinct examples over N, alpha E[kept]."""
        a, density = along_nodes(self, jnp.zeros(4))
        probe = self.probe
        return jnp.sum(density * normal_cdf(probe.overlap * a) * self.level(a))

    def lost(self) -> Array:
        """Return the share of the probe's squared dual variables on examples that are not kept."""
        a, density = along_nodes(self, jnp.zeros(4))
        dual = jnp.maximum(self.probe.mu - a, 0.0)
        share = normal_cdf(self.probe.overlap * a) * (1 - self.level(a))
        return jnp.sum(density * share * dual**2)


@pytree_dataclass
class Averages:
    """The averages over the kept examples at one student.

    E stands for alpha times the mean, and the basis is (1, -b, -(a - mu1)_+, l).

    Attributes:
        second: E[s_+^2] - t^2, which feasibility sets to 1, scalar.
        tilt: half its derivative in t, scalar.
        lost: -1/2 times its second derivative in t, E[(1 - 1(kept, s > 0)) l^2], scalar.
        count: P(s > 0): support vectors over N, scalar.
        missing: support vectors that the probe has more than the student, over N, scalar.
        excess: E[s_+ b] and E[s_+ max(a, mu1)] less t E[l b] and t mu1 E[l], shape (2,).
        first: E[s_+ basis], shape (4,).
        square: E[1(s > 0) basis basis'], shape (4, 4).
    """

    second: Array
    tilt: Array
    lost: Array
    count: Array
    missing: Array
    excess: Array
    first: Array
    square: Array


def averages(data: RankedData, student: Array) -> Averages:
    """Return all averages that the solver needs.

    Near the lossless branch the slack is t l but for a small rest, and what the student lacks of
    the probe is small too: both are summed on their own, before they cancel.

    Args:
        data: the ranked data.
        student: (d, A, B, t - B), shape (4,).
    """
    d, along_teacher, along_probe, _ = student
    t = multiplier(student)
    a, density = (grid.ravel() for grid in along_nodes(data, student))
    b, mass = across_nodes(data.probe, a)
    level = data.level(a)
    above = jnp.maximum(a - data.probe.mu, 0.0)
    dual = jnp.maximum(data.probe.mu - a, 0.0)
    rest = (d - along_probe * above)[:, None] - along_teacher * b
    slack = rest + (t * dual)[:, None]
    below = mass * normal_cdf(slack)
    share = rest * below + mass * normal_pdf(slack)
    spared = mass * normal_cdf(-slack)
    kept = density * level
    count = [kept * jnp.sum(below * b**k, axis=1) for k in range(3)]
    part = [kept * jnp.sum(share * b**k, axis=1) for k in range(2)]
    lack = [
        density * jnp.sum(((1 - level)[:, None] * mass + level[:, None] * spared) * b**k, axis=1)
        for k in range(2)
    ]
    mean = [part[k] + t * dual * count[k] for k in range(2)]
    lost = jnp.sum(dual**2 * lack[0])
    tilt = jnp.sum(dual * part[0])
    first = [
        jnp.sum(mean[0]),
        -jnp.sum(mean[1]),
        -jnp.sum(above * mean[0]),
        jnp.sum(dual * mean[0]),
    ]
    # Row and column 1 of the square belong to -b.
    others = jnp.stack([jnp.ones_like(a), jnp.zeros_like(a), -above, dual])
    teacher = np.array([0.0, 1.0, 0.0, 0.0])
    cross = -jnp.outer(others @ count[1], jnp.asarray(teacher))
    square = (others * count[0]) @ others.T + cross + cross.T
    square = square + jnp.sum(count[2]) * np.outer(teacher, teacher)
    of_probe = a < data.probe.mu
    trained = jnp.maximum(a, data.probe.mu)
    return Averages(
        second=d * first[0]
        + along_teacher * first[1]
        + along_probe * first[2]
        + t * tilt
        + jnp.sum(count[0])
        - t**2 * lost,
        tilt=tilt - t * lost,
        lost=lost,
        count=jnp.sum(count[0]),
        missing=jnp.sum(jnp.where(of_probe, lack[0], -count[0])),
        excess=jnp.stack(
            [
                jnp.sum(part[1]) - t * jnp.sum(dual * lack[1]),
                jnp.sum(trained * part[0]) - t * data.probe.mu * jnp.sum(dual * lack[0]),
            ]
        ),
        first=jnp.stack(first),
        square=square,
    )


def multiplier(student: Array) -> Array:
    """Return the multiplier t of a student (d, A, B, t - B)."""
    return student[2] + student[3]


def across_nodes(probe: TrainedProbe, a: Array) -> tuple[Array, Array]:
    """Return quadrature nodes b > 0 at each a, shape (n,), and their weights.

    The weights include the density phi(b - R1 a).
    """
    mean = probe.overlap * a[:, None]
    low = jnp.maximum(mean - FAR, 0.0)
    # A tail that begins at -mean ends where it has fallen to exp(-FAR^2/2) of its start.
    high = jnp.where(mean > 0, mean + FAR, FAR**2 / (jnp.sqrt(mean**2 + FAR**2) - mean))
    unit, weight = panel_nodes(
        jnp.asarray([0.1, 0.3, 0.5, 0.75]), jnp.zeros(()), jnp.ones(()), ORDER
    )
    b = low + (high - low) * unit
    return b, (high - low) * weight * normal_pdf(b - mean)


def along_nodes(data: RankedData, student: Array) -> tuple[Array, Array]:
    """Return quadrature nodes in a and their weights, with panels at every scale.

    The weights include the density 2 alpha q1 phi(q1 a).
    """
    probe = data.probe
    # The places of the nodes change no average, and so no derivative.
    student = jax.lax.stop_gradient(student)
    d, along_teacher, along_probe, _ = student
    t = multiplier(student)
    low, high = data.edges
    bottom = -jnp.sqrt(FAR**2 + jnp.minimum(low, 0.0) ** 2)
    # Beyond the last edge with a kept example only the probe's support vectors count.
    far = jnp.sqrt(FAR**2 / probe.orthogonal**2 + jnp.maximum(high, 0.0) ** 2)
    top = jnp.where(data.levels[1] > 0, high, low)
    top = jnp.where(data.levels[2] > 0, far, jnp.maximum(top, probe.mu))
    decay = 1 + jnp.maximum(-low, 0.0)
    # Along the mean of b the slack falls by these slopes: with the probe's push and without.
    width = jnp.sqrt(1 + along_teacher**2)
    pushed = away_from_zero(t + along_teacher * probe.overlap)
    plain = away_from_zero(along_probe + along_teacher * probe.overlap)
    breaks = jnp.concatenate(
        [
            jnp.stack([low, high, probe.mu]),
            jnp.asarray([-5.5, -3.0, -1.0, 1.0, 3.0, 5.5]),
            low - jnp.asarray([0.5, 1.5, 4.0]) / decay,
            low - jnp.asarray([1.0, 4.0]) * width / jnp.maximum(t, 1.0),
            feature_breaks((d + t * probe.mu) / pushed, jnp.abs(width / pushed), OFFSETS),
            feature_breaks((d + along_probe * probe.mu) / plain, jnp.abs(width / plain), OFFSETS),
            top * np.array([0.02, 0.08, 0.2, 0.35, 0.5, 0.65, 0.8]),
        ]
    )
    a, da = panel_grid(breaks, bottom, top, ORDER)
    q1 = probe.orthogonal
    return a, 2 * probe.alpha * q1 * da * normal_pdf(q1 * a)


def components(probe: TrainedProbe, along_teacher: Array, along_probe: Array) -> Array:
    """Return the student's in-plane part along T and orthogonal to it, shape (2,).

    It is in units of q.
    """
    q1 = probe.orthogonal
    return jnp.stack([(along_teacher + along_probe * probe.overlap) / q1, along_probe])


def optimality(data: RankedData, student: Array, at: Averages) -> Array:
    """Return the residuals of the conditions that the student of largest margin meets.

    They are left minus right sides of the four conditions.

    Feasibility E[s_+^2] - t^2 = 1, stationarity in t, and in the student's components along T and
    J1: alpha E[s_+ u] = V2 R and alpha E[s_+ m1] = V2 rho with V2 = 1 - alpha P(s > 0). From the
    latter two the probe's own, alpha E[lam1 u] = R1 and alpha E[lam1 m1] = 1, are taken.

    Args:
        data: the ranked data.
        student: (d, A, B, t - B), shape (4,).
        at: averages at the student.

    Returns:
        The residuals, shape (4,).
    """
    probe = data.probe
    q1, overlap, response = probe.orthogonal, probe.overlap, probe.response
    _, along_teacher, along_probe, ahead = student
    own = response * ahead
    return jnp.stack(
        [
            at.second - 1,
            at.tilt,
            q1 * at.excess[0]
            + (overlap * own - response * along_teacher) / q1
            - at.missing * (along_teacher + along_probe * overlap) / q1,
            q1 * at.excess[1]
            + (own - response * along_teacher * overlap) / q1
            - at.missing * (along_teacher * overlap + along_probe) / q1,
        ]
    )
