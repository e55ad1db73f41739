"""What a data file says of the problem behind it: coordinates and attributes."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.problem import FixedAngle, Independent, PerceptronProblem


def problem_dims(problem: PerceptronProblem) -> tuple[str, ...]:
    """Names of the problem's axes, dim_0, dim_1, ... where it has none."""
    shape = problem.shape
    dims = problem.dims
    if dims is None or len(dims) != len(shape):
        return tuple(f"dim_{axis}" for axis in range(len(shape)))
    return dims


def problem_coordinates(
    problem: PerceptronProblem,
) -> dict[str, tuple[tuple[str, ...], NDArray[np.float64]]]:
    """Every number of the problem, over those of its axes along which it varies."""
    dims = problem_dims(problem)
    numbers: dict[str, Any] = {
        "alpha_total": problem.alpha_total,
        "keep_fraction": problem.keep_fraction,
        "redundancy": problem.redundancy,
        "delta": problem.downstream.delta,
        "along_teacher": problem.downstream.along_teacher,
        "along_plane": problem.downstream.along_plane,
    }
    if isinstance(problem.probe, FixedAngle):
        numbers["theta"] = problem.probe.theta
    elif isinstance(problem.probe, Independent):
        numbers["alpha_probe"] = problem.probe.alpha_probe
    numbers |= problem.policy.parameters()
    coordinates = {}
    for name, value in numbers.items():
        array = np.asarray(value, dtype=np.float64)
        array = array.reshape((1,) * (len(dims) - array.ndim) + array.shape)
        varies = [size > 1 or name == dim for dim, size in zip(dims, array.shape, strict=True)]
        index = tuple(slice(None) if keep else 0 for keep in varies)
        kept = tuple(dim for dim, keep in zip(dims, varies, strict=True) if keep)
        coordinates[name] = (kept, array[index])
    return coordinates


def problem_attributes(problem: PerceptronProblem) -> dict[str, str]:
    """The policy and the probe as JSON objects; their numbers are coordinates."""
    return {
        "policy": json.dumps(problem.policy.record()),
        "probe": json.dumps({"name": problem.probe.name}),
    }
