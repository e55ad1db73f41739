"""The scores of a fine-tuned model as the record result.json."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data.opening import Remark, remark_notes
from pretrain_jax.segmentation.baselines import fit_thresholds, grey_levels
from pretrain_jax.segmentation.bootstrap import Interval, SetScore, score_set
from pretrain_jax.segmentation.dataset import ClassesSeen, SegmentationSet, read_case
from pretrain_jax.segmentation.metrics import CaseScore, dice, iou, normdel, score_case
from pretrain_jax.segmentation.origin import Origin

__all__ = ["baselines", "result_record"]


def baselines(
    training: SegmentationSet,
    test: SegmentationSet,
    *,
    draws: int,
    seed: int,
    notes: list[str] | None = None,
) -> dict[str, SetScore]:
    """Scores on the test cases of thresholds fitted on the training cases, and of background.

    Args:
        training: fits the thresholds.
        test: is scored.
        draws: bootstrap samples.
        seed: of the samples.
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
    return {
        name: score_set(scores, test.groups, draws=draws, seed=seed)
        for name, scores in (("threshold", by_rule), ("background", by_background))
    }


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
    """The JSON-able record; numbers that are not defined become null.

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
        "cases": cases,
        # Of what was kept, not of what was asked for; from scratch there is no such share.
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
