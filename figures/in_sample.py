"""Fitting error against selection ratio, the probe trained on the very data that it prunes."""

import dataclasses
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import replica
import sims
from figures.curves import theory_fractions
from figures.figure import InSampleSettings
from figures.panels import (
    COUNTS,
    LINES_AND_POINTS,
    draw_curves,
    finish_axes,
    label_curves,
    missing_note,
    new_figure,
)
from figures.style import curve_colors
from theory.problem import InSample, PerceptronProblem


def compute(
    settings: InSampleSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """The figure's data: hard selection by an in-sample probe, theory and simulation."""
    alpha_total = np.asarray(settings.alpha_total)
    fractions = theory_fractions(settings)

    def problem(keep_fraction: np.ndarray) -> PerceptronProblem:
        grid = PerceptronProblem.grid(alpha_total=alpha_total, keep_fraction=keep_fraction)
        return dataclasses.replace(grid, probe=InSample())

    solution = replica.solve(problem(fractions))
    simulated = sims.run(
        problem(np.asarray(settings.keep_fraction)),
        settings.dim,
        settings.draws,
        settings.seed,
        cache=cache,
        progress=progress,
    )
    line, grid = ("alpha_total", "theory_fraction"), ("alpha_total", "keep_fraction")
    measured = ("error_mean", "error_stderr", "solved", *COUNTS)
    return xr.Dataset(
        {
            "theory_error": (line, np.asarray(solution.error)),
            "theory_status": (line, np.asarray(solution.status)),
            "lossless_fraction": (
                "alpha_total",
                np.asarray(replica.lossless_fraction(alpha_total)),
            ),
            "lossless_error": ("alpha_total", np.asarray(solution.theta)[:, -1] / np.pi),
            **{name: (grid, simulated[name].values) for name in measured},
        },
        coords={
            "alpha_total": list(settings.alpha_total),
            "keep_fraction": list(settings.keep_fraction),
            "theory_fraction": fractions,
        },
    )


def draw(dataset: xr.Dataset) -> Figure:
    """Draw the data of `compute`, a diamond where the loss begins."""
    figure, (axes,) = new_figure(1)
    colors = curve_colors(dataset.sizes["alpha_total"])
    draw_curves(axes, dataset, colors)
    axes.scatter(
        dataset["lossless_fraction"],
        dataset["lossless_error"],
        marker="D",
        s=16,
        facecolor="white",
        edgecolor=colors,
        linewidth=0.9,
        zorder=2.5,  # above the line, below a point
    )
    finish_axes(figure, [axes], dataset)
    label_curves(axes, dataset, colors)
    missing_note(figure, dataset)
    return figure


def caption(dataset: xr.Dataset) -> str:
    """What the picture shows, in words."""
    return (
        "Fitting error against the selection ratio, hard selection by a max-margin probe trained "
        "on all the data that are then pruned; its support vectors tie and are ranked by their "
        "dual variables, largest first. Diamonds: f_sv, the share of support vectors, from which "
        f"on the student is the probe and nothing is lost. {LINES_AND_POINTS}"
    )
