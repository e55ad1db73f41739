"""Maps over two parameters of the theory: axes and marks."""

import numpy as np
from matplotlib.axes import Axes

from figures.style import log_axis

__all__ = ["WIDTH", "alpha_axis", "cell_edges", "mark_failed"]

WIDTH = 7.0  # inches, both columns of a two-column page


def alpha_axis(axes: Axes, values: tuple[float, float], label: str) -> None:
    """A logarithmic horizontal axis over `values`, a decade where they are one."""
    low, high = values
    log_axis(axes, "x", (low, high) if high > low else (low / 3, high * 3))
    axes.set_xlabel(label)


def cell_edges(centres: np.ndarray, *, logarithmic: bool = True) -> np.ndarray:
    """Edges of cells around ascending centres, halfway between them on their axis."""
    places = np.log(centres) if logarithmic else np.asarray(centres, dtype=np.float64)
    if len(places) == 1:
        edges = places[0] + np.array([-1.0, 1.0])
    else:
        middle = (places[1:] + places[:-1]) / 2
        edges = np.array([2 * places[0] - middle[0], *middle, 2 * places[-1] - middle[-1]])
    return np.exp(edges) if logarithmic else edges


def mark_failed(axes: Axes, x: list[float], y: list[float]) -> None:
    """A cross where the theory has no certified answer."""
    axes.plot(x, y, "x", color="0.2", markersize=3, linestyle="none", zorder=4)
