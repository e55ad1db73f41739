"""Checks points of a file or a grid, and solves them together.

The checks come before JAX is imported.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice, check_range, meant
from theory.policy_names import OWN_PARAMETERS, POLICY_NAMES, check_policy, policy_parameter

if TYPE_CHECKING:
    from theory.problem import Probe

Point = dict[str, Any]
Floats = NDArray[np.float64]

# Each with the parameter that it needs.
PROBES: dict[str, str | None] = {
    "fixed": "theta_deg",
    "independent": "alpha_probe",
    "in-sample": None,
}
RANGES: dict[str, dict[str, Any]] = {
    "alpha_total": {"low": 0.0, "high": np.inf, "open_low": True},
    "keep_fraction": {"low": 0.0, "high": 1.0, "open_low": True},
    "theta_deg": {"low": 0.0, "high": 90.0, "unit": "degrees"},
    "alpha_probe": {"low": 0.0, "high": np.inf, "open_low": True},
    "redundancy": {"low": 1.0, "high": np.inf},
    "downstream_deg": {"low": 0.0, "high": 90.0, "open_high": True, "unit": "degrees"},
    **{own: {"low": 0.0, "high": 1.0} for own in OWN_PARAMETERS},
}
WINDOW_END = "lo + keep_fraction"
# Fields of `ReplicaSolution` that are added to a point.
RESULTS = (
    "overlap",
    "probe_overlap",
    "margin",
    "error",
    "support_fraction",
    "v_information",
    "residual_saddle",
    "residual_gordon",
    "residual",
)
REQUIRED = ("alpha_total", "keep_fraction", "policy")
DEFAULTS = {"redundancy": 1.0, "downstream_deg": 0.0}
OPTIONAL = ("probe", "theta_deg", "alpha_probe", *DEFAULTS, *OWN_PARAMETERS, "id", "note")
# A file of answers can be asked again: its results are computed anew.
KNOWN = frozenset((*REQUIRED, *OPTIONAL, *RESULTS, "status"))
NULLABLE = ("theta_deg", "alpha_probe", *OWN_PARAMETERS)


@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch of points of one policy and one kind of probe, as columns.

    Attributes:
        rows: their places in the list of points.
        policy: name of the policy.
        probe: name of the probe's kind.
        columns: numbers by name, an array each.
    """

    rows: list[int]
    policy: str
    probe: str
    columns: dict[str, Floats]


def read_points(path: Path) -> list[Point]:
    """Read the points of a JSON file.

    Raises:
        ValueError: a file that cannot be read, is not JSON or not a list of objects.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        points = json.loads(text, object_pairs_hook=_object)
    except OSError as error:
        raise ValueError(f"points file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"points file {path} is not JSON: save it as UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"points file {path} is not JSON: {error}") from None
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise ValueError(f"points file {path} is not a JSON list of objects")
    return points


def _object(pairs: list[tuple[str, Any]]) -> Point:
    """Check that the keys of a JSON object differ and its numbers are finite."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    for key, value in pairs:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, float) and not math.isfinite(one):
                raise ValueError(f"{key} = {one} is no finite number")
    return found


def grid(axes: Mapping[str, Sequence[float]], fixed: Mapping[str, str]) -> list[Point]:
    """Make the points of the outer product of axes.

    The last axis varies fastest.

    Args:
        axes: values by name.
        fixed: what all points have in common.
    """
    rows = itertools.product(*axes.values())
    return [{**dict(zip(axes, row, strict=True)), **fixed} for row in rows]


def solve_points(points: Sequence[Point], *, numbered: bool = True) -> list[Point]:
    """Solve points, and return them in order with the results added.

    Points of one policy and one kind of probe are solved together.

    Args:
        points: objects with the keys of a points file.
        numbered: whether a message names the point by its place in the file.

    Raises:
        ValueError: the first point that is wrong.
    """
    solved: list[Point] = [{} for _ in points]
    parts = batches(points, numbered=numbered)
    # One policy's program is compiled while another one's points are solved.
    with ThreadPoolExecutor(2) as pool:
        for batch, found in zip(parts, pool.map(_solve, parts), strict=True):
            for row, results in zip(batch.rows, found, strict=True):
                solved[row] = points[row] | results
    return solved


def _solve(batch: Batch) -> list[Point]:
    """Solve the points of a batch."""
    # Imported where the arguments are known to be right: JAX takes a second to load.
    from replica.solution import Status
    from replica.solver import solve
    from theory.policies import policy_from_name
    from theory.problem import DownstreamShift, PerceptronProblem

    given = dict(batch.columns)
    parameter = policy_parameter(batch.policy)
    own = {parameter: given.pop(parameter)} if parameter else {}
    solution = solve(
        PerceptronProblem(
            alpha_total=given["alpha_total"],
            keep_fraction=given["keep_fraction"],
            probe=probe_from_name(batch.probe, given),
            policy=policy_from_name(batch.policy, **own),
            redundancy=given["redundancy"],
            downstream=DownstreamShift.degrees(given["downstream_deg"]),
        )
    )
    columns: dict[str, list[Any]] = {key: json_numbers(getattr(solution, key)) for key in RESULTS}
    names = {int(status): status.name.lower() for status in Status}
    columns["status"] = [names[status] for status in np.asarray(solution.status).tolist()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def probe_from_name(name: str, given: Mapping[str, Any]) -> "Probe":
    """Make the probe of a kind from the parameters that are given."""
    from theory.problem import FixedAngle, Independent, InSample

    if name == "in-sample":
        return InSample()
    if name == "independent":
        return Independent(given["alpha_probe"])
    return FixedAngle.degrees(given["theta_deg"])


def json_numbers(values: Any) -> list[float | None]:
    """List the entries of an array, with None in place of NaN and infinities."""
    array = np.asarray(values, np.float64).ravel()
    known = np.isfinite(array)
    if known.all():
        return list(array.tolist())
    return [value if fine else None for value, fine in zip(array.tolist(), known, strict=True)]


def batches(points: Sequence[Point], *, numbered: bool = True) -> list[Batch]:
    """Gather points as columns, one batch for each policy and kind of probe.

    Args:
        points: objects with the keys of a points file.
        numbered: whether a message names the point by its place in the file.

    Raises:
        ValueError: the first point that is wrong: a key that is missing, unknown or does not
            belong to policy or probe, a value outside its range.
    """
    kinds: dict[tuple[str, str], list[int]] = {}
    for i, point in enumerate(points):
        try:
            _check_keys(point)
        except ValueError as error:
            raise ValueError(f"point {i}: {error}" if numbered else str(error)) from None
        kinds.setdefault((point["policy"], point.get("probe", "fixed")), []).append(i)
    made = [_batch(points, kinds[kind], *kind) for kind in sorted(kinds)]
    for batch in made:
        _check_ranges(batch, numbered)
    return made


def _check_keys(point: Point) -> None:
    for key in sorted(point.keys() - KNOWN, key=str):
        known = ", ".join((*REQUIRED, *OPTIONAL))
        raise ValueError(f"unknown key {key!r}{meant(str(key), sorted(KNOWN))} (known are {known})")
    for key in REQUIRED:
        if key not in point:
            raise ValueError(f"the key {key!r} is missing")
    given = []
    for key in RANGES:
        value = point.get(key)
        if value is None and (key not in point or key in NULLABLE):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            shown = repr(value)
            shown = shown if len(shown) < 80 else f"{shown[:60]}..."
            raise ValueError(f"{key} = {shown} is not a number")
        given.append(key)
    check_kind(point["policy"], point.get("probe", "fixed"), given)


def check_kind(policy: object, probe: object, given: Collection[str]) -> None:
    """Check that policy and probe are known, and that their parameters fit.

    All of their parameters must be given, and no others.

    Args:
        policy: name of the policy.
        probe: name of the probe's kind.
        given: names of the parameters.

    Raises:
        ValueError: an unknown name, a parameter that is missing or one too many.
    """
    check_choice("policy", policy, POLICY_NAMES)
    check_choice("probe", probe, PROBES)
    needed = policy_parameter(str(policy))
    if needed and needed not in given:
        raise ValueError(f"policy {policy!r} needs the parameter {needed!r}")
    check_policy(policy, [name for name in OWN_PARAMETERS if name in given])
    needed = PROBES[str(probe)]
    if needed and needed not in given:
        raise ValueError(f"probe {probe!r} needs the parameter {needed!r}")
    for name in filter(None, PROBES.values()):
        if name in given and name != needed:
            raise ValueError(f"probe {probe!r} takes no parameter {name!r}")


def _batch(points: Sequence[Point], rows: list[int], policy: str, probe: str) -> Batch:
    own = filter(None, (PROBES[probe], policy_parameter(policy)))
    return Batch(
        rows=rows,
        policy=policy,
        probe=probe,
        columns={
            key: np.array([_real(points[i].get(key, DEFAULTS.get(key))) for i in rows])
            for key in ("alpha_total", "keep_fraction", *DEFAULTS, *own)
        },
    )


def _real(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond double precision: refused as infinite
        return float("inf") if value > 0 else float("-inf")


def check_parameter(name: str, value: Any, where: str = "") -> None:
    """Check that a problem's number lies in its range.

    `where` is put before its name in the message.
    """
    check_range(where + name, value, **RANGES.get(name, RANGES["lo"]))


def _check_ranges(batch: Batch, numbered: bool) -> None:
    """Check the ranges of whole columns.

    Only a wrong one is checked entry by entry, for the message.
    """
    columns = dict(batch.columns)
    if "lo" in columns:
        columns[WINDOW_END] = window_end(columns["lo"], columns["keep_fraction"])
    for name, values in columns.items():
        try:
            check_parameter(name, values)
        except ValueError:
            for row, value in zip(batch.rows, values, strict=True):
                check_parameter(name, value, f"point {row}: " if numbered else "")
            raise


def window_end(lo: Any, keep_fraction: Any) -> Any:
    """Return the rank at which a window ends, less 1e-12.

    Sums of fractions such as .7 + .3 may exceed 1 by rounding.
    """
    return np.maximum(np.add(lo, keep_fraction) - 1e-12, 0.0)
