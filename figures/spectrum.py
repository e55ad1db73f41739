"""Draws the figure `spectrum`: learning curves under pruning on inputs with a power law."""

import dataclasses
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import theory
from figures.curves import policy_of
from figures.panels import WIDTH, error_label, error_range, missing_note
from figures.rules import best_ridge, draw_line, problem_of, reaching, simulate, with_ridge
from figures.settings import SpectrumSettings, policy_words, symbol
from figures.style import curve_colors, log_axes, log_axis


def compute(
    settings: SpectrumSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute lines and simulated points for every exponent and fraction, and slopes of lines."""
    (loss,) = settings.loss
    volumes = np.asarray(settings.alpha_total)
    line = reaching(*settings.theory_range, settings.theory_points, volumes)
    best = best_ridge(_problem(settings, line), loss, settings)
    lam = best.lam[..., np.searchsorted(line, volumes)]
    dims = ("keep_fraction", "spectrum_a", "alpha_total")
    problem = with_ridge(_problem(settings, volumes), loss, lam)
    (points,) = simulate(settings, [problem], dims, cache=cache, progress=progress)
    lines = ("keep_fraction", "spectrum_a", "theory_alpha_total")
    slope = np.gradient(np.log(best.error), np.log(line), axis=-1)
    return (
        points.merge(best.lines(lines))
        .assign(slope=(lines, slope))
        .assign_coords(
            keep_fraction=list(settings.keep_fraction),
            spectrum_a=list(settings.spectrum_a),
            alpha_total=volumes,
            theory_alpha_total=line,
            spectrum_r=settings.spectrum_r,
            theta_deg=settings.theta_deg[0],
            flip=settings.flip[0],
        )
    )


def _problem(settings: SpectrumSettings, volumes: np.ndarray) -> "theory.PerceptronProblem":
    """Make the problems on the grid (keep_fraction, spectrum_a, alpha_total)."""
    problem = problem_of(
        settings,
        policy_of(settings),
        alpha_total=volumes,
        keep_fraction=np.asarray(settings.keep_fraction)[:, None, None],
    )
    a = np.asarray(settings.spectrum_a, np.float64)[:, None]
    return dataclasses.replace(
        problem, inputs=theory.PowerLaw(settings.dim, a, settings.spectrum_r)
    )


def draw(dataset: xr.Dataset, settings: SpectrumSettings) -> Figure:
    """Draw errors above and their logarithmic slopes below, a column for each fraction."""
    count = dataset.sizes["keep_fraction"]
    figure = Figure(figsize=(max(WIDTH * count / 3 + 0.6, WIDTH / 2), 3.6))
    panels = figure.subplots(
        2, count, sharex=True, sharey="row", squeeze=False, height_ratios=(1.5, 1)
    )
    line = dataset["theory_alpha_total"].values
    colors = curve_colors(dataset.sizes["spectrum_a"])
    for (upper, lower), fraction in zip(panels.T, dataset["keep_fraction"].values, strict=True):
        part = dataset.sel(keep_fraction=fraction)
        lower.axhline(-0.5, color="0.7", linewidth=0.6, zorder=1)
        for k, color in enumerate(colors):
            curve = part.isel(spectrum_a=k)
            draw_line(upper, curve, "alpha_total", color)
            lower.plot(line, curve["slope"], color=color)
        log_axes(upper, (line[0], line[-1]), error_range(dataset))
        log_axis(lower, "x", (line[0], line[-1]))
        upper.set_title("all data" if fraction == 1 else symbol("keep_fraction", fraction))
        lower.set_xlabel(r"$\alpha_t$")
    panels[0, 0].set_ylabel(error_label(settings))
    panels[1, 0].set_ylabel(r"slope $d\,\log e/d\,\log\alpha_t$")
    handles = [Line2D([], [], color=color, marker="o") for color in colors]
    names = [f"$a$ = {value:g}" for value in dataset["spectrum_a"].values]
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    missing_note(figure, dataset)
    return figure


def caption(dataset: xr.Dataset, settings: SpectrumSettings) -> str:
    """Say in words what the picture shows."""
    low, high = settings.lam_range
    aligned = "random" if settings.spectrum_r == 0 else f"aligned (r = {settings.spectrum_r:g})"
    return (
        f"Error against the volume of data on inputs whose covariance has the eigenvalues j^-a, j "
        f"= 1 .. N, {aligned} teacher, all data and {policy_words(settings)} by a probe at "
        f"{settings.theta_deg[0]:g} degrees, {settings.flip[0]:.0%} flipped labels, "
        f"{settings.loss[0]} loss at its ridge of least error between {low:g} and {high:g}. Below: "
        "the logarithmic slopes; isotropic data with flips end at -1/2 (grey). Lines: replica "
        "theory at the same N. Points: mean over draws with standard error, at the same ridges."
    )
