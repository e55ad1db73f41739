"""Defines what `solve` returns: order parameters, residuals, status, labelled arrays."""

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from jax.typing import ArrayLike

from hardset.pytree import pytree_dataclass
from theory.problem import PerceptronProblem, problem_attributes, problem_coordinates, problem_dims

if TYPE_CHECKING:
    import xarray as xr

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


class Status(IntEnum):
    """The outcome of one point."""

    CONVERGED = 0
    NOT_CONVERGED = 1
    NOT_CERTIFIED = 2
    INVALID = 3

    @property
    def sentence(self) -> str:
        """Sentence that explains the outcome."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.CONVERGED: "The solution satisfies the Gordon form and the saddle-point equations.",
    Status.NOT_CONVERGED: "Newton's method did not reach the maximum of the margin.",
    Status.NOT_CERTIFIED: "The saddle-point equations do not confirm the maximum of the margin.",
    Status.INVALID: "A parameter is outside its range, or the policy keeps nothing.",
}


@pytree_dataclass
class ReplicaSolution:
    """The order parameters of the max-margin student at infinite dimension.

    All are arrays of the problem's shape.

    Attributes:
        overlap: student-teacher overlap R = J.T/abs(J), against the teacher T of the labels.
        probe_overlap: student-probe overlap rho = J.J_p/abs(J).
        margin: kappa, the largest achievable min y (J.x)/abs(J), x with unit-variance entries.
        orthogonal: q, the norm of the student's part outside span(T, J_p), over its norm.
        student_angle: psi in radians, angle of the in-plane part from T, positive towards the
            probe: R = c cos psi, rho = c cos(theta - psi), c^2 = 1 - q^2.
        downstream_overlap: overlap R' with the downstream teacher T' (R without a shift).
        error: fitting error arccos(R')/pi, accurate to rounding also near R' = 1.
        v_information: V-information I_V of the student's field about the downstream label, in
            nats; the labels' own teacher gives it where there is no shift.
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
    v_information: ArrayLike
    theta: ArrayLike
    alpha_kept: ArrayLike
    support_fraction: ArrayLike
    residual_saddle: ArrayLike
    residual_gordon: ArrayLike
    status: ArrayLike
    steps: ArrayLike

    @property
    def residual(self) -> ArrayLike:
        """The larger of the two residuals."""
        return np.maximum(self.residual_saddle, self.residual_gordon)

    @property
    def failed(self) -> int:
        """Number of points whose status is not CONVERGED."""
        return int(np.count_nonzero(np.asarray(self.status) != Status.CONVERGED))

    def to_dataset(self, problem: PerceptronProblem) -> "xr.Dataset":
        """Make labelled arrays over the problem's axes.

        They hold all that was solved for.

        Args:
            problem: the problem that was solved; its numbers are coordinates, its policy and
                probe attributes.
        """
        import xarray as xr  # a command that prints needs none of it

        dims = problem_dims(problem)
        variables = {
            name: (dims, np.asarray(getattr(self, name)), {"units": units})
            for name, units in _UNITS.items()
        }
        return xr.Dataset(
            variables, coords=problem_coordinates(problem), attrs=problem_attributes(problem)
        )
