"""Solves theory lines and simulates points against keep_fraction, as settings say."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import replica
import sims
import theory
from figures.settings import CurveSettings, Settings
from theory.policy_names import OWN_PARAMETERS, policy_parameter


def policy_of(settings: Settings) -> "theory.Policy":
    """Make the one policy of the settings."""
    (name,) = settings.policy
    own = policy_parameter(name)
    return theory.policy_from_name(name, **({own: getattr(settings, own)} if own else {}))


def shift_of(settings: Settings) -> "theory.DownstreamShift":
    """Make the one downstream shift of the settings.

    It is independent of teacher and probe.
    """
    (downstream_deg,) = settings.downstream_deg
    return theory.DownstreamShift.degrees(downstream_deg)


def theory_shift(settings: CurveSettings) -> "theory.DownstreamShift":
    """Make the shift for which theory predicts the simulated overlap.

    The simulated overlap tends to the cosine overlap of theory with this shift. In the mode
    `pearson` the teacher is that of the published notebook, T + delta (1 - J_p), with 1 the vector
    of ones in coordinates of which J_p is one. Mean-centring removes 1 and leaves T - delta J_p.
    """
    shift = shift_of(settings)
    if settings.overlap == "cosine" or settings.probe != "fixed":
        return shift
    theta = np.deg2rad(settings.theta_deg[0])
    return theory.DownstreamShift(
        shift.delta, along_teacher=-np.cos(theta), along_plane=-np.sin(theta)
    )


def problem_of(
    settings: Settings, keep_fraction: Sequence[float] | np.ndarray, shift: "theory.DownstreamShift"
) -> "theory.PerceptronProblem":
    """Make the problems of the settings on the grid alpha_total x keep_fraction."""
    theta_deg = settings.theta_deg[0] if settings.theta_deg else 0.0
    grid = theory.PerceptronProblem.grid(
        alpha_total=np.asarray(settings.alpha_total),
        keep_fraction=np.asarray(keep_fraction),
        theta=np.deg2rad(theta_deg),
        policy=policy_of(settings),
        redundancy=settings.redundancy[0],
        downstream=shift,
    )
    if settings.probe == "fixed":
        return grid
    trained = (
        theory.Independent(settings.alpha_probe) if settings.alpha_probe else theory.InSample()
    )
    return dataclasses.replace(grid, probe=trained)


def theory_fractions(settings: CurveSettings) -> np.ndarray:
    """Choose the kept fractions of the theory lines."""
    low = min(settings.keep_fraction) / settings.theory_reach
    most = 1.0 if settings.lo is None else 1.0 - settings.lo
    high = min(most, max(settings.keep_fraction) * settings.theory_reach)
    # exp(log(f)) may leave (0, 1] by a rounding error.
    return np.minimum(np.geomspace(low, high, settings.theory_points), high)


def panels_of(settings: CurveSettings, axis: str) -> list[CurveSettings]:
    """Split settings into those of single panels, one for each value of `axis`."""
    panels = []
    for value in getattr(settings, axis):
        changes: dict[str, Any] = {axis: (value,)}
        if axis == "policy":
            changes |= {own: None for own in OWN_PARAMETERS if own != policy_parameter(value)}
        panels.append(_one_panel(settings, changes))
    return panels


def _one_panel(settings: CurveSettings, changes: dict[str, Any]) -> CurveSettings:
    """Make the plain curve settings of one panel.

    A panel need not be a figure by itself.
    """
    names = [field.name for field in dataclasses.fields(CurveSettings)]
    return CurveSettings(**{name: getattr(settings, name) for name in names} | changes)


def solve_and_simulate(
    settings: CurveSettings,
    panels: Sequence[CurveSettings],
    *,
    cache: Path | None,
    progress: bool,
) -> "list[tuple[replica.ReplicaSolution, xr.Dataset]]":
    """Solve the theory lines and simulate the points of every panel of a figure.

    The panels share draws and students, and the theory is solved while draws are simulated.
    """
    fractions = theory_fractions(settings)
    with ThreadPoolExecutor(1) as beside:
        solutions = [
            beside.submit(replica.solve, problem_of(panel, fractions, theory_shift(panel)))
            for panel in panels
        ]
        simulations = sims.run_many(
            [problem_of(panel, panel.keep_fraction, shift_of(panel)) for panel in panels],
            settings.dim,
            settings.draws,
            settings.seed,
            overlap=settings.overlap,
            cache=cache,
            progress=progress,
        )
        return [
            (solution.result(), simulation)
            for solution, simulation in zip(solutions, simulations, strict=True)
        ]


def curves_dataset(
    settings: CurveSettings, lines: dict[str, Any], points: dict[str, Any]
) -> xr.Dataset:
    """Label the curves of one panel as a dataset.

    Args:
        settings: the figure's.
        lines: arrays on (alpha_total, theory_fraction).
        points: arrays on (alpha_total, keep_fraction).
    """
    return xr.Dataset(
        {name: (("alpha_total", "theory_fraction"), np.asarray(v)) for name, v in lines.items()}
        | {name: (("alpha_total", "keep_fraction"), np.asarray(v)) for name, v in points.items()},
        coords={
            "alpha_total": list(settings.alpha_total),
            "keep_fraction": list(settings.keep_fraction),
            "theory_fraction": theory_fractions(settings),
        },
    )


def angle_of_shift(shift: "theory.DownstreamShift") -> float:
    """Compute the angle in radians by which a perfect student misses the shifted teacher."""
    delta, along = float(np.asarray(shift.delta)), float(np.asarray(shift.along_teacher))
    return float(np.arctan2(delta * np.sqrt(1 - along**2), 1 + delta * along))
