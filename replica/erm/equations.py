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
class Symmetric:
    """A symmetric matrix on the plane of teacher and probe.

    Its entries are scalars, of which the compiler makes one program where arrays take many.
    """

    along: Array
    mixed: Array
    across: Array

    def times(self, one: Array, two: Array) -> tuple[Array, Array]:
        """Return the product with a vector."""
        return self.along * one + self.mixed * two, self.mixed * one + self.across * two

    def form(self, one: Array, two: Array) -> Array:
        """Return the quadratic form at a vector."""
        return self.along * one**2 + 2 * self.mixed * one * two + self.across * two**2

    def solve(self, one: Array, two: Array) -> tuple[Array, Array]:
        """Return the inverse's product with a vector."""
        scale = self.along * self.across - self.mixed**2
        return (
            (self.across * one - self.mixed * two) / scale,
            (self.along * two - self.mixed * one) / scale,
        )


@pytree_dataclass
class Resolvent:
    """Spectral sums of k_j = c_j/(lam + Lambda c_j).

    Attributes:
        first: D1 = sum_j share_j k_j, the prox step gamma.
        second: D2 = sum_j share_j k_j^2.
        plane: K = sum_j k_j (t_j, v_j)(t_j, v_j)'.
        excess: sum_j k_j^2 (t_j, v_j)(t_j, v_j)' - K^2, without cancellation.
        length: sum_j k_j^2/c_j (t_j, v_j)(t_j, v_j)'.
        length_apart: sum_j share_j k_j^2/c_j.
    """

    first: Array
    second: Array
    plane: Symmetric
    excess: Symmetric
    length: Symmetric
    length_apart: Array


def resolvent(penalty: Penalty, curvature: Array) -> Resolvent:
    """Return the spectral sums at a curvature Lambda."""
    at = penalty.profile
    k = at.eigenvalue / (penalty.lam + curvature * at.eigenvalue)
    first = jnp.sum(at.share * k)
    # Centred, so that nothing is left to cancel where all eigenvalues are one.
    whole, apart = _in_plane(at, jnp.ones_like(k)), _in_plane(at, k - first)
    wide = _in_plane(at, (k - first) ** 2)
    return Resolvent(
        first=first,
        second=jnp.sum(at.share * k**2),
        plane=jax.tree.map(lambda one, two: first * one + two, whole, apart),
        excess=Symmetric(
            along=wide.along - apart.along**2 - apart.mixed**2,
            mixed=wide.mixed - apart.mixed * (apart.along + apart.across),
            across=wide.across - apart.across**2 - apart.mixed**2,
        ),
        length=_in_plane(at, k**2 / at.eigenvalue),
        length_apart=jnp.sum(at.share * k**2 / at.eigenvalue),
    )


def _in_plane(profile: Profile, values: Array) -> Symmetric:
    return Symmetric(
        along=jnp.sum(values * profile.teacher),
        mixed=jnp.sum(values * profile.cross),
        across=jnp.sum(values * profile.direction),
    )


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
    one, two = sums.plane.solve(at.along, at.across)  # nu
    along = one - at.curvature * at.along + averages.pull[0]
    across = two - at.curvature * share * at.across + jnp.sqrt(share) * averages.pull[1]
    apart = averages.square * sums.second + sums.excess.form(one, two)
    return jnp.stack(
        [
            sums.first * along / at.norm(),
            sums.first * across / jnp.hypot(at.across, at.apart),
            apart / at.apart**2 - 1,
            (averages.curvature - at.curvature) / (penalty.lam + at.curvature),
        ]
    )


def evolved(x: Array, averages: Averages, penalty: Penalty) -> Array:
    """Return the next point of state evolution, whose fixed points solve the equations."""
    at = Unknowns.of(x, penalty.lam)
    share = penalty.share
    curvature = jnp.maximum(averages.curvature, 0.0)
    one = curvature * at.along - averages.pull[0]
    two = curvature * share * at.across - jnp.sqrt(share) * averages.pull[1]
    sums = resolvent(penalty, curvature)
    along, across = sums.plane.times(one, two)
    apart = averages.square * sums.second + sums.excess.form(one, two)
    now = Unknowns(along, across, jnp.sqrt(jnp.maximum(apart, 1e-300)), curvature)
    return now.vector(penalty.lam)


def weight_norm2(x: Array, averages: Averages, penalty: Penalty) -> Array:
    """Return W.W, the squared Euclidean norm, which differs from W'C W unless C = I."""
    at = Unknowns.of(x, penalty.lam)
    sums = resolvent(penalty, at.curvature)
    pressure = sums.plane.solve(at.along, at.across)
    return averages.square * sums.length_apart + sums.length.form(*pressure)


def newton_matrix(x: Array, averages: Averages, slopes: Array, penalty: Penalty) -> Array:
    """Return the derivative of the residuals by x, shape (4, 4).

    Args:
        x: the vector of the unknowns.
        averages: averages at x.
        slopes: derivative of (pull_t, pull_v, square, curvature) by (along, across, apart,
            prox_step), shape (4, 4).
        penalty: the rest of the problem.
    """
    own = jax.jacfwd(residuals)(x, averages, penalty)
    at = Unknowns.of(x, penalty.lam)
    sums = resolvent(penalty, at.curvature)
    rest = 1 - penalty.share
    apart = jnp.sqrt(at.apart**2 + rest * at.across**2)
    zero = jnp.zeros_like(apart)
    # Each residual holds one average, and `fields_at` by x.
    by_average = jnp.stack(
        [
            sums.first / at.norm(),
            sums.first * jnp.sqrt(penalty.share) / jnp.hypot(at.across, at.apart),
            sums.second / at.apart**2,
            1 / (penalty.lam + at.curvature),
        ]
    )
    steep = jnp.hypot(at.across, at.apart)  # of across, by its own number
    beside = jnp.sqrt(penalty.share)
    fields = jnp.stack(
        [
            *(jnp.hypot(at.along, at.apart), zero, at.along, zero),
            *(zero, beside * steep, beside * at.across, zero),
            *(zero, rest * at.across * steep / apart, apart, zero),
            *(zero, zero, zero, -sums.second * (penalty.lam + at.curvature)),
        ]
    ).reshape(4, 4)
    return own + by_average[:, None] * (slopes @ fields)
