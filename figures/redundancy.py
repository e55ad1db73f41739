"""Fitting error against selection ratio when every example has r copies, one panel an r."""

from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from figures.curves import Panel, compute_panels
from figures.figure import RedundancySettings
from figures.panels import LINES_AND_POINTS, draw_panels


def compute(
    settings: RedundancySettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """The figure's data: hard selection at constant total volume, one panel for each r."""
    theta_deg = settings.theta_deg[0]
    panels = [Panel(r, theta_deg=theta_deg, redundancy=r) for r in settings.redundancy]
    dataset = compute_panels(settings, "redundancy", panels, cache=cache, progress=progress)
    return dataset.assign_attrs(theta_deg=theta_deg)


def draw(dataset: xr.Dataset) -> Figure:
    """Draw the data of `compute`."""
    return draw_panels(dataset, "redundancy", lambda value: f"$r$ = {value:g}")


def caption(dataset: xr.Dataset) -> str:
    """What the picture shows, in words."""
    return (
        f"Fitting error against the selection ratio when the data hold r copies of every distinct "
        f"example at constant total volume, hard selection by a probe at "
        f"{dataset.attrs['theta_deg']:g} degrees from the teacher. {LINES_AND_POINTS}"
    )
