"""Defines the style of all figures: sizes, fonts, colours and logarithmic axes."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, MaxNLocator, NullFormatter

COLUMN = 3.3  # inches, one column of a two-column page

# Okabe and Ito's colours, which can be told apart with any colour vision.
TEACHER, PROBE, STUDENT = "#000000", "#0072B2", "#D55E00"

# Arguments of `errorbar` for simulated points. A white rim separates a point from the line under it
# and from its neighbours.
POINTS: dict[str, Any] = {
    "fmt": "o",
    "markeredgecolor": "white",
    "markeredgewidth": 0.3,
    "elinewidth": 0.7,
    "zorder": 3,
}


def curve_colors(count: int) -> np.ndarray:
    """Return the colours of `count` ordered curves as RGBA, from dark to light."""
    return matplotlib.colormaps["viridis"](np.linspace(0.0, 0.78, count))


def log_axes(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Make both axes logarithmic over the given limits, as `log_axis` does."""
    log_axis(axes, "x", x)
    log_axis(axes, "y", y)


def log_axis(axes: Axes, name: str, limits: Sequence[float]) -> None:
    """Make the axis "x" or "y" logarithmic, with tick labels of one kind."""
    axes.set(**{f"{name}scale": "log", f"{name}lim": tuple(limits)})
    axis = axes.xaxis if name == "x" else axes.yaxis
    ticks = _ticks(*limits).tolist()
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter(_tick_labels(ticks)))
    axis.set_minor_locator(LogLocator(subs=list(range(2, 10))))
    axis.set_minor_formatter(NullFormatter())


def _tick_labels(ticks: Sequence[float]) -> list[str]:
    """Write ticks as decimal numbers, or all as powers of ten."""
    if not ticks or (min(ticks) > 0.99e-3 and max(ticks) < 0.99e4):
        return [f"{tick:g}" for tick in ticks]
    powers = []
    for tick in ticks:
        digits, exponent = f"{tick:.0e}".split("e")
        factor = "" if digits == "1" else rf"{digits}{{\times}}"
        powers.append(f"${factor}10^{{{int(exponent)}}}$")
    return powers


def _ticks(low: float, high: float) -> np.ndarray:
    """Choose ticks at decades, or at steps of them that give three labels."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ([1], [1, 3], [1, 2, 5]):
        ticks = np.outer(decades, steps).ravel()
        ticks = ticks[(ticks >= low * (1 - 1e-9)) & (ticks <= high * (1 + 1e-9))]
        if len(ticks) >= 3:
            break
    else:  # less than a decade
        ticks = np.asarray(MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high))
        ticks = ticks[(ticks >= low) & (ticks <= high)]
    if len(ticks) > 7:  # many decades
        ticks = ticks[:: -(-len(ticks) // 5)]
    return ticks
