"""Probe fields of a measured law, against the normal law in nodes and against simulation."""

import numpy as np
import pytest
from scipy.special import erfinv

import replica
from theory import (
    ERM,
    FieldLaw,
    FixedAngle,
    Flip,
    Hard,
    HardSigned,
    MaxMargin,
    PerceptronProblem,
    Power,
    Random,
    WindowSigned,
)


def normal_law(edge):
    """Return the law of abs(z), z normal, in the nodes of a Gauss rule with panels at `edge`."""
    points, weights = np.polynomial.legendre.leggauss(20)
    ends = np.array([0.0, 0.3, 0.7, edge, 1.9, 2.6, 3.5, 5.0, 8.0])
    half, middle = np.diff(ends)[:, None] / 2, (ends[1:] + ends[:-1])[:, None] / 2
    nodes = (middle + half * points).ravel()
    mass = (half * weights).ravel() * np.sqrt(2 / np.pi) * np.exp(-(nodes**2) / 2)
    return FieldLaw(nodes, mass / mass.sum())


def test_the_normal_law_in_nodes_has_the_reference_value():
    # A point of tests/reference/erm_points.json, found by another program.
    law = normal_law(np.sqrt(2) * erfinv(0.8))
    found = replica.solve(
        PerceptronProblem(
            2.0,
            0.8,
            FixedAngle.degrees(10.0),
            student=ERM("hinge", 0.1),
            labels=Flip(0.05),
            probe_field=law,
        ),
        throw=True,
    )
    wanted = {
        "overlap": 0.7363632784605347,
        "probe_overlap": 0.7239450859982488,
        "error": 0.23654145988176256,
        "norm": 1.9381922230538289,
        "training_loss": 0.06137711904760772,
        "training_error": 0.021802424962654953,
        "active_fraction": 0.5726698123986067,
        "test_loss": 0.6374656870632445,
        "observed_error": 0.26288731389358627,
    }
    for name, value in wanted.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-10), name


LAW = FieldLaw([0.2, 0.7, 1.2, 2.1], [0.35, 0.3, 0.2, 0.15])
THETA, FLIP, LAM, ALPHA = 0.5, 0.1, 0.2, 4.0


def ridge_draw(rng, weight_of, dim=300):
    """Train ridge regression on kept examples whose probe field has the law, and compare."""
    nodes, chances = np.asarray(LAW.nodes), np.asarray(LAW.weights)
    count = int(ALPHA * dim)
    z = rng.choice(nodes, count, p=chances) * rng.choice([-1.0, 1.0], count)
    rest = rng.standard_normal((count, dim - 1))
    u = np.cos(THETA) * z + np.sin(THETA) * rest[:, 0]
    labels = np.where(rng.random(count) < FLIP, -1.0, 1.0) * np.sign(u)
    keep = weight_of(z, labels, rng)
    x = np.column_stack([z, rest])[keep]
    y = labels[keep]
    w = np.linalg.solve(x.T @ x + LAM * dim * np.eye(dim), x.T @ y)
    teacher = np.zeros(dim)
    teacher[:2] = np.cos(THETA), np.sin(THETA)
    overlap = w @ teacher / np.linalg.norm(w)
    wrong = np.mean(y * (x @ w) < 0)
    return overlap, np.linalg.norm(w), np.mean((1 - y * (x @ w)) ** 2) / 2, wrong


def lowest_signed(z, labels, rng):
    order = np.lexsort((rng.random(len(z)), labels * z))
    return np.sort(order[: len(z) // 2])


def after_the_lowest(z, labels, rng):
    order = np.lexsort((rng.random(len(z)), labels * z))
    return np.sort(order[len(z) // 5 : len(z) // 5 + len(z) // 2])


@pytest.mark.parametrize(
    ("policy", "rule"),
    [(HardSigned(), lowest_signed), (WindowSigned(0.2), after_the_lowest)],
    ids=["hard-signed", "window-signed"],
)
def test_simulations_with_the_law_agree(policy, rule):
    """24 draws at N = 300; 0.003 is left for the deviation of order 1/N."""
    rng = np.random.default_rng(7)
    draws = np.array([ridge_draw(rng, rule) for _ in range(24)])
    found = replica.solve(
        PerceptronProblem(
            ALPHA,
            0.5,
            FixedAngle(THETA),
            policy,
            student=ERM("square", LAM),
            labels=Flip(FLIP),
            probe_field=LAW,
        ),
        throw=True,
    )
    wanted = [
        float(getattr(found, name))
        for name in ("overlap", "norm", "training_loss", "training_error")
    ]
    stderr = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    deviation = draws.mean(axis=0) - wanted
    assert np.all(np.abs(deviation) < 4 * stderr + 0.003), (deviation, stderr)


def test_smooth_weights_keep_their_fraction_of_the_law():
    common = {"student": ERM("square", LAM), "labels": Flip(FLIP), "probe_field": LAW}
    kept = np.array([0.1, 0.5, 0.9])
    for policy in (Power(3.0, 1.0, 10.0), Power(3.0, -0.5, 10.0)):
        found = replica.solve(PerceptronProblem(ALPHA, kept, FixedAngle(THETA), policy, **common))
        np.testing.assert_allclose(found.alpha_kept, ALPHA * kept, rtol=1e-12)
        assert found.failed == 0


def test_policies_that_do_not_look_at_z_do_not_see_its_ties():
    """At f = 1 every policy keeps all, whatever the law's ties."""
    common = {"student": ERM("square", LAM), "labels": Flip(FLIP), "probe_field": LAW}
    one = replica.solve(PerceptronProblem(ALPHA, 1.0, FixedAngle(THETA), Hard(), **common))
    two = replica.solve(PerceptronProblem(ALPHA, 1.0, FixedAngle(THETA), Random(), **common))
    np.testing.assert_allclose(one.overlap, two.overlap, rtol=1e-12)


def test_measured_margins_make_a_law():
    margins = np.array([-3.0, 1.0, 1.0, -1.0])
    law = FieldLaw.of_margins(margins)
    np.testing.assert_allclose(np.sum(law.weights * np.asarray(law.nodes) ** 2), 1.0, rtol=1e-15)
    np.testing.assert_allclose(np.max(law.nodes) / np.min(law.nodes), 3.0, rtol=1e-15)
    assert len(FieldLaw.of_margins(np.arange(1.0, 1001.0), nodes=50).nodes) == 50


def test_max_margin_with_a_measured_law_is_separable_up_to_its_threshold():
    problem = PerceptronProblem([1.0, 4.0], student=MaxMargin(), labels=Flip(0.1), probe_field=LAW)
    found = replica.solve(problem)
    assert np.asarray(found.status).tolist() == [0, replica.Status.NOT_SEPARABLE]


@pytest.mark.parametrize(
    ("nodes", "weights", "message"),
    [
        ([0.5, 1.0], [0.5, 0.4], "weights sum to 0.9; they must sum to 1"),
        ([0.5, 1.0], [1.5, -0.5], "weights = "),
        ([-0.5, 1.0], [0.5, 0.5], "nodes = -0.5"),
        ([0.5], [0.5, 0.5], "last axes must be of one length"),
    ],
)
def test_laws_that_are_none_are_refused(nodes, weights, message):
    with pytest.raises(ValueError, match=message):
        FieldLaw(nodes, weights)
