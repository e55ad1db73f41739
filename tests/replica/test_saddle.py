"""The saddle equations as gradients of the Gordon potential, also off the saddle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.stats import norm

from replica.gordon import Ensemble
from replica.saddle import saddle_sides
from theory.policies import Easy, Hard, HardSigned, Policy, Window

ALPHA, F, THETA, KAPPA = 4.0, 0.4, 0.5, 0.6


def potential(policy: Policy, vector: np.ndarray, kappa: float) -> float:
    """alpha E[(kappa - y u - q xi)_+^2] - q^2 by SciPy over (z, the orthogonal field)."""
    with jax.enable_x64(True):
        weight = policy.kept_weight(jnp.float64(F), jnp.float64(THETA), jnp.float64(1.0))
    q = np.sqrt(1 - vector @ vector)
    cot = np.cos(THETA) / np.sin(THETA)
    # T = (1, 0), J_p = (cos, sin); along J_p and orthogonal to it, on the teacher's side:
    along = vector @ np.array([np.cos(THETA), np.sin(THETA)])
    across = vector @ np.array([np.sin(THETA), -np.cos(THETA)])

    def integrand(other: float, z: float) -> float:
        a = kappa - along * z - across * other
        square = (a * a + q * q) * norm.cdf(a / q) + a * q * norm.pdf(a / q)
        return norm.pdf(z) * norm.pdf(other) * square

    total = 0.0
    for low, high, level in zip(weight.low, weight.high, weight.level, strict=True):
        low, high = np.clip([float(low), float(high)], -8, 8)
        total += (
            float(level)
            * dblquad(
                integrand, low, high, lambda z: max(-z * cot, -8), 8, epsabs=1e-9, epsrel=1e-9
            )[0]
        )
    return 2 * ALPHA * total - q * q


@pytest.mark.parametrize("policy", [Hard(), Easy(), HardSigned(), Window(0.3)])
def test_saddle_equations_are_the_gradient_of_the_potential(policy):
    """Off the saddle: left minus right sides of the first and third equation are the components of
    grad F/2 along T and J_p, of the second -F."""
    vector = np.array([0.5, 0.2])
    c = np.linalg.norm(vector)
    norm_ = 1 / np.sqrt(1 - c * c)
    with jax.enable_x64(True):
        weight = policy.kept_weight(jnp.float64(F), jnp.float64(THETA), jnp.float64(1.0))
        ensemble = Ensemble(jnp.float64(ALPHA), weight, jnp.float64(THETA))
        sides = saddle_sides(ensemble, jnp.asarray(vector * norm_), jnp.float64(KAPPA * norm_))
    sides = np.array([float(side) for side in sides])
    psi = np.arctan2(vector[1], vector[0])
    left = np.array(
        [c * np.sin(THETA - psi) / np.sin(THETA), 1 - c * c, c * np.sin(psi) / np.sin(THETA)]
    )
    first, second, third = left - sides
    # dblquad's 1e-9 over a step of 1e-3 leaves 1e-6 in the gradient, its h^2 as much.
    h = 1e-3
    gradient = [
        (potential(policy, vector + e, KAPPA) - potential(policy, vector - e, KAPPA)) / (2 * h)
        for e in (np.array([h, 0.0]), np.array([0.0, h]))
    ]
    assert first + third * np.cos(THETA) == pytest.approx(gradient[0] / 2, abs=1e-5)
    assert third * np.sin(THETA) == pytest.approx(gradient[1] / 2, abs=1e-5)
    assert second == pytest.approx(-potential(policy, vector, KAPPA), abs=1e-8)
