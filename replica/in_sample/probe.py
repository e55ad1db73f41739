"""Solves the first stage: a max-margin probe trained on the whole data, without selection.

Gaussian integration by parts over the teacher's field turns the stationarity of the Gordon form
into y = alpha sqrt(2/pi) (mu Phi(mu) + phi(mu)), so that one equation in mu is left.
"""

import jax
import jax.numpy as jnp
import numpy as np

from hardset.pytree import pytree_dataclass
from theory.quadrature import feature_breaks, normal_cdf, normal_pdf, panel_nodes
from theory.weights import signed_margin_quantile

Array = jnp.ndarray

ORDER = 16
BISECTIONS = 48


@pytree_dataclass
class TrainedProbe:
    """The probe J1 that is trained on alpha N examples.

    Lengths are in units of its part orthogonal to the teacher.

    Attributes:
        alpha: distinct examples over N.
        y: R1/q1, its part along the teacher.
        mu: kappa1/q1, its margin.
        support: f_sv = P(h1 < kappa1), share of support vectors; h1 is the cavity margin.
        response: V1 = 1 - alpha f_sv, without the cancellation.
    """

    alpha: Array
    y: Array
    mu: Array
    support: Array
    response: Array

    @property
    def orthogonal(self) -> Array:
        """Norm q1 = sqrt(1 - R1^2) of the part orthogonal to the teacher."""
        return 1 / jnp.sqrt(1 + self.y**2)

    @property
    def overlap(self) -> Array:
        """Overlap R1 with the teacher."""
        return self.y * self.orthogonal

    @property
    def margin(self) -> Array:
        """Margin kappa1."""
        return self.mu * self.orthogonal

    @property
    def angle(self) -> Array:
        """Angle to the teacher in radians."""
        return jnp.arctan2(1.0, self.y)

    def quantile(self, lower: Array, upper: Array) -> Array:
        """Return the quantile of h1/q1 at a share of the examples.

        The share `lower` = 1 - `upper` lies below it.
        """
        return signed_margin_quantile(lower, upper, self.angle) / self.orthogonal


def train(alpha: Array) -> TrainedProbe:
    """Return the probe of alpha N examples, differentiable in alpha.

    Args:
        alpha: distinct examples over N, > 0, scalar.
    """
    # E[s_+^2] grows with mu through 1 once, between these bounds for alpha in [1e-6, 1e6].
    frozen = jax.lax.stop_gradient(alpha)
    bracket = (jnp.zeros(()), 1.2 + 1.2 / jnp.sqrt(frozen))

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        above = _excess(middle, frozen) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, bracket)
    # A Newton step restores the digits and carries the derivative, d(excess)/d(alpha) over slope.
    mu = jax.lax.stop_gradient((low + high) / 2)
    value, slope = jax.value_and_grad(_excess)(mu, alpha)
    mu = mu - value / jax.lax.stop_gradient(slope)
    y = _along_teacher(mu, alpha)
    u, density = _half_line(mu, y)
    slack = mu - y * u
    count = jnp.sum(density * normal_cdf(slack))
    first = jnp.sum(density * (slack * normal_cdf(slack) + normal_pdf(slack)))
    return TrainedProbe(
        alpha=alpha, y=y, mu=mu, support=count, response=alpha * mu * first / (1 + y**2)
    )


def _along_teacher(mu: Array, alpha: Array) -> Array:
    return alpha * np.sqrt(2 / np.pi) * (mu * normal_cdf(mu) + normal_pdf(mu))


def _excess(mu: Array, alpha: Array) -> Array:
    """Return alpha E[(mu - y u - xi)_+^2] - 1 at the stationary y."""
    y = _along_teacher(mu, alpha)
    u, density = _half_line(mu, y)
    slack = mu - y * u
    second = (slack**2 + 1) * normal_cdf(slack) + slack * normal_pdf(slack)
    return alpha * jnp.sum(density * second) - 1


def _half_line(mu: Array, y: Array) -> tuple[Array, Array]:
    """Return the nodes in the teacher's field u > 0 and weights with its density."""
    top = jnp.minimum(9.0, (mu + 9) / y)
    breaks = jnp.concatenate([feature_breaks(mu / y, 1 / y), top * np.linspace(0.125, 0.875, 7)])
    u, du = panel_nodes(breaks, jnp.zeros(()), top, ORDER)
    return u, 2 * du * normal_pdf(u)
