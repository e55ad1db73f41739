"""Field and margin densities of the kept examples against sampling and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from theory import (
    Flip,
    HardSigned,
    Logit,
    Probit,
    Window,
    kept_mass,
    plane_coordinates,
    probe_field_density,
    student_margin_density,
    support_mass,
    teacher_margin_density,
    teacher_margin_shares,
)

THETA, KEEP, Q, PSI = 0.4, 0.25, 0.35, -0.2
COUNT = 400_000


def weight_of(policy):
    with jax.enable_x64(True):
        return policy.kept_weight(jnp.asarray(KEEP), jnp.asarray(THETA), jnp.asarray(1.0))


@pytest.fixture(scope="module")
def window():
    return weight_of(Window(0.1))


@pytest.fixture(scope="module")
def sample():
    """Probe field y z, teacher margin and cavity margin of kept examples, by rejection."""
    rng = np.random.default_rng(3)
    teacher, across, noise = rng.standard_normal((3, COUNT))
    sign = np.sign(teacher)
    teacher, across = teacher * sign, across * sign
    field = teacher * np.cos(THETA) + across * np.sin(THETA)
    edges = stats.norm.ppf([0.55, 0.675])  # abs(z) quantiles .1 and .35
    kept = (np.abs(field) > edges[0]) & (np.abs(field) < edges[1])
    c = np.sqrt(1 - Q**2)
    cavity = c * (teacher * np.cos(PSI) + across * np.sin(PSI)) + Q * noise
    return field[kept], teacher[kept], cavity[kept]


def bin_probabilities(density, edges):
    """Integrals over the bins by Gauss-Legendre; the densities are smooth inside each."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half = np.diff(edges)[:, None] / 2
    points = edges[:-1, None] + half * (1 + nodes)
    return np.sum(half * weights * np.asarray(density(points)), axis=1)


def assert_histogram(values, edges, probability):
    counts = np.histogram(values, edges)[0]
    stderr = np.sqrt(values.size * probability * (1 - probability) + 1)
    # 4.5 standard errors: a false alarm in about 1e-5 of the bins, and the seed is fixed.
    assert np.all(np.abs(counts - values.size * probability) < 4.5 * stderr)


def test_densities_against_sampling(window, sample):
    field, teacher, cavity = sample
    low, high = stats.norm.ppf([0.55, 0.675])
    for edges in (np.linspace(low, high, 5), np.linspace(-high, -low, 5)):
        assert_histogram(
            field,
            edges,
            bin_probabilities(lambda z: probe_field_density(z, theta=THETA, weight=window), edges),
        )
    edges = np.linspace(0, 3, 9)
    assert_histogram(
        teacher,
        edges,
        bin_probabilities(lambda t: teacher_margin_density(t, theta=THETA, weight=window), edges),
    )
    student = {"orthogonal": Q, "student_angle": PSI, "theta": THETA, "weight": window}
    edges = np.linspace(-1.6, 2.4, 9)
    assert_histogram(
        cavity, edges, bin_probabilities(lambda m: student_margin_density(m, **student), edges)
    )
    below = float(support_mass(0.3, **student))
    stderr = np.sqrt(below * (1 - below) / cavity.size)
    assert abs(np.mean(cavity < 0.3) - below) < 4 * stderr


def test_shares_of_margins_are_integrals_of_the_density(window):
    edges = np.linspace(0, 3, 9)
    np.testing.assert_allclose(
        teacher_margin_shares(edges, theta=THETA, weight=window),
        bin_probabilities(lambda t: teacher_margin_density(t, theta=THETA, weight=window), edges),
        rtol=1e-9,  # of the rule with eight nodes a bin
    )


@pytest.mark.parametrize("labels", [Flip(0.2), Probit(0.4), Logit(0.3)])
@pytest.mark.parametrize("theta", [0.0, 1e-3, 0.4])
def test_noisy_labels_move_the_margins_that_a_signed_policy_keeps(labels, theta):
    with jax.enable_x64(True):
        weight = HardSigned().kept_weight(
            jnp.asarray(KEEP), jnp.asarray(theta), jnp.asarray(1.0), labels.kernel()
        )
    rng = np.random.default_rng(8)
    teacher, across, noise = rng.standard_normal((3, COUNT))
    field = np.cos(theta) * teacher + np.sin(theta) * across
    if isinstance(labels, Probit):
        seen = np.sign(teacher + 0.4 * noise)
    else:
        chance = 0.8 if isinstance(labels, Flip) else special.expit(np.abs(teacher) / 0.3)
        seen = np.sign(teacher) * np.where(special.ndtr(noise) < chance, 1, -1)
    rows = np.argsort(seen * field)[: int(KEEP * COUNT)]
    edges = np.append(np.linspace(0, 3, 9), np.inf)
    shares = teacher_margin_shares(edges, theta=theta, weight=weight, labels=labels)
    assert_histogram(np.abs(teacher[rows]), edges, np.asarray(shares))
    # The kept mass moves the angle to 1e-11 at least.
    assert np.sum(shares) == pytest.approx(1, abs=1e-10)


def test_edges_of_margins_that_descend_are_refused(window):
    with pytest.raises(ValueError, match="must ascend"):
        teacher_margin_shares([0.0, 2.0, 1.0], theta=THETA, weight=window)
    with pytest.raises(ValueError, match=r"edges = -1"):
        teacher_margin_shares([-1.0, 1.0], theta=THETA, weight=window)


def test_support_mass_is_the_integral_of_the_density(window):
    student = {"orthogonal": Q, "student_angle": PSI, "theta": THETA, "weight": window}
    edges = np.linspace(-9, 0.3, 41)
    whole = bin_probabilities(lambda m: student_margin_density(m, **student), edges).sum()
    assert float(support_mass(0.3, **student)) == pytest.approx(whole, rel=1e-9)
    assert float(support_mass(30.0, **student)) == pytest.approx(1.0, rel=1e-11)


def test_teacher_density_by_quadrature(window):
    low, high = stats.norm.ppf([0.55, 0.675])
    for tau in (0.05, 0.4, 1.3):
        mean, width = tau * np.cos(THETA), np.sin(THETA)
        kept = sum(
            integrate.quad(stats.norm.pdf, *ends, args=(mean, width))[0]
            for ends in ((low, high), (-high, -low))
        )
        assert float(teacher_margin_density(tau, theta=THETA, weight=window)) == pytest.approx(
            2 * stats.norm.pdf(tau) * kept / KEEP, rel=1e-9
        )
    assert float(teacher_margin_density(-1.0, theta=THETA, weight=window)) == 0.0


def test_probe_field_density_signed_and_unsigned():
    weight = weight_of(HardSigned())
    edge = float(weight.high[0])

    def direct(z):
        return 2 / KEEP * stats.norm.pdf(z) * special.ndtr(z / np.tan(THETA)) * (z < edge)

    z = np.array([-1.0, -0.2, 0.1, 2.0])
    signed = probe_field_density(z, theta=THETA, weight=weight)
    unsigned = probe_field_density(z, theta=THETA, weight=weight, signed=False)
    np.testing.assert_allclose(signed, direct(z), rtol=1e-10)
    np.testing.assert_allclose(unsigned, (direct(z) + direct(-z)) / 2, rtol=1e-10)
    with jax.enable_x64(True):
        assert float(kept_mass(weight, jnp.asarray(THETA))) == pytest.approx(KEEP, rel=1e-12)


def test_plane_coordinates():
    c = np.sqrt(1 - Q**2)
    q, psi = plane_coordinates(c * np.cos(PSI), c * np.cos(THETA - PSI), THETA)
    assert float(q) == pytest.approx(Q, rel=1e-12)
    assert float(psi) == pytest.approx(PSI, rel=1e-12)


def test_bad_arguments(window):
    with pytest.raises(ValueError, match=r"theta = 2 is outside the valid range"):
        probe_field_density(0.0, theta=2.0, weight=window)
    with pytest.raises(ValueError, match=r"orthogonal = 1.5 is outside the valid range \[0, 1\]"):
        support_mass(0.0, orthogonal=1.5, student_angle=0.0, theta=0.1, weight=window)
    with pytest.raises(ValueError, match=r"overlap = -2 is outside the valid range \[-1, 1\]"):
        plane_coordinates(-2.0, 0.0, 0.1)
