"""Draws the figure `cross-fitted`: the error when each fold has a probe of its own."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import replica
import theory
from figures.curves import policy_of
from figures.panels import FRACTION_LABEL, WIDTH, error_label, error_range, missing_note
from figures.rules import draw_line, problem_of, reaching, simulate, with_ridge
from figures.settings import FoldSettings, policy_words, symbol
from figures.style import curve_colors, log_axes


def compute(
    settings: FoldSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute lines for every number of folds, and points for the finite ones."""
    fractions = np.asarray(settings.keep_fraction)
    line = reaching(fractions.min(), fractions.max(), settings.theory_points, fractions)
    folds = np.asarray(settings.folds, np.float64)
    every = np.append(folds, math.inf)
    found = replica.solve(_problem(settings, every, line))
    dims = ("flip", "folds", "keep_fraction")
    (points,) = simulate(
        settings, [_problem(settings, folds, fractions)], dims, cache=cache, progress=progress
    )
    lines = ("flip", "theory_folds", "theory_keep_fraction")
    return points.assign(
        theory_error=(lines, np.asarray(found.error)),
        theory_overlap=(lines, np.asarray(found.overlap)),
        theory_status=(lines, np.asarray(found.status)),
    ).assign_coords(
        flip=list(settings.flip),
        folds=folds,
        theory_folds=every,
        keep_fraction=fractions,
        theory_keep_fraction=line,
        alpha_total=settings.alpha_total[0],
        theta_deg=settings.theta_deg[0],
        lam=settings.lam,
    )


def _problem(
    settings: FoldSettings, folds: np.ndarray, fractions: np.ndarray
) -> "theory.PerceptronProblem":
    """Make the problems on the grid (flip, folds, keep_fraction)."""
    flips = np.asarray(settings.flip)[:, None, None]
    problem = problem_of(settings, policy_of(settings), flip=flips, keep_fraction=fractions)
    probes = theory.CrossFitted.degrees(settings.theta_deg[0], folds[:, None])
    return with_ridge(dataclasses.replace(problem, probe=probes), settings.loss[0], settings.lam)


def draw(dataset: xr.Dataset, settings: FoldSettings) -> Figure:
    """Draw a panel for each flip probability, and infinitely many folds dashed."""
    count = dataset.sizes["flip"]
    figure = Figure(figsize=(WIDTH * max(count, 2) / 3 + 0.6, 2.6))
    panels = figure.subplots(1, count, sharex=True, sharey=True, squeeze=False)[0]
    low, high = dataset["theory_keep_fraction"].values[[0, -1]]
    colors = [*curve_colors(dataset.sizes["folds"]), "#D55E00"]
    for axes, flip in zip(panels, dataset["flip"].values, strict=True):
        part = dataset.sel(flip=flip)
        for k, color in enumerate(colors):
            finite = k < dataset.sizes["folds"]
            curve = part.isel(theory_folds=k, folds=k if finite else -1)
            draw_line(
                axes, curve, "keep_fraction", color, line="-" if finite else "--", points=finite
            )
        log_axes(axes, (low / 1.1, high * 1.1), error_range(dataset))
        axes.set_title(symbol("flip", flip))
        axes.set_xlabel(FRACTION_LABEL)
    panels[0].set_ylabel(error_label(settings))
    handles = [Line2D([], [], color=color, marker="o") for color in colors[:-1]]
    handles.append(Line2D([], [], color=colors[-1], linestyle="--"))
    names = [f"$K$ = {value:g}" for value in dataset["folds"].values]
    panels[-1].legend(
        handles, [*names, r"$K\to\infty$"], loc="center left", bbox_to_anchor=(1.01, 0.5)
    )
    missing_note(figure, dataset)
    return figure


def caption(dataset: xr.Dataset, settings: FoldSettings) -> str:
    """Say in words what the picture shows."""
    return (
        f"Error against the selection ratio, {policy_words(settings)} from alpha_total = "
        f"{settings.alpha_total[0]:g}, {settings.loss[0]} loss, ridge {settings.lam:g}, a panel "
        "for each flip probability. The data are cut into K folds, each ranked by an independent "
        f"probe at {settings.theta_deg[0]:g} degrees from the teacher: the errors of several "
        "probes partly cancel, and five are nearly as good as infinitely many. Lines: replica "
        "theory. Points: mean over draws with standard error; all points share their draws."
    )
