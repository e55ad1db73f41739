"""Draws the figure `optimal-fraction`: maps of the smallest fraction that suffices.

The axes of a map are the volume of data and the probe's angle.
"""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

import replica
from figures.curves import policy_of, shift_of
from figures.panels import WIDTH, alpha_axis, cell_edges, mark_failed
from figures.settings import FractionMapSettings, policy_words

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


def compute(
    settings: FractionMapSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute sufficient and optimal fractions of the policy, by theory alone."""
    alpha = np.asarray(settings.alpha_total)[:, None]
    theta = np.deg2rad(settings.theta_deg)
    tolerance = np.asarray(settings.tolerance)[:, None, None]
    policy = policy_of(settings)
    given: dict[str, Any] = {
        "redundancy": settings.redundancy[0],
        "downstream": shift_of(settings),
    }
    best = replica.optimal_fraction(alpha, theta, policy, **given)
    enough = replica.sufficient_fraction(alpha[None], tolerance, theta, policy, **given)
    plane = ("alpha_total", "theta_deg")
    return xr.Dataset(
        {
            "optimal_fraction": (plane, np.asarray(best.keep_fraction)),
            "plateau_end": (plane, np.asarray(best.plateau_end)),
            "optimal_status": (plane, np.asarray(best.status)),
            "sufficient_fraction": (("tolerance", *plane), np.asarray(enough.keep_fraction)),
            "sufficient_status": (("tolerance", *plane), np.asarray(enough.status)),
        },
        coords={
            "alpha_total": list(settings.alpha_total),
            "theta_deg": list(settings.theta_deg),
            "tolerance": list(settings.tolerance),
        },
    )


def draw(dataset: xr.Dataset, settings: FractionMapSettings) -> Figure:
    """Draw a map for each tolerance, and one for the least error."""
    count = dataset.sizes["tolerance"] + 1
    figure = Figure(figsize=(WIDTH, 2.4))
    panels = figure.subplots(1, count, sharey=True)
    norm = BoundaryNorm(LEVELS, 256, extend="min")
    for axes, tolerance in zip(panels, dataset["tolerance"].values, strict=False):
        part = dataset.sel({"tolerance": tolerance})
        _draw_map(axes, part["sufficient_fraction"], part["sufficient_status"], norm)
        axes.set_title(f"error within {tolerance:.0%} of all data's")
    _draw_map(panels[-1], dataset["optimal_fraction"], dataset["optimal_status"], norm)
    panels[-1].set_title("least error")
    panels[0].set_ylabel(r"probe angle $\theta$ (degrees)")
    colors = ScalarMappable(norm, colormaps["viridis"])
    figure.colorbar(colors, ax=list(panels), label="smallest fraction $f$", ticks=LEVELS, aspect=25)
    return figure


def _draw_map(axes: Axes, fraction: xr.DataArray, status: xr.DataArray, norm: BoundaryNorm) -> None:
    """Draw one map in the steps of the colour bar, with lines between them."""
    alpha, theta = fraction["alpha_total"].values, fraction["theta_deg"].values
    values = fraction.transpose("theta_deg", "alpha_total").values
    found = status.transpose("theta_deg", "alpha_total").values == 0
    shown = np.ma.masked_where(~found, values)
    colors = colormaps["viridis"]
    if min(shown.shape) > 1:
        axes.contourf(alpha, theta, shown, LEVELS, norm=norm, cmap=colors, extend="min")
        axes.contour(alpha, theta, shown, LEVELS, colors="white", linewidths=0.4)
    else:
        x, y = cell_edges(alpha), cell_edges(theta, logarithmic=False)
        axes.pcolormesh(x, y, shown, norm=norm, cmap=colors)
    row, column = np.nonzero(~found)
    mark_failed(axes, alpha[column].tolist(), theta[row].tolist())
    alpha_axis(axes, (alpha.min(), alpha.max()), r"$\alpha_t$")


def caption(dataset: xr.Dataset, settings: FractionMapSettings) -> str:
    """Say in words what the picture shows."""
    tolerances = " and ".join(f"{value:.0%}" for value in dataset["tolerance"].values)
    return (
        f"{policy_words(settings).capitalize()}: the smallest fraction f whose error is within "
        f"{tolerances} of that of all data, and the smallest one of least error (to 1e-6), "
        "against the volume of data and the probe's angle. Replica theory. With a perfect probe "
        "all larger fractions are as good; crosses: no certified answer, or one below 0.001."
    )
