"""Hard selection against random, easy and moderate selection, one panel a rival."""

from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.curves import Panel, compute_panels
from figures.figure import PolicySettings
from figures.panels import (
    LINES_AND_POINTS,
    draw_curves,
    finish_axes,
    missing_note,
    new_figure,
    row_legend,
)
from figures.style import curve_colors
from theory.policies import policy_from_name

MOST_IN_CORNER = 6  # curves whose names fit the empty corner


def compute(
    settings: PolicySettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """The figure's data: hard selection and its rivals at one probe angle."""
    theta_deg = settings.theta_deg[0]
    panels = [
        Panel(name, theta_deg=theta_deg, policy=policy_from_name(name))
        for name in ("hard", *settings.rivals)
    ]
    dataset = compute_panels(settings, "policy", panels, cache=cache, progress=progress)
    return dataset.assign_attrs(theta_deg=theta_deg)


def draw(dataset: xr.Dataset) -> Figure:
    """Draw the data of `compute`: hard solid in every panel, the rival dashed."""
    rivals = [str(name) for name in dataset["policy"].values[1:]]
    figure, (first, corner, *others) = new_figure(len(rivals) + 1)
    panels = [first, *others]
    colors = curve_colors(dataset.sizes["alpha_total"])
    for axes, rival in zip(panels, rivals, strict=True):
        draw_curves(axes, dataset.sel(policy="hard"), colors)
        draw_curves(axes, dataset.sel(policy=rival), colors, line="--", marker="s")
        axes.set_title(f"hard and {rival}")
    finish_axes(figure, panels, dataset)
    handles = [Line2D([], [], color=color) for color in colors]
    names = [rf"$\alpha_t$ = {value:g}" for value in dataset["alpha_total"].values]
    if len(names) > MOST_IN_CORNER:
        row_legend(figure, dataset, colors)
        handles, names = [], []
    handles.append(Line2D([], [], color="0.3", marker="o", markeredgecolor="white", mew=0.3))
    handles.append(Line2D([], [], color="0.3", marker="s", linestyle="--", markerfacecolor="white"))
    corner.axis("off")
    corner.legend(handles, [*names, "hard", "the other policy"], loc="center", handlelength=2.4)
    missing_note(figure, dataset)
    return figure


def caption(dataset: xr.Dataset) -> str:
    """What the picture shows, in words."""
    return (
        f"Fitting error of hard selection (solid, filled) and of random, easy and moderate "
        f"selection (dashed, open) against the selection ratio, probe at "
        f"{dataset.attrs['theta_deg']:g} degrees from the teacher. {LINES_AND_POINTS}"
    )
