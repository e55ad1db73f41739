"""Accuracy against the kept fraction, a panel a condition."""

from pathlib import Path

import numpy as np

from selection.experiments.results import Results

__all__ = ["draw"]

MARKERS = "osD^vP*X<>hp"


def draw(results: Results, path: Path) -> None:
    """Write the picture to `path`, in the format of its suffix."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    plan = results.plan
    panels = len(plan.conditions)
    figure = Figure(figsize=(1.8 + 3.1 * panels, 4.2), layout="constrained")
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
    figure.savefig(path, dpi=200)
