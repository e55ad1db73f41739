"""Turns student records into labelled arrays of observables, means and standard errors."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc

from sims.draws import Draw
from sims.examples import Examples, axis
from sims.maxmargin.solver import MaxMarginStatus
from theory.angles import angle_from_overlap
from theory.problem import (
    DownstreamShift,
    PerceptronProblem,
    problem_attributes,
    problem_coordinates,
    problem_dims,
)

Floats = NDArray[np.float64]

# The record of one student. `along_teacher`, `along_plane` and `along_shift` are its components
# along T, along the unit vector of span(T, J_p) orthogonal to T, and along a unit vector orthogonal
# to both, the direction of the shift's part outside the plane. `sum_*` are component sums on dense
# axes. `bracket` is the student's certificate; the last four are those of `replica.solve`.
RECORD = np.dtype(
    [
        ("status", np.int32),
        ("kept_count", np.int64),
        ("support_count", np.int64),
        ("margin", np.float64),
        ("bracket", np.float64),
        ("along_teacher", np.float64),
        ("along_plane", np.float64),
        ("along_shift", np.float64),
        ("remainder", np.float64),
        ("probe_overlap", np.float64),
        ("theta", np.float64),
        ("sum_student", np.float64),
        ("sum_teacher", np.float64),
        ("norm", np.float64),
        ("weight_norm2", np.float64),
        ("training_loss", np.float64),
        ("training_error", np.float64),
    ]
)

OF_FIT = ("norm", "weight_norm2", "training_loss", "training_error")
AVERAGED = (
    "error",
    "overlap",
    "probe_overlap",
    "downstream_overlap",
    "margin",
    "support_fraction",
    *OF_FIT,
)
FAILED = tuple(
    int(status)
    for status in MaxMarginStatus
    if status not in (MaxMarginStatus.SOLVED, MaxMarginStatus.NOT_SEPARABLE, MaxMarginStatus.EMPTY)
)


class ProbeFrame:
    """A probe and the directions that observables refer to, all whitened.

    Attributes:
        probe: C^{1/2} J_p, shape (N,): a unit vector, or the mean of several.
        teacher: the unit vector t = C^{1/2} T, shape (N,).
        theta: angle of the probe, or of each of several, to the teacher in radians.
        plane: unit vector of span(t, probe) orthogonal to t, on the probe's side.
        shift: a unit vector orthogonal to t and the probe; zero at N = 2.
        ones: the vector (1, ..., 1) of dense random axes of which the probe is one.
    """

    def __init__(
        self,
        draw: Draw,
        probe: Floats,
        theta: float | None = None,
        *,
        teacher: Floats | None = None,
        plane: Floats | None = None,
    ) -> None:
        self.probe = probe
        self.teacher = axis(draw.dim, 0) if teacher is None else teacher
        along = float(probe @ self.teacher)
        beyond = probe - along * self.teacher
        norm = float(np.linalg.norm(beyond))
        self.theta = float(np.arctan2(norm, along)) if theta is None else theta
        if plane is None:
            # At theta = 0 every direction orthogonal to T serves, by symmetry.
            plane = beyond / norm if norm > 0 else axis(draw.dim, 1)
        self.plane = plane
        self.shift = np.zeros(draw.dim)
        if draw.dim > 2:
            # Any coordinate axis that is not in the plane.
            start = 2 if teacher is None else int(np.argmin(self.teacher**2 + self.plane**2))
            shift = axis(draw.dim, start)
            shift = shift - self.plane[start] * self.plane - self.teacher[start] * self.teacher
            self.shift = shift / np.linalg.norm(shift)
        dense = draw.axes_vector()
        dense -= (dense @ probe) * probe
        self.ones = probe + np.sqrt(draw.dim - 1) * dense / np.linalg.norm(dense)

    @classmethod
    def fixed(cls, examples: Examples, theta: float) -> "ProbeFrame":
        """Return the probe cos(theta) t + sin(theta) v."""
        probe = np.cos(theta) * examples.teacher + np.sin(theta) * examples.direction
        teacher = None if examples.scale is None else examples.teacher
        return cls(examples.draw, probe, theta, teacher=teacher, plane=examples.direction)


def student_records(frames: Sequence[ProbeFrame], directions: Floats) -> NDArray[np.void]:
    """Make the records of students, with only their geometry filled in.

    The students are whitened unit vectors, one for each frame.

    Args:
        frames: probes and directions of reference, k of them.
        directions: shape (k, N).

    Returns:
        Records of shape (k,); a student's digits do not depend on the others.
    """
    plane = np.stack([frame.plane for frame in frames])
    shift = np.stack([frame.shift for frame in frames])
    teacher = np.stack([frame.teacher for frame in frames])
    records = np.zeros(len(frames), RECORD)
    records["along_teacher"] = _products(directions, teacher)
    records["along_plane"] = _products(directions, plane)
    records["along_shift"] = _products(directions, shift)
    rest = directions - records["along_plane"][:, None] * plane
    rest -= records["along_shift"][:, None] * shift
    rest -= records["along_teacher"][:, None] * teacher
    records["remainder"] = np.sqrt(_products(rest, rest))
    records["probe_overlap"] = _products(directions, np.stack([frame.probe for frame in frames]))
    records["sum_student"] = _products(directions, np.stack([frame.ones for frame in frames]))
    records["theta"] = [frame.theta for frame in frames]
    records["sum_teacher"] = _products(np.stack([frame.ones for frame in frames]), teacher)
    return records


def _products(left: Floats, right: Floats) -> Floats:
    return np.sum(left * right, axis=1)


def cosine_angle(records: NDArray[np.void], shift: DownstreamShift) -> Floats:
    """Return the angle in radians between students and the downstream teacher.

    The teacher is T' = (T + delta v)/norm. No digits are lost near 0.

    Args:
        records: array of RECORD.
        shift: scalar delta and components of v.
    """
    delta, v_teacher, v_plane = (
        float(np.asarray(value)) for value in (shift.delta, shift.along_teacher, shift.along_plane)
    )
    v_shift = np.sqrt(max(1 - v_teacher**2 - v_plane**2, 0.0))
    target = np.array([1 + delta * v_teacher, delta * v_plane, delta * v_shift])
    target /= np.linalg.norm(target)
    names = ("along_teacher", "along_plane", "along_shift")
    student = np.stack([records[name] for name in names], axis=-1)
    overlap = student @ target
    across = np.linalg.norm(student - overlap[..., None] * target, axis=-1)
    return np.arctan2(np.hypot(across, records["remainder"]), overlap)


def pearson_overlaps(records: NDArray[np.void], delta: float, dim: int) -> tuple[Floats, ...]:
    """Return the mean-centred overlaps of the published notebook.

    They are those with T, with J_p and with T'. Components are taken on axes of which J_p is one
    and the others are random. T' is T with `delta` added to every component but the probe's own,
    without normalisation.

    Args:
        records: array of RECORD.
        delta: size of the shift, >= 0.
        dim: N.

    Returns:
        Pearson correlations of the student's components with those of T, J_p and T'.
    """
    overlap, probe_overlap = records["along_teacher"], records["probe_overlap"]
    own, teacher = records["sum_student"], records["sum_teacher"]
    cosine = np.cos(records["theta"])

    def correlation(product: Floats, total: Floats, square: Floats) -> Floats:
        covariance = product - own * total / dim
        return covariance / np.sqrt((1 - own**2 / dim) * (square - total**2 / dim))

    one = np.ones_like(overlap)
    return (
        correlation(overlap, teacher, one),
        correlation(probe_overlap, one, one),
        correlation(
            overlap + delta * (own - probe_overlap),
            teacher + delta * (dim - 1),
            one + 2 * delta * (teacher - cosine) + delta**2 * (dim - 1),
        ),
    )


class Extrapolation(NamedTuple):
    """The value at N -> infinity, its standard error and the fitted coefficients."""

    value: float
    stderr: float
    coefficients: Floats


def mean_and_stderr(samples: ArrayLike, valid: ArrayLike) -> tuple[Floats, Floats]:
    """Return the mean over the last axis and its standard error s/sqrt(n).

    Args:
        samples: shape (..., n).
        valid: which samples count, same shape.

    Returns:
        Mean, NaN without a valid sample, and standard error, NaN with fewer than two.
    """
    kept = np.where(valid, np.asarray(samples, dtype=np.float64), np.nan)
    count = np.sum(valid, axis=-1)
    with warnings.catch_warnings():
        # NumPy warns about empty slices; `count` tells the caller about them.
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(kept, axis=-1)
        stderr = np.nanstd(kept, axis=-1, ddof=1) / np.sqrt(count)
    return mean, stderr


def extrapolate(
    dims: ArrayLike, means: ArrayLike, stderrs: ArrayLike, *, curvature: float = 0.0
) -> Extrapolation:
    """Extrapolate means at several dimensions to N -> infinity.

    Generalised least squares fit m(N) = m + a/N + b/N^2. a is free; b is not fitted but carried as
    an unknown of known size, b ~ N(0, curvature^2), which adds curvature^2/(N M)^2 to the
    covariance of the means at N and M. Its uncertainty is therefore part of the standard error.

    Args:
        dims: values of N, shape (k,), at least two different ones.
        means: m(N), shape (k,).
        stderrs: their standard errors, > 0, shape (k,).
        curvature: standard deviation of b, in the unit of m.

    Returns:
        m, its standard error, and (m, a).

    Raises:
        ValueError: fewer than two dimensions.
    """
    inverse = 1 / np.asarray(dims, dtype=np.float64)
    if len(np.unique(inverse)) < 2:
        raise ValueError("dims holds one dimension; an extrapolation in 1/N needs at least two")
    covariance = np.diag(np.square(np.asarray(stderrs, dtype=np.float64)))
    covariance += curvature**2 * np.outer(inverse**2, inverse**2)
    design = np.stack([np.ones_like(inverse), inverse], axis=1)
    weighted = np.linalg.solve(covariance, design)
    spread = np.linalg.inv(design.T @ weighted)
    coefficients = spread @ (weighted.T @ np.asarray(means, dtype=np.float64))
    return Extrapolation(float(coefficients[0]), float(np.sqrt(spread[0, 0])), coefficients)


def chi_square_p_value(z_scores: ArrayLike) -> tuple[float, float]:
    """Return the chi-square of independent z-scores, and the probability of a larger one.

    Args:
        z_scores: shape (n,), finite.

    Returns:
        sum z^2 and its upper tail probability with n degrees of freedom; 0 and 1 for no z-score.
    """
    z = np.asarray(z_scores, dtype=np.float64)
    square = float(np.sum(z**2))
    return square, float(chdtrc(z.size, square)) if z.size else 1.0


def observables(
    records: NDArray[np.void], shift: DownstreamShift, dim: int, overlap: str
) -> dict[str, Floats]:
    """Return the observables of each student in an array of records, same shape.

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
    } | {name: records[name] for name in OF_FIT}


def to_dataset(
    problem: PerceptronProblem,
    records: NDArray[np.void],
    shifts: list[DownstreamShift],
    dim: int,
    overlap: str,
) -> xr.Dataset:
    """Return the labelled observables, means, standard errors and counts.

    Args:
        problem: the simulated problem.
        records: shape (cells, draws).
        shifts: one downstream shift for each cell.
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
