"""The points at which theory and simulation are compared."""

import dataclasses
from itertools import product

import numpy as np

from theory.policies import Policy, policy_from_name
from theory.policy_names import policy_parameter
from theory.probes import FixedAngle, InSample, Probe
from theory.problem import DownstreamShift, PerceptronProblem

__all__ = ["PLANS", "Case", "Plan"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One point; alpha_total, f and r are chosen so that every dimension keeps whole examples.

    Attributes:
        alpha_total: total examples / N.
        keep_fraction: f.
        theta_deg: probe angle in degrees; None for a probe trained on the same data.
        policy: name of the policy.
        parameter: lo of "window", w of "mixture", else None.
        redundancy: copies r.
        delta: size of a downstream shift independent of T and J_p.
        along_plane: that shift's component in span(T, J_p) orthogonal to T.
    """

    alpha_total: float
    keep_fraction: float
    theta_deg: float | None = 0.0
    policy: str = "hard"
    parameter: float | None = None
    redundancy: int = 1
    delta: float = 0.0
    along_plane: float = 0.0

    def selection(self) -> Policy:
        """The policy with its parameter."""
        name = policy_parameter(self.policy)
        if name is None or self.parameter is None:
            return policy_from_name(self.policy)
        return policy_from_name(self.policy, **{name: self.parameter})

    def probe(self) -> Probe:
        """The probe that ranks the examples."""
        return InSample() if self.theta_deg is None else FixedAngle(np.deg2rad(self.theta_deg))

    def problem(self) -> PerceptronProblem:
        """The case as a problem of shape ()."""
        return PerceptronProblem(
            alpha_total=self.alpha_total,
            keep_fraction=self.keep_fraction,
            probe=self.probe(),
            policy=self.selection(),
            redundancy=float(self.redundancy),
            downstream=DownstreamShift(self.delta, 0.0, self.along_plane),
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """Cases, and the dimensions that are extrapolated to 1/N = 0.

    Attributes:
        cases: the points.
        dims: values of N.
        draws: draws at each N.
    """

    cases: tuple[Case, ...]
    dims: tuple[int, ...]
    draws: tuple[int, ...]


_POLICIES: tuple[tuple[str, float | None], ...] = (
    ("hard", None),
    ("easy", None),
    ("moderate", None),
    ("random", None),
    ("hard-signed", None),
    ("easy-signed", None),
    ("window", 0.1),
    ("mixture", 0.5),
)

_POINTS = (
    Case(2, 1.0),
    Case(5, 1.0),
    Case(5, 0.4),
    Case(10, 0.2),
    *(Case(5, 0.3, 20.0, name, parameter) for name, parameter in _POLICIES),
    *(Case(10, 0.2, 40.0, name, parameter) for name, parameter in _POLICIES),
    Case(4, 0.5, 90.0),
    Case(2, 0.3, 10.0, "moderate"),
    Case(10, 0.5, 20.0, redundancy=2),
    Case(20, 0.1, 20.0, "random", redundancy=10),
    Case(10, 0.4, 20.0, "mixture", 0.5, redundancy=5),
    Case(5, 0.3, 20.0, delta=0.5),
    Case(5, 0.3, 20.0, delta=1.0, along_plane=1.0),
    # A probe trained on the same data: above and below the fraction that keeps its support vectors.
    Case(5, 0.4, None),
    Case(5, 0.1, None),
    Case(5, 0.3, None, "easy"),
)

# Between N and 2 N distinct examples kept: one compiled shape a dimension.
_OTHER_SHAPES = (
    Case(5, 1.0),
    Case(2, 0.3, 10.0, "moderate"),
    Case(10, 0.5, 20.0, redundancy=2),
)
_QUICK = (
    *(case for case in _POINTS if case not in _OTHER_SHAPES),
    Case(4, 0.4, 10.0, "moderate"),
    Case(10, 0.4, 20.0, redundancy=2),
)

_FULL = (
    *_POINTS,
    *(
        Case(alpha, fraction, theta, name, parameter)
        for (name, parameter), theta, (alpha, fraction) in product(
            _POLICIES, (0.0, 10.0, 60.0), ((2, 0.5), (8, 0.25))
        )
    ),
    Case(1, 1.0),
    Case(10, 1.0),
    Case(20, 0.1, 0.0),
    Case(20, 0.1, 10.0),
    Case(20, 0.1, 20.0, "window", 0.1),
    Case(20, 0.25, 10.0, redundancy=5),
    Case(20, 0.5, 10.0, redundancy=10),
    Case(20, 0.5, 10.0, "easy", redundancy=5),
    Case(10, 0.2, 10.0, "random", redundancy=5),
    Case(8, 0.25, 10.0, delta=0.1),
    Case(8, 0.25, 10.0, "easy", delta=0.4),
    Case(8, 0.25, 40.0, "easy", delta=0.4, along_plane=-0.8),
    Case(2, 0.5, None),
    Case(2, 0.3, None),
    Case(2, 0.15, None),
    Case(5, 0.15, None),
    Case(5, 0.05, None),
    Case(10, 0.1, None, redundancy=2),
    Case(5, 0.1, None, delta=0.5, along_plane=-0.8),
    Case(2, 0.5, None, "easy"),
    Case(5, 0.4, None, "random"),
    Case(5, 0.3, None, "window", 0.1),
    Case(5, 0.2, None, "mixture", 0.5),
)

PLANS = {
    "quick": Plan(_QUICK, (30, 60, 120), (480, 240, 120)),
    "full": Plan(_FULL, (40, 80, 160, 240), (1000, 600, 300, 120)),
}
