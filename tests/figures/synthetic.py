"""Data of figures that no computation stands behind."""

import json

import numpy as np
import xarray as xr

from figures import FIGURES


def described(name: str, dataset: xr.Dataset, **changes: object) -> xr.Dataset:
    """`dataset` as the data of the figure `name` at its defaults, or with `changes` of them."""
    spec = FIGURES[name]
    parameters = spec.parameters(spec.settings(**changes))
    return dataset.assign_attrs(parameters=json.dumps(parameters))


def curves(error: np.ndarray, **coordinates: object) -> xr.Dataset:
    """Curves that are `error` of shape (panels, alpha_total, f), theory and points alike."""
    (axis,) = coordinates
    fine, grid = (axis, "alpha_total", "theory_fraction"), (axis, "alpha_total", "keep_fraction")
    fraction = np.geomspace(0.01, 1, error.shape[2])
    counts = ("not_separable", "failed", "empty")
    return xr.Dataset(
        {
            "theory_error": (fine, error.copy()),
            "theory_status": (fine, np.zeros(error.shape, int)),
            "error_mean": (grid, error.copy()),
            "error_stderr": (grid, 0.05 * error),
            **{name: (grid, np.zeros(error.shape, int)) for name in counts},
        },
        coords={
            **coordinates,
            "alpha_total": np.arange(1.0, 1 + error.shape[1]),
            "theory_fraction": fraction,
            "keep_fraction": fraction,
        },
    )
