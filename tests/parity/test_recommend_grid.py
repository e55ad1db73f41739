"""The grid on which theta and alpha_total must be recovered: 1,000 dimensions, ten teachers."""

import numpy as np
import pytest

import replica
from selection.advice import Metric
from selection.advice.estimates import (
    LearningCurve,
    angle_of_overlap,
    effective_dimension,
    estimate_coordinates,
)
from selection.advice.probes import probe_overlaps
from theory import PerceptronProblem


@pytest.mark.parametrize(
    ("alpha", "metric"),
    [(1.0, "covariance"), (2.0, "isotropic"), (8.0, "isotropic")],
)
def test_coordinates_of_isotropic_data(alpha: float, metric: Metric) -> None:
    """Within two degrees and 10% on average; the truth is the replica solution's probe."""
    dim = 1000
    n = int(alpha * dim)
    curve = LearningCurve.of_theory()
    angles, volumes = [], []
    for seed in range(10):
        x = np.random.default_rng(seed).standard_normal((n, dim))
        signs = np.where(x[:, 0] < 0, -1.0, 1.0)
        # Held-out margins are the noisier of the two: several splits of the same data.
        splits, factor = (1, 2.0) if metric == "isotropic" else (4, 2.5)
        overlap = probe_overlaps(x, signs, splits=splits, metric=metric, seed=seed).mean()
        angles.append(float(curve.trained_on(angle_of_overlap(overlap), factor)))
        volumes.append(n / effective_dimension(x, rows=2000).value)
    truth = 180 * float(np.asarray(replica.solve(PerceptronProblem(alpha_total=alpha)).error))
    assert 10 <= truth <= 50
    assert np.rad2deg(np.mean(angles)) == pytest.approx(truth, abs=2)
    assert np.mean(volumes) == pytest.approx(alpha, rel=0.1)


def test_intervals_cover_the_truth() -> None:
    """Nine of ten intervals on forty small data sets; fewer than 31 have a chance of .5%."""
    dim, alpha, draws = 60, 2.0, 40
    truth = np.pi * float(np.asarray(replica.solve(PerceptronProblem(alpha_total=alpha)).error))
    hits = np.zeros(2, int)
    for seed in range(draws):
        x = np.random.default_rng(seed).standard_normal((int(alpha * dim), dim))
        found = estimate_coordinates(
            x, x[:, 0] > 0, splits=1, replicates=60, metric="isotropic", seed=seed
        )
        hits[0] += found.theta_interval[0] <= truth <= found.theta_interval[1]
        hits[1] += found.alpha_interval[0] <= alpha <= found.alpha_interval[1]
    assert np.all(hits >= 31)
