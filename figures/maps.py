"""Maps over two parameters of the theory: axes and marks."""

from matplotlib.axes import Axes

from figures.style import log_axis

__all__ = ["WIDTH", "alpha_axis", "mark_failed"]

WIDTH = 7.0  # inches, both columns of a two-column page


def alpha_axis(axes: Axes, values: tuple[float, float], label: str) -> None:
    """A logarithmic horizontal axis over `values`, a decade where they are one."""
    low, high = values
    log_axis(axes, "x", (low, high) if high > low else (low / 3, high * 3))
    axes.set_xlabel(label)


def mark_failed(axes: Axes, x: list[float], y: list[float]) -> None:
    """A cross where the theory has no certified answer."""
    axes.plot(x, y, "x", color="0.2", markersize=3, linestyle="none", zorder=4)
