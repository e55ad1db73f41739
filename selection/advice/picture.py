"""Draws measured curves of an advice: the change of the error with what is kept."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from hardset.pictures import rendered

if TYPE_CHECKING:
    from selection.advice.explanation import Explanation
    from selection.advice.verdict import Measurement

FORMATS = ("png", "pdf", "svg")
SIZE = (4.2, 3.1)  # inches; 600 pixels on a slide are 143 to the inch, a letter 14 pixels high
# Okabe and Ito's colours, which can be told apart with any colour vision, and a marker for each.
LOOKS = {
    "hard": ("#0072B2", "o"),
    "mixture": ("#D55E00", "s"),
    "easy": ("#CC79A7", "v"),
    "moderate": ("#E69F00", "D"),
    "hard-signed": ("#56B4E9", "P"),
    "easy-signed": ("#8C6D00", "X"),
    "random": ("#777777", "^"),
}
THIN = "random"  # a policy that is shown for comparison
GREEN = "#009E73"
# The height of the picture: room for bars over the largest change, but within multiples of
# the tolerance, beyond which curves leave the picture.
ROOM, LEAST, MOST = 1.6, 3.0, 10.0
SPREAD = 1.03  # between the bars of two policies at one fraction


def draw_curves(
    curve: "Sequence[Measurement]",
    *,
    tolerance: float,
    title: str,
    error: str = "error",
    chosen: "Measurement | None" = None,
    explanation: "Explanation | None" = None,
) -> Figure:
    """Draw the change of the error against the kept fraction.

    The bar over a marker ends at the bound. A marker is filled where its bound is within the
    tolerance.

    Args:
        curve: what was measured, in any order; may be empty.
        tolerance: accepted increase of the error.
        title: says what to do, in one or two lines.
        error: what was measured, such as "balanced error".
        chosen: the measurement that is advised, one of `curve`.
        explanation: its curves are drawn where it says that they may be.
    """
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    found = sorted({one.policy for one in curve}, key=list(LOOKS).index)
    top = _top(curve, tolerance)
    axes.axhline(0.0, color="black", linewidth=0.6, zorder=1)
    for place, policy in enumerate(found):
        own = sorted(
            (one for one in curve if one.policy == policy), key=lambda one: one.keep_fraction
        )
        shift = SPREAD ** (place - (len(found) - 1) / 2)
        _draw_policy(axes, policy, own, shift, top, tolerance)
    if explanation is not None and explanation.drawn:
        _draw_theory(axes, explanation, found)
    if chosen is not None:
        place = found.index(chosen.policy)
        shift = SPREAD ** (place - (len(found) - 1) / 2)
        axes.plot(
            [chosen.keep_fraction * shift],
            [100 * chosen.increase],
            "o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor="black",
            markeredgewidth=1.1,
            zorder=5,
            label="advice",
        )
    if found:
        axes.plot([], [], "|", color="#444444", markersize=7, label="bar: up to the bound")
    band = f"tolerance, +{100 * tolerance:.2g}"
    axes.axhspan(0.0, 100 * tolerance, color=GREEN, alpha=0.2, linewidth=0, zorder=0, label=band)
    _finish(axes, curve, top, title, error)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, columnspacing=1.2)
    return figure


def _draw_policy(
    axes: Axes, policy: str, own: "list[Measurement]", shift: float, top: float, tolerance: float
) -> None:
    colour, marker = LOOKS[policy]
    thin = policy == THIN
    fractions = np.array([1.0, *(one.keep_fraction * shift for one in own[::-1])])
    changes = 100 * np.array([0.0, *(one.increase for one in own[::-1])])
    bounds = np.minimum(100 * np.array([one.bound for one in own[::-1]]), 2 * top)
    axes.plot(
        fractions,
        changes,
        color=colour,
        linewidth=0.7 if thin else 1.3,
        zorder=2 if thin else 3,
        label=f"{policy} selection",
        marker=marker,
        markevery=range(1, len(fractions)),
        markersize=2.6 if thin else 4.2,
        markeredgewidth=0.7 if thin else 1.0,
        markerfacecolor="white",
    )
    axes.vlines(
        fractions[1:],
        changes[1:],
        np.maximum(bounds, changes[1:]),
        color=colour,
        linewidth=0.5 if thin else 0.9,
        zorder=2,
    )
    inside = bounds < top
    axes.plot(
        fractions[1:][inside],
        bounds[inside],
        linestyle="none",
        marker="_",
        markersize=3 if thin else 5,
        markeredgewidth=0.5 if thin else 0.9,
        color=colour,
        zorder=2,
    )
    within = np.array([one.bound <= tolerance for one in own[::-1]], dtype=bool)
    axes.plot(
        fractions[1:][within],
        changes[1:][within],
        linestyle="none",
        marker=marker,
        markersize=2.6 if thin else 4.2,
        color=colour,
        zorder=4,
    )


def _draw_theory(axes: Axes, explanation: "Explanation", found: Sequence[str]) -> None:
    """Draw the theory's change of the error, of each policy in its colour."""
    fractions = np.asarray(explanation.keep_fraction)
    order = np.argsort(fractions)
    for policy in found:
        if policy in explanation.predicted:
            errors = np.asarray(explanation.predicted[policy])[order]
            axes.plot(
                fractions[order],
                100 * (errors - errors[-1]),
                linestyle=(0, (3, 2)),
                linewidth=0.8,
                color=LOOKS[policy][0],
                zorder=1.5,
            )
    axes.plot(
        [],
        [],
        linestyle=(0, (3, 2)),
        linewidth=0.8,
        color="#444444",
        label=f"{explanation.label} (theory)",
    )


def _top(curve: "Sequence[Measurement]", tolerance: float) -> float:
    """Find the upper end of the axis; longer bars leave the picture."""
    largest = max([tolerance, *(one.increase for one in curve)])
    bounds = [one.bound for one in curve if one.policy != THIN and np.isfinite(one.bound)]
    needed = min(1.05 * max(bounds, default=0.0), ROOM * largest)
    return 100 * tolerance * min(max(needed / tolerance, LEAST), MOST)


def _finish(axes: Axes, curve: "Sequence[Measurement]", top: float, title: str, error: str) -> None:
    fractions = sorted({one.keep_fraction for one in curve} | {1.0})
    lowest = min([0.0, *(100 * one.increase for one in curve)])
    axes.set_xscale("log")
    axes.set_xlim(min(fractions[0], 0.5) / 1.2, 1.1)
    axes.set_ylim(lowest - 0.08 * (top - lowest), 1.04 * top)
    axes.set_xticks(fractions, [_percent(one) for one in fractions])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(_signed))
    axes.set_xlabel("rows kept (%, logarithmic)")
    axes.set_ylabel(f"change of the {error}\n(percentage points)")
    axes.set_title(title, loc="left", fontsize=7.5)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g}"


def _signed(value: float, _: Any = None) -> str:
    return "0" if abs(value) < 1e-9 else f"{value:+.3g}"


def picture(file_format: str, caption: str, **drawn: Any) -> bytes:
    """Make a picture file of what `draw_curves` draws.

    Args:
        file_format: "png", "pdf" or "svg".
        caption: the file's description.
        **drawn: see `draw_curves`.
    """
    return rendered(lambda: draw_curves(**drawn), file_format, caption)
