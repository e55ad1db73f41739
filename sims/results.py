"""Student records as labelled arrays: observables of every draw, means and standard errors."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sims.maxmargin import MaxMarginStatus
from sims.records import cosine_angle, pearson_overlaps
from sims.statistics import mean_and_stderr
from theory.angles import angle_from_overlap
from theory.labels import problem_attributes, problem_coordinates, problem_dims
from theory.problem import DownstreamShift, PerceptronProblem

__all__ = ["OVERLAPS", "observables", "to_dataset"]

Floats = NDArray[np.float64]

OVERLAPS = ("cosine", "pearson")

AVERAGED = ("error", "overlap", "probe_overlap", "downstream_overlap", "margin", "support_fraction")

FAILED = tuple(
    int(status)
    for status in MaxMarginStatus
    if status not in (MaxMarginStatus.SOLVED, MaxMarginStatus.NOT_SEPARABLE, MaxMarginStatus.EMPTY)
)


def observables(
    records: NDArray[np.void], shift: DownstreamShift, dim: int, overlap: str
) -> dict[str, Floats]:
    """Observables of each student in an array of records, same shape.

    Args:
        records: array of RECORD.
        shift: the cell's downstream shift, scalars.
        dim: N.
        overlap: "cosine" or "pearson".
    """
    if overlap == "pearson":
        teacher, probe, downstream = pearson_overlaps(records, float(np.asarray(shift.delta)), dim)
        angle = np.asarray(angle_from_overlap(downstream))
    else:
        teacher, probe = records["along_teacher"], records["probe_overlap"]
        angle = cosine_angle(records, shift)
        downstream = np.cos(angle)
    return {
        "error": angle / np.pi,
        "overlap": teacher,
        "probe_overlap": probe,
        "downstream_overlap": downstream,
        "margin": records["margin"],
        "support_fraction": records["support_count"] / np.maximum(records["kept_count"], 1),
    }


def to_dataset(
    problem: PerceptronProblem,
    records: NDArray[np.void],
    shifts: list[DownstreamShift],
    dim: int,
    overlap: str,
) -> xr.Dataset:
    """Labelled observables, means, standard errors and counts.

    Args:
        problem: the simulated problem.
        records: shape (cells, draws).
        shifts: one downstream shift a cell.
        dim: N.
        overlap: "cosine" or "pearson".
    """
    shape, draws = problem.shape, records.shape[1]
    dims = problem_dims(problem)
    columns = [
        observables(row, shift, dim, overlap) for row, shift in zip(records, shifts, strict=True)
    ]
    solved = records["status"] == MaxMarginStatus.SOLVED
    variables: dict[str, Any] = {}

    def add(name: str, values: NDArray[Any], *, per_draw: bool = False) -> None:
        tail, names = ((draws,), (*dims, "draw")) if per_draw else ((), dims)
        variables[name] = (names, values.reshape(shape + tail))

    for name in AVERAGED:
        values = np.stack([column[name] for column in columns])
        # An unsolved student has no direction: its numbers mean nothing, its status says so.
        values = np.where(solved, values, np.nan)
        mean, stderr = mean_and_stderr(values, solved)
        add(f"{name}_mean", mean)
        add(f"{name}_stderr", stderr)
        add(name, values, per_draw=True)
    for name in ("support_count", "kept_count", "status", "bracket"):
        add(name, records[name], per_draw=True)
    add("solved", np.sum(solved, axis=1))
    add("not_separable", np.sum(records["status"] == MaxMarginStatus.NOT_SEPARABLE, axis=1))
    add("empty", np.sum(records["status"] == MaxMarginStatus.EMPTY, axis=1))
    add("failed", np.sum(np.isin(records["status"], FAILED), axis=1))
    theta = records["theta"]
    add("theta_mean", np.mean(theta, axis=1))
    add("theta_std", np.std(theta, axis=1, ddof=1) if draws > 1 else np.zeros(len(records)))
    add("bracket_max", np.max(np.where(solved, records["bracket"], 0.0), axis=1))
    coordinates = problem_coordinates(problem) | {"draw": (("draw",), np.arange(draws))}
    return xr.Dataset(variables, coords=coordinates, attrs=problem_attributes(problem))
