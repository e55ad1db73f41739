"""Error against selection ratio: theory lines and simulated points of a row of panels."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xarray as xr

import replica
import sims
from figures.figure import CurveSettings, InSampleSettings
from theory.policies import Hard, Policy
from theory.problem import DownstreamShift, PerceptronProblem


@dataclasses.dataclass(frozen=True)
class Panel:
    """One family of curves: what is the same for all its alpha_total and f.

    Attributes:
        coordinate: value of the panel on the dataset's panel axis.
        theta_deg: probe angle in degrees.
        policy: which examples are kept.
        redundancy: copies of every distinct example.
        delta: size of an independent downstream shift.
    """

    coordinate: float | str
    theta_deg: float
    policy: Policy = dataclasses.field(default_factory=Hard)
    redundancy: float = 1.0
    delta: float = 0.0

    def shift(self, overlap: str) -> DownstreamShift:
        """The shift whose cosine overlap is, as N -> infinity, the one that is simulated.

        The notebook's teacher is T + delta (1 - J_p), with 1 the vector of ones in coordinates of
        which J_p is one. Mean-centring removes 1 and leaves T - delta J_p.
        """
        if overlap == "cosine":
            return DownstreamShift(delta=self.delta)
        theta = np.deg2rad(self.theta_deg)
        return DownstreamShift(self.delta, along_teacher=-np.cos(theta), along_plane=-np.sin(theta))

    def problem(
        self,
        alpha_total: Sequence[float],
        keep_fraction: Sequence[float] | np.ndarray,
        shift: DownstreamShift,
    ) -> PerceptronProblem:
        """The panel's problems on the grid alpha_total x keep_fraction."""
        return PerceptronProblem.grid(
            alpha_total=np.asarray(alpha_total),
            keep_fraction=np.asarray(keep_fraction),
            theta=np.deg2rad(self.theta_deg),
            policy=self.policy,
            redundancy=self.redundancy,
            downstream=shift,
        )


def compute_panels(
    settings: CurveSettings,
    axis: str,
    panels: Sequence[Panel],
    *,
    cache: Path | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Theory on a fine grid of f and simulation at the settings' f, for every panel.

    Args:
        settings: curves and sample sizes.
        axis: name of the panels' axis.
        panels: the panels, in order.
        cache: folder for finished simulation cells; a rerun computes only what is missing.
        progress: show a progress bar.

    Returns:
        `theory_error` and `theory_status` on (axis, alpha_total, theory_fraction); `error_mean`,
        `error_stderr` and the counts of draws by outcome on (axis, alpha_total, keep_fraction).
    """
    theory_fraction = theory_fractions(settings)
    with ThreadPoolExecutor(1) as beside:
        answers = [
            beside.submit(
                replica.solve,
                panel.problem(settings.alpha_total, theory_fraction, panel.shift(settings.overlap)),
            )
            for panel in panels
        ]
        simulations = _simulate(settings, panels, cache, progress)
        solutions = [answer.result() for answer in answers]
    grid = ("alpha_total", "theory_fraction")
    parts = [
        xr.Dataset(
            {
                "theory_error": (grid, np.asarray(solution.error)),
                "theory_status": (grid, np.asarray(solution.status)),
            },
            coords={"theory_fraction": theory_fraction},
        ).merge(simulation)
        for solution, simulation in zip(solutions, simulations, strict=True)
    ]
    coordinate = xr.DataArray([panel.coordinate for panel in panels], dims=axis, name=axis)
    return xr.concat(parts, dim=coordinate, combine_attrs="drop")


def theory_fractions(settings: CurveSettings | InSampleSettings) -> np.ndarray:
    """The fractions f of the theory lines."""
    low = min(settings.keep_fraction) / settings.theory_reach
    high = min(1.0, max(settings.keep_fraction) * settings.theory_reach)
    # exp(log(f)) may leave (0, 1] by a rounding error.
    return np.minimum(np.geomspace(low, high, settings.theory_points), high)


def _simulate(
    settings: CurveSettings, panels: Sequence[Panel], cache: Path | None, progress: bool
) -> list[xr.Dataset]:
    """The simulations of all panels, which share draws and students, in one sweep."""
    results = sims.run_many(
        [
            panel.problem(
                settings.alpha_total, settings.keep_fraction, DownstreamShift(delta=panel.delta)
            )
            for panel in panels
        ],
        settings.dim,
        settings.draws,
        settings.seed,
        overlap=settings.overlap,
        cache=cache,
        progress=progress,
    )
    kept = ["error_mean", "error_stderr", "solved", "not_separable", "failed", "empty"]
    return [
        result[kept]
        .reset_coords(drop=True)
        .assign_coords(
            alpha_total=list(settings.alpha_total), keep_fraction=list(settings.keep_fraction)
        )
        for result in results
    ]
