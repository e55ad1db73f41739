"""Scores against scikit-learn, brute force and published numbers; bootstrap intervals."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from pretrain_jax.segmentation import boundary_f, confusion, dice, iou, normdel, score_set
from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.segmentation.metrics import (
    CaseScore,
    boundary_tolerance,
    expanded_level,
    interval_note,
    score_case,
)

CLASSES = 4


def masks(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Prediction and truth that agree in about half of the pixels."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, (23, 31)).astype(np.uint8)
    noise = rng.integers(0, CLASSES, truth.shape).astype(np.uint8)
    return np.where(rng.random(truth.shape) < 0.4, truth, noise), truth


def test_overlap_is_that_of_scikit_learn() -> None:
    for seed in range(3):
        predicted, truth = masks(seed)
        counts = confusion(predicted, truth, CLASSES)
        flat = truth.ravel(), predicted.ravel()
        assert np.array_equal(counts, confusion_matrix(*flat))
        # Ratios of the same integers, rounded once or twice.
        np.testing.assert_allclose(iou(counts), jaccard_score(*flat, average=None), rtol=1e-14)
        np.testing.assert_allclose(dice(counts), f1_score(*flat, average=None), rtol=1e-14)


def test_the_score_of_a_set_is_that_of_all_pixels_together() -> None:
    pairs = [masks(seed) for seed in range(5)]
    scores = [score_case(*pair, CLASSES) for pair in pairs]
    found = score_set(scores, [str(number) for number in range(5)], draws=2000)
    predicted, truth = (
        np.concatenate([m.ravel() for m in side]) for side in zip(*pairs, strict=True)
    )
    assert found.miou.value == pytest.approx(jaccard_score(truth, predicted, average="macro"))
    assert found.dice.value == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_ignored_pixels_count_nowhere() -> None:
    predicted, truth = masks(0)
    hidden = truth.copy()
    hidden[:, :9] = IGNORE
    whole = confusion(predicted, hidden, CLASSES)
    assert np.array_equal(whole, confusion(predicted[:, 9:], truth[:, 9:], CLASSES))


def test_a_class_that_is_nowhere_has_no_score() -> None:
    truth = np.array([[0, 0, 1]], np.uint8)
    counts = confusion(truth, truth, 3)
    assert iou(counts).tolist()[:2] == [1.0, 1.0]
    assert math.isnan(iou(counts)[2]) and math.isnan(dice(counts)[2])
    # Where it is predicted only, or there only, the score is 0.
    assert iou(confusion(np.array([[0, 2, 1]], np.uint8), truth, 3))[2] == 0.0
    assert iou(confusion(truth, np.array([[0, 2, 1]], np.uint8), 3))[2] == 0.0


def test_labels_outside_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="predicted = 3"):
        confusion(np.array([[3]], np.uint8), np.array([[0]], np.uint8), 3)
    with pytest.raises(ValueError, match=r"shape \(1, 2\), truth \(1, 1\)"):
        confusion(np.zeros((1, 2), np.uint8), np.zeros((1, 1), np.uint8), 3)


def brute_force_boundary_f(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance: float
) -> float:
    def boundary(region: NDArray[np.bool_]) -> list[tuple[int, int]]:
        height, width = region.shape
        return [
            (y, x)
            for y in range(height)
            for x in range(width)
            if region[y, x]
            and any(
                0 <= b < height and 0 <= a < width and not region[b, a]
                for b, a in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            )
        ]

    def near(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        return float(
            np.mean([min(math.dist(one, other) for other in others) <= tolerance for one in some])
        )

    ours, theirs = boundary(predicted), boundary(truth)
    precision, recall = near(ours, theirs), near(theirs, ours)
    return 2 * precision * recall / (precision + recall)


def test_boundary_f_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    for tolerance in (1.0, math.sqrt(2), 2.5):
        y, x = np.mgrid[:20, :24]
        disc = (y - 9) ** 2 + (x - 12) ** 2 <= 40
        other = ((y - 10) ** 2 + (x - 13) ** 2 <= 50) ^ (rng.random(disc.shape) < 0.02)
        # Truncated at the border, which is no boundary.
        found = boundary_f(other, disc | (y > 17), tolerance=tolerance)
        assert found == pytest.approx(brute_force_boundary_f(other, disc | (y > 17), tolerance))


def test_boundary_f_of_special_masks() -> None:
    region = np.zeros((8, 8), bool)
    region[2:5, 2:6] = True
    empty = np.zeros_like(region)
    assert boundary_f(region, region, tolerance=1.0) == 1.0
    assert boundary_f(np.roll(region, 1, 1), region, tolerance=1.0) == 1.0
    assert boundary_f(np.roll(region, 3, 0), region, tolerance=1.0) < 1.0
    assert boundary_f(empty, region, tolerance=1.0) == 0.0
    assert math.isnan(boundary_f(empty, empty, tolerance=1.0))
    assert math.isnan(boundary_f(~empty, ~empty, tolerance=1.0))
    # 0.75 % of the diagonal of 1200 x 1600 pixels, which is 2000.
    assert boundary_tolerance((1200, 1600)) == pytest.approx(15.0)
    assert boundary_tolerance((64, 64)) == 1.0


def test_normdel_of_the_benchmark() -> None:
    """The two values of arXiv:2401.17542, table of 5 % and of all data."""
    assert normdel(0.7938, 0.05) == pytest.approx(0.6803, abs=5e-5)
    assert normdel(0.7970, 1.0) == pytest.approx(0.5728, abs=5e-5)
    with pytest.raises(ValueError, match=r"miou = 79\.38"):
        normdel(79.38, 0.05)


def binary_case(hits: int, misses: int) -> CaseScore:
    return CaseScore(np.array([[0, 0], [misses, hits]]), np.array([np.nan, hits / (hits + misses)]))


def test_the_bootstrap_interval_of_a_mean() -> None:
    """Cases of equal size: IoU and recall are means, whose interval is known for large n."""
    rng = np.random.default_rng(3)
    hits = rng.binomial(100, 0.7, 400)
    cases = [binary_case(int(h), 100 - int(h)) for h in hits]
    found = score_set(cases, [str(n) for n in range(400)], draws=4000)
    mean, error = hits.mean() / 100, hits.std() / 100 / math.sqrt(400)
    one = found.iou[1]
    assert one.value == pytest.approx(mean)
    # Percentiles of 4000 draws have a standard error of about 0.04 standard deviations; 5 of them.
    assert one.low == pytest.approx(mean - 1.96 * error, abs=0.2 * error)
    assert one.high == pytest.approx(mean + 1.96 * error, abs=0.2 * error)
    boundary = found.boundary_by_class[1]
    assert (boundary.value, boundary.low) == (pytest.approx(mean), pytest.approx(one.low))


def test_groups_are_drawn_whole() -> None:
    """Ten equal cases of each of 40 groups: the interval is that of 40 numbers, not of 400."""
    rng = np.random.default_rng(4)
    hits = rng.integers(20, 90, 40)
    cases = [binary_case(int(h), 100 - int(h)) for h in hits for _ in range(10)]
    groups = [str(n) for n in range(40) for _ in range(10)]
    grouped = score_set(cases, groups, draws=4000).iou[1]
    alone = score_set(cases, [str(n) for n in range(400)], draws=4000).iou[1]
    assert grouped.value == pytest.approx(alone.value)
    ratio = (grouped.high - grouped.low) / (alone.high - alone.low)
    # Widths of 4000 draws have a relative standard error of about 2 %.
    assert ratio == pytest.approx(math.sqrt(10), rel=0.1)


def test_a_single_group_has_no_interval() -> None:
    found = score_set([binary_case(3, 1)] * 2, ["p", "p"]).iou[1]
    assert found.value == 0.75 and math.isnan(found.low) and math.isnan(found.high)
    assert "no interval" in (interval_note(1) or "")
    assert "not to be trusted: there are 9 groups" in (interval_note(9) or "")
    assert interval_note(10) is None


def test_a_seed_gives_the_same_interval() -> None:
    cases = [binary_case(h, 10 - h) for h in range(1, 9)]
    names = [str(n) for n in range(8)]
    first, second = (score_set(cases, names, seed=seed).iou[1] for seed in (1, 1))
    assert first == second != score_set(cases, names, seed=2).iou[1]
    with pytest.raises(ValueError, match=r"draws = 1999 .*\[2000, "):
        score_set(cases, names, draws=1999)


def test_the_expanded_level() -> None:
    """Table of Student's t: 2.776 at 4 degrees of freedom, 2.045 at 29, both for 95 %."""
    for groups, t in ((5, 2.776), (30, 2.045)):
        reach = t * math.sqrt(groups / (groups - 1))
        # Three decimals of t.
        wanted = 1 - math.erfc(reach / math.sqrt(2))
        assert expanded_level(0.95, groups) == pytest.approx(wanted, abs=1e-4)
    assert expanded_level(0.95, 10**6) == pytest.approx(0.95, abs=1e-5)
    assert math.isnan(expanded_level(0.95, 1))


@pytest.mark.parametrize(("groups", "least"), [(5, 0.88), (10, 0.912), (30, 0.915)])
def test_intervals_cover_as_often_as_they_say(groups: int, least: float) -> None:
    """Two-level normal data: groups differ by a deviation of 10, the 4 cases of each by 5.

    Cases have 1,000 pixels of a class that all have, so that its IoU is a mean. In 10,000 data
    sets 0.920, 0.946 and 0.949 were covered (plain percentiles: 0.837, 0.899, 0.933). The bounds
    lie three standard errors of 400 data sets below, which are 0.014, 0.011 and 0.011.
    """
    rng = np.random.default_rng(groups)
    covered, sets = 0, 400
    names = [str(n) for n in range(groups) for _ in range(4)]
    for number in range(sets):
        levels = rng.normal(600, 100, groups)[:, None] + rng.normal(0, 50, (groups, 4))
        hits = np.clip(np.rint(levels), 1, 999).astype(int).ravel()
        cases = [binary_case(int(h), 1000 - int(h)) for h in hits]
        found = score_set(cases, names, seed=number).iou[1]
        covered += found.low <= 0.6 <= found.high
    assert covered / sets >= least
