"""What the commands share: options of a problem, and results as JSON or text."""

import argparse
import json
from typing import Any

import numpy as np

from hardset.cli import number
from theory.policies import POLICY_NAMES, Policy, policy_from_name

__all__ = ["add_policy_options", "policy_of", "print_json", "print_records", "records"]


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which policy and probe."""
    parser.add_argument(
        "--theta-deg", type=number, default=0.0, help="probe angle, 0 to 90 degrees"
    )
    parser.add_argument("--policy", default="hard", help=f"one of {', '.join(POLICY_NAMES)}")
    parser.add_argument("--lo", type=number, help="start of the window, an abs(z) quantile")
    parser.add_argument("--w", type=number, help="share of the hardest examples in the mixture")


def policy_of(options: argparse.Namespace) -> Policy:
    """The policy that the options name."""
    given = {key: value for key in ("lo", "w") if (value := getattr(options, key)) is not None}
    return policy_from_name(options.policy, **given)


def records(columns: dict[str, Any], statuses: type[Any]) -> list[dict[str, Any]]:
    """One record an entry of the broadcast columns; `status` by name and as a sentence."""
    arrays = dict(zip(columns, np.broadcast_arrays(*columns.values()), strict=True))
    found = []
    for index in np.ndindex(arrays["status"].shape):
        record = {name: array[index].item() for name, array in arrays.items()}
        status = statuses(record["status"])
        found.append(record | {"status": status.name.lower(), "sentence": status.sentence})
    return found


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
