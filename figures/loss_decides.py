"""Draws the figure `loss-decides`: the error against keep_fraction for several losses."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.curves import policy_of
from figures.panels import FRACTION_LABEL, WIDTH, error_label, error_range, missing_note
from figures.rules import best_ridge, draw_line, problem_of, reaching, simulate, stacked, with_ridge
from figures.settings import LossSettings, policy_words, symbol
from figures.style import log_axes

# Okabe and Ito's colours.
COLORS = {
    "square": "#D55E00",
    "squared-hinge": "#0072B2",
    "hinge": "#56B4E9",
    "logistic": "#009E73",
}


def compute(
    settings: LossSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute lines and points of every loss, each at its best ridge."""
    policy = policy_of(settings)
    angles, fractions = np.asarray(settings.theta_deg), np.asarray(settings.keep_fraction)
    theory = reaching(fractions.min(), fractions.max(), settings.theory_points, fractions)
    there = np.searchsorted(theory, fractions)
    lines, problems = [], []
    for loss in settings.loss:
        problem = problem_of(settings, policy, theta_deg=angles[:, None], keep_fraction=theory)
        best = best_ridge(problem, loss, settings)
        lines.append(best.lines(("theta_deg", "theory_keep_fraction")))
        problem = problem_of(settings, policy, theta_deg=angles[:, None], keep_fraction=fractions)
        problems.append(with_ridge(problem, loss, best.lam[:, there]))
    dims = ("theta_deg", "keep_fraction")
    points = simulate(settings, problems, dims, cache=cache, progress=progress)
    parts = [line.merge(point) for line, point in zip(lines, points, strict=True)]
    return stacked(parts, "loss", settings.loss).assign_coords(
        theta_deg=angles,
        keep_fraction=fractions,
        theory_keep_fraction=theory,
        alpha_total=settings.alpha_total[0],
        flip=settings.flip[0],
    )


def draw(dataset: xr.Dataset, settings: LossSettings) -> Figure:
    """Draw a panel for each angle, with dotted levels of all data."""
    count = dataset.sizes["theta_deg"]
    figure = Figure(figsize=(WIDTH * max(count, 2) / 3 + 0.6, 2.6))
    panels = figure.subplots(1, count, sharex=True, sharey=True, squeeze=False)[0]
    low, high = dataset["theory_keep_fraction"].values[[0, -1]]
    losses = [str(loss) for loss in dataset["loss"].values]
    for axes, theta in zip(panels, dataset["theta_deg"].values, strict=True):
        for loss in losses:
            curve = dataset.sel(theta_deg=theta, loss=loss)
            # Hinge and squared hinge nearly coincide.
            line = "--" if loss == "hinge" else "-"
            draw_line(axes, curve, "keep_fraction", COLORS[loss], line=line)
            if high == 1:
                level = curve["theory_error"].values[-1]
                axes.axhline(level, color=COLORS[loss], linewidth=0.7, linestyle=":", zorder=1)
        log_axes(axes, (low / 1.1, high * 1.1), error_range(dataset))
        axes.set_title(symbol("theta_deg", theta))
        axes.set_xlabel(FRACTION_LABEL)
    panels[0].set_ylabel(error_label(settings))
    handles = [
        Line2D([], [], color=COLORS[loss], marker="o", linestyle="--" if loss == "hinge" else "-")
        for loss in losses
    ]
    panels[-1].legend(handles, losses, loc="center left", bbox_to_anchor=(1.01, 0.5))
    missing_note(figure, dataset)
    return figure


def caption(dataset: xr.Dataset, settings: LossSettings) -> str:
    """Say in words what the picture shows."""
    low, high = settings.lam_range
    noise = f"{settings.flip[0]:.0%} flipped labels" if settings.flip[0] else "clean labels"
    return (
        f"Error against the selection ratio, {policy_words(settings)} from alpha_total = "
        f"{settings.alpha_total[0]:g}, {noise}, one curve for each loss at its ridge of least "
        f"error between {low:g} and {high:g}. Dotted: all data. With an imperfect probe the "
        "square loss gains from a hard selection that harms the margin losses. Lines: replica "
        "theory. Points: mean over draws with standard error, at the same ridges; all points "
        "share their draws."
    )
