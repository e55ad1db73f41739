"""Draws the figure `less-is-more`: where a pruned set has less error than all data."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.curves import policy_of
from figures.panels import (
    FRACTION_LABEL,
    WIDTH,
    alpha_axis,
    cell_edges,
    error_label,
    error_range,
    mark_failed,
    missing_note,
)
from figures.rules import best_ridge, draw_line, problem_of, reaching, simulate, with_ridge
from figures.settings import RegionSettings, policy_words, symbol
from figures.style import curve_colors, log_axes

GAIN = 0.01  # relative gain on all data, below which a map shows none


def compute(
    settings: RegionSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute curves with simulated points at one volume, and maps over volumes and flips."""
    policy, (loss,) = policy_of(settings), settings.loss
    flips, fractions = np.asarray(settings.flip)[:, None], np.asarray(settings.keep_fraction)
    theory = reaching(fractions.min(), fractions.max(), settings.theory_points, fractions)
    problem = problem_of(settings, policy, flip=flips, keep_fraction=theory)
    best = best_ridge(problem, loss, settings)
    lam = best.lam[:, np.searchsorted(theory, fractions)]
    problem = problem_of(settings, policy, flip=flips, keep_fraction=fractions)
    (points,) = simulate(
        settings,
        [with_ridge(problem, loss, lam)],
        ("flip", "keep_fraction"),
        cache=cache,
        progress=progress,
    )
    volumes = np.geomspace(*settings.map_range, settings.map_volumes)
    map_flips = np.linspace(0, max(settings.flip) or 0.5, settings.map_flips)
    tried = np.geomspace(fractions.min(), 1, settings.map_fractions)
    plane = best_ridge(
        problem_of(
            settings,
            policy,
            alpha_total=volumes[:, None],
            flip=map_flips[:, None, None],
            keep_fraction=tried,
        ),
        loss,
        settings,
    )
    dims = ("map_flip", "map_alpha_total", "map_keep_fraction")
    return (
        points.merge(best.lines(("flip", "theory_keep_fraction")))
        .assign(
            map_error=(dims, plane.error),
            map_status=(dims, plane.status),
            map_lam=(dims, plane.lam),
        )
        .assign_coords(
            flip=list(settings.flip),
            keep_fraction=fractions,
            theory_keep_fraction=theory,
            map_alpha_total=volumes,
            map_flip=map_flips,
            map_keep_fraction=tried,
            alpha_total=settings.alpha_total[0],
            theta_deg=settings.theta_deg[0],
        )
    )


def draw(dataset: xr.Dataset, settings: RegionSettings) -> Figure:
    """Draw the curves, the gain over all data, and the best fraction."""
    figure = Figure(figsize=(WIDTH, 2.5))
    curves, gain, best = figure.subplots(1, 3, width_ratios=(1.1, 1, 1))
    colors = curve_colors(dataset.sizes["flip"])
    for k, color in enumerate(colors):
        draw_line(curves, dataset.isel(flip=k), "keep_fraction", color)
        level = dataset["theory_error"].values[k, -1]
        if dataset["theory_keep_fraction"].values[-1] == 1:
            curves.axhline(level, color=color, linewidth=0.7, linestyle=":", zorder=1)
    low, high = dataset["theory_keep_fraction"].values[[0, -1]]
    log_axes(curves, (low / 1.1, high * 1.1), error_range(dataset))
    curves.set_xlabel(FRACTION_LABEL)
    curves.set_ylabel(error_label(settings))
    curves.set_title(symbol("alpha_total", dataset["alpha_total"].item()))
    handles = [Line2D([], [], color=color, marker="o") for color in colors]
    names = [symbol("flip", value) for value in dataset["flip"].values]
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    error = dataset["map_error"]
    everything = error.isel(map_keep_fraction=-1)
    lowest = error.min("map_keep_fraction")
    gained = (1 - lowest / everything).where(lambda one: one >= GAIN)
    place = error.fillna(np.inf).argmin("map_keep_fraction")
    fraction = dataset["map_keep_fraction"][place].where(gained.notnull())
    failed = dataset["map_status"].any("map_keep_fraction")
    for axes, values, label, limits in (
        (gain, 100 * gained, "gain over all data (%)", (0, 100 * float(gained.max() or 1))),
        (best, fraction, "best $f$", (low, 1)),
    ):
        _draw_map(figure, axes, values, failed, label, limits)
    best.tick_params(labelleft=False)
    gain.set_ylabel(r"flip probability $\epsilon$")
    missing_note(figure, dataset)
    return figure


def _draw_map(
    figure: Figure,
    axes: Axes,
    values: xr.DataArray,
    failed: xr.DataArray,
    label: str,
    limits: tuple[float, float],
) -> None:
    """Draw one map, white where all data are best."""
    volumes, flips = values["map_alpha_total"].values, values["map_flip"].values
    shown = np.ma.masked_invalid(values.transpose("map_flip", "map_alpha_total").values)
    x, y = cell_edges(volumes), cell_edges(flips, logarithmic=False)
    colors = colormaps["viridis"].with_extremes(bad="white")
    image = axes.pcolormesh(x, y, shown, vmin=limits[0], vmax=limits[1], cmap=colors)
    row, column = np.nonzero(failed.transpose("map_flip", "map_alpha_total").values)
    mark_failed(axes, volumes[column].tolist(), flips[row].tolist())
    alpha_axis(axes, (x[0], x[-1]), r"$\alpha_t$")
    axes.set_title(label)
    figure.colorbar(image, ax=axes, aspect=20)


def caption(dataset: xr.Dataset, settings: RegionSettings) -> str:
    """Say in words what the picture shows."""
    low, high = settings.lam_range
    return (
        f"Left: error against the selection ratio for several shares of flipped labels, "
        f"{policy_words(settings)} from alpha_total = {settings.alpha_total[0]:g} by a probe at "
        f"{settings.theta_deg[0]:g} degrees, {settings.loss[0]} loss, at the ridge of least error "
        f"between {low:g} and {high:g}; dotted: all data. Lines: replica theory. Points: mean over "
        "draws with standard error, at the same ridges. Middle and right, theory: how much less "
        "error the best fraction has than all data at their own best ridge, and that fraction, "
        f"against the volume of data and the share of flips; white: a gain below {GAIN:.0%}."
    )
