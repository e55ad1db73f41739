"""Defines how the teacher's field becomes the observed label: clean, flipped, or noisy.

Every channel is P(y = +1 | u) = Pi(u), with Pi(-u) = 1 - Pi(u), u = T.x the teacher's field.
"""

import dataclasses
from functools import cache
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from hardset.checks import check_range, is_concrete
from hardset.pytree import STATIC, pytree_dataclass
from theory.quadrature import normal_cdf, normal_pdf

Array = jnp.ndarray
Floats = NDArray[np.float64]

LOGIT_TERMS = 16  # probits whose mixture is the logistic function to 8e-12


@pytree_dataclass
class LabelKernel:
    """A label channel as a sum of Gaussian steps, of which every average is closed.

    Pi(u) = base + sum_k jump_k Phi((u - at_k)/width_k).

    Attributes:
        base: Pi at u -> -infinity, scalar.
        jump: heights of the steps, shape (K,).
        at: fields where they lie, shape (K,).
        width: their widths >= 0, shape (K,); 0 is a jump.
        sharp: whether all of them are known to be jumps.
    """

    base: Array
    jump: Array
    at: Array
    width: Array
    sharp: bool = dataclasses.field(default=False, metadata=STATIC)

    def probability(self, mean: Array, spread: ArrayLike = 0.0) -> Array:
        """Return E Pi(mean + spread xi), xi ~ N(0, 1), at means of any shape."""
        mean = jnp.asarray(mean)[..., None]
        scale = jnp.sqrt(self.width**2 + jnp.asarray(spread)[..., None] ** 2)
        arms = (mean - self.at) / jnp.where(scale > 0, scale, 1.0)
        steps = jnp.where(scale > 0, normal_cdf(arms), jnp.heaviside(mean - self.at, 0.5))
        return self.base + jnp.sum(self.jump * steps, axis=-1)

    def slope(self, mean: Array, spread: ArrayLike) -> Array:
        """Return the derivative of `probability` with respect to the mean.

        Width and spread must not vanish together.
        """
        scale = jnp.sqrt(self.width**2 + jnp.asarray(spread)[..., None] ** 2)
        scale = jnp.where(scale > 0, scale, 1e-300)
        arms = (jnp.asarray(mean)[..., None] - self.at) / scale
        return jnp.sum(self.jump * normal_pdf(arms) / scale, axis=-1)


@pytree_dataclass
class Clean:
    """Labels that are the sign of the teacher's field."""

    name: ClassVar[str] = "clean"

    def kernel(self) -> LabelKernel:
        """Return the channel."""
        return _steps(0.0, 1.0, 0.0, sharp=True)

    def fits(self) -> Array:
        """Tell whether the parameters are in their range, also where they are traced."""
        return jnp.asarray(True)

    def parameters(self) -> dict[str, Any]:
        """Return the channel's own numbers, by the names that data files use."""
        return {}


@pytree_dataclass
class Flip:
    """Labels of which a share is flipped, independently of the example.

    Attributes:
        flip: probability of a flip, in [0, 1/2], scalar or array.
    """

    flip: ArrayLike = 0.0

    name: ClassVar[str] = "flip"

    def __post_init__(self) -> None:
        check_range("flip", self.flip, 0.0, 0.5)

    def kernel(self) -> LabelKernel:
        """Return the channel; the flip probability must be a scalar."""
        return _steps(self.flip, 1 - 2 * jnp.asarray(self.flip), 0.0, sharp=True)

    def fits(self) -> Array:
        """Tell whether the parameters are in their range, also where they are traced."""
        return _is_flip(self.flip)

    def parameters(self) -> dict[str, Any]:
        """Return the channel's own numbers, by the names that data files use."""
        return {"flip": self.flip}


@pytree_dataclass
class Probit:
    """Labels sign(u + sigma xi) with Gaussian noise on the teacher's field, then flips.

    Attributes:
        sigma: standard deviation of the noise, >= 0, scalar or array.
        flip: probability of a flip, in [0, 1/2].
    """

    sigma: ArrayLike
    flip: ArrayLike = 0.0

    name: ClassVar[str] = "probit"

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma, 0.0, np.inf)
        check_range("flip", self.flip, 0.0, 0.5)

    def kernel(self) -> LabelKernel:
        """Return the channel; the parameters must be scalars."""
        return _steps(self.flip, 1 - 2 * jnp.asarray(self.flip), self.sigma)

    def fits(self) -> Array:
        """Tell whether the parameters are in their range, also where they are traced."""
        sigma = jnp.asarray(self.sigma)
        return _is_flip(self.flip) & (sigma >= 0) & jnp.isfinite(sigma)

    def parameters(self) -> dict[str, Any]:
        """Return the channel's own numbers, by the names that data files use."""
        return {"noise_sigma": self.sigma, "flip": self.flip}


@pytree_dataclass
class Logit:
    """Labels of a logistic model, then flips.

    P(y = +1 | u) = 1/(1 + exp(-u/temperature)) before the flips.

    The logistic function is a mixture of probits whose widths have the law of Kolmogorov's
    statistic (Andrews and Mallows 1974); a Gauss rule for that law gives it to 8e-12.

    Attributes:
        temperature: T >= 0, scalar or array; 0 is clean.
        flip: probability of a flip, in [0, 1/2].
    """

    temperature: ArrayLike
    flip: ArrayLike = 0.0

    name: ClassVar[str] = "logit"

    def __post_init__(self) -> None:
        check_range("temperature", self.temperature, 0.0, np.inf)
        check_range("flip", self.flip, 0.0, 0.5)

    def kernel(self) -> LabelKernel:
        """Return the channel; the parameters must be scalars."""
        widths, shares = _logistic_mixture(LOGIT_TERMS)
        jump = (1 - 2 * jnp.asarray(self.flip)) * shares
        return LabelKernel(
            base=jnp.asarray(self.flip, jnp.float64),
            jump=jump,
            at=jnp.zeros(LOGIT_TERMS),
            width=jnp.asarray(self.temperature) * widths,
        )

    def fits(self) -> Array:
        """Tell whether the parameters are in their range, also where they are traced."""
        temperature = jnp.asarray(self.temperature)
        return _is_flip(self.flip) & (temperature >= 0) & jnp.isfinite(temperature)

    def parameters(self) -> dict[str, Any]:
        """Return the channel's own numbers, by the names that data files use."""
        return {"noise_temperature": self.temperature, "flip": self.flip}


@pytree_dataclass
class LabelSteps:
    """Labels whose probability is a step function of the teacher's field.

    Attributes:
        edges: fields of the steps, ascending, shape (..., K), symmetric about 0.
        probabilities: P(y = +1 | u) between them, shape (..., K + 1), in [0, 1]; reversed they
            are one minus themselves, since Pi(-u) = 1 - Pi(u).

    Raises:
        ValueError: edges that descend, a probability outside [0, 1], shapes that do not fit, or a
            channel that treats the two labels differently.
    """

    edges: ArrayLike
    probabilities: ArrayLike

    name: ClassVar[str] = "label-steps"

    def __post_init__(self) -> None:
        count = np.shape(self.edges)[-1:]
        if not count or not count[0] or np.shape(self.probabilities)[-1:] != (count[0] + 1,):
            raise ValueError(
                f"edges has shape {np.shape(self.edges)} and probabilities "
                f"{np.shape(self.probabilities)}; their last axes must be K and K + 1, K >= 1"
            )
        check_range("probabilities", self.probabilities, 0.0, 1.0)
        check_range("edges", self.edges, -np.inf, np.inf)
        if is_concrete(self.edges) and is_concrete(self.probabilities):
            edges, chances = np.asarray(self.edges), np.asarray(self.probabilities)
            if np.any(np.diff(edges, axis=-1) < 0):
                raise ValueError(f"edges = {edges} must ascend along their last axis")
            lopsided = np.abs(edges + edges[..., ::-1]) > 1e-12 * (1 + np.abs(edges))
            uneven = np.abs(chances + chances[..., ::-1] - 1) > 1e-12
            if np.any(lopsided) or np.any(uneven):
                raise ValueError(
                    f"edges = {edges.tolist()} with probabilities = {chances.tolist()} break "
                    "P(y = 1 | -u) = 1 - P(y = 1 | u), which the theory needs: edges must be "
                    "symmetric about 0, and the probabilities reversed one minus themselves"
                )

    def kernel(self) -> LabelKernel:
        """Return the channel; edges must have the shape (K,)."""
        chances = jnp.asarray(self.probabilities, jnp.float64)
        at = jnp.asarray(self.edges, jnp.float64)
        return LabelKernel(chances[0], chances[1:] - chances[:-1], at, jnp.zeros_like(at), True)

    def fits(self) -> Array:
        """Tell whether the parameters are in their range, also where they are traced."""
        chances = jnp.asarray(self.probabilities)
        at = jnp.asarray(self.edges)
        even = jnp.all(jnp.abs(chances + chances[::-1] - 1) <= 1e-9)
        even &= jnp.all(jnp.abs(at + at[::-1]) <= 1e-9 * (1 + jnp.abs(at)))
        return even & jnp.all((chances >= 0) & (chances <= 1)) & jnp.all(at[1:] >= at[:-1])

    def parameters(self) -> dict[str, Any]:
        """Return the channel's own numbers, by the names that data files use."""
        edges, chances = self.edges, self.probabilities
        named = {f"label_edge_{k}": edges[..., k] for k in range(np.shape(edges)[-1])}  # type: ignore[index]
        return named | {
            f"label_probability_{k}": chances[..., k]  # type: ignore[index]
            for k in range(np.shape(chances)[-1])
        }


Labels = Clean | Flip | Probit | Logit | LabelSteps


def observed_error(kernel: LabelKernel, overlap: Array) -> Array:
    """Return P(sign(h) differs from the observed label), h of the given overlap with T.

    By symmetry it is 2 int phi(x) (1 - E Pi(R x + sqrt(1 - R^2) xi)) dx over x > 0.
    """
    points, weights = np.polynomial.legendre.leggauss(20)
    ends = np.array([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 6.5, 9.0])
    half, middle = (ends[1:] - ends[:-1]) / 2, (ends[1:] + ends[:-1]) / 2
    x = jnp.asarray((middle[:, None] + half[:, None] * points).ravel())
    dx = jnp.asarray((half[:, None] * weights).ravel())
    spread = jnp.sqrt(jnp.maximum(1 - overlap**2, 0.0))
    wrong = 1 - kernel.probability(overlap * x, spread)
    return 2 * jnp.sum(dx * normal_pdf(x) * wrong)


def _steps(
    base: ArrayLike, jump: ArrayLike, width: ArrayLike, *, sharp: bool = False
) -> LabelKernel:
    one = jnp.ones(1)
    return LabelKernel(
        base=jnp.asarray(base, jnp.float64),
        jump=jnp.asarray(jump, jnp.float64) * one,
        at=0.0 * one,
        width=jnp.asarray(width, jnp.float64) * one,
        sharp=sharp,
    )


def _is_flip(flip: ArrayLike) -> Array:
    return (jnp.asarray(flip) >= 0) & (jnp.asarray(flip) <= 0.5)


@cache
def _logistic_mixture(terms: int) -> tuple[Floats, Floats]:
    """Return widths and shares of probits whose mixture is the logistic function.

    It is a Gauss rule for the law of log(2 k), k Kolmogorov's statistic, by Lanczos' recursion.
    """
    # Imported where it is needed: it takes as long as a grid's solution.
    from scipy.linalg import eigh_tridiagonal

    logs = np.linspace(np.log(0.05), np.log(5.0), 6001)
    k = np.exp(logs)
    law = _kolmogorov_density(k) * k
    law /= law.sum()
    diagonal, beside = np.zeros(terms), np.zeros(terms)
    before, now = np.zeros_like(logs), np.ones_like(logs)
    for i in range(terms):
        diagonal[i] = np.sum(law * logs * now**2)
        ahead = (logs - diagonal[i]) * now - (beside[i - 1] * before if i else 0.0)
        beside[i] = np.sqrt(np.sum(law * ahead**2))
        before, now = now, ahead / beside[i]
    nodes, vectors = eigh_tridiagonal(diagonal, beside[:-1])
    return 2 * np.exp(nodes), vectors[0] ** 2


def _kolmogorov_density(k: Floats) -> Floats:
    """Return the density of Kolmogorov's statistic by the series that converges fast there."""
    j = np.arange(1, 40)[:, None]
    small = np.minimum(k, 0.8)
    rate = ((2 * j - 1) * np.pi) ** 2 / 8
    below = np.exp(-rate / small**2) * (2 * rate / small**4 - 1 / small**2)
    above = (-1.0) ** (j + 1) * j**2 * np.exp(-2 * j**2 * k**2)
    return np.where(k > 0.8, 8 * k * np.sum(above, 0), np.sqrt(2 * np.pi) * np.sum(below, 0))
