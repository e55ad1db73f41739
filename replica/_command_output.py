"""What the commands share: options of a problem, and results as JSON or text."""

import argparse
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from hardset.checks import check_range
from hardset.cli import number
from theory.policy_names import POLICY_NAMES, check_policy

if TYPE_CHECKING:
    from theory.policies import Policy


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which policy and probe."""
    parser.add_argument(
        "--theta-deg", type=number, default=0.0, help="probe angle, 0 to 90 degrees"
    )
    parser.add_argument("--policy", default="hard", help=f"one of {', '.join(POLICY_NAMES)}")
    parser.add_argument("--lo", type=number, help="start of the window, an abs(z) quantile")
    parser.add_argument("--w", type=number, help="share of the hardest examples in the mixture")


def check_policy_options(options: argparse.Namespace) -> None:
    """Raise ValueError for a policy or an angle that is none, before JAX is loaded."""
    check_range("theta_deg", options.theta_deg, 0.0, 90.0, unit="degrees")
    given = _own_parameters(options)
    check_policy(options.policy, given)
    for name, value in given.items():
        check_range(name, value, 0.0, 1.0)


def policy_of(options: argparse.Namespace) -> "Policy":
    """The policy that the options name."""
    from theory.policies import policy_from_name

    return policy_from_name(options.policy, **_own_parameters(options))


def _own_parameters(options: argparse.Namespace) -> dict[str, float]:
    return {key: value for key in ("lo", "w") if (value := getattr(options, key)) is not None}


def records(columns: dict[str, Any], statuses: type[Any]) -> list[dict[str, Any]]:
    """One record an entry of the broadcast columns; `status` by name and as a sentence."""
    arrays = np.broadcast_arrays(*columns.values())
    lists = [array.ravel().tolist() for array in arrays]
    known = {int(one): {"status": one.name.lower(), "sentence": one.sentence} for one in statuses}
    found = [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
    return [record | known[record["status"]] for record in found]


def json_numbers(values: Any) -> list[float | None]:
    """The entries of an array, flattened; what is no finite number becomes None."""
    array = np.asarray(values, np.float64).ravel()
    known = np.isfinite(array)
    if known.all():
        return list(array.tolist())
    return [value if fine else None for value, fine in zip(array.tolist(), known, strict=True)]


def print_json(content: Any) -> None:
    """Print `content` as JSON; what is no finite number becomes null."""
    print(json.dumps(_finite(content), indent=1))


def print_records(found: list[dict[str, Any]], as_json: bool) -> None:
    """Print records as a JSON list, or as paragraphs of names and values."""
    if as_json:
        print_json(found)
        return
    for record in found:
        for name, value in record.items():
            shown = f"{value:.9g}" if isinstance(value, float) else value
            print(f"  {name:<16} {shown}")
        print()


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not np.isfinite(content):
        return None
    return content
