"""Scores on a common scale."""

from typing import Literal, get_args

import numpy as np
from scipy.stats import rankdata

from hardset.checks import check_choice
from selection.core.arrays import Floats
from selection.core.magnitude import lift_exponent

__all__ = ["Scaling", "rescaled"]

Scaling = Literal["min-max", "standard", "rank", "none"]


def rescaled(values: Floats, scaling: Scaling) -> Floats:
    """Scores in [0, 1], of mean 0 and variance 1, as ranks in [0, 1], or as they are.

    Equal scores stay equal; scores without spread become 0.

    Args:
        values: shape (n,).
        scaling: "min-max", "standard", "rank" (mean rank of equals) or "none".

    Raises:
        ValueError: another scaling.
    """
    check_choice("scaling", scaling, get_args(Scaling))
    if scaling == "none":
        return values
    values = np.ldexp(values, lift_exponent(values))
    if scaling == "min-max":
        shifted = values - np.min(values)
    elif scaling == "standard":
        shifted = values - np.mean(values)
    else:
        shifted = rankdata(values) - 1
    spread = np.std(shifted) if scaling == "standard" else np.max(shifted)
    # A spread that is rounding of equal values is none.
    if spread <= 1e-12 * np.max(np.abs(values), initial=0):
        return np.zeros_like(values)
    return np.asarray(shifted / spread, dtype=np.float64)
