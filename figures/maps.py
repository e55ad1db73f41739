"""Maps over two parameters of the theory: settings, axes and colours."""

import dataclasses
import math

from matplotlib.axes import Axes

from figures.settings import BaseSettings
from figures.style import log_axis
from hardset.checks import check_range

__all__ = ["WIDTH", "MapSettings", "alpha_axis", "mark_failed"]

WIDTH = 7.0  # inches, both columns of a two-column page


@dataclasses.dataclass(frozen=True)
class MapSettings(BaseSettings):
    """Axes of a map without simulation.

    Attributes:
        alpha_total: volumes in ascending order, total examples / N (or kept ones, where the map
            says so), > 0.
        theta_deg: probe angles in degrees, ascending, in [0, 90].
        keep_fraction: fractions f, ascending, in (0, 1].
    """

    alpha_total: tuple[float, ...]
    theta_deg: tuple[float, ...]
    keep_fraction: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        check_range("alpha_total", self.alpha_total, 0.0, math.inf, open_low=True)
        check_range("theta_deg", self.theta_deg, 0.0, 90.0, unit="degrees")
        check_range("keep_fraction", self.keep_fraction, 0.0, 1.0, open_low=True)
        for name in ("alpha_total", "theta_deg", "keep_fraction"):
            values = getattr(self, name)
            if not values or list(values) != sorted(set(values)):
                raise ValueError(
                    f"{name} = {list(values)} must hold ascending values, at least one"
                )


def alpha_axis(axes: Axes, values: tuple[float, float], label: str) -> None:
    """A logarithmic horizontal axis over `values`, a decade where they are one."""
    low, high = values
    log_axis(axes, "x", (low, high) if high > low else (low / 3, high * 3))
    axes.set_xlabel(label)


def mark_failed(axes: Axes, x: list[float], y: list[float]) -> None:
    """A cross where the theory has no certified answer."""
    axes.plot(x, y, "x", color="0.2", markersize=3, linestyle="none", zorder=4)
