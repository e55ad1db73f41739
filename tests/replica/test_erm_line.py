"""Averages of noisy kept examples, against brute force in the fields (z, z', xi) of the spec."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from replica.erm.line import averages, averages_and_slopes
from replica.erm.measure import Averages, Fields, Kept
from replica.erm.separability import separability
from theory.labels import Clean, Flip, Labels, LabelSteps, Logit, Probit
from theory.policies import Custom, Easy, EasySigned, Hard, HardSigned, Policy, Window

ALPHA = 3.0


@pytest.fixture(autouse=True)
def double_precision():
    """Numbers are traced in double precision."""
    with jax.enable_x64(True):
        yield


def kept_of(policy: Policy, labels: Labels, theta: float, fraction: float = 0.4, copies=1) -> Kept:
    one = jnp.ones(())
    weight = policy.kept_weight(jnp.float64(fraction), jnp.float64(theta), one)
    return Kept(jnp.float64(ALPHA), weight, jnp.float64(theta), labels.kernel(), copies * one)


def fields_of(numbers: tuple[float, ...]) -> Fields:
    return Fields(*(jnp.float64(number) for number in numbers))


def flat(found: Averages) -> np.ndarray:
    return np.array([*found.pull, found.square, found.curvature])


def panels(ends: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Legendre panels between the sorted last axis of `ends`."""
    points, weights = np.polynomial.legendre.leggauss(order)
    half = np.diff(ends)[..., None] / 2
    middle = (ends[..., 1:] + ends[..., :-1])[..., None] / 2
    nodes = (middle + half * points).reshape(*ends.shape[:-1], -1)
    return nodes, (half * weights).reshape(nodes.shape)


def density(x: np.ndarray) -> np.ndarray:
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def envelope(loss: str, t: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """M' and M'' from the definition of the prox."""
    if loss == "logistic":
        low, high = t, t + step  # of the prox, by bisection
        for _ in range(54):
            middle = (low + high) / 2
            above = middle - t > step / (1 + np.exp(middle))
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        chance = 1 / (1 + np.exp(high))
        bend = chance * (1 - chance)
        return -chance, bend / (1 + step * bend)
    slack = 1 - t
    if loss == "square":
        return -slack / (1 + step), np.ones_like(t) / (1 + step)
    if loss == "hinge":
        force = -np.clip(slack, 0, step) / step
        return force, ((slack > 0) & (slack < step)) / step
    scale = 1 + step if loss == "squared-hinge" else step
    return -np.maximum(slack, 0) / scale, (slack > 0) / scale


def brute_force(kept: Kept, numbers: tuple[float, ...], loss: str, count: int = 1) -> np.ndarray:
    """The four averages by three nested Gauss rules, with panels at every jump and kink."""
    along, across, apart, step = numbers
    theta = float(kept.theta)
    cos, sin = np.cos(theta), np.sin(theta)
    edges = np.asarray(kept.weight.breaks())
    grid = np.linspace(-9, 9, 13)
    z, dz = panels(np.sort(np.concatenate([grid, np.clip(edges, -9, 9)])), 8)
    steps = np.asarray(kept.labels.at)
    jumps = np.clip((steps - z[:, None] * cos) / max(sin, 1e-12), -9, 9)
    ends = np.concatenate([np.broadcast_to(grid, (len(z), len(grid))), jumps], axis=1)
    other, weight = panels(np.sort(ends, axis=1), 8)
    z, dz = z[:, None], dz[:, None]
    u, s = z * cos + other * sin, z * sin - other * cos
    mean = along * u + across * s
    mass = 2 * ALPHA * dz * weight * density(z) * density(other)
    mass = mass * np.asarray(kept.weight(jnp.asarray(z))) * np.asarray(kept.labels.probability(u))
    own = step * count
    kinks = [1.0, 1 - own] if loss == "hinge" else [1.0]
    bends = np.stack([np.clip((kink - mean) / apart, -9, 9) for kink in kinks], axis=-1)
    lines = np.linspace(-9, 9, 7)
    ends = np.concatenate([np.broadcast_to(lines, (*mean.shape, len(lines))), bends], axis=-1)
    total = np.zeros(4)
    for row in range(len(ends)):
        xi, dxi = panels(np.sort(ends[row], axis=-1), 10)
        first, second = envelope(loss, mean[row][:, None] + apart * xi, own)
        part = dxi * density(xi)
        force, square, bend = (np.sum(part * f, -1) for f in (first, first**2, second))
        here = mass[row]
        total += [
            np.sum(here * u[row] * force) * count,
            np.sum(here * s[row] * force) * count,
            np.sum(here * square) * count**2,
            np.sum(here * bend) * count,
        ]
    return total


STAIRS = LabelSteps((-0.7, 0.0, 0.7), (0.05, 0.3, 0.7, 0.95))
SMOOTH = Custom(lambda z: 1 / (1 + z**2))

POINTS = [
    (Hard(), Flip(0.1), 0.5, "hinge", (0.9, -0.3, 0.8, 0.7)),
    (Hard(), Clean(), 0.0, "hinge", (1.4, 0.6, 0.5, 3.0)),
    (Window(0.1), Flip(0.2), 1.2, "hinge", (-0.4, 0.9, 1.1, 40.0)),
    (HardSigned(), Flip(0.2), 0.3, "squared-hinge", (-0.6, 0.2, 0.7, 2.0)),
    (EasySigned(), Flip(0.05), np.pi / 2, "squared-hinge", (0.8, 0.0, 0.6, 0.3)),
    (Easy(), STAIRS, 0.7, "squared-hinge", (0.7, 0.5, 0.9, 1.0)),
    (Hard(), Probit(0.5, 0.1), 0.4, "hinge", (0.6, 0.4, 0.7, 1.5)),
    (Window(0.2), Logit(0.4), 0.9, "square", (0.5, -0.7, 0.6, 0.8)),
    (SMOOTH, Flip(0.1), 0.6, "hinge", (0.8, 0.5, 0.7, 1.2)),
    (Easy(), Flip(0.3), 0.0, "square", (0.0, 0.0, 0.6, 0.8)),
    (Hard(), Flip(0.1), 0.35, "logistic", (1.1, 0.4, 0.9, 2.0)),
    (HardSigned(), Probit(0.3), 0.8, "logistic", (0.2, -0.5, 0.6, 30.0)),
    (Easy(), Clean(), 0.5, "hard-margin", (0.9, 0.3, 0.5, 0.6)),
]


@pytest.mark.parametrize(("policy", "labels", "theta", "loss", "numbers"), POINTS)
def test_averages_are_those_of_the_original_fields(policy, labels, theta, loss, numbers):
    """The nested rules resolve Gaussians of width q/norm >= 1/3 by 8 nodes on 1.5, to about 1e-9."""
    kept = kept_of(policy, labels, theta)
    found = flat(jax.jit(averages, static_argnums=2)(kept, fields_of(numbers), loss))
    expected = brute_force(kept, numbers, loss)
    print(np.abs(found - expected) / np.max(np.abs(expected)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-9 * np.max(np.abs(expected)))
