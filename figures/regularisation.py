"""Draws the figure `regularisation`: the error of several policies against the ridge."""

import dataclasses
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import replica
import theory
from figures.panels import WIDTH, error_label, error_range, missing_note
from figures.rules import ALL, COLORS, draw_line, problem_of, reaching, simulate, stacked
from figures.settings import RidgeSettings, symbol
from figures.style import log_axes


def rules_of(settings: RidgeSettings) -> "dict[str, tuple[theory.Policy, float]]":
    """Return the policy and the kept fraction of every rule."""
    fraction = settings.keep_fraction[0]
    return {
        ALL: (theory.Hard(), 1.0),
        "random": (theory.Random(), fraction),
        "hard": (theory.Hard(), fraction),
        "easy": (theory.Easy(), fraction),
    }


def compute(
    settings: RidgeSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute lines and points of every policy over the ridge, for every loss."""
    lams = np.asarray(settings.lam)
    line = reaching(*settings.lam_range, settings.theory_points, lams)
    rules = rules_of(settings)
    lines, problems = [], []
    for loss in settings.loss:
        for policy, fraction in rules.values():
            problem = problem_of(settings, policy, keep_fraction=fraction)
            found = replica.solve(dataclasses.replace(problem, student=theory.ERM(loss, line)))
            columns = {"theory_error": found.error, "theory_status": found.status}
            lines.append(
                xr.Dataset({name: ("theory_lam", np.asarray(v)) for name, v in columns.items()})
            )
            problems.append(dataclasses.replace(problem, student=theory.ERM(loss, lams)))
    points = simulate(settings, problems, ("lam",), cache=cache, progress=progress)
    parts = [line.merge(point) for line, point in zip(lines, points, strict=True)]
    count = len(rules)
    return stacked(
        [stacked(parts[k : k + count], "rule", list(rules)) for k in range(0, len(parts), count)],
        "loss",
        settings.loss,
    ).assign_coords(
        theory_lam=line,
        lam=lams,
        alpha_total=settings.alpha_total[0],
        keep_fraction=settings.keep_fraction[0],
        theta_deg=settings.theta_deg[0],
        flip=settings.flip[0],
    )


def draw(dataset: xr.Dataset, settings: RidgeSettings) -> Figure:
    """Draw a panel for each loss."""
    count = dataset.sizes["loss"]
    figure = Figure(figsize=(WIDTH * max(count, 2) / 3 + 0.6, 2.6))
    panels = figure.subplots(1, count, sharex=True, sharey=True, squeeze=False)[0]
    line = dataset["theory_lam"].values
    rules = [str(name) for name in dataset["rule"].values]
    for axes, loss in zip(panels, dataset["loss"].values, strict=True):
        for name in rules:
            draw_line(axes, dataset.sel(loss=loss, rule=name), "lam", COLORS[name])
        log_axes(axes, (line[0], line[-1]), error_range(dataset))
        axes.set_title(symbol("loss", loss))
        axes.set_xlabel(r"ridge $\lambda$")
    panels[0].set_ylabel(error_label(settings))
    handles = [Line2D([], [], color=COLORS[name], marker="o") for name in rules]
    panels[-1].legend(handles, rules, loc="center left", bbox_to_anchor=(1.01, 0.5))
    missing_note(figure, dataset)
    return figure


def caption(dataset: xr.Dataset, settings: RidgeSettings) -> str:
    """Say in words what the picture shows."""
    return (
        f"Error against the ridge, keeping f = {settings.keep_fraction[0]:g} of alpha_total = "
        f"{settings.alpha_total[0]:g} by a probe at {settings.theta_deg[0]:g} degrees, "
        f"{settings.flip[0]:.0%} flipped labels. A comparison of policies at one ridge says "
        "little: hard selection is best among those of equal size at small ridges, and worst at "
        "large ones. Lines: replica theory. Points: mean over draws with standard error; all "
        "points share their draws."
    )
