"""Makes the problems of named rules, and finds their ridges of least error."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

import replica
import sims
import theory
from figures.curves import shift_of
from figures.panels import COUNTS
from figures.settings import LossSettings
from figures.style import POINTS

ALL = "all data"
COLORS = {
    ALL: "#000000",
    "random": "#999999",
    "hard": "#D55E00",
    "window": "#E69F00",
    "easy": "#56B4E9",
    "hard-signed": "#CC79A7",
    "easy-signed": "#0072B2",
    "window-signed": "#009E73",
}


@dataclasses.dataclass(frozen=True)
class BestRidge:
    """The ridge of least error at each point of a grid of problems.

    Attributes:
        lam: the best ridge; at an end of the range the error still falls beyond it.
        error: its error.
        status: 0 where they are certified.
    """

    lam: NDArray[np.float64]
    error: NDArray[np.float64]
    status: NDArray[np.int64]

    def lines(self, dims: tuple[str, ...]) -> xr.Dataset:
        """Label the errors and ridges as those of theory lines."""
        columns = {"theory_error": self.error, "theory_status": self.status, "best_lam": self.lam}
        return xr.Dataset({name: (dims, column) for name, column in columns.items()})


def problem_of(
    settings: LossSettings, policy: "theory.Policy", **columns: Any
) -> "theory.PerceptronProblem":
    """Make the problems of one policy.

    Args:
        settings: give what `columns` do not, their first values.
        policy: which examples are kept.
        **columns: any of alpha_total, keep_fraction, theta_deg and flip, as arrays that broadcast
            against each other.
    """
    names = ("alpha_total", "keep_fraction", "theta_deg", "flip")
    given = {name: columns.get(name, getattr(settings, name)[0]) for name in names}
    return theory.PerceptronProblem(
        alpha_total=given["alpha_total"],
        keep_fraction=given["keep_fraction"],
        probe=theory.FixedAngle.degrees(given["theta_deg"]),
        policy=policy,
        downstream=shift_of(settings),
        labels=theory.Flip(given["flip"]),
    )


def best_ridge(problem: "theory.PerceptronProblem", loss: str, settings: LossSettings) -> BestRidge:
    """Find the ridge of least error at each point of a problem.

    It lies within the settings' `lam_range`.
    """
    found = replica.optimal_lam(with_ridge(problem, loss, 1.0), settings.lam_range)
    failed = np.asarray(found.status) == replica.SearchStatus.FAILED
    return BestRidge(np.asarray(found.lam), np.asarray(found.error), failed.astype(int))


def with_ridge(
    problem: "theory.PerceptronProblem", loss: str, lam: Any
) -> "theory.PerceptronProblem":
    """Give a problem a student with a loss and ridges of the problem's shape."""
    return dataclasses.replace(problem, student=theory.ERM(loss, lam))


def simulate(
    settings: LossSettings,
    problems: "Sequence[theory.PerceptronProblem]",
    dims: tuple[str, ...],
    *,
    cache: Path | None,
    progress: bool,
) -> list[xr.Dataset]:
    """Simulate problems on shared draws, as `error_mean`, `error_stderr` and counts on `dims`."""
    results = sims.run_many(
        problems,
        settings.dim,
        settings.draws,
        settings.seed,
        cache=cache,
        progress=progress,
    )
    names = ("error_mean", "error_stderr", *COUNTS)
    return [xr.Dataset({name: (dims, result[name].values) for name in names}) for result in results]


def stacked(parts: Sequence[xr.Dataset], dim: str, values: Sequence[Any]) -> xr.Dataset:
    """Stack datasets along a new axis."""
    return xr.concat(parts, dim=xr.DataArray(list(values), dims=dim, name=dim))


def reaching(low: float, high: float, count: int, points: Any) -> NDArray[np.float64]:
    """Return ascending places of a line, evenly spaced in their logarithm, `points` among them."""
    grid = np.geomspace(low, high, count)
    # A point and its rounded copy would be two, with no slope between them.
    copies = np.isclose(grid[:, None], np.atleast_1d(points), rtol=1e-9, atol=0).any(axis=1)
    return np.union1d(grid[~copies], points)


def draw_line(
    axes: Axes,
    curve: xr.Dataset,
    x: str,
    color: Any,
    *,
    line: str = "-",
    points: bool = True,
) -> None:
    """Draw one line of theory over `theory_X` and its simulated points over `X`."""
    known = curve["theory_status"].values == 0
    error = np.where(known, curve["theory_error"], np.nan)
    axes.plot(curve[f"theory_{x}"], error, line, color=color, zorder=2)
    if points:
        axes.errorbar(
            curve[x], curve["error_mean"], yerr=curve["error_stderr"], color=color, **POINTS
        )
