"""Draws the figure `scaling`: the error against alpha_kept, its slope, and the frontier."""

import dataclasses
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import replica
import sims
import theory
from figures.curves import policy_of, shift_of
from figures.panels import COUNTS, WIDTH, error_label, missing_note
from figures.settings import ScalingSettings, policy_words, symbol
from figures.style import POINTS, curve_colors, log_axes, log_axis

FRONTIER = "#D55E00"


def compute(
    settings: ScalingSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute the theory over four decades, and simulate at the settings' alpha_total."""
    kept = np.geomspace(*settings.theory_range, settings.theory_points)
    theta = np.deg2rad(settings.theta_deg)[:, None]
    fraction = np.asarray(settings.keep_fraction)[:, None]
    volume = np.asarray(settings.alpha_total)
    policy, shift = policy_of(settings), shift_of(settings)
    problem = theory.PerceptronProblem(
        kept / fraction, fraction, theory.FixedAngle(theta[..., None]), policy, downstream=shift
    )
    solution = replica.solve(problem)
    rates = replica.sensitivities(problem)
    exponent = np.asarray(rates.error_alpha_total) * kept / fraction / np.asarray(solution.error)
    best = replica.frontier(kept, theta, policy, downstream=shift)
    simulated = sims.run(
        dataclasses.replace(problem, alpha_total=volume),
        settings.dim,
        settings.draws,
        settings.seed,
        overlap=settings.overlap,
        cache=cache,
        progress=progress,
    )
    lines = ("theta_deg", "keep_fraction", "alpha_kept")
    points = ("theta_deg", "keep_fraction", "alpha_total")
    edge = ("theta_deg", "alpha_kept")
    return xr.Dataset(
        {
            "theory_error": (lines, np.asarray(solution.error)),
            "theory_status": (lines, np.asarray(solution.status)),
            "exponent": (lines, exponent),
            "frontier_error": (edge, np.asarray(best.error)),
            "frontier_exponent": (edge, np.asarray(best.exponent)),
            "frontier_fraction": (edge, np.asarray(best.keep_fraction)),
            "frontier_status": (edge, np.asarray(best.status)),
            "error_mean": (points, simulated["error_mean"].values),
            "error_stderr": (points, simulated["error_stderr"].values),
            **{name: (points, simulated[name].values) for name in COUNTS},
        },
        coords={
            "theta_deg": list(settings.theta_deg),
            "keep_fraction": list(settings.keep_fraction),
            "alpha_total": list(settings.alpha_total),
            "alpha_kept": kept,
        },
    )


def draw(dataset: xr.Dataset, settings: ScalingSettings) -> Figure:
    """Draw errors above and their logarithmic slopes below, a column for each angle."""
    count = dataset.sizes["theta_deg"]
    figure = Figure(figsize=(max(WIDTH * count / 4, WIDTH / 2), 3.6))
    panels = figure.subplots(
        2, count, sharex=True, sharey="row", squeeze=False, height_ratios=(1.5, 1)
    )
    colors = curve_colors(dataset.sizes["keep_fraction"])
    kept: list[float] = dataset["alpha_kept"].values[[0, -1]].tolist()
    low = float(dataset["frontier_error"].where(dataset["frontier_error"] > 0).min()) / 1.5
    for (upper, lower), theta in zip(panels.T, dataset["theta_deg"].values, strict=True):
        part = dataset.sel(theta_deg=theta)
        _draw_errors(upper, part, colors)
        _draw_slopes(lower, part, colors)
        upper.set_title(symbol("theta_deg", theta))
        log_axes(upper, kept, (low, 0.8))
        log_axis(lower, "x", kept)
        lower.set_xlabel(r"$\alpha = f\,\alpha_t$")
    panels[0, 0].set_ylabel(error_label(settings))
    panels[1, 0].set_ylabel(r"slope $d\,\log e/d\,\log\alpha$")
    handles = [Line2D([], [], color=color, marker="o") for color in colors]
    names = [symbol("keep_fraction", value) for value in dataset["keep_fraction"].values]
    handles.append(Line2D([], [], color=FRONTIER, linestyle="--"))
    ncols = len(handles) if count > 2 else 3
    figure.legend(handles, [*names, "best $f$"], loc="outside upper center", ncols=ncols)
    missing_note(figure, dataset)
    return figure


def _draw_errors(axes: Axes, part: xr.Dataset, colors: np.ndarray) -> None:
    for k, color in enumerate(colors):
        curve = part.isel(keep_fraction=k)
        known = curve["theory_status"].values == 0
        axes.plot(
            curve["alpha_kept"],
            np.where(known, curve["theory_error"], np.nan),
            color=color,
            zorder=2,
        )
        axes.errorbar(
            curve["keep_fraction"].item() * curve["alpha_total"],
            curve["error_mean"],
            yerr=curve["error_stderr"],
            color=color,
            **POINTS,
        )
    found = np.isfinite(part["frontier_error"].values)
    axes.plot(
        part["alpha_kept"].values[found],
        part["frontier_error"].values[found],
        "--",
        color=FRONTIER,
        zorder=4,
    )


def _draw_slopes(axes: Axes, part: xr.Dataset, colors: np.ndarray) -> None:
    axes.axhline(-1, color="0.7", linewidth=0.6, zorder=1)
    for k, color in enumerate(colors):
        curve = part.isel(keep_fraction=k)
        known = curve["theory_status"].values == 0
        axes.plot(curve["alpha_kept"], np.where(known, curve["exponent"], np.nan), color=color)
    axes.plot(part["alpha_kept"], part["frontier_exponent"], "--", color=FRONTIER, zorder=4)


def caption(dataset: xr.Dataset, settings: ScalingSettings) -> str:
    """Say in words what the picture shows."""
    return (
        f"Error against the number of kept examples, {policy_words(settings)}: fractions f of a "
        "growing volume (solid), and the Pareto frontier, the best fraction of any volume up to "
        "1000 alpha (dashed). Below: the logarithmic slopes; without selection the error falls as "
        "1/alpha, slope -1. Lines: replica theory. Points: mean over draws with standard error."
    )
