"""Defines what `solve` returns: order parameters, residuals, status, labelled arrays."""

from enum import IntEnum
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hardset.pytree import pytree_dataclass
from replica.erm.plane import test_loss
from theory.labels import Clean
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
    "norm": "1",
    "weight_norm2": "1",
    "observed_error": "1",
    "training_loss": "1",
    "training_error": "1",
    "test_loss": "1",
    "active_fraction": "1",
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
    NOT_SEPARABLE = 4
    NO_MINIMISER = 5

    @property
    def sentence(self) -> str:
        """Sentence that explains the outcome."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.CONVERGED: "The solution satisfies both forms of the equations.",
    Status.NOT_CONVERGED: "Newton's method did not reach the solution.",
    Status.NOT_CERTIFIED: "The second form of the equations does not confirm the solution.",
    Status.INVALID: "A parameter is outside its range, or the policy keeps nothing.",
    Status.NOT_SEPARABLE: "The kept examples are not linearly separable: no margin is positive.",
    Status.NO_MINIMISER: "Without a ridge, lam = 0, the loss has no single minimiser: the kept "
    "examples are separable, or for the square loss no more than N.",
}


@pytree_dataclass
class ReplicaSolution:
    """The order parameters of the student at infinite dimension.

    All are arrays of the problem's shape. Products are those of the C-metric, a'C b, which for
    isotropic inputs is the usual one; abs(J) there is `norm`.

    Attributes:
        overlap: student-teacher overlap R = J.T/abs(J), against the teacher T of the labels.
        probe_overlap: student-probe overlap rho = J.J_p/abs(J).
        margin: kappa, the largest achievable min y (J.x)/abs(J), x with unit-variance entries;
            1/norm for a max-margin student, NaN for the minimiser of a loss, which has none.
        orthogonal: q, the norm of the student's part outside span(T, J_p), over its norm.
        student_angle: psi in radians, angle of the in-plane part from T, positive towards the
            probe: R = c cos psi, rho = c cos(theta - psi), c^2 = 1 - q^2.
        downstream_overlap: overlap R' with the downstream teacher T' (R without a shift).
        error: fitting error arccos(R')/pi, accurate to rounding also near R' = 1; the error on
            Gaussian inputs, whatever the probe field's law.
        v_information: V-information I_V of the student's field about the downstream label, in
            nats; the labels' own teacher gives it where there is no shift.
        theta: probe-teacher angle in radians.
        alpha_kept: kept distinct examples over N.
        support_fraction: share of the distinct kept examples that hold the student: those at the
            margin, P(t < kappa), or for a loss the active ones.
        norm: sqrt(J'C J), standard deviation of the student's field, where the margin is 1.
        weight_norm2: J.J, which is norm^2 for isotropic inputs.
        observed_error: P(sign J.x is not the observed label) on unselected examples.
        training_loss: mean loss of the kept examples; 0 for a max-margin student.
        training_error: share of the kept examples on the wrong side of the student.
        test_loss: mean loss on unselected examples with their observed labels; the hinge loss of
            a max-margin student.
        active_fraction: share of the kept examples with y J.x < 1 before the student was pulled
            by them, which for hinge and max-margin students are the support vectors.
        residual_saddle: largest residual of the form that certifies, relative: the three
            saddle-point equations, or for noisy labels, losses and spectra the four equations by
            another quadrature.
        residual_gordon: largest residual of the form that computes, relative: the Gordon form's
            optimality conditions, or the four equations.
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
    norm: ArrayLike
    weight_norm2: ArrayLike
    observed_error: ArrayLike
    training_loss: ArrayLike
    training_error: ArrayLike
    test_loss: ArrayLike
    active_fraction: ArrayLike
    residual_saddle: ArrayLike
    residual_gordon: ArrayLike
    status: ArrayLike
    steps: ArrayLike

    @classmethod
    def of_max_margin(cls, **found: ArrayLike) -> "ReplicaSolution":
        """Make the solution of a max-margin student on clean labels and isotropic inputs.

        Args:
            **found: all fields but those that follow from overlap, margin and support_fraction.
        """
        overlap, margin = jnp.asarray(found["overlap"]), jnp.asarray(found["margin"])
        q = jnp.asarray(found["orthogonal"])
        across = jnp.sqrt(jnp.maximum(1 - q**2, 0.0)) * jnp.sin(found["student_angle"])
        angle = jnp.arctan2(jnp.hypot(across, q), overlap)
        zero = jnp.zeros_like(overlap)
        return cls(
            **found,
            norm=1 / margin,
            weight_norm2=1 / margin**2,
            observed_error=angle / np.pi,
            training_loss=zero,
            training_error=zero,
            test_loss=test_loss(Clean().kernel(), overlap, 1 / margin, "hard-margin"),
            active_fraction=found["support_fraction"],
        )

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
