"""Facility location against apricot: the same picks, the same objective."""

import numpy as np
from apricot import FacilityLocationSelection

from selection.methods.facility import Points, greedy_exact, greedy_sparse, neighbour_similarity

POINTS = np.random.default_rng(0).standard_normal((400, 6))


def test_exact_greedy_is_that_of_apricot() -> None:
    plain = np.linalg.norm(POINTS[:, None] - POINTS[None], axis=2)
    similarity = plain.max() - plain
    picks, gains = greedy_exact(Points(POINTS), 40)
    peer = FacilityLocationSelection(40, metric="precomputed", optimizer="lazy").fit(similarity)
    assert picks.tolist() == peer.ranking.tolist()
    # Our distances lose digits where two squares cancel.
    assert np.isclose(gains.sum(), similarity[:, peer.ranking].max(1).sum(), rtol=1e-9)


def test_sparse_greedy_is_that_of_apricot() -> None:
    matrix = neighbour_similarity(POINTS, 8, 0)
    picks, gains = greedy_sparse(matrix, 60)
    peer = FacilityLocationSelection(60, metric="precomputed", optimizer="lazy")
    peer.fit(matrix.toarray())
    assert picks.tolist() == peer.ranking.tolist()
    assert np.isclose(gains.sum(), matrix.toarray()[:, peer.ranking].max(1).sum(), rtol=1e-12)
