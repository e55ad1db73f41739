"""Accuracy against the kept fraction: curves of few methods, rows of dots of many."""

from pathlib import Path
from typing import Any

import numpy as np

from selection.experiments.results import Results

__all__ = ["draw"]

MARKERS = "osD^vP*X<>hp"
CURVES = 12  # more of them nobody can tell apart


def draw(results: Results, path: Path) -> None:
    """Write the picture to `path`, in the format of its suffix."""
    figure = _curves(results) if len(results.plan.entries) <= CURVES else _dots(results)
    figure.savefig(path, dpi=200)


def _curves(results: Results) -> Any:
    """A panel a condition, a curve a method."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    plan = results.plan
    panels = len(plan.conditions)
    figure = Figure(figsize=(3.6 + 3.1 * panels, 4.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, panels, sharey=True))
    colours = mpl.colormaps["tab20"].resampled(20)
    rows = list(results.rows())
    for axis, condition in zip(axes, plan.conditions, strict=True):
        mean, _ = results.all_data(condition)
        axis.axhline(100 * mean, color="black", linewidth=0.8, linestyle=":", label="all examples")
        for number, entry in enumerate(plan.entries):
            own = [r for r in rows if (r.condition, r.entry) == (condition, entry.label)]
            axis.errorbar(
                [row.fraction for row in own],
                [100 * row.accuracy for row in own],
                [100 * row.accuracy_stderr for row in own],
                color=colours(number % 20),
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                linewidth=2.2 if number == 0 else 1.1,
                label=entry.label,
            )
        axis.set_xscale("log")
        axis.set_xticks(plan.fractions, [f"{fraction:g}" for fraction in plan.fractions])
        axis.minorticks_off()
        axis.set_title(condition)
        axis.set_xlabel("kept fraction $f$")
    axes[0].set_ylabel("test accuracy (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small", frameon=False)
    return figure


def _dots(results: Results) -> Any:
    """A panel a fraction, a row a method in the plan's order, a marker a condition."""
    from matplotlib.figure import Figure

    plan = results.plan
    entries = [entry.label for entry in plan.entries]
    figure = Figure(
        figsize=(3.2 + 2.4 * len(plan.fractions), 1.4 + 0.2 * len(entries)), layout="constrained"
    )
    axes = np.atleast_1d(figure.subplots(1, len(plan.fractions), sharey=True))
    rows = list(results.rows())
    for axis, fraction in zip(axes, plan.fractions, strict=True):
        for number, condition in enumerate(plan.conditions):
            own = [r for r in rows if (r.condition, r.fraction) == (condition, fraction)]
            dots = axis.errorbar(
                [100 * row.accuracy for row in own],
                np.arange(len(own)) + 0.16 * (number - (len(plan.conditions) - 1) / 2),
                xerr=[100 * row.accuracy_stderr for row in own],
                marker=MARKERS[number],
                markersize=3.5,
                linewidth=0,
                elinewidth=1,
                label=condition,
            )
            # The baseline, the plan's first entry.
            axis.axvline(100 * own[0].accuracy, color=dots[0].get_color(), linewidth=0.6)
        axis.set_title(f"$f$ = {fraction:g}")
        axis.set_xlabel("test accuracy (%)")
        axis.grid(axis="y", linewidth=0.3)
    axes[0].set_yticks(np.arange(len(entries)), entries, fontsize="small")
    axes[0].invert_yaxis()
    if len(plan.conditions) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure
