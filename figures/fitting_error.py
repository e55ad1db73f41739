"""Fitting error against selection ratio for a perfect probe, one curve for each alpha_total."""

from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from figures.curves import Panel, compute_panels
from figures.figure import CurveSettings
from figures.panels import (
    LINES_AND_POINTS,
    draw_curves,
    finish_axes,
    label_curves,
    missing_note,
    new_figure,
)
from figures.style import curve_colors


def compute(
    settings: CurveSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """The figure's data: hard selection at one probe angle, theory and simulation."""
    theta_deg = settings.theta_deg[0]
    panels = [Panel(theta_deg, theta_deg=theta_deg)]
    return compute_panels(settings, "theta_deg", panels, cache=cache, progress=progress)


def draw(dataset: xr.Dataset) -> Figure:
    """Draw the data of `compute`, curves labelled at their right ends."""
    figure, (axes,) = new_figure(1)
    colors = curve_colors(dataset.sizes["alpha_total"])
    part = dataset.isel(theta_deg=0)
    draw_curves(axes, part, colors)
    finish_axes(figure, [axes], dataset)
    label_curves(axes, part, colors)
    missing_note(figure, dataset)
    return figure


def caption(dataset: xr.Dataset) -> str:
    """What the picture shows, in words."""
    return (
        f"Fitting error of the max-margin student against the selection ratio, hard selection by "
        f"a probe at {dataset['theta_deg'].item():g} degrees from the teacher. {LINES_AND_POINTS}"
    )
