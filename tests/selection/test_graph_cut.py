"""SAS and ClipCov against enumeration and against their published shortcuts."""

import itertools

import numpy as np
import pytest

from selection import Pool
from selection.methods.graph_cut import SAS, ClipCov, greedy_cut

RNG = np.random.default_rng(0)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def cut(similarity: np.ndarray, rows: list[int], diagonal: float) -> float:
    """sum_{i not in S, j in S} s_ij + diagonal sum_{i in S} s_ii."""
    others = np.setdiff1d(np.arange(len(similarity)), rows)
    own = diagonal * np.sum(np.diag(similarity)[rows])
    return float(similarity[np.ix_(others, rows)].sum() + own)


@pytest.mark.parametrize("diagonal", [0.0, 1.0])
def test_greedy_follows_the_marginals_and_never_exceeds_the_optimum(diagonal: float) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        left = unit(rng.random((10, 4)))  # non-negative similarities
        similarity = left @ left.T
        picks, gains = greedy_cut(left, left, 4, diagonal * np.diag(similarity))
        chosen: list[int] = []
        for pick, gain in zip(picks.tolist(), gains, strict=True):
            before = cut(similarity, chosen, diagonal)
            steps = {
                i: cut(similarity, [*chosen, i], diagonal) - before
                for i in range(10)
                if i not in chosen
            }
            assert np.isclose(gain, max(steps.values()), rtol=0, atol=1e-12)
            assert pick == max(steps, key=lambda i: steps[i])
            chosen.append(pick)
        best = max(
            cut(similarity, list(rows), diagonal) for rows in itertools.combinations(range(10), 4)
        )
        # Submodular, and no marginal on the way is negative: 1 - 1/e of the optimum.
        assert np.all(gains >= 0)
        assert (1 - np.exp(-1)) * best <= gains.sum() <= best + 1e-12


def test_sas_averages_over_pairs_of_views() -> None:
    views = RNG.standard_normal((40, 3, 5))
    own = unit(views)
    similarity = np.einsum("iad,jbd->ij", own, own) / 9
    found = SAS().select(Pool.of(features=views), 12)
    assert found.objective is not None
    assert np.isclose(found.objective, cut(similarity, found.indices.tolist(), 0.0), rtol=1e-10)
    one = SAS().select(Pool.of(features=views[:, :1]), 12)
    assert np.array_equal(one.indices, SAS().select(Pool.of(features=views[:, 0]), 12).indices)


def test_sas_as_published_is_a_ranking_and_ours_is_not() -> None:
    rows = RNG.standard_normal((60, 5)) + 0.3
    similarity = unit(rows) @ unit(rows).T
    pool = Pool.of(features=rows)
    ranking = np.argsort(-np.maximum(similarity, 0).sum(1), kind="stable")
    assert np.array_equal(SAS(published=True).select(pool, 20).indices, ranking[:20])
    ours = SAS().select(pool, 20)
    assert set(ours.indices.tolist()) != set(ranking[:20].tolist())
    assert ours.objective is not None
    assert ours.objective > cut(similarity, ranking[:20].tolist(), 0.0)


def test_budgets_are_shared_by_the_size_of_the_classes() -> None:
    labels = np.repeat([7, 2, 5], [50, 30, 20])
    pool = Pool.of(features=RNG.standard_normal((100, 4)), labels=labels)
    found = SAS().select(pool, 11)
    counts = [int(np.sum(labels[found.indices] == one)) for one in (7, 2, 5)]
    assert counts == [6, 3, 2]  # 5.5, 3.3, 2.2: the largest remainder is the first class's
    clustered = SAS(clusters=4).select(pool, 11)
    assert clustered.diagnostics["latent_classes"] == 4 and len(clustered) == 11


def test_clipcov_is_the_cut_of_cross_modal_similarity() -> None:
    images = RNG.standard_normal((40, 6))
    texts = images + 0.5 * RNG.standard_normal((40, 6))
    cross = unit(images) @ unit(texts).T
    similarity = cross + cross.T
    pool = Pool.of(features=images, texts=texts)
    found = ClipCov().select(pool, 15)
    assert found.objective is not None
    assert np.isclose(found.objective, cut(similarity, found.indices.tolist(), 1.0), rtol=1e-10)
    # Summing over all of V would be plain top-k of the row sums.
    top = np.argsort(-similarity.sum(1))[:15]
    assert set(found.indices.tolist()) != set(top.tolist())
    assert found.objective > cut(similarity, top.tolist(), 1.0)
    other = ClipCov(published=True, label_weight=0, other_weight=0).select(pool, 1)
    own = similarity.sum(1) + np.diag(similarity)
    assert other.indices[0] == np.argmax(own)


def test_texts_of_another_space_are_refused() -> None:
    pool = Pool.of(features=np.ones((5, 3)), texts=np.ones((5, 2)))
    with pytest.raises(ValueError, match=r"texts \(5, 2\)"):
        ClipCov().select(pool, 2)
