"""Judges a fine-tuned model.

It has trivial predictions, pictures and the record result.json.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data.opening import Remark, remark_notes
from pretrain_jax.pictures import Tile, contact_sheet
from pretrain_jax.segmentation.dataset import ClassesSeen, SegmentationSet, read_case
from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.segmentation.metrics import (
    CaseScore,
    Interval,
    SetScore,
    dice,
    interval_note,
    iou,
    normdel,
    score_case,
    score_set,
)
from pretrain_jax.segmentation.segmenter import Origin

Bytes = NDArray[np.uint8]

SHOWN = 12
OPACITY = 0.5
# Okabe and Ito's colours, which are told apart by colour-blind readers too; classes from 1 on.
COLOURS = np.array([(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0)])
COLOUR_NAMES = ("orange", "sky blue", "green", "yellow", "vermilion")
UNKNOWN = np.array((128, 128, 128))
LEVELS = 256


@dataclass(frozen=True)
class Prediction:
    """Holds a case with what was predicted.

    Attributes:
        name: of the case.
        pixels: (H, W, C).
        truth: labels (H, W).
        predicted: labels (H, W).
        miou: of this case alone.
    """

    name: str
    pixels: Bytes
    truth: Bytes
    predicted: Bytes
    miou: float


def overlay(pixels: Bytes, labels: Bytes) -> Bytes:
    """Colour every class of an image (H, W, 3) but the first.

    `IGNORE` is grey.
    """
    shown = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    mixed: Bytes = shown.copy()
    for label in np.unique(labels):
        if label == 0:
            continue
        colour = UNKNOWN if label == IGNORE else COLOURS[(int(label) - 1) % len(COLOURS)]
        where = labels == label
        mixed[where] = np.rint((1 - OPACITY) * mixed[where] + OPACITY * colour)
    return mixed


def legend(classes: Sequence[str]) -> str:
    """Say which colour `overlay` gives to which class."""
    shown = [
        f"{COLOUR_NAMES[number % len(COLOUR_NAMES)]} {name}"
        for number, name in enumerate(classes[1:])
    ]
    return ", ".join(shown)


def spread(cases: int, shown: int = SHOWN) -> list[int]:
    """Choose the numbers of at most `shown` cases.

    They are spread over all cases.
    """
    return sorted({round(place) for place in np.linspace(0, cases - 1, min(cases, shown))})


def overlay_sheet(predictions: Sequence[Prediction], classes: Sequence[str], *, of: int) -> Bytes:
    """Draw a contact sheet of cases.

    It has image, true mask and predicted mask of each case.

    Args:
        predictions: those that are shown.
        classes: names, of which the heading says the colours.
        of: number of cases there are.
    """
    tiles = []
    for one in predictions:
        tiles += [
            Tile(one.pixels, (one.name,)),
            Tile(overlay(one.pixels, one.truth), ("truth",)),
            Tile(overlay(one.pixels, one.predicted), (f"predicted, mIoU {one.miou:.3f}",)),
        ]
    heading = f"{len(predictions)} of {of} test cases: {legend(classes)}"
    return contact_sheet([(heading, tiles)], columns=6)


@dataclass(frozen=True)
class Thresholds:
    """Holds intervals of grey levels, a class each.

    Attributes:
        cuts: ascending; level g belongs to interval k if cuts[k - 1] <= g < cuts[k].
        order: the class of each interval, from dark to bright.
    """

    cuts: tuple[int, ...]
    order: tuple[int, ...]

    def __call__(self, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return labels of grey levels, of the same shape."""
        return np.array(self.order, np.uint8)[np.searchsorted(self.cuts, grey, side="right")]


def grey_levels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the rounded mean over the channels.

    From (H, W, C) it comes to (H, W).
    """
    return np.rint(pixels.mean(axis=2)).astype(np.uint8)


def fit_thresholds(
    cases: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]], classes: int
) -> Thresholds:
    """Fit the thresholds with the greatest mean IoU on training cases.

    Classes are ordered by their mean grey level; each cut in turn takes the level that is best
    for the others as they are, until none changes.

    Args:
        cases: grey levels and labels of each case, of one shape; taken one at a time.
        classes: number of classes.
    """
    histogram = np.zeros((classes, LEVELS), np.int64)
    for grey, truth in cases:
        kept = truth != IGNORE
        flat = truth[kept].astype(np.int64) * LEVELS + grey[kept]
        histogram += np.bincount(flat, minlength=classes * LEVELS).reshape(classes, LEVELS)
    below = np.concatenate([np.zeros((classes, 1), np.int64), histogram.cumsum(axis=1)], axis=1)
    total = np.maximum(histogram.sum(axis=1), 1)
    means = histogram @ np.arange(LEVELS) / total
    order = np.argsort(means, kind="stable")
    cuts = np.ceil((means[order][1:] + means[order][:-1]) / 2).astype(np.int64)
    changed = True
    while changed:
        before = cuts.copy()
        for place in range(classes - 1):
            low = cuts[place - 1] if place else 0
            high = cuts[place + 1] if place + 1 < classes - 1 else LEVELS
            tried = np.arange(low, high + 1)
            scores = [
                _mean_iou(below, order, np.r_[cuts[:place], cut, cuts[place + 1 :]])
                for cut in tried
            ]
            cuts[place] = tried[int(np.argmax(scores))]
        changed = bool(np.any(cuts != before))
    return Thresholds(tuple(int(cut) for cut in cuts), tuple(int(c) for c in order))


def _mean_iou(below: NDArray[np.int64], order: NDArray[np.int64], cuts: NDArray[np.int64]) -> float:
    """Return the mean IoU of cuts from the cumulated histograms of the classes."""
    edges = np.concatenate([[0], cuts, [LEVELS]])
    counts = np.empty((len(order), len(order)), np.int64)
    counts[:, order] = np.diff(below[:, edges], axis=1)
    return float(np.nanmean(iou(counts)))


def baselines(
    training: SegmentationSet,
    test: SegmentationSet,
    *,
    draws: int,
    seed: int,
    notes: list[str] | None = None,
) -> dict[str, SetScore]:
    """Score two trivial predictions on the test cases as a set.

    Args:
        training: see `trivial_scores`.
        test: likewise.
        draws: bootstrap samples.
        seed: of the samples.
        notes: see `trivial_scores`.
    """
    return {
        name: score_set(scores, test.groups, draws=draws, seed=seed)
        for name, scores in trivial_scores(training, test, notes=notes).items()
    }


def trivial_scores(
    training: SegmentationSet, test: SegmentationSet, *, notes: list[str] | None = None
) -> dict[str, list[CaseScore]]:
    """Score two trivial predictions on each test case.

    They are thresholds fitted on the training cases, and background.

    Args:
        training: fits the thresholds.
        test: is scored.
        notes: gets sentences on classes that no mask of one side has, and on images.
    """
    classes = len(training.classes)
    remarks: list[tuple[str, Remark]] = []
    learned = ClassesSeen(training.classes, f"of the training cases of {training.name}")
    scored = ClassesSeen(test.classes, f"of the test cases of {test.name}")

    def pairs() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        for case in training.cases:
            pixels, truth = read_case(training, case, remarks=remarks)
            learned(truth)
            yield grey_levels(pixels), truth

    rule = fit_thresholds(pairs(), classes)
    by_rule, by_background = [], []
    for case in test.cases:
        pixels, truth = read_case(test, case, remarks=remarks)
        scored(truth)
        by_rule.append(score_case(rule(grey_levels(pixels)), truth, classes))
        by_background.append(score_case(np.zeros_like(truth), truth, classes))
    if notes is not None:
        notes += learned.notes() + scored.notes() + remark_notes(remarks)
    return {"threshold": by_rule, "background": by_background}


def case_scores(record: Mapping[str, Any]) -> list[CaseScore]:
    """Return the scores of a record's cases, as `score_set` takes them."""
    classes = len(record["classes"])
    scores = []
    for case in record["cases"]:
        counts = np.zeros((classes, classes), np.int64)
        for truth, predicted, pixels in case["confusion"]:
            counts[truth, predicted] = pixels
        boundary = [math.nan if one is None else one for one in case["boundary_f"]]
        scores.append(CaseScore(counts, np.array(boundary, np.float64)))
    return scores


def result_record(
    dataset: SegmentationSet,
    scores: Sequence[CaseScore],
    trivial: Mapping[str, SetScore],
    origin: Origin,
    *,
    draws: int,
    seed: int,
    **fields: Any,
) -> dict[str, Any]:
    """Return the JSON-able record.

    Numbers that are not defined become null.

    Args:
        dataset: the test cases.
        scores: of each case.
        trivial: scores of baselines by name.
        origin: of the weights.
        draws: bootstrap samples.
        seed: of the run.
        **fields: further entries (head, mode, steps, ...).
    """
    whole = score_set(scores, dataset.groups, draws=draws, seed=seed)
    by_class = {
        name: {
            "iou": _interval(whole.iou[number]),
            "dice": _interval(whole.dice_by_class[number]),
            "boundary_f": _interval(whole.boundary_by_class[number]),
        }
        for number, name in enumerate(dataset.classes)
    }
    cases = [
        {
            "name": case.name,
            "group": case.group,
            "iou": _numbers(iou(score.confusion)),
            "dice": _numbers(dice(score.confusion)),
            "boundary_f": _numbers(score.boundary),
            # True class, predicted class and pixels, as far as there are any.
            "confusion": [
                [*place, int(score.confusion[place])]
                for place in zip(
                    *(axis.tolist() for axis in score.confusion.nonzero()), strict=True
                )
            ],
        }
        for case, score in zip(dataset.cases, scores, strict=True)
    ]
    kept = origin.storage_ratio
    return {
        "dataset": dataset.name,
        **{k: v for k, v in asdict(origin).items() if k != "seed"},
        "pretraining_seed": origin.seed,
        "seed": seed,
        **fields,
        "classes": list(dataset.classes),
        "miou": _interval(whole.miou),
        "dice": _interval(whole.dice),
        "boundary_f": _interval(whole.boundary_f),
        "per_class": by_class,
        "groups": len(set(dataset.groups)),
        "interval_note": interval_note(len(set(dataset.groups))),
        "cases": cases,
        # The share is what was kept, not what was asked for. From scratch there is no such share.
        "normdel": normdel(whole.miou.value, kept) if kept and kept <= 1 else None,
        "baselines": {
            name: {
                "miou": _interval(score.miou),
                "dice": _interval(score.dice),
                "boundary_f": _interval(score.boundary_f),
            }
            for name, score in trivial.items()
        },
    }


def _interval(interval: Interval) -> dict[str, float | None]:
    return {name: _number(value) for name, value in asdict(interval).items()}


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [_number(float(value)) for value in values]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
