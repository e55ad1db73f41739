"""Error against a shifted downstream teacher, one panel a shift."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.curves import Panel, compute_panels
from figures.figure import DownstreamSettings
from figures.panels import LINES_AND_POINTS, draw_panels
from theory.problem import DownstreamShift


def compute(
    settings: DownstreamSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """The figure's data: hard selection, students judged against T' ~ T + delta v."""
    theta_deg = settings.theta_deg[0]
    panels = [Panel(delta, theta_deg=theta_deg, delta=delta) for delta in settings.delta]
    dataset = compute_panels(settings, "delta", panels, cache=cache, progress=progress)
    floor = [angle_of_shift(panel.shift(settings.overlap)) / np.pi for panel in panels]
    return dataset.assign(floor=("delta", floor)).assign_attrs(
        overlap=settings.overlap, theta_deg=theta_deg
    )


def angle_of_shift(shift: DownstreamShift) -> float:
    """Angle in radians between T and T + delta v: what a perfect student of T is off by."""
    delta, along = float(np.asarray(shift.delta)), float(np.asarray(shift.along_teacher))
    return float(np.arctan2(delta * np.sqrt(1 - along**2), 1 + delta * along))


def draw(dataset: xr.Dataset) -> Figure:
    """Draw the data of `compute`, with the error of a perfect student of the teacher."""
    figure = draw_panels(
        dataset,
        "delta",
        lambda value: rf"$\delta$ = {value:g}",
        error_label="downstream error $e'$",
        own_limits=True,  # a shift's floor would leave half of a common axis empty
    )
    for axes, floor in zip(figure.axes, dataset["floor"].values, strict=True):
        if floor > 0:
            axes.axhline(floor, color="0.3", linewidth=0.7, linestyle=":", zorder=1)
    return figure


def caption(dataset: xr.Dataset) -> str:
    """What the picture shows, in words, and how the pearson mode differs."""
    if dataset.attrs["overlap"] == "pearson":
        shift = (
            "The published notebook's downstream error: delta is added to every component of the "
            "teacher but the probe's own, and the overlap is mean-centred (np.corrcoef). Centring "
            "removes all of that shift but T' ~ T - delta J_p, which the lines are for. Dotted: "
            "the error of a perfect student, arctan(delta sin theta/(1 - delta cos theta))/pi."
        )
    else:
        shift = (
            "Error against a downstream teacher T' ~ T + delta v, v a unit vector independent of "
            "the teacher and the probe. Dotted: the error of a perfect student, arctan(delta)/pi."
        )
    return (
        f"{shift} Hard selection by a probe at {dataset.attrs['theta_deg']:g} degrees from the "
        f"teacher. {LINES_AND_POINTS}"
    )
