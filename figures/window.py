"""Where the window of kept examples should start: error against its offset, and the best one."""

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
from figures.figure import WindowSettings
from figures.panels import (
    COUNTS,
    ERROR_LABEL,
    WIDTH,
    alpha_axis,
    cell_edges,
    error_range,
    mark_failed,
    missing_note,
)
from figures.style import POINTS, curve_colors, log_axis
from theory.policies import Window
from theory.problem import FixedAngle, PerceptronProblem


def compute(
    settings: WindowSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """The figure's data: curves with simulated points, and a map of the best offset."""
    fraction = settings.keep_fraction[0]
    # Denser near both ends, where the error turns.
    share = (1 - np.cos(np.linspace(0, np.pi, settings.theory_points))) / 2
    offsets = (1 - fraction) * share
    simulated = np.round((1 - fraction) * np.asarray(settings.simulated_offset), 9)
    solution = replica.solve(_problem(settings, fraction, offsets))
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
    best = replica.optimal_window(alpha, fraction, theta[:, None])
    reach = settings.map_reach
    map_alpha = np.geomspace(alpha.min() / reach, alpha.max() * reach, settings.map_volumes)
    last = max(settings.map_theta_deg, *settings.theta_deg)
    map_theta = np.linspace(0, last, settings.map_angles)
    landscape = replica.optimal_window(map_alpha, fraction, np.deg2rad(map_theta)[:, None])
    curve, plane = ("theta_deg", "alpha_total"), ("map_theta_deg", "map_alpha_total")
    return xr.Dataset(
        {
            "theory_error": ((*curve, "offset"), np.asarray(solution.error)),
            "theory_status": ((*curve, "offset"), np.asarray(solution.status)),
            "error_mean": ((*curve, "simulated_offset"), result["error_mean"].values),
            "error_stderr": ((*curve, "simulated_offset"), result["error_stderr"].values),
            **{name: ((*curve, "simulated_offset"), result[name].values) for name in COUNTS},
            "best_offset": (curve, np.asarray(best.lo)),
            "best_error": (curve, np.asarray(best.error)),
            "best_status": (curve, np.asarray(best.status)),
            "map_offset": (plane, np.asarray(landscape.lo)),
            "map_status": (plane, np.asarray(landscape.status)),
        },
        coords={
            "theta_deg": list(settings.theta_deg),
            "alpha_total": list(settings.alpha_total),
            "offset": offsets,
            "simulated_offset": simulated,
            "map_theta_deg": map_theta,
            "map_alpha_total": map_alpha,
            "keep_fraction": fraction,
        },
    )


def _problem(settings: WindowSettings, fraction: float, offsets: np.ndarray) -> PerceptronProblem:
    """Windows on (theta, alpha_total, offset)."""
    return PerceptronProblem(
        alpha_total=np.asarray(settings.alpha_total)[:, None],
        keep_fraction=np.full(len(offsets), fraction),
        probe=FixedAngle.degrees(np.asarray(settings.theta_deg)[:, None, None]),
        policy=Window(np.minimum(offsets, 1 - fraction)),
    )


def draw(dataset: xr.Dataset) -> Figure:
    """Draw the data of `compute`: a panel for each angle, the map of the best offset below."""
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
        axes.set_title(rf"$\theta$ = {theta:g}°")
        if k % columns == 0:
            axes.set_ylabel(ERROR_LABEL)
        if k >= count - columns:
            axes.set_xlabel("offset of the window (rank)")
    for axes in panels[count:]:
        axes.axis("off")
    handles = [Line2D([], [], color=color, marker="o") for color in colors]
    names = [rf"$\alpha_t$ = {value:g}" for value in dataset["alpha_total"].values]
    handles.append(Line2D([], [], color="0.3", marker="v", linestyle="none"))
    above.legend(handles, [*names, "best offset"], loc="outside upper center", ncols=len(handles))
    _draw_map(below, dataset)
    missing_note(figure, dataset)
    return figure


def _draw_curves(axes: Axes, part: xr.Dataset, colors: np.ndarray) -> None:
    for k, color in enumerate(colors):
        curve = part.isel(alpha_total=k)
        known = curve["theory_status"].values == 0
        axes.plot(
            curve["offset"], np.where(known, curve["theory_error"], np.nan), color=color, zorder=2
        )
        axes.errorbar(
            curve["simulated_offset"],
            curve["error_mean"],
            yerr=curve["error_stderr"],
            color=color,
            **POINTS,
        )
        if curve["best_status"].item() == 0:
            axes.plot(
                curve["best_offset"],
                curve["best_error"] / 1.25,
                "v",
                color=color,
                markersize=3.5,
                markeredgecolor="white",
                markeredgewidth=0.3,
                zorder=4,
            )
    last = part["offset"].values[-1]
    axes.set_xticks([0, last / 2, last], ["0\nhard", f"{last / 2:g}", f"{last:g}\neasy"])
    axes.set_xlim(-0.04 * last, 1.04 * last)


def _draw_map(figure: SubFigure, dataset: xr.Dataset) -> None:
    axes = figure.subplots()
    alpha, theta = dataset["map_alpha_total"].values, dataset["map_theta_deg"].values
    offset, found = dataset["map_offset"].values, dataset["map_status"].values == 0
    last = 1 - dataset["keep_fraction"].item()
    shown = np.ma.masked_where(~found, offset)
    x, y = cell_edges(alpha), cell_edges(theta, logarithmic=False)
    image = axes.pcolormesh(x, y, shown, vmin=0, vmax=last, cmap=colormaps["viridis"])
    # Marks where an end of the range is best.
    for end, marker in ((0.0, "s"), (last, "^")):
        row, column = np.nonzero(found & (np.abs(offset - end) < 1e-9))
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
    axes.set_title("best offset; squares: hard selection, triangles: easy selection")
    figure.colorbar(image, ax=axes, label="offset (rank)", aspect=15)


def caption(dataset: xr.Dataset) -> str:
    """What the picture shows, in words."""
    return (
        f"Above: fitting error of a window that keeps f = {dataset['keep_fraction'].item():g} of "
        "the ranks of abs(z), against the rank where it begins: 0 is hard, the right end easy "
        "selection. Lines: replica theory, triangles: its minima. Points: mean over draws with "
        "standard error; the points share their draws. Below: the best offset against the volume "
        "of data and the probe's angle, theory."
    )
