"""Error against a shifted downstream teacher, one panel a shift."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.curves import Panel, compute_panels
from figures.panels import draw_panels
from figures.settings import Settings
from figures.spec import FigureSpec

DELTAS = (0.0, 0.1, 0.2, 0.4)


def compute(settings: Settings, *, cache: Path | None = None, progress: bool = False) -> xr.Dataset:
    """The figure's data: hard selection, students judged against T' ~ T + delta v."""
    theta_deg = settings.theta_deg[0]
    panels = [Panel(delta, theta_deg=theta_deg, delta=delta) for delta in DELTAS]
    dataset = compute_panels(settings, "delta", panels, cache=cache, progress=progress)
    return dataset.assign_attrs(overlap=settings.overlap)


def draw(dataset: xr.Dataset) -> Figure:
    """Draw the data of `compute`, with the floor arctan(delta)/pi that no student goes below."""
    figure = draw_panels(
        dataset,
        "delta",
        lambda value: rf"$\delta$ = {value:g}",
        error_label="downstream error $e'$",
    )
    for axes, delta in zip(figure.axes, dataset["delta"].values, strict=True):
        if delta:
            axes.axhline(np.arctan(delta) / np.pi, color="0.5", linewidth=0.7, linestyle=":")
    return figure


def caption(dataset: xr.Dataset) -> str:
    """What the picture shows, in words, and how the pearson mode differs."""
    sentence = (
        "Error against a downstream teacher T' ~ T + delta v, v a unit vector independent of the "
        "teacher and the probe. Dotted: the floor arctan(delta)/pi. Lines: replica theory. Points: "
        "mean over draws with standard error."
    )
    if dataset.attrs["overlap"] == "pearson":
        sentence += (
            " The points use the published notebook's mean-centred overlap (np.corrcoef), which "
            "hides most of the shift; the lines use the cosine overlap and do not describe them."
        )
    return sentence


FIGURE = FigureSpec(
    name="downstream",
    summary="error against a downstream teacher shifted by delta = 0, 0.1, 0.2, 0.4",
    defaults=Settings(alpha_total=(20, 50, 100, 200, 500), theta_deg=(10,)),
    several=("alpha_total", "keep_fraction"),
    compute=compute,
    drawing=draw,
    caption=caption,
)
