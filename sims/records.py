"""What is remembered of one student: enough for every overlap and every downstream shift."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sims.draws import Draw
from theory.problem import DownstreamShift

__all__ = ["RECORD", "ProbeFrame", "cosine_angle", "pearson_overlaps", "student_records"]

Floats = NDArray[np.float64]

# One student. T, n, m: teacher; unit vector of span(T, J_p) orthogonal to T; a unit vector
# orthogonal to both (the shift's part outside the plane). sum_*: component sums on dense axes.
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
    ]
)


class ProbeFrame:
    """A unit probe vector and the directions that observables refer to, for T = e_1.

    Attributes:
        probe: J_p, shape (N,).
        theta: its angle to the teacher in radians.
        plane: unit vector of span(T, J_p) orthogonal to T, on the probe's side.
        shift: a unit vector orthogonal to T and J_p; zero at N = 2.
        ones: the vector (1, ..., 1) of dense random axes of which J_p is one.
    """

    def __init__(self, draw: Draw, probe: Floats, theta: float | None = None) -> None:
        self.probe = probe
        beyond = probe.copy()
        beyond[0] = 0.0
        norm = float(np.linalg.norm(beyond))
        self.theta = float(np.arctan2(norm, probe[0])) if theta is None else theta
        # At theta = 0 every direction orthogonal to T serves, by symmetry.
        self.plane = beyond / norm if norm > 0 else _axis(draw.dim, 1)
        self.shift = np.zeros(draw.dim)
        if draw.dim > 2:
            shift = _axis(draw.dim, 2) - self.plane[2] * self.plane
            self.shift = shift / np.linalg.norm(shift)
        dense = draw.axes_vector()
        dense -= (dense @ probe) * probe
        self.ones = probe + np.sqrt(draw.dim - 1) * dense / np.linalg.norm(dense)

    @classmethod
    def fixed(cls, draw: Draw, theta: float) -> "ProbeFrame":
        """The probe cos(theta) e_1 + sin(theta) e_2."""
        probe = np.zeros(draw.dim)
        probe[:2] = np.cos(theta), np.sin(theta)
        return cls(draw, probe, theta)


def _axis(dim: int, index: int) -> Floats:
    axis = np.zeros(dim)
    axis[index] = 1.0
    return axis


def student_records(frames: Sequence[ProbeFrame], directions: Floats) -> NDArray[np.void]:
    """Records of students with unit vectors `directions`, one a frame; only the geometry is set.

    Args:
        frames: probes and directions of reference, k of them.
        directions: shape (k, N).

    Returns:
        Records of shape (k,); a student's digits do not depend on the others.
    """
    plane = np.stack([frame.plane for frame in frames])
    shift = np.stack([frame.shift for frame in frames])
    records = np.zeros(len(frames), RECORD)
    records["along_teacher"] = directions[:, 0]
    records["along_plane"] = _products(directions, plane)
    records["along_shift"] = _products(directions, shift)
    rest = directions - records["along_plane"][:, None] * plane
    rest -= records["along_shift"][:, None] * shift
    rest[:, 0] = 0.0
    records["remainder"] = np.sqrt(_products(rest, rest))
    records["probe_overlap"] = _products(directions, np.stack([frame.probe for frame in frames]))
    records["sum_student"] = _products(directions, np.stack([frame.ones for frame in frames]))
    records["theta"] = [frame.theta for frame in frames]
    records["sum_teacher"] = [frame.ones[0] for frame in frames]
    return records


def _products(left: Floats, right: Floats) -> Floats:
    return np.sum(left * right, axis=1)


def cosine_angle(records: NDArray[np.void], shift: DownstreamShift) -> Floats:
    """Angle in radians between the students and T' = (T + delta v)/norm, digits kept near 0.

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
    """Mean-centred overlaps of the published notebook: with T, with J_p and with T'.

    Components are taken on axes of which J_p is one and the others are random; T' is T with
    `delta` added to every component but the probe's own, without normalisation.

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
