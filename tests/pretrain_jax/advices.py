"""Advices as `selection.recommend` gives them, with numbers that are known."""

from types import SimpleNamespace
from typing import Any

import numpy as np


def advice(keep_fraction: float, **fields: Any) -> Any:
    """An advice of the hard path: all data err on .125, half of them on .13."""
    point = SimpleNamespace(
        policy="hard", keep_fraction=0.5, error=0.13, increase=0.005, bound=0.0119, certified=True
    )
    known = {
        "keep_fraction": keep_fraction,
        "policy": "hard" if keep_fraction < 1 else "all",
        "tolerance": 0.0125,
        "failure": 0.05,
        "bound": 0.0119 if keep_fraction < 1 else np.nan,
        "error_all": 0.125,
        "error_kept": 0.13 if keep_fraction < 1 else 0.125,
        "rows_needed": None if keep_fraction < 1 else 700,
        "curve": (point,) if keep_fraction < 1 else (),
        "warnings": (),
    }
    return SimpleNamespace(**known | fields)
