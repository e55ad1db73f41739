"""Draws the figure `optimal-policy`: the best weight, and its error beside other policies."""

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
from figures.curves import shift_of
from figures.panels import COUNTS, WIDTH, error_label, error_range
from figures.settings import RuleSettings, symbol
from figures.style import POINTS, PROBE, STUDENT, TEACHER, log_axis


def compute(
    settings: RuleSettings, *, cache: Path | None = None, progress: bool = False
) -> xr.Dataset:
    """Compute the best weight, its influence, and the errors of all policies.

    The errors come from theory and from simulation.
    """
    alpha, fraction = settings.alpha_total[0], settings.keep_fraction[0]
    theta = np.deg2rad(settings.theta_deg)
    shift = shift_of(settings)
    found = replica.optimal_policy(alpha, fraction, theta, downstream=shift)
    window = replica.optimal_window(alpha, fraction, theta, downstream=shift)
    policies = (
        theory.Random(),
        theory.Hard(),
        theory.Moderate(),
        theory.Easy(),
        theory.Window(window.lo),
        found.policy(),
    )
    problems = [
        theory.PerceptronProblem(
            alpha, fraction, theory.FixedAngle(theta), policy, downstream=shift
        )
        for policy in policies
    ]
    # A best weight of one interval is a window. It is simulated by the ranks of the draw, as the
    # best window is, and not by the fields of a weight: else equal theory would have different
    # points.
    single = np.asarray(found.intervals) == 1
    start = np.where(single, np.asarray(found.ranks)[..., 0, 0], 0.0)
    ranked = theory.Window(np.minimum(start, 1 - fraction))
    simulated = sims.run_many(
        [*problems, dataclasses.replace(problems[-1], policy=ranked)],
        settings.dim,
        settings.draws,
        settings.seed,
        overlap=settings.overlap,
        cache=cache,
        progress=progress,
    )
    *results, as_window = (result.reset_coords(drop=True) for result in simulated)
    choice = xr.DataArray(single, dims=as_window["error_mean"].dims)
    results[-1] = as_window.where(choice, results[-1])
    rules = []
    for problem, result in zip(problems, results, strict=True):
        solution = replica.solve(problem)
        columns = {key: result[key].values for key in ("error_mean", "error_stderr", *COUNTS)}
        columns["theory_error"] = np.asarray(solution.error)
        columns["theory_status"] = np.asarray(solution.status)
        rules.append(xr.Dataset({key: ("theta_deg", value) for key, value in columns.items()}))
    ranks, error = np.asarray(found.ranks), np.asarray(found.error)
    fields = np.linspace(*settings.field_range, settings.field_points)
    rates = [
        replica.weight_influence(alpha, angle, ranks[k], fields, downstream=shift) / error[k]
        for k, angle in enumerate(theta)
    ]
    names = [*(policy.name for policy in policies[:-1]), "best w(z)"]
    axis = xr.DataArray(names, dims="rule", name="rule")
    return (
        xr.concat(rules, dim=axis)
        .assign(
            interval=(("theta_deg", "k", "end"), np.asarray(found.fields)),
            influence=(("theta_deg", "field"), np.array(rates)),
            gap=("theta_deg", np.asarray(found.gap)),
            weight_status=("theta_deg", np.asarray(found.status)),
        )
        .assign_coords(
            theta_deg=list(settings.theta_deg),
            field=fields,
            alpha_total=alpha,
            keep_fraction=fraction,
        )
    )


def draw(dataset: xr.Dataset, settings: RuleSettings) -> Figure:
    """Draw weights and influence above and errors below, a column for each angle."""
    count = dataset.sizes["theta_deg"]
    figure = Figure(figsize=(max(WIDTH * count / 4, WIDTH / 2), 3.9))
    panels = figure.subplots(2, count, sharey="row", squeeze=False, height_ratios=(1, 1.3))
    limits = error_range(dataset)
    ends = dataset["interval"].values
    last = min(
        float(dataset["field"][-1]), 2 * float(np.max(ends, where=np.isfinite(ends), initial=0.5))
    )
    for (upper, lower), theta in zip(panels.T, dataset["theta_deg"].values, strict=True):
        part = dataset.sel(theta_deg=theta)
        _draw_weight(upper, part, last)
        _draw_errors(lower, part)
        log_axis(lower, "y", limits)
        upper.set_title(symbol("theta_deg", theta))
    panels[0, 0].set_ylabel("weight $w(z)$")
    panels[1, 0].set_ylabel(error_label(settings))
    handles = [
        Line2D([], [], color=STUDENT, linewidth=4, alpha=0.35),
        Line2D([], [], color=PROBE),
        Line2D([], [], color=TEACHER, marker="_", linestyle="none", markersize=8),
        Line2D([], [], color=STUDENT, marker="o", linestyle="none"),
    ]
    names = ["best weight found", "influence (arb. units)", "theory", "simulation"]
    ncols = len(handles) if count > 2 else 2
    figure.legend(handles, names, loc="outside upper center", ncols=ncols)
    return figure


def _draw_weight(axes: Axes, part: xr.Dataset, last: float) -> None:
    for start, end in part["interval"].values:
        axes.axvspan(min(start, last), min(end, last), color=STUDENT, alpha=0.35, linewidth=0)
    influence = part["influence"].values
    field = part["field"].values
    inside = np.zeros(len(field), bool)
    for start, end in part["interval"].values:
        inside |= (field > start) & (field < end)
    if inside.any():
        # Heights of the influence: one half at the ends of the kept examples, 0.1 at the least.
        level = influence[inside].max()
        depth = max(level - influence[inside].min(), 1e-300)
        axes.plot(field, 0.5 + 0.4 * (influence - level) / depth, color=PROBE)
        axes.axhline(0.5, color=PROBE, linestyle=":", linewidth=0.7)
    axes.set_xlim(0, last)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 1])
    axes.set_xlabel(r"$|z|$")


def _draw_errors(axes: Axes, part: xr.Dataset) -> None:
    place = np.arange(part.sizes["rule"])
    known = part["theory_status"].values == 0
    axes.plot(
        place[known],
        part["theory_error"].values[known],
        "_",
        color=TEACHER,
        markersize=10,
        markeredgewidth=1.2,
    )
    axes.errorbar(
        place,
        part["error_mean"],
        yerr=part["error_stderr"],
        color=STUDENT,
        **POINTS,
    )
    missing = np.sum([part[name].values for name in COUNTS], axis=0)
    for x in place[missing > 0]:
        axes.annotate(
            f"{missing[x]:d} lost", (x, 0.97), xycoords=axes.get_xaxis_transform(), ha="center"
        )
    axes.set_xlim(-0.6, len(place) - 0.4)
    axes.set_xticks(place, [str(name) for name in part["rule"].values], rotation=60, ha="right")


def caption(dataset: xr.Dataset, settings: RuleSettings) -> str:
    """Say in words what the picture shows."""
    return (
        f"The weight of mass f = {dataset['keep_fraction'].item():g} of least error found by "
        f"ascent on the exact gradient, alpha_t = {dataset['alpha_total'].item():g}. Above: kept "
        "examples (orange) and the influence on the error of keeping more at a field z (blue): "
        "to first order the best weight keeps what lies below the dotted level. Below: its error "
        "beside those of other policies; dashes: replica theory, points: mean over draws with "
        "standard error; the points share their draws, and a best weight of one interval is the "
        f"window of its ranks. First-order gap at most {float(np.max(np.abs(dataset['gap']))):.0e}."
    )
