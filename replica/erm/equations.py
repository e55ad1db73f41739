"""States the equations of the regularised student, and their residuals.

Four numbers solve them: the student's fields along the teacher, across it on the probe's side, and
outside the plane, and the curvature Lambda of the loss that the others leave to it. They are the
stationarity conditions of the Gordon form (Thrampoulidis, Abbasi and Hassibi 2018; Salehi, Abbasi
and Hassibi 2019; Loureiro et al. 2021 for a covariance), derived in docs/erm.md.
"""

import jax
import jax.numpy as jnp

from hardset.pytree import pytree_dataclass
from replica.erm.measure import Averages, Fields
from theory.inputs import Profile

Array = jnp.ndarray


@pytree_dataclass
class Penalty:
    """What the equations need beside the averages over the kept examples.

    Attributes:
        lam: ridge strength, scalar.
        profile: eigenvalues of the inputs, and what teacher and probe have in them.
        share: kappa^2 of cross-fitted probes, (1 + (K - 1) c)/K; 1 for a single one.
    """

    lam: Array
    profile: Profile
    share: Array


@pytree_dataclass
class Resolvent:
    """Spectral sums of k_j = c_j/(lam + Lambda c_j).

    Attributes:
        first: D1 = sum_j share_j k_j, the prox step gamma.
        second: D2 = sum_j share_j k_j^2.
        plane: K = sum_j k_j (t_j, v_j)(t_j, v_j)', shape (2, 2).
        excess: sum_j k_j^2 (t_j, v_j)(t_j, v_j)' - K^2, without cancellation, shape (2, 2).
        length: sum_j k_j^2/c_j (t_j, v_j)(t_j, v_j)', shape (2, 2).
        length_apart: sum_j share_j k_j^2/c_j.
    """

    first: Array
    second: Array
    plane: Array
    excess: Array
    length: Array
    length_apart: Array


def resolvent(penalty: Penalty, curvature: Array) -> Resolvent:
    """Return the spectral sums at a curvature Lambda."""
    at = penalty.profile
    k = at.eigenvalue / (penalty.lam + curvature * at.eigenvalue)
    first = jnp.sum(at.share * k)
    # Centred, so that nothing is left to cancel where all eigenvalues are one.
    centred = _in_plane(at, k - first)
    return Resolvent(
        first=first,
        second=jnp.sum(at.share * k**2),
        plane=first * _in_plane(at, jnp.ones_like(k)) + centred,
        excess=_in_plane(at, (k - first) ** 2) - centred @ centred,
        length=_in_plane(at, k**2 / at.eigenvalue),
        length_apart=jnp.sum(at.share * k**2 / at.eigenvalue),
    )


def _in_plane(profile: Profile, values: Array) -> Array:
    along = jnp.sum(values * profile.teacher)
    across = jnp.sum(values * profile.direction)
    mixed = jnp.sum(values * profile.cross)
    return jnp.stack([jnp.stack([along, mixed]), jnp.stack([mixed, across])])


@pytree_dataclass
class Unknowns:
    """A point of the solver: the student's fields and the curvature Lambda.

    Attributes:
        along: a_t, the field along the teacher.
        across: a_v, along the part of the probes orthogonal to it.
        apart: q > 0, outside the plane.
        curvature: Lambda.
    """

    along: Array
    across: Array
    apart: Array
    curvature: Array

    @classmethod
    def of(cls, x: Array, lam: Array) -> "Unknowns":
        """Return the numbers of a vector (asinh a_t/q, asinh a_v/q, log q, log(lam + Lambda)).

        In these coordinates hinge at strong lam, where Lambda vanishes, and small lam, where the
        norm is large, are both regular.
        """
        apart = jnp.exp(x[2])
        return cls(
            along=apart * jnp.sinh(x[0]),
            across=apart * jnp.sinh(x[1]),
            apart=apart,
            curvature=jnp.exp(x[3]) - lam,
        )

    def vector(self, lam: Array) -> Array:
        """Return the vector of which these are the numbers."""
        return jnp.stack(
            [
                jnp.arcsinh(self.along / self.apart),
                jnp.arcsinh(self.across / self.apart),
                jnp.log(self.apart),
                jnp.log(lam + self.curvature),
            ]
        )

    def norm(self) -> Array:
        """Return sqrt(W'C W), the standard deviation of the student's field."""
        return jnp.sqrt(self.along**2 + self.across**2 + self.apart**2)


def fields_at(x: Array, penalty: Penalty) -> Fields:
    """Return the fields at which the averages are taken, for one fold's probe."""
    at = Unknowns.of(x, penalty.lam)
    share = penalty.share
    return Fields(
        along=at.along,
        across=jnp.sqrt(share) * at.across,
        apart=jnp.sqrt(at.apart**2 + (1 - share) * at.across**2),
        prox_step=resolvent(penalty, at.curvature).first,
    )


def residuals(x: Array, averages: Averages, penalty: Penalty) -> Array:
    """Return the relative residuals of the four equations, shape (4,).

    Args:
        x: the vector of the unknowns.
        averages: averages over the kept examples at `fields_at(x, penalty)`.
        penalty: the rest of the problem.
    """
    at = Unknowns.of(x, penalty.lam)
    sums = resolvent(penalty, at.curvature)
    share = penalty.share
    plane = jnp.stack([at.along, at.across])
    pressure = _solve2(sums.plane, plane)  # nu
    held = at.curvature * plane * jnp.stack([jnp.ones_like(share), share])
    force = averages.pull * jnp.stack([jnp.ones_like(share), jnp.sqrt(share)])
    balance = sums.first * (pressure - held + force)
    apart = averages.square * sums.second + pressure @ sums.excess @ pressure
    return jnp.stack(
        [
            balance[0] / at.norm(),
            balance[1] / jnp.hypot(at.across, at.apart),
            apart / at.apart**2 - 1,
            (averages.curvature - at.curvature) / (penalty.lam + at.curvature),
        ]
    )


def evolved(x: Array, averages: Averages, penalty: Penalty) -> Array:
    """Return the next point of state evolution, whose fixed points solve the equations."""
    at = Unknowns.of(x, penalty.lam)
    share = penalty.share
    plane = jnp.stack([at.along, at.across])
    curvature = jnp.maximum(averages.curvature, 0.0)
    held = curvature * plane * jnp.stack([jnp.ones_like(share), share])
    pressure = held - averages.pull * jnp.stack([jnp.ones_like(share), jnp.sqrt(share)])
    sums = resolvent(penalty, curvature)
    along, across = sums.plane @ pressure
    apart = averages.square * sums.second + pressure @ sums.excess @ pressure
    now = Unknowns(along, across, jnp.sqrt(jnp.maximum(apart, 1e-300)), curvature)
    return now.vector(penalty.lam)


def weight_norm2(x: Array, averages: Averages, penalty: Penalty) -> Array:
    """Return W.W, the squared Euclidean norm, which differs from W'C W unless C = I."""
    at = Unknowns.of(x, penalty.lam)
    sums = resolvent(penalty, at.curvature)
    pressure = _solve2(sums.plane, jnp.stack([at.along, at.across]))
    return averages.square * sums.length_apart + pressure @ sums.length @ pressure


def _solve2(matrix: Array, vector: Array) -> Array:
    """Solve a symmetric 2 x 2 system."""
    (a, b), (_, d) = matrix
    one, two = vector
    return jnp.stack([d * one - b * two, a * two - b * one]) / (a * d - b * b)


def newton_matrix(x: Array, averages: Averages, slopes: Array, penalty: Penalty) -> Array:
    """Return the derivative of the residuals by x, shape (4, 4).

    Args:
        x: the vector of the unknowns.
        averages: averages at x.
        slopes: derivative of (pull_t, pull_v, square, curvature) by (along, across, apart,
            prox_step), shape (4, 4).
        penalty: the rest of the problem.
    """

    def of(x: Array, flat: Array) -> Array:
        return residuals(x, Averages(flat[:2], flat[2], flat[3]), penalty)

    flat = jnp.concatenate([averages.pull, jnp.stack([averages.square, averages.curvature])])
    own, by_average = jax.jacfwd(of, argnums=(0, 1))(x, flat)

    def fields(x: Array) -> Array:
        at = fields_at(x, penalty)
        return jnp.stack([at.along, at.across, at.apart, at.prox_step])

    return own + by_average @ slopes @ jax.jacfwd(fields)(x)
