"""Defines the problem that replica solves and sims draws, and its place in data files."""

import dataclasses
import json
from typing import Any, ClassVar

import jax
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from hardset.checks import check_range, is_concrete, within_right_angle
from hardset.pytree import BRANCH, STATIC, pytree_dataclass
from theory.inputs import Inputs, Isotropic, Spectrum
from theory.labels import Clean, Labels, LabelSteps
from theory.policies import Hard, Policy
from theory.probe_field import FieldLaw, NormalField, ProbeField
from theory.students import MaxMargin, Student


@pytree_dataclass
class FixedAngle:
    """A probe at a given angle from the teacher, independent of the data.

    Attributes:
        theta: probe-teacher angle in radians, in [0, pi/2], scalar or array; a right angle in
            single precision is set to pi/2.
    """

    theta: ArrayLike = 0.0

    name: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "theta", within_right_angle("theta", self.theta))

    @classmethod
    def degrees(cls, theta_deg: ArrayLike) -> "FixedAngle":
        """Return the probe at `theta_deg` degrees, in [0, 90]."""
        check_range("theta_deg", theta_deg, 0.0, 90.0, unit="degrees")
        return cls(theta=np.deg2rad(theta_deg))


@pytree_dataclass
class Independent:
    """A max-margin probe trained on alpha_probe * N OTHER examples of the same teacher.

    Attributes:
        alpha_probe: examples the probe saw, over N, > 0, scalar or array.
    """

    alpha_probe: ArrayLike

    name: ClassVar[str] = "independent"

    def __post_init__(self) -> None:
        check_range("alpha_probe", self.alpha_probe, 0.0, np.inf, open_low=True)


@pytree_dataclass
class InSample:
    """A max-margin probe trained on the very data that it ranks.

    Its margins are all positive, so that signed and unsigned policies are the same. Its support
    vectors tie at the margin; ties are broken by the dual variable, largest first. Its angle to the
    teacher is not a parameter: keeping the hardest f >= `replica.lossless_fraction(alpha_total)`
    keeps all its support vectors, and trains the probe once more.
    """

    name: ClassVar[str] = "in-sample"


@pytree_dataclass
class CrossFitted:
    """K probes, each at the angle theta, that rank K equal folds of the data.

    Each example is ranked by a probe that never saw it, and each fold is cut to the fraction f by
    its own probe J_k = cos(theta) T + sin(theta) n_k, n_k orthogonal to T, n_j.n_k = overlap. With
    structured inputs all n_k have the sizes of the inputs' direction v in the eigenbasis, along
    directions of their own: sum_j t_j n_kj g(c_j) = 0.

    Attributes:
        theta: angle of each probe to the teacher in radians, in [0, pi/2], scalar or array.
        folds: number of folds and probes K >= 1, may be infinite.
        overlap: product of two probes' parts orthogonal to the teacher, in [0, 1]; 0 for probes
            that were trained on different data.
    """

    theta: ArrayLike = 0.0
    folds: ArrayLike = 5.0
    overlap: ArrayLike = 0.0

    name: ClassVar[str] = "cross-fitted"

    def __post_init__(self) -> None:
        object.__setattr__(self, "theta", within_right_angle("theta", self.theta))
        finite = self.folds
        if is_concrete(finite):
            folds = np.asarray(finite, np.float64)
            finite = np.where(np.isposinf(folds), 1.0, folds)
        check_range("folds", finite, 1.0, np.inf)
        check_range("overlap", self.overlap, 0.0, 1.0)

    @classmethod
    def degrees(
        cls, theta_deg: ArrayLike, folds: ArrayLike = 5.0, overlap: ArrayLike = 0.0
    ) -> "CrossFitted":
        """Return the probes at `theta_deg` degrees, in [0, 90]."""
        check_range("theta_deg", theta_deg, 0.0, 90.0, unit="degrees")
        return cls(theta=np.deg2rad(theta_deg), folds=folds, overlap=overlap)


@pytree_dataclass
class OutOfFold:
    """Probes trained on the very data, each on the folds that it does not rank.

    They are trained as the student is, on all examples of the other K - 1 folds. It is what
    practice calls out-of-fold scores: the probes of other folds have seen an example, which helps.
    There is no theory of it; `sims.run` simulates it.

    Attributes:
        folds: number of folds and probes K >= 2, scalar or array.
    """

    folds: ArrayLike = 5.0

    name: ClassVar[str] = "out-of-fold"

    def __post_init__(self) -> None:
        check_range("folds", self.folds, 2.0, np.inf)


Probe = FixedAngle | Independent | InSample | CrossFitted | OutOfFold


@pytree_dataclass
class DownstreamShift:
    """The shift to the teacher of the downstream task, T' = (T + delta v)/norm.

    v is a unit vector.

    Attributes:
        delta: size of the shift, >= 0.
        along_teacher: v.T, in [-1, 1].
        along_plane: component of v along the unit vector of span(T, J_p) orthogonal to T, on the
            probe's side. The default v is independent of T and J_p: both components vanish.
    """

    delta: ArrayLike = 0.0
    along_teacher: ArrayLike = 0.0
    along_plane: ArrayLike = 0.0

    def __post_init__(self) -> None:
        check_range("delta", self.delta, 0.0, np.inf)
        check_range("along_teacher", self.along_teacher, -1.0, 1.0)
        check_range("along_plane", self.along_plane, -1.0, 1.0)
        if is_concrete(self.along_teacher) and is_concrete(self.along_plane):
            norm = np.hypot(self.along_teacher, self.along_plane) - 1e-12
            check_range("norm of (along_teacher, along_plane)", norm, -1.0, 1.0)

    @classmethod
    def degrees(cls, downstream_deg: ArrayLike) -> "DownstreamShift":
        """Return the independent shift that turns the teacher by an angle in degrees.

        `downstream_deg` lies in [0, 90).
        """
        check_range("downstream_deg", downstream_deg, 0.0, 90.0, open_high=True, unit="degrees")
        return cls(delta=np.tan(np.deg2rad(downstream_deg)))


@pytree_dataclass
class PerceptronProblem:
    """A perceptron student that is trained on a selected part of its data.

    It is a pytree of arrays. alpha_total * N examples x ~ N(0, C) with labels that a teacher T
    gives are ranked by a probe, a fraction f is kept, and a student is trained on it (Sorscher et
    al. 2022, arXiv:2206.14486; OptiDEL, arXiv:2408.07107). By default C = I_N, y = sign(T.x), and
    the student is the one of largest margin. All array arguments broadcast against each other, so
    that one object holds a point or a grid.

    Attributes:
        alpha_total: total examples / N, > 0, copies counted.
        keep_fraction: kept fraction f, in (0, 1].
        probe: `FixedAngle`, `Independent`, `InSample`, `CrossFitted` or `OutOfFold`.
        policy: which examples are kept; see `theory.policies`. Signed policies rank by y z with
            the observed label y.
        redundancy: copies r >= 1 of each distinct example, total volume constant.
        downstream: shift between the teacher of the labels and the one that judges the student.
        student: `MaxMargin` or `ERM`, a regularised loss.
        labels: `Clean`, `Flip`, `Probit`, `Logit` or `LabelSteps`, how T.x becomes the label.
        inputs: `Isotropic`, `PowerLaw` or `Spectrum`, the covariance of the inputs.
        probe_field: `NormalField` or `FieldLaw`, the law of the probe's field.
        dims: names of the grid's axes, for labelled results; see `grid`.

    Raises:
        ValueError: an argument outside its range, with the value and the range; shapes that do
            not broadcast against each other.
    """

    alpha_total: ArrayLike
    keep_fraction: ArrayLike = 1.0
    probe: Probe = dataclasses.field(default_factory=FixedAngle, metadata=BRANCH)
    policy: Policy = dataclasses.field(default_factory=Hard, metadata=BRANCH)
    redundancy: ArrayLike = 1.0
    downstream: DownstreamShift = dataclasses.field(
        default_factory=DownstreamShift, metadata=BRANCH
    )
    student: Student = dataclasses.field(default_factory=MaxMargin, metadata=BRANCH)
    labels: Labels = dataclasses.field(default_factory=Clean, metadata=BRANCH)
    inputs: Inputs = dataclasses.field(default_factory=Isotropic, metadata=BRANCH)
    probe_field: ProbeField = dataclasses.field(default_factory=NormalField, metadata=BRANCH)
    dims: tuple[str, ...] | None = dataclasses.field(default=None, metadata=STATIC)

    def __post_init__(self) -> None:
        for name in ("alpha_total", "keep_fraction", "redundancy"):
            value = getattr(self, name)
            if isinstance(value, bool) or getattr(value, "dtype", None) == np.bool_:
                raise ValueError(f"{name} = {value} is a truth value; a number is needed")
        check_range("alpha_total", self.alpha_total, 0.0, np.inf, open_low=True)
        check_range("keep_fraction", self.keep_fraction, 0.0, 1.0, open_low=True)
        check_range("redundancy", self.redundancy, 1.0, np.inf)
        for name, kind, hint in (
            ("probe", Probe, "FixedAngle, Independent, InSample, CrossFitted or OutOfFold"),
            ("policy", Policy, "Policy (see policy_from_name)"),
            ("downstream", DownstreamShift, "DownstreamShift"),
            ("student", Student, "MaxMargin or ERM"),
            ("labels", Labels, "Clean, Flip, Probit, Logit or LabelSteps"),
            ("inputs", Inputs, "Isotropic, PowerLaw or Spectrum"),
            ("probe_field", ProbeField, "NormalField or FieldLaw"),
        ):
            _check_part(name, getattr(self, name), kind, hint)
        self._check_shapes()
        theta = self.probe.theta if isinstance(self.probe, FixedAngle | CrossFitted) else None
        self.policy.check(self.keep_fraction, theta, self.labels)

    def _check_shapes(self) -> None:
        try:
            _ = self.shape
        except ValueError:
            arrays = jax.tree_util.tree_leaves_with_path(self)
            shapes = [
                f"{getattr(path[-1], 'name', jax.tree_util.keystr(path)[1:])} {np.shape(leaf)}"
                for path, leaf in arrays
                if np.ndim(leaf)
            ]
            raise ValueError(
                f"shapes do not broadcast against each other: {', '.join(shapes)}; for an outer "
                "product use PerceptronProblem.grid"
            ) from None

    @classmethod
    def grid(
        cls,
        *,
        alpha_total: ArrayLike,
        keep_fraction: ArrayLike = 1.0,
        theta: ArrayLike = 0.0,
        policy: Policy | None = None,
        redundancy: ArrayLike = 1.0,
        downstream: DownstreamShift | None = None,
    ) -> "PerceptronProblem":
        """Return the outer product of one-dimensional axes, in the order of the arguments.

        Args:
            alpha_total: values of alpha_total; a scalar is no axis.
            keep_fraction: values of f.
            theta: probe angles in radians.
            policy: the policy, default `Hard()`.
            redundancy: values of r.
            downstream: one shift for the whole grid.
        """
        axes = {
            "alpha_total": np.asarray(alpha_total, dtype=np.float64),
            "keep_fraction": np.asarray(keep_fraction, dtype=np.float64),
            "theta": np.asarray(theta, dtype=np.float64),
            "redundancy": np.asarray(redundancy, dtype=np.float64),
        }
        for name, axis in axes.items():
            if axis.ndim > 1:
                raise ValueError(f"{name} has {axis.ndim} dimensions; a grid's axis has 1")
        dims = tuple(name for name, axis in axes.items() if axis.ndim == 1)
        shaped = {
            name: axis.reshape([-1 if name == dim else 1 for dim in dims]) if axis.ndim else axis
            for name, axis in axes.items()
        }
        return cls(
            alpha_total=shaped["alpha_total"],
            keep_fraction=shaped["keep_fraction"],
            probe=FixedAngle(shaped["theta"]),
            policy=Hard() if policy is None else policy,
            redundancy=shaped["redundancy"],
            downstream=DownstreamShift() if downstream is None else downstream,
            dims=dims,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Common shape of all array arguments, the vectors' own axes apart."""
        shapes = []
        for part in jax.tree.leaves(self, is_leaf=has_vectors):
            own = 1 if has_vectors(part) else 0
            shapes += [np.shape(leaf)[: np.ndim(leaf) - own] for leaf in jax.tree.leaves(part)]
        return np.broadcast_shapes(*shapes)


def beyond_max_margin(problem: PerceptronProblem) -> bool:
    """Tell whether a problem is beyond the theory of max-margin students.

    It has noisy labels, a loss, a spectrum, cross-fitted probes or a measured probe field.
    """
    plain = (
        isinstance(problem.student, MaxMargin)
        and isinstance(problem.labels, Clean)
        and isinstance(problem.inputs, Isotropic)
        and not isinstance(problem.probe, CrossFitted)
        and isinstance(problem.probe_field, NormalField)
    )
    return not plain


def require_max_margin(problem: PerceptronProblem, who: str) -> None:
    """Check that a problem has none of them, for a function that takes none.

    Raises:
        ValueError: naming the function and what it takes.
    """
    if beyond_max_margin(problem):
        raise ValueError(
            f"{who} takes max-margin students, clean labels, isotropic inputs and one probe; "
            "replica.solve takes others"
        )


def has_vectors(part: object) -> bool:
    """Tell whether the numbers of a problem's part are vectors."""
    return isinstance(part, Spectrum | LabelSteps | FieldLaw)


def _check_part(name: str, value: object, kind: Any, hint: str) -> None:
    """Check that a problem's probe, policy or shift is of its kind.

    The error says how to give several of them.
    """
    if isinstance(value, kind):
        return
    remedy = ""
    if isinstance(value, list | tuple | set | dict | np.ndarray):
        remedy = (
            f": a problem has one {name}; make one problem for each and solve them in turn, or "
            f"give one {name} whose own numbers are arrays"
        )
    elif isinstance(value, type):
        remedy = f": it is a class, call it, {value.__name__}(...)"
    raise ValueError(f"{name} = {value!r} is not a {hint}{remedy}")


def problem_dims(problem: PerceptronProblem) -> tuple[str, ...]:
    """Return the names of the problem's axes.

    They are dim_0, dim_1, ... where it has none.
    """
    shape = problem.shape
    dims = problem.dims
    if dims is None or len(dims) != len(shape):
        return tuple(f"dim_{axis}" for axis in range(len(shape)))
    return dims


def problem_coordinates(
    problem: PerceptronProblem,
) -> dict[str, tuple[tuple[str, ...], NDArray[np.float64]]]:
    """Return the problem's numbers by name, each over the axes along which it varies."""
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
    elif isinstance(problem.probe, CrossFitted):
        numbers["theta"] = problem.probe.theta
        numbers["folds"] = problem.probe.folds
        numbers["folds_overlap"] = problem.probe.overlap
    elif isinstance(problem.probe, OutOfFold):
        numbers["folds"] = problem.probe.folds
    numbers |= problem.policy.parameters()
    numbers |= problem.student.parameters()
    numbers |= problem.labels.parameters()
    numbers |= problem.inputs.parameters()
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
    """Return policy, probe and its field, student, labels and inputs as JSON objects.

    Their numbers are not in there; `problem_coordinates` gives them.
    """
    return {
        "policy": json.dumps(problem.policy.record()),
        "probe": json.dumps({"name": problem.probe.name}),
        "student": json.dumps(problem.student.record()),
        "labels": json.dumps({"name": problem.labels.name}),
        "inputs": json.dumps(problem.inputs.record()),
        "probe_field": json.dumps(problem.probe_field.record()),
    }
