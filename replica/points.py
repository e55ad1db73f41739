"""A file of points: what it may say, checked before anything is compiled."""

import dataclasses
import difflib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice, check_range
from theory.policy_names import POLICY_NAMES, check_policy, policy_parameter

Point = dict[str, Any]
Floats = NDArray[np.float64]

# Results by their key in a point; the names of `ReplicaSolution`.
RESULTS = {
    "R": "overlap",
    "rho": "probe_overlap",
    "kappa": "margin",
    "error": "error",
    "support_fraction": "support_fraction",
    "v_information": "v_information",
    "residual_saddle": "residual_saddle",
    "residual_gordon": "residual_gordon",
    "residual": "residual",
}

REQUIRED = ("alpha_total", "theta_deg", "policy")
FRACTION = ("f", "keep_fraction")  # one of them
OPTIONAL = ("redundancy", "downstream_deg", "lo", "w")
FREE = ("id", "note")
NUMBERS = ("alpha_total", *FRACTION, "theta_deg", *OPTIONAL)
# A file of answers can be asked again: its results are computed anew.
KNOWN = frozenset((*REQUIRED, *FRACTION, *OPTIONAL, *FREE, *RESULTS, "status"))


@dataclasses.dataclass(frozen=True)
class Batch:
    """Points of one policy, as columns.

    Attributes:
        rows: their places in the list of points.
        policy: its name.
        parameters: its own parameters by name, one array each.
        alpha_total: total examples / N.
        keep_fraction: f.
        theta_deg: probe angles in degrees.
        redundancy: copies of each example.
        downstream_deg: angles of the downstream teacher's shift in degrees.
    """

    rows: list[int]
    policy: str
    parameters: dict[str, Floats]
    alpha_total: Floats
    keep_fraction: Floats
    theta_deg: Floats
    redundancy: Floats
    downstream_deg: Floats


def read_points(path: str) -> list[Point]:
    """The points of a JSON file.

    Raises:
        ValueError: a file that cannot be read, is not JSON or not a list of objects.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
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
    """An object whose keys are different and whose numbers are finite, as JSON's are."""
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


def batches(points: Sequence[Point], *, numbered: bool = True) -> list[Batch]:
    """The points as columns, one batch a policy.

    Args:
        points: objects with the keys of a points file.
        numbered: whether a message names the point by its place in the file.

    Raises:
        ValueError: the first point that is wrong: a key that is missing, unknown or does not
            belong to the policy, a value outside its range.
    """
    for i, point in enumerate(points):
        _check_keys(point, f"point {i}: " if numbered else "")
    rows: dict[str, list[int]] = {}
    for i, point in enumerate(points):
        rows.setdefault(point["policy"], []).append(i)
    made = [_batch(points, name, rows[name]) for name in sorted(rows)]
    for batch in made:
        _check_ranges(batch, numbered)
    return made


def _check_keys(point: Point, where: str) -> None:
    for key in point.keys() - KNOWN:
        near = difflib.get_close_matches(str(key), sorted(KNOWN), n=1)
        known = ", ".join((*REQUIRED, *FRACTION, *OPTIONAL, *FREE))
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{where}unknown key {key!r}{meant} (known are {known})")
    for key in REQUIRED:
        if key not in point:
            raise ValueError(f"{where}the key {key!r} is missing")
    given = [key for key in FRACTION if key in point]
    if len(given) != 1:
        trouble = "are given both: give one" if given else "are missing: give one"
        raise ValueError(f"{where}'f' and 'keep_fraction' are the same and {trouble} of them")
    for key in NUMBERS:
        value = point.get(key)
        if value is None and (key not in point or key in ("lo", "w")):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            shown = repr(value)
            shown = shown if len(shown) < 80 else f"{shown[:60]}..."
            raise ValueError(f"{where}{key} = {shown} is not a number")
    given = [key for key in ("lo", "w") if point.get(key) is not None]
    try:
        check_choice("policy", point["policy"], POLICY_NAMES)
        needed = policy_parameter(point["policy"])
        if needed and needed not in given:
            raise ValueError(f"policy {point['policy']!r} needs the parameter {needed!r}")
        check_policy(point["policy"], given)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def _batch(points: Sequence[Point], policy: str, rows: list[int]) -> Batch:
    def column(key: str, default: float | None = None) -> Floats:
        return np.array([_real(points[i].get(key, default)) for i in rows], dtype=np.float64)

    own = policy_parameter(policy)
    fractions = [points[i]["f" if "f" in points[i] else "keep_fraction"] for i in rows]
    return Batch(
        rows=rows,
        policy=policy,
        parameters={own: column(own)} if own else {},
        alpha_total=column("alpha_total"),
        keep_fraction=np.array([_real(one) for one in fractions], dtype=np.float64),
        theta_deg=column("theta_deg"),
        redundancy=column("redundancy", 1.0),
        downstream_deg=column("downstream_deg", 0.0),
    )


def _real(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond double precision: refused as infinite
        return float("inf") if value > 0 else float("-inf")


def _check_ranges(batch: Batch, numbered: bool) -> None:
    """Whole columns; only where one is wrong, entry by entry for the message."""
    window = batch.parameters.get("lo")
    ranges: list[tuple[str, Floats, float, float, dict[str, Any]]] = [
        ("alpha_total", batch.alpha_total, 0.0, np.inf, {"open_low": True}),
        ("f", batch.keep_fraction, 0.0, 1.0, {"open_low": True}),
        ("theta_deg", batch.theta_deg, 0.0, 90.0, {"unit": "degrees"}),
        ("redundancy", batch.redundancy, 1.0, np.inf, {}),
        ("downstream_deg", batch.downstream_deg, 0.0, 90.0, {"open_high": True, "unit": "degrees"}),
        *((name, values, 0.0, 1.0, {}) for name, values in batch.parameters.items()),
    ]
    if window is not None:
        # Decimal fractions such as .7 + .3 exceed 1 by rounding only.
        both = window + batch.keep_fraction - 1e-12
        ranges.append(("lo + keep_fraction", both, 0.0, 1.0, {}))
    for name, values, low, high, ends in ranges:
        try:
            check_range(name, values, low, high, **ends)
        except ValueError:
            for row, value in zip(batch.rows, values, strict=True):
                check_range(f"point {row}: {name}" if numbered else name, value, low, high, **ends)
            raise
