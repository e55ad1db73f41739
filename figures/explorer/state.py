"""Defines what the page shows, as a URL, a command or Python lines."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from hardset.checks import check_choice, check_integer, check_range, meant
from theory.policy_names import LOSSES, PLAIN_POLICIES, policy_parameter

MAX_MARGIN = "max-margin"
STUDENTS = (MAX_MARGIN, *LOSSES)
POLICIES = PLAIN_POLICIES
POINTS = 41  # fractions of a curve
BINS = 40  # of the margins, the last one open
FARTHEST = 4.0  # end of the axis of margins; 6e-5 of all examples lie beyond
RANGES: dict[str, dict[str, Any]] = {
    "alpha_total": {"low": 0.1, "high": 1e4},
    "theta_deg": {"low": 0.0, "high": 90.0, "unit": "degrees"},
    "downstream_deg": {"low": 0.0, "high": 89.0, "unit": "degrees"},
    "flip": {"low": 0.0, "high": 0.5},
    "lam": {"low": 1e-6, "high": 1e3},
    "lo": {"low": 0.0, "high": 1.0},
    "w": {"low": 0.0, "high": 1.0},
    "lowest": {"low": 1e-3, "high": 0.5},
}
DIMS, DRAWS = (10, 400), (2, 200)


@dataclasses.dataclass(frozen=True)
class State:
    """All that decides what the page shows.

    Attributes:
        alpha_total: total examples over N, in [0.1, 1e4].
        theta_deg: angle of the probe to the teacher, 0 to 90 degrees.
        redundancy: copies of each example, a whole number in [1, 100].
        downstream_deg: angle of the downstream teacher's shift, 0 to 89 degrees.
        flip: probability that an observed label is flipped, 0 to 1/2.
        loss: the loss that the student minimises, or "max-margin" for none.
        lam: ridge strength of the loss, in [1e-6, 1e3]; without effect on a max-margin student.
        policy: the policies that are compared, one or more of `POLICIES`.
        lo: rank where the windows among them begin, from 0 to 1 - 2 `lowest`. A window keeps at
            most 1 - lo, where its curve ends.
        w: share of a mixture's budget that goes to the hardest examples, 0 to 1.
        lowest: the smallest fraction of the curves, in [1e-3, 0.5].
        keep_fraction: the fraction whose margins and best window are shown, from `lowest` to 1.
    """

    alpha_total: float = 5.0
    theta_deg: float = 20.0
    redundancy: int = 1
    downstream_deg: float = 0.0
    flip: float = 0.0
    loss: str = MAX_MARGIN
    lam: float = 0.1
    policy: tuple[str, ...] = ("hard", "random", "easy")
    lo: float = 0.1
    w: float = 0.5
    lowest: float = 0.02
    keep_fraction: float = 0.3

    def __post_init__(self) -> None:
        for name, limits in RANGES.items():
            check_range(name, getattr(self, name), **limits)
            object.__setattr__(self, name, float(getattr(self, name)))
        check_range("keep_fraction", self.keep_fraction, self.lowest, 1.0)
        check_integer("redundancy", self.redundancy, 1, 100)
        object.__setattr__(self, "keep_fraction", float(self.keep_fraction))
        object.__setattr__(self, "redundancy", int(self.redundancy))
        check_choice("loss", self.loss, STUDENTS)
        if not self.policy:
            raise ValueError(f"policy is empty: give one or more of {', '.join(POLICIES)}")
        for name in self.policy:
            check_choice("policy", name, POLICIES)
        if len(set(self.policy)) < len(self.policy):
            raise ValueError(f"policy = {', '.join(self.policy)} names a policy twice")
        if any("lo" in self.own(name) for name in self.policy):
            check_range("lo", self.lo, 0.0, 1 - 2 * self.lowest)

    @property
    def has_loss(self) -> bool:
        """Whether the student minimises a loss."""
        return self.loss != MAX_MARGIN

    def own(self, policy: str) -> dict[str, float]:
        """Return the number that a policy needs by its name; most need none."""
        name = policy_parameter(policy)
        return {name: float(getattr(self, name))} if name else {}

    def largest(self, policy: str) -> float:
        """Return the largest fraction that a policy can keep."""
        return 1 - self.own(policy).get("lo", 0.0)

    @property
    def parameters(self) -> dict[str, Any]:
        """All numbers and words, as JSON types."""
        return dataclasses.asdict(self) | {"policy": list(self.policy)}

    def query(self) -> str:
        """Write the state as a URL's query, without the question mark."""
        return urlencode(self.parameters, doseq=True)

    @classmethod
    def of_parameters(cls, parameters: Mapping[str, Any]) -> "State":
        """Read the state from a data file's parameters.

        Raises:
            KeyError: one is missing.
            ValueError: a value outside its range.
        """
        given = {field.name: parameters[field.name] for field in dataclasses.fields(cls)}
        return cls(**given | {"policy": tuple(given["policy"])})

    @classmethod
    def of_query(cls, query: str) -> "State":
        """Read the state from a URL's query; what it does not name has its default.

        Raises:
            ValueError: an unknown name, a value that is no number, or one outside its range.
        """
        given: dict[str, Any] = {}
        names = [field.name for field in dataclasses.fields(cls)]
        for name, text in parse_qsl(query.removeprefix("?"), keep_blank_values=True):
            if name not in names:
                raise ValueError(
                    f"the address names {name!r}, which this page does not have{meant(name, names)}"
                )
            if name == "policy":
                given[name] = (*given.get(name, ()), text)
            elif name == "loss":
                given[name] = text
            else:
                given[name] = _number(name, text)
        return cls(**given)

    def command(self) -> str:
        """Write the command lines whose tables hold the curves, one for each policy."""
        from figures.explorer.curves import fractions

        lines = []
        for policy in self.policy:
            kept = [repr(float(one)) for one in fractions(self, policy)]
            words = ["hardset", "replica", "solve", "--policy", policy]
            for name, value in self.own(policy).items():
                words += [f"--{name}", repr(value)]
            words += ["--alpha-total", repr(self.alpha_total)]
            words += ["--theta-deg", repr(self.theta_deg), "--redundancy", str(self.redundancy)]
            words += ["--downstream-deg", repr(self.downstream_deg)]
            if self.has_loss:
                words += ["--loss", self.loss, "--lam", repr(self.lam)]
            if self.has_loss or self.flip:
                words += ["--flip", repr(self.flip)]
            lines.append(shlex.join([*words, "--keep-fraction", *kept, "--json"]))
        return "\n".join(lines)

    def python(self, dim: int = 0, draws: int = 0) -> str:
        """Write Python lines that compute what is shown.

        They leave dictionaries by policy: `error` along `keep_fraction`, `best_fraction` and
        `least_error`, and `share`, what of the kept examples lies in each bin of `margin_edges`;
        the numbers `window_lo` and `window_error`; and with `draws` the dictionary `simulated` of
        datasets.

        Args:
            dim: N of the simulation.
            draws: its draws; 0 where no points are shown.
        """
        student = f"theory.ERM({self.loss!r}, {self.lam!r})" if self.has_loss else None
        labels = f"theory.Flip({self.flip!r})" if self.has_loss or self.flip else None
        parts = {
            "redundancy": repr(self.redundancy),
            "downstream": f"theory.DownstreamShift.degrees({self.downstream_deg!r})",
            **({"student": student} if student else {}),
            **({"labels": labels} if labels else {}),
        }
        shared = "".join(f"    {name!r}: {value},\n" for name, value in parts.items())
        simulation = (
            f"""
simulated = {{
    name: sims.run(
        theory.PerceptronProblem(
            alpha_total={self.alpha_total!r},
            keep_fraction=simulated_fractions(state, name, {dim}),
            probe=theory.FixedAngle(theta),
            policy=policy,
            **shared,
        ),
        dim={dim},
        draws={draws},
    )
    for name, policy in policies.items()
}}
"""
            if draws
            else ""
        )
        more = ", simulated_fractions" if draws else ""
        state = ", ".join(
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        )
        policies = "".join(
            f"    {name!r}: theory.policy_from_name({', '.join([repr(name), *own])}),\n"
            for name in self.policy
            for own in [[f"{key}={value!r}" for key, value in self.own(name).items()]]
        )
        largest = {name: self.largest(name) for name in self.policy}
        return f"""import numpy as np

import replica
{"import sims" + chr(10) if draws else ""}import theory
from figures.explorer.curves import margin_edges, margin_shares{more}
from figures.explorer.state import State

state = State({state})
theta = np.deg2rad({self.theta_deg!r})
shared = {{
{shared}}}
policies = {{
{policies}}}
largest = {largest!r}

keep_fraction, error, best_fraction, least_error, share = {{}}, {{}}, {{}}, {{}}, {{}}
for name, policy in policies.items():
    keep_fraction[name] = np.geomspace({self.lowest!r}, largest[name], {POINTS})
    solution = replica.solve(
        theory.PerceptronProblem(
            alpha_total={self.alpha_total!r},
            keep_fraction=keep_fraction[name],
            probe=theory.FixedAngle(theta),
            policy=policy,
            **shared,
        )
    )
    error[name] = np.where(solution.status == 0, solution.error, np.nan)
    best = replica.optimal_fraction(
        {self.alpha_total!r}, theta, policy, lowest={self.lowest!r}, **shared
    )
    best_fraction[name], least_error[name] = best.least_fraction, best.least_error
    share[name] = margin_shares(state, name)
window = replica.optimal_window({self.alpha_total!r}, {self.keep_fraction!r}, theta, **shared)
window_lo, window_error = window.lo, window.error
{simulation}"""


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} = {text!r} is not a number") from None
