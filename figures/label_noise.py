"""Draws the figure `label-noise`: the error of many policies against the flip probability."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import theory
from figures.panels import WIDTH, error_label, error_range, missing_note
from figures.rules import (
    ALL,
    COLORS,
    best_ridge,
    draw_line,
    problem_of,
    simulate,
    stacked,
    with_ridge,
)
from figures.settings import NoiseSettings
from figures.style import log_axis

PANELS = {
    r"unsigned: ranked by $|z|$": ("hard", "window", "easy", "random"),
    r"signed: ranked by $y\,z$": ("hard-signed", "window-signed", "easy-signed"),
}


def rules_of(settings: NoiseSettings) -> "dict[str, tuple[theory.Policy, float]]":
    """Return the policy and the kept fraction of every rule."""
    fraction = settings.keep_fraction[0]
    policies: dict[str, theory.Policy] = {
        "random": theory.Random(),
        "hard": theory.Hard(),
        "window": theory.Window(settings.window_lo),
        "easy": theory.Easy(),
        "hard-signed": theory.HardSigned(),
        "window-signed": theory.WindowSigned(settings.signed_lo),
        "easy-signed": theory.EasySigned(),
    }
    return {ALL: (theory.Hard(), 1.0)} | {
        name: (policy, fraction) for name, policy in policies.items()
    }


def compute(
    settings: NoiseSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute lines and simulated points of every rule, each at its best ridge."""
    (loss,) = settings.loss
    flips = np.asarray(settings.flip)
    # The errors bend most at few flips. The lines pass through the simulated points.
    theory_flip = flips.max() * np.linspace(0, 1, settings.theory_points) ** 2
    theory_flip = np.union1d(theory_flip, flips)
    lines, problems = [], []
    for policy, fraction in rules_of(settings).values():
        problem = problem_of(settings, policy, flip=theory_flip, keep_fraction=fraction)
        best = best_ridge(problem, loss, settings)
        lines.append(best.lines(("theory_flip",)))
        problem = problem_of(settings, policy, flip=flips, keep_fraction=fraction)
        problems.append(with_ridge(problem, loss, best.lam[np.searchsorted(theory_flip, flips)]))
    points = simulate(settings, problems, ("flip",), cache=cache, progress=progress)
    parts = [line.merge(point) for line, point in zip(lines, points, strict=True)]
    return stacked(parts, "rule", list(rules_of(settings))).assign_coords(
        theory_flip=theory_flip,
        flip=flips,
        alpha_total=settings.alpha_total[0],
        keep_fraction=settings.keep_fraction[0],
        theta_deg=settings.theta_deg[0],
    )


def draw(dataset: xr.Dataset, settings: NoiseSettings) -> Figure:
    """Draw the unsigned rules on the left and the signed ones on the right."""
    figure = Figure(figsize=(WIDTH, 2.7))
    panels = figure.subplots(1, len(PANELS), sharex=True, sharey=True)
    for axes, (title, names) in zip(panels, PANELS.items(), strict=True):
        axes.axhline(0.5, color="0.7", linewidth=0.6, zorder=1)
        for name in (ALL, *names):
            draw_line(axes, dataset.sel(rule=name), "flip", COLORS[name])
        axes.set_title(title)
        axes.set_xlabel(r"flip probability $\epsilon$")
        handles = [Line2D([], [], color=COLORS[name], marker="o") for name in (*names, ALL)]
        axes.legend(
            handles,
            [_label(name, settings) for name in (*names, ALL)],
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
        )
    log_axis(panels[0], "y", error_range(dataset))
    reach = dataset["flip"].values.max() or 0.5
    panels[0].set_xlim(-0.03 * reach, 1.03 * reach)
    panels[0].set_ylabel(error_label(settings))
    missing_note(figure, dataset)
    return figure


def _label(name: str, settings: NoiseSettings) -> str:
    lo = {"window": settings.window_lo, "window-signed": settings.signed_lo}
    return f"{name}, lo = {lo[name]:g}" if name in lo else name


def caption(dataset: xr.Dataset, settings: NoiseSettings) -> str:
    """Say in words what the picture shows."""
    low, high = settings.lam_range
    return (
        f"Error against the share of flipped labels, {settings.loss[0]} loss, keeping f = "
        f"{settings.keep_fraction[0]:g} of alpha_total = {settings.alpha_total[0]:g} by a probe "
        f"at {settings.theta_deg[0]:g} degrees, at the ridge of least error between {low:g} and "
        f"{high:g}. Signed rules rank by the observed label. A few flips help unsigned hard "
        "selection with an imperfect probe; signed hard selection keeps the flipped labels and "
        "passes 1/2 (grey line). Lines: replica theory. Points: mean over draws with standard "
        "error, at the same ridges; all points share their draws."
    )
