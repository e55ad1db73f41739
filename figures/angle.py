"""Fitting error against selection ratio for growing probe angle, one panel an angle."""

from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from figures.curves import Panel, compute_panels
from figures.figure import CurveSettings
from figures.panels import LINES_AND_POINTS, draw_panels


def compute(
    settings: CurveSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """The figure's data: hard selection, one panel for each probe angle."""
    panels = [Panel(theta_deg, theta_deg=theta_deg) for theta_deg in settings.theta_deg]
    return compute_panels(settings, "theta_deg", panels, cache=cache, progress=progress)


def draw(dataset: xr.Dataset) -> Figure:
    """Draw the data of `compute`."""
    return draw_panels(dataset, "theta_deg", lambda value: rf"$\theta$ = {value:g}°")


def caption(dataset: xr.Dataset) -> str:
    """What the picture shows, in words."""
    return (
        f"Fitting error against the selection ratio, hard selection by a probe at the angle theta "
        f"from the teacher. {LINES_AND_POINTS}"
    )
