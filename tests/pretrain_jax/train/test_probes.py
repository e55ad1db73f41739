"""Probes against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from pretrain_jax.train.evaluation import knn_probe, linear_probe

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(3, 6))
LABELS, TEST_LABELS = RNG.integers(0, 3, 150), RNG.integers(0, 3, 400)
FEATURES = CENTRES[LABELS] + RNG.normal(size=(150, 6))
TEST_FEATURES = CENTRES[TEST_LABELS] + RNG.normal(size=(400, 6))


def test_linear_probe_is_regularised_logistic_regression() -> None:
    """The same convex problem: C = 1 / (n penalty); one test image may sit on the boundary."""
    scaler = StandardScaler().fit(FEATURES)
    peer = LogisticRegression(C=1 / (150 * 1e-2), tol=1e-8, max_iter=1000)
    peer.fit(scaler.transform(FEATURES), LABELS)
    expected = peer.score(scaler.transform(TEST_FEATURES), TEST_LABELS)
    found = linear_probe(FEATURES, LABELS, TEST_FEATURES, TEST_LABELS, penalty=1e-2)
    assert found == pytest.approx(expected, abs=1.5 / 400)
    assert 0.5 < found < 0.95


def test_knn_probe_is_the_weighted_vote() -> None:
    peer = KNeighborsClassifier(7, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    peer.fit(FEATURES, LABELS)
    expected = peer.score(TEST_FEATURES, TEST_LABELS)
    found = knn_probe(FEATURES, LABELS, TEST_FEATURES, TEST_LABELS, neighbours=7)
    assert found == pytest.approx(expected, abs=1e-9)
    few = knn_probe(FEATURES[:3], LABELS[:3], TEST_FEATURES, TEST_LABELS, neighbours=20)
    assert 0 <= few <= 1
