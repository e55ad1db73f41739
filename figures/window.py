"""Draws the figure `window`: the error against the rank where a window begins."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

import replica
import sims
import theory
from figures.curves import shift_of
from figures.panels import (
    COUNTS,
    WIDTH,
    alpha_axis,
    cell_edges,
    error_label,
    error_range,
    mark_failed,
    missing_note,
)
from figures.settings import WindowSettings, symbol
from figures.style import POINTS, curve_colors, log_axis


def compute(
    settings: WindowSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute curves with simulated points, and a map of the best window."""
    fraction = settings.keep_fraction[0]
    # The points are denser near both ends, where the error bends most.
    share = (1 - np.cos(np.linspace(0, np.pi, settings.theory_points))) / 2
    theory_lo = (1 - fraction) * share
    simulated = np.round((1 - fraction) * np.asarray(settings.lo_share), 9)
    solution = replica.solve(_problem(settings, fraction, theory_lo))
    result = sims.run(
        _problem(settings, fraction, simulated),
        settings.dim,
        settings.draws,
        settings.seed,
        overlap=settings.overlap,
        cache=cache,
        progress=progress,
    )
    alpha, theta = np.asarray(settings.alpha_total), np.deg2rad(settings.theta_deg)
    given: dict[str, Any] = {
        "redundancy": settings.redundancy[0],
        "downstream": shift_of(settings),
    }
    best = replica.optimal_window(alpha, fraction, theta[:, None], **given)
    reach = settings.map_reach
    map_alpha = np.geomspace(alpha.min() / reach, alpha.max() * reach, settings.map_volumes)
    last = max(settings.map_theta_deg, *settings.theta_deg)
    map_theta = np.linspace(0, last, settings.map_angles)
    landscape = replica.optimal_window(map_alpha, fraction, np.deg2rad(map_theta)[:, None], **given)
    curve, plane = ("theta_deg", "alpha_total"), ("map_theta_deg", "map_alpha_total")
    return xr.Dataset(
        {
            "theory_error": ((*curve, "theory_lo"), np.asarray(solution.error)),
            "theory_status": ((*curve, "theory_lo"), np.asarray(solution.status)),
            "error_mean": ((*curve, "lo"), result["error_mean"].values),
            "error_stderr": ((*curve, "lo"), result["error_stderr"].values),
            **{name: ((*curve, "lo"), result[name].values) for name in COUNTS},
            "best_lo": (curve, np.asarray(best.lo)),
            "best_error": (curve, np.asarray(best.error)),
            "best_status": (curve, np.asarray(best.status)),
            "map_lo": (plane, np.asarray(landscape.lo)),
            "map_status": (plane, np.asarray(landscape.status)),
        },
        coords={
            "theta_deg": list(settings.theta_deg),
            "alpha_total": list(settings.alpha_total),
            "theory_lo": theory_lo,
            "lo": simulated,
            "map_theta_deg": map_theta,
            "map_alpha_total": map_alpha,
            "keep_fraction": fraction,
        },
    )


def _problem(
    settings: WindowSettings, fraction: float, lo: np.ndarray
) -> "theory.PerceptronProblem":
    """Make the problems of windows on the grid (theta_deg, alpha_total, lo)."""
    return theory.PerceptronProblem(
        alpha_total=np.asarray(settings.alpha_total)[:, None],
        keep_fraction=np.full(len(lo), fraction),
        probe=theory.FixedAngle.degrees(np.asarray(settings.theta_deg)[:, None, None]),
        policy=theory.Window(np.minimum(lo, 1 - fraction)),
        redundancy=settings.redundancy[0],
        downstream=shift_of(settings),
    )


def draw(dataset: xr.Dataset, settings: WindowSettings) -> Figure:
    """Draw a panel for each angle, and the map of the best lo below."""
    count = dataset.sizes["theta_deg"]
    columns = min(count, 4)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 1.9 * rows + 2.3))
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.9 * rows, 2.2))
    above, below = parts
    panels = np.ravel(above.subplots(rows, columns, sharex=True, sharey=True, squeeze=False))
    colors = curve_colors(dataset.sizes["alpha_total"])
    limits = error_range(dataset)
    for k, (axes, theta) in enumerate(zip(panels, dataset["theta_deg"].values, strict=False)):
        _draw_curves(axes, dataset.sel(theta_deg=theta), colors)
        log_axis(axes, "y", limits)
        axes.set_title(symbol("theta_deg", theta))
        if k % columns == 0:
            axes.set_ylabel(error_label(settings))
        if k >= count - columns:
            axes.set_xlabel("first kept rank (lo)")
    for axes in panels[count:]:
        axes.axis("off")
    handles = [Line2D([], [], color=color, marker="o") for color in colors]
    names = [symbol("alpha_total", value) for value in dataset["alpha_total"].values]
    handles.append(Line2D([], [], color="0.3", marker="v", linestyle="none"))
    above.legend(handles, [*names, "best lo"], loc="outside upper center", ncols=len(handles))
    _draw_map(below, dataset)
    missing_note(figure, dataset)
    return figure


def _draw_curves(axes: Axes, part: xr.Dataset, colors: np.ndarray) -> None:
    for k, color in enumerate(colors):
        curve = part.isel(alpha_total=k)
        known = curve["theory_status"].values == 0
        axes.plot(
            curve["theory_lo"],
            np.where(known, curve["theory_error"], np.nan),
            color=color,
            zorder=2,
        )
        axes.errorbar(
            curve["lo"],
            curve["error_mean"],
            yerr=curve["error_stderr"],
            color=color,
            **POINTS,
        )
        if curve["best_status"].item() == 0:
            axes.plot(
                curve["best_lo"],
                curve["best_error"] / 1.25,
                "v",
                color=color,
                markersize=3.5,
                markeredgecolor="white",
                markeredgewidth=0.3,
                clip_on=False,
                zorder=4,
            )
    last = part["theory_lo"].values[-1]
    axes.set_xticks([0, last / 2, last], ["0\nhard", f"{last / 2:g}", f"{last:g}\neasy"])
    axes.set_xlim(-0.04 * last, 1.04 * last)


def _draw_map(figure: SubFigure, dataset: xr.Dataset) -> None:
    axes = figure.subplots()
    alpha, theta = dataset["map_alpha_total"].values, dataset["map_theta_deg"].values
    lo, found = dataset["map_lo"].values, dataset["map_status"].values == 0
    last = 1 - dataset["keep_fraction"].item()
    shown = np.ma.masked_where(~found, lo)
    x, y = cell_edges(alpha), cell_edges(theta, logarithmic=False)
    image = axes.pcolormesh(x, y, shown, vmin=0, vmax=last, cmap=colormaps["viridis"])
    # The marks show where an end of the range is best.
    for end, marker in ((0.0, "s"), (last, "^")):
        row, column = np.nonzero(found & (np.abs(lo - end) < 1e-9))
        axes.plot(
            alpha[column],
            theta[row],
            marker,
            color="white",
            markersize=2,
            linestyle="none",
            label="hard" if marker == "s" else "easy",
        )
    row, column = np.nonzero(~found)
    mark_failed(axes, alpha[column].tolist(), theta[row].tolist())
    alpha_axis(axes, (x[0], x[-1]), r"$\alpha_t$")
    axes.set_ylabel(r"probe angle $\theta$ (degrees)")
    axes.set_title("best lo; squares: hard selection, triangles: easy selection")
    figure.colorbar(image, ax=axes, label="lo (rank)", aspect=15)


def caption(dataset: xr.Dataset, settings: WindowSettings) -> str:
    """Say in words what the picture shows."""
    return (
        f"Above: error of a window that keeps f = {dataset['keep_fraction'].item():g} of "
        "the ranks of abs(z), against the rank where it begins: 0 is hard, the right end easy "
        "selection. Lines: replica theory, triangles: its minima. Points: mean over draws with "
        "standard error; the points share their draws. Below: the best lo against the volume of "
        "data and the probe's angle, theory."
    )
