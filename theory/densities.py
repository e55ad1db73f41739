"""Computes the densities of the kept examples' probe, teacher and student margins."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jax.scipy.stats.norm import pdf
from jax.typing import ArrayLike

from hardset.checks import check_range, within_right_angle
from hardset.float64 import Float64Array, float64
from theory.labels import Clean, LabelKernel, Labels
from theory.quadrature import away_from_zero, feature_breaks, panel_grid, panel_nodes
from theory.weights import IntervalWeight, SelectionWeight, kept_mass, label_probability

Array = jnp.ndarray

REACH = 10.0  # phi(10) = 8e-23: below rounding even after division by f = 1e-3
_BATCH = 64  # fields evaluated at once: bounds the memory of two-dimensional quadrature


def orthogonal_moments(
    x: Array, theta: Array, student_angle: Array, weight: SelectionWeight
) -> tuple[Array, Array]:
    """Integrate the selection weight over the in-plane component across the student.

    That component is w. The moments are int phi(w) 1[teacher field > 0] wt(probe field) w^k dw for
    k = 0 and 1.

    Args:
        x: in-plane component along the student, scalar.
        theta: probe-teacher angle.
        student_angle: psi, from the teacher towards the probe.
        weight: selection weight in the gauge y = +1.

    Returns:
        The moments k = 0 and k = 1, scalars.
    """
    low, high = _teacher_half_line(x, student_angle)
    sine, cosine = jnp.sin(theta - student_angle), jnp.cos(theta - student_angle)
    if isinstance(weight, IntervalWeight):
        first, second = (
            (edge - x * cosine) / away_from_zero(sine) for edge in (weight.low, weight.high)
        )
        low = jnp.maximum(low, jnp.minimum(first, second))
        high = jnp.maximum(jnp.minimum(high, jnp.maximum(first, second)), low)
        return (
            jnp.sum(weight.level * _interval_probability(low, high)),
            jnp.sum(weight.level * (pdf(low) - pdf(high))),
        )
    breaks = (weight.breakpoints - x * cosine) / away_from_zero(sine)
    low, high = jnp.clip(low, -REACH, REACH), jnp.clip(high, -REACH, REACH)
    w, dw = panel_nodes(jnp.concatenate([breaks, jnp.arange(-8.0, 9.0, 2.0)]), low, high, 16)
    density = dw * pdf(w) * weight(x * cosine + w * sine)
    return jnp.sum(density), jnp.sum(density * w)


def axis_breaks(theta: Array, student_angle: Array, weight: SelectionWeight) -> Array:
    """Return the values of x at which `orthogonal_moments` is steep or kinked.

    Steep places of any width are included.
    """
    apart = theta - student_angle
    # Infinite edges bound nothing; they are moved far outside of the integration range.
    edges = jnp.nan_to_num(weight.breaks(), nan=0.0, posinf=1e6, neginf=-1e6)
    cosine = away_from_zero(jnp.cos(apart))
    at_edges = jax.vmap(feature_breaks, in_axes=(0, None))(
        edges / cosine, jnp.abs(jnp.sin(apart) / cosine)
    )
    at_zero = feature_breaks(jnp.zeros(()), jnp.abs(jnp.tan(student_angle)))
    # Corners, where an edge of the window meets the decision line of the teacher.
    corners = edges * jnp.sin(student_angle) / away_from_zero(jnp.sin(theta))
    return jnp.concatenate([at_edges.ravel(), edges / cosine, at_zero, jnp.zeros(1), corners])


def field_rule(
    features: tuple[tuple[Array, Array], ...], extra: Array, order: int = 12
) -> tuple[Array, Array]:
    """Return a quadrature rule for averages over a standard normal variable.

    The density phi is included in the weights.

    Args:
        features: pairs (centre, width) of the integrand's transitions.
        extra: further breakpoints.
        order: number of nodes in each panel.
    """
    breaks = [extra, jnp.arange(-8.0, 9.0, 2.0)]
    breaks += [feature_breaks(*feature) for feature in features]
    joined = jnp.nan_to_num(jnp.concatenate(breaks), nan=REACH, posinf=REACH, neginf=-REACH)
    nodes, weights = panel_nodes(joined, jnp.asarray(-REACH), jnp.asarray(REACH), order)
    return nodes, weights * pdf(nodes)


def _teacher_half_line(x: Array, student_angle: Array) -> tuple[Array, Array]:
    """Return the ends of the interval of w whose teacher field is positive.

    It is the open interval x cos(psi) - w sin(psi) > 0.
    """
    sine = jnp.sin(student_angle)
    edge = x * jnp.cos(student_angle) / away_from_zero(sine)
    return jnp.where(sine >= 0, -jnp.inf, edge), jnp.where(sine >= 0, edge, jnp.inf)


def _interval_probability(low: Array, high: Array) -> Array:
    """Return Phi(high) - Phi(low), computed from the tails that hold the digits."""
    swap = low > 0
    return ndtr(jnp.where(swap, -low, high)) - ndtr(jnp.where(swap, -high, low))


@float64
def probe_field_density(
    z: ArrayLike, *, theta: ArrayLike, weight: SelectionWeight, signed: bool = True
) -> Float64Array:
    """Return the density of the kept examples' signed probe margin or probe field.

    For the signed margin y z it is p(z) = (2/f) phi(z) Phi(z cot theta) wt(z). For the field z it
    is (p(z) + p(-z))/2, which is exact for every policy that treats x and -x alike (all named ones
    do).

    Args:
        z: fields, any shape.
        theta: probe-teacher angle in radians, in [0, pi/2], scalar.
        weight: selection weight in the gauge y = +1, from `Policy.kept_weight`.
        signed: True for y z, False for z.

    Returns:
        The density, the shape of `z`; it integrates to 1.

    Raises:
        ValueError: `theta` outside its range.
    """
    theta = _angle(theta)
    z = jnp.asarray(z, jnp.float64)
    density = _probe_field(z, theta, weight)
    return density if signed else (density + _probe_field(-z, theta, weight)) / 2


@float64
def teacher_margin_density(
    tau: ArrayLike, *, theta: ArrayLike, weight: SelectionWeight
) -> Float64Array:
    """Return the density of the kept examples' teacher margin tau = y T.x.

    It is (2/f) phi(tau) E[wt(z) | tau]. Given tau, the probe field z is
    N(tau cos theta, sin^2 theta).

    Args:
        tau: margins, any shape; the density vanishes at tau <= 0.
        theta: probe-teacher angle in radians, in [0, pi/2], scalar.
        weight: selection weight in the gauge y = +1, from `Policy.kept_weight`.

    Returns:
        The density, the shape of `tau`; it integrates to 1.

    Raises:
        ValueError: `theta` outside its range.
    """
    return _teacher_margin(jnp.asarray(tau, jnp.float64), _angle(theta), weight)


@float64
def teacher_margin_shares(
    edges: ArrayLike,
    *,
    theta: ArrayLike,
    weight: SelectionWeight,
    labels: Labels | None = None,
) -> Float64Array:
    """Return the shares of the kept examples whose margin abs(T.x) lies in each bin.

    The share between two edges is (2/f) int phi(t) E[wt(y z) | t] dt, integrated to rounding. The
    margin is the distance from the true boundary, whatever label was observed.

    Args:
        edges: ascending ends of the bins, >= 0, shape (K + 1,); the last may be infinite.
        theta: probe-teacher angle in radians, in [0, pi/2], scalar.
        weight: selection weight in the gauge y = +1, from `Policy.kept_weight`.
        labels: how the observed label y follows from the teacher's field, one channel; None is
            clean.

    Returns:
        Shape (K,); from 0 to infinity they sum to 1.

    Raises:
        ValueError: `theta` outside its range, or edges that are negative or descend.
    """
    ends = np.asarray(edges, np.float64)
    check_range("edges", np.where(np.isposinf(ends), 0.0, ends), 0.0, np.inf)
    if np.any(np.diff(ends) < 0):
        raise ValueError(f"edges = {ends.tolist()} must ascend")
    kernel = (Clean() if labels is None else labels).kernel()
    return _teacher_shares(jnp.minimum(jnp.asarray(ends), REACH), _angle(theta), weight, kernel)


@float64
def student_margin_density(
    m: ArrayLike,
    *,
    orthogonal: ArrayLike,
    student_angle: ArrayLike,
    theta: ArrayLike,
    weight: SelectionWeight,
) -> Float64Array:
    """Return the density of the cavity margin h over the kept examples.

    The cavity margin is the margin before training on the example. The actual margin of a
    max-margin student is max(h, kappa). So this is the density of the margins above kappa, and
    `support_mass` at kappa is the mass of the atom AT kappa. With c^2 = 1 - q^2,
    p(m) = (2/f) phi(m) P(teacher field > 0, kept | h = m), where h = c x + q xi and x is the
    in-plane component along the student (Gardner 1988; Sorscher et al. 2022, arXiv:2206.14486).

    Args:
        m: margins y J.x/abs(J), any shape.
        orthogonal: q in [0, 1], norm of the unit student orthogonal to teacher and probe, scalar.
        student_angle: psi, angle in radians of its in-plane part from the teacher towards the
            probe, scalar; `plane_coordinates` gives both from R and rho.
        theta: probe-teacher angle in radians, in [0, pi/2], scalar.
        weight: selection weight in the gauge y = +1, from `Policy.kept_weight`.

    Returns:
        The density, the shape of `m`; it integrates to 1 over the real line.

    Raises:
        ValueError: an argument outside its range.
    """
    q, psi, theta = _student(orthogonal, student_angle, theta)
    return _student_margin(jnp.asarray(m, jnp.float64), q, psi, theta, weight)


@float64
def support_mass(
    margin: ArrayLike,
    *,
    orthogonal: ArrayLike,
    student_angle: ArrayLike,
    theta: ArrayLike,
    weight: SelectionWeight,
) -> Float64Array:
    """Return the share of the kept examples whose cavity margin is below `margin`.

    The cavity margin is that of `student_margin_density`. At margin = kappa the share is the
    support fraction: all support vectors lie exactly at kappa. Above kappa it is the distribution
    function of the actual margins.

    Args:
        margin: upper end, any shape.
        orthogonal: q in [0, 1], norm of the unit student orthogonal to teacher and probe, scalar.
        student_angle: psi, angle in radians of its in-plane part from the teacher, scalar.
        theta: probe-teacher angle in radians, in [0, pi/2], scalar.
        weight: selection weight in the gauge y = +1, from `Policy.kept_weight`.

    Returns:
        The probability in [0, 1], the shape of `margin`.

    Raises:
        ValueError: an argument outside its range.
    """
    q, psi, theta = _student(orthogonal, student_angle, theta)
    return _mass_below(jnp.asarray(margin, jnp.float64), q, psi, theta, weight)


@float64
def plane_coordinates(
    overlap: ArrayLike, probe_overlap: ArrayLike, theta: ArrayLike
) -> tuple[Float64Array, Float64Array]:
    """Return the coordinates (q, psi) of a unit student from its overlaps.

    They solve R = c cos psi and rho = c cos(theta - psi) with c^2 = 1 - q^2. They lose digits as
    theta -> 0, where R and rho no longer tell on which side of the teacher the student lies. A
    solved point carries (q, psi) itself. At theta = 0 the in-plane part lies along the teacher, and
    psi = 0 (or pi for R < 0).

    Args:
        overlap: R in [-1, 1], any shape.
        probe_overlap: rho in [-1, 1], same shape.
        theta: probe-teacher angle in radians, in [0, pi/2], same shape.

    Returns:
        q = sqrt(1 - c^2) in [0, 1] and psi in radians, in (-pi, pi].

    Raises:
        ValueError: an argument outside its range.
    """
    check_range("overlap", overlap, -1.0, 1.0)
    check_range("probe_overlap", probe_overlap, -1.0, 1.0)
    theta = _angle(theta)
    overlap = jnp.asarray(overlap, jnp.float64)
    across = jnp.asarray(probe_overlap, jnp.float64) - overlap * jnp.cos(theta)
    across = jnp.where(theta > 0, across / jnp.maximum(jnp.sin(theta), 1e-300), 0.0)
    q = jnp.sqrt(jnp.maximum(1 - overlap**2 - across**2, 0.0))
    return q, jnp.arctan2(across, overlap)


@jax.jit
def _probe_field(z: Array, theta: Array, weight: SelectionWeight) -> Array:
    return 2 * pdf(z) * label_probability(z, theta) * weight(z) / kept_mass(weight, theta)


@jax.jit
def _teacher_margin(tau: Array, theta: Array, weight: SelectionWeight) -> Array:
    def kept(tau: Array) -> Array:
        # With the teacher in the student's place (psi = 0) the component across it only moves z.
        return orthogonal_moments(tau, theta, jnp.zeros(()), weight)[0]

    density = 2 * pdf(tau) * _mapped(kept, tau) / kept_mass(weight, theta)
    return jnp.where(tau > 0, density, 0.0)


@jax.jit
def _teacher_shares(
    edges: Array, theta: Array, weight: SelectionWeight, labels: LabelKernel
) -> Array:
    zero = jnp.zeros(())
    breaks = axis_breaks(theta, zero, weight)
    # A wrong label mirrors the weight's edges; the label itself turns at its own steps.
    turns = feature_breaks(labels.at, labels.width)

    def kept(t: Array) -> Array:
        right = labels.probability(t)
        as_seen = orthogonal_moments(t, theta, zero, weight)[0]
        # Of a wrong label the policy sees the field -z, whose mean is -t cos(theta).
        mirrored = orthogonal_moments(t, np.pi - theta, zero, weight)[0]
        return right * as_seen + (1 - right) * mirrored

    # One rule over all bins, whose edges are breakpoints like the others.
    t, dt = panel_grid(jnp.concatenate([breaks, -breaks, turns, edges]), edges[0], edges[-1], 12)
    panels = jnp.sum(2 * dt * pdf(t) * jax.vmap(jax.vmap(kept))(t), axis=0)
    places = jnp.searchsorted(edges, t[0], side="right") - 1
    shares = jnp.zeros(edges.size - 1).at[places].add(panels)
    return shares / kept_mass(weight, theta, labels)


@jax.jit
def _student_margin(m: Array, q: Array, psi: Array, theta: Array, weight: SelectionWeight) -> Array:
    c = jnp.sqrt((1 - q) * (1 + q))
    breaks = axis_breaks(theta, psi, weight)

    def kept(m: Array) -> Array:
        # Given h = m, x is N(c m, q^2).
        t, dt = field_rule((), (breaks - c * m) / jnp.maximum(q, 1e-300))
        return dt @ _kept_moment(c * m + q * t, theta, psi, weight)

    return 2 * pdf(m) * _mapped(kept, m) / kept_mass(weight, theta)


@jax.jit
def _mass_below(
    margin: Array, q: Array, psi: Array, theta: Array, weight: SelectionWeight
) -> Array:
    c = jnp.sqrt((1 - q) * (1 + q))
    breaks = axis_breaks(theta, psi, weight)

    def below(margin: Array) -> Array:
        along = jnp.maximum(c, 1e-300)
        x, dx = field_rule(((margin / along, q / along),), breaks)
        cavity = ndtr((margin - c * x) / jnp.maximum(q, 1e-300))
        return dx @ (_kept_moment(x, theta, psi, weight) * cavity)

    return 2 * _mapped(below, margin) / kept_mass(weight, theta)


def _kept_moment(x: Array, theta: Array, psi: Array, weight: SelectionWeight) -> Array:
    return jax.vmap(lambda x: orthogonal_moments(x, theta, psi, weight)[0])(x)


def _mapped(function: Callable[[Array], Array], values: Array) -> Array:
    """Apply a function of a scalar to an array of any shape, in small batches.

    The batches bound the memory.
    """
    flat = jax.lax.map(function, values.ravel(), batch_size=_BATCH)
    return flat.reshape(values.shape)


def _angle(theta: ArrayLike) -> Array:
    return jnp.asarray(within_right_angle("theta", theta), jnp.float64)


def _student(
    orthogonal: ArrayLike, student_angle: ArrayLike, theta: ArrayLike
) -> tuple[Array, Array, Array]:
    check_range("orthogonal", orthogonal, 0.0, 1.0)
    check_range("student_angle", student_angle, -np.pi, np.pi, unit="rad")
    return (
        jnp.asarray(orthogonal, jnp.float64),
        jnp.asarray(student_angle, jnp.float64),
        _angle(theta),
    )
