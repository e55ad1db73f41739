"""Joint selection of mini-batches, against the formulas written out on tiny super-batches."""

from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from selection import JEST, ModelFunctions
from selection.online.jest import jointly_sample, sigmoid_pair_losses

RNG = np.random.default_rng(0)


def score(scores: np.ndarray, batch: tuple[int, ...]) -> float:
    """Sum over all pairs of a batch."""
    return float(sum(scores[i, j] for i in batch for j in batch))


def probability(scores: np.ndarray, order: tuple[int, ...], chunk: int) -> float:
    """Probability of picks in this order, by the scores of whole batches."""
    total = 1.0
    for place, pick in enumerate(order):
        before = order[: place // chunk * chunk]  # what earlier chunks hold
        weights = {
            i: np.exp(score(scores, (*before, i)) - score(scores, before))
            for i in range(len(scores))
            if i not in order[:place]
        }
        total *= weights[pick] / sum(weights.values())
    return total


@pytest.mark.parametrize(("size", "chunks"), [(3, 3), (4, 2), (3, 1)])
def test_chunks_have_the_conditional_probabilities(size: int, chunks: int) -> None:
    """All orders of picks among 5 examples, by a chi-squared test at a level of 1e-4."""
    scores = np.random.default_rng(1).normal(0, 0.6, (5, 5))
    orders = list(permutations(range(5), size))
    expected = np.array([probability(scores, order, size // chunks) for order in orders])
    assert np.isclose(expected.sum(), 1)
    rng, runs = np.random.default_rng(2), 6000
    counts = dict.fromkeys(orders, 0)
    for _ in range(runs):
        counts[tuple(jointly_sample(scores, size, chunks, rng).tolist())] += 1
    found = np.array([counts[order] for order in orders])
    # Orders with fewer than 5 expected counts are put together.
    rare = runs * expected < 5
    cells = [*zip(found[~rare], runs * expected[~rare], strict=True)]
    if rare.any():
        cells.append((found[rare].sum(), runs * expected[rare].sum()))
    statistic = sum((seen - mean) ** 2 / mean for seen, mean in cells)
    assert statistic < chi2.ppf(1 - 1e-4, len(cells) - 1)


def test_large_scores_make_it_greedy() -> None:
    for seed in range(20):
        scores = np.random.default_rng(seed).normal(0, 1e4, (7, 7))
        greedy: tuple[int, ...] = ()
        while len(greedy) < 4:
            rest = (i for i in range(7) if i not in greedy)
            greedy = (*greedy, max(rest, key=lambda i: score(scores, (*greedy, i))))
        found = jointly_sample(scores, 4, 4, np.random.default_rng(seed))
        assert tuple(found.tolist()) == greedy


def test_chunks_of_unequal_sizes_fill_the_batch() -> None:
    scores = RNG.standard_normal((9, 9))
    for chunks in range(1, 8):
        picks = jointly_sample(scores, 7, chunks, np.random.default_rng(0))
        assert len(np.unique(picks)) == 7
    everything = jointly_sample(scores, 9, 4, np.random.default_rng(0))
    assert np.array_equal(np.sort(everything), np.arange(9))


N, D = 30, 4
IMAGES, TEXTS, OTHER = (
    rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in RNG.standard_normal((3, N, D))
)
MODEL = ModelFunctions(
    parameters=(3.0, -1.0),
    pair_losses=lambda p, rows: sigmoid_pair_losses(IMAGES[rows], TEXTS[rows], *p),
    reference_pair_losses=lambda _, rows: sigmoid_pair_losses(OTHER[rows], TEXTS[rows], 5.0, -2.0),
)


def contrastive(images: Any, texts: Any, scale: float, bias: float) -> float:
    """Sigmoid-contrastive loss of one batch, by minus the log of probabilities."""
    total = 0.0
    for i, image in enumerate(images):
        for j, text in enumerate(texts):
            match = 1 / (1 + np.exp(-(scale * float(image @ text) + bias)))
            total -= np.log(match if i == j else 1 - match)
    return total / len(images)


def test_the_objective_is_the_learnability_of_the_batch_alone() -> None:
    method = JEST(batch_size=6, random_size=20, chunks=3)
    state = method.init(N)
    for step in range(3):
        state, (batch,) = method.select(state, MODEL, seed=4)
        rows = batch.indices
        assert len(np.unique(rows)) == 6
        assert np.all(batch.weights == 1)
        learner = contrastive(IMAGES[rows], TEXTS[rows], 3.0, -1.0)
        reference = contrastive(OTHER[rows], TEXTS[rows], 5.0, -2.0)
        # Single precision of 36 losses of size 1.
        assert batch.objective == pytest.approx(learner - reference, abs=1e-5)
        assert not state.due
        state = method.update(state, MODEL)
        assert state.due
        assert state.step == step + 1


def test_batches_are_more_learnable_than_random_ones() -> None:
    """The super-batch is the same 10 rows each time: all 210 batches of 4 are enumerated."""
    method = JEST(batch_size=4, random_size=10, chunks=4)
    state = method.init(10)
    rows = np.arange(10)
    scores = np.asarray(
        sigmoid_pair_losses(IMAGES[rows], TEXTS[rows], 3.0, -1.0)
        - sigmoid_pair_losses(OTHER[rows], TEXTS[rows], 5.0, -2.0),
        dtype=np.float64,
    )
    every = [score(scores, batch) / 4 for batch in combinations(range(10), 4)]
    found = []
    for seed in range(300):
        _, (batch,) = method.select(state, MODEL, seed)
        assert batch.objective is not None
        found.append(batch.objective)
    assert max(found) <= max(every) + 1e-5
    assert np.mean(found) > np.mean(every) + 4 * np.std(found) / np.sqrt(len(found))


def test_jest_says_what_is_wrong() -> None:
    for options, name in (
        ({"random_size": 5}, "random_size"),
        ({"chunks": 7}, "chunks"),
        ({"batch_size": 0}, "batch_size"),
    ):
        given: dict[str, Any] = {"batch_size": 6, "random_size": 20, "chunks": 3, **options}
        with pytest.raises(ValueError, match=name):
            JEST(**given)
    method = JEST(batch_size=6, random_size=20, chunks=3)
    with pytest.raises(ValueError, match="random_size"):
        method.init(19)
    state = method.init(N)
    with pytest.raises(ValueError, match="needs the model function reference_pair_losses"):
        method.select(state, replace(MODEL, reference_pair_losses=None), 0)
    with pytest.raises(ValueError, match="one loss for each pair of rows"):
        method.select(state, replace(MODEL, pair_losses=lambda _, rows: np.ones(len(rows))), 0)
