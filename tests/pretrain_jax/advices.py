"""Advices as `selection.recommend` gives them, with numbers that are known."""

import dataclasses
from typing import Any

import numpy as np

from selection import Advice
from selection.advice.verdict import Measurement

COUNTS = np.array([[2, 1], [1, 1]])
HALF = Measurement("hard", 0.5, COUNTS, COUNTS, 100 * COUNTS, 0.13, 0.005, 0.0119, 0.05)
ALL = Advice(
    keep_fraction=1.0,
    policy="all",
    score="margin",
    indices=np.arange(500),
    tolerance=0.0125,
    failure=0.05,
    bound=np.nan,
    last_check=None,
    error_all=0.125,
    error_kept=0.125,
    curve=(HALF,),
    beside=(),
    classes=("a", "b"),
    class_shares_all=(0.6, 0.4),
    class_shares_kept=(0.6, 0.4),
    kept_per_class=(300, 200),
    rows_needed=700,
    student="logistic",
    lam=0.5,
    balanced=False,
    folds=2,
    seed=0,
)


def half(**fields: Any) -> Advice:
    """An advice of the hard path: all data err on .125, half of them on .13."""
    kept = dataclasses.replace(
        ALL,
        keep_fraction=0.5,
        policy="hard",
        indices=np.arange(250),
        bound=0.0119,
        error_kept=0.13,
        rows_needed=None,
    )
    return dataclasses.replace(kept, **fields)
