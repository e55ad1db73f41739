"""What `solve` returns: order parameters, both residuals, status, and labelled arrays."""

from enum import IntEnum

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.typing import ArrayLike

from theory._float64 import float64
from theory._pytree import pytree_dataclass
from theory.probes import FixedAngle, Independent
from theory.problem import PerceptronProblem
from theory.v_information import v_information

__all__ = ["ReplicaSolution", "Status"]


class Status(IntEnum):
    """Outcome of one point."""

    CONVERGED = 0
    NOT_CONVERGED = 1
    NOT_CERTIFIED = 2
    INVALID = 3

    @property
    def sentence(self) -> str:
        """The outcome in a full sentence."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.CONVERGED: "The solution satisfies the Gordon form and the saddle-point equations.",
    Status.NOT_CONVERGED: "Newton's method did not reach the maximum of the margin.",
    Status.NOT_CERTIFIED: "The saddle-point equations do not confirm the maximum of the margin.",
    Status.INVALID: "A parameter is outside its range, or the policy keeps nothing.",
}


@pytree_dataclass
class ReplicaSolution:
    """Order parameters of the max-margin student at N -> infinity, arrays of the problem's shape.

    Attributes:
        overlap: student-teacher overlap R = J.T/abs(J), against the teacher T of the labels.
        probe_overlap: student-probe overlap rho = J.J_p/abs(J).
        margin: kappa, the largest achievable min y (J.x)/abs(J), x with unit-variance entries.
        orthogonal: q, the norm of the student's part outside span(T, J_p), over its norm.
        student_angle: psi in radians, angle of the in-plane part from T, positive towards the
            probe: R = c cos psi, rho = c cos(theta - psi), c^2 = 1 - q^2.
        downstream_overlap: overlap R' with the downstream teacher T' (R without a shift).
        error: fitting error arccos(R')/pi, accurate to rounding also near R' = 1.
        theta: probe-teacher angle in radians.
        alpha_kept: kept distinct examples over N.
        support_fraction: P(t < kappa), share of the distinct kept examples at the margin.
        residual_saddle: largest residual of the three saddle-point equations, relative.
        residual_gordon: largest residual of the Gordon form's optimality conditions, relative.
        status: a `Status`, as an integer.
        steps: Newton steps.
    """

    overlap: ArrayLike
    probe_overlap: ArrayLike
    margin: ArrayLike
    orthogonal: ArrayLike
    student_angle: ArrayLike
    downstream_overlap: ArrayLike
    error: ArrayLike
    theta: ArrayLike
    alpha_kept: ArrayLike
    support_fraction: ArrayLike
    residual_saddle: ArrayLike
    residual_gordon: ArrayLike
    status: ArrayLike
    steps: ArrayLike

    @property
    @float64
    def v_information(self) -> ArrayLike:
        """V-information I_V of the student's field about the downstream label, in nats."""
        xp = jnp if isinstance(self.error, jax.core.Tracer) else np
        failed = xp.isnan(self.error)
        return xp.where(failed, np.nan, v_information(xp.where(failed, 0.5, self.error)))

    @property
    def residual(self) -> ArrayLike:
        """The larger of the two residuals."""
        return np.maximum(self.residual_saddle, self.residual_gordon)

    @property
    def failed(self) -> int:
        """Number of points whose status is not CONVERGED."""
        return int(np.count_nonzero(np.asarray(self.status) != Status.CONVERGED))

    def to_dataset(self, problem: PerceptronProblem) -> xr.Dataset:
        """Labelled arrays over the problem's axes, with its parameters as coordinates.

        Args:
            problem: the problem that was solved.
        """
        shape = np.shape(self.overlap)
        dims = problem.dims
        if dims is None or len(dims) != len(shape):
            dims = tuple(f"dim_{axis}" for axis in range(len(shape)))
        names = [*_UNITS]
        variables = {
            name: (dims, np.asarray(getattr(self, name)), {"units": _UNITS[name]}) for name in names
        }
        coordinates = {
            "alpha_total": problem.alpha_total,
            "keep_fraction": problem.keep_fraction,
            "redundancy": problem.redundancy,
            **{f"policy_{k}": v for k, v in problem.policy.parameters().items()},
        }
        if isinstance(problem.probe, FixedAngle):
            coordinates["theta"] = problem.probe.theta
        elif isinstance(problem.probe, Independent):
            coordinates["alpha_probe"] = problem.probe.alpha_probe
        dataset = xr.Dataset(variables, attrs={"policy": problem.policy.name})
        return dataset.assign_coords(
            {name: _coordinate(name, value, dims) for name, value in coordinates.items()}
        )


_UNITS = {
    "overlap": "1",
    "probe_overlap": "1",
    "margin": "1",
    "orthogonal": "1",
    "student_angle": "rad",
    "downstream_overlap": "1",
    "error": "1",
    "alpha_kept": "1",
    "support_fraction": "1",
    "v_information": "nat",
    "residual_saddle": "1",
    "residual_gordon": "1",
    "status": "1",
    "steps": "1",
}


def _coordinate(
    name: str, value: ArrayLike, dims: tuple[str, ...]
) -> tuple[tuple[str, ...], np.ndarray]:
    """A parameter as a coordinate over just the axes along which it varies."""
    array = np.asarray(value)
    array = array.reshape((1,) * (len(dims) - array.ndim) + array.shape) if array.ndim else array
    varies = tuple(
        axis for axis in range(array.ndim) if array.shape[axis] > 1 or dims[axis] == name
    )
    squeezed = array.reshape([array.shape[axis] for axis in varies])
    return tuple(dims[axis] for axis in varies), squeezed
