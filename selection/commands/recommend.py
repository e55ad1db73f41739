"""The command `recommend`: the fraction and the policy that the replica theory advises."""

import argparse
import sys
from typing import Any, get_args

import numpy as np

from hardset.cli import integer, number
from selection.advice.estimates import AngleSource, Coordinates, estimate_coordinates
from selection.advice.recommend import CAVEAT, POLICIES, Recommendation, recommend
from selection.commands.inputs import class_number, read_labels
from selection.core.files import json_text, read_array

EXAMPLES = f"""It estimates
  alpha_t   examples over the effective dimension (tr C)^2 / tr C^2 of the features
  theta     angle of a linear probe to the target: probes trained on disjoint parts meet at
            cos^2 theta; corrected from the part to all examples by the theory's learning curve.
            On features far from isotropic, pi times the error of cross-validated probes
and searches the theory for the fraction and the policy of least error at these coordinates.
{CAVEAT}

Exit code 1: theta is undefined, because the probes do not agree at all.

examples:
  python -m selection recommend --features x.npy --labels y.npy
  python -m selection recommend --features x.npy --labels digits.npy --classes 3 5 --json
  python -m selection recommend --features x.parquet:vector --labels x.parquet:label \\
      --metric isotropic --policies hard easy random --tolerance 0.02
"""


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of `python -m selection`."""
    parser = commands.add_parser(
        "recommend",
        help="how much to keep, and by which policy, if the data were the toy model",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--features", required=True, metavar="FILE", help="shape (n, d)")
    parser.add_argument("--labels", required=True, metavar="FILE", help="two classes, (n,)")
    parser.add_argument(
        "--classes", nargs=2, metavar="C", help="use the examples of these two only"
    )
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES)
    parser.add_argument("--tolerance", type=number, default=0.05, help="accepted relative loss")
    parser.add_argument("--splits", type=integer, default=4, help="pairs of probes, default 4")
    parser.add_argument(
        "--holdout", type=number, default=0.2, help="share on which they are compared"
    )
    parser.add_argument("--metric", choices=("covariance", "isotropic"), default="covariance")
    parser.add_argument(
        "--angle", choices=get_args(AngleSource), default="auto", help="what theta comes from"
    )
    parser.add_argument("--replicates", type=integer, default=100, help="of the bootstrap")
    parser.add_argument("--level", type=number, default=0.9, help="coverage of the intervals")
    parser.add_argument("--seed", type=integer, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Estimate, search and print; returns the exit code (1 if theta is undefined)."""
    features = read_array("features", options.features)
    labels, names = read_labels("labels", options.labels)
    if options.classes is not None:
        pair = [class_number("--classes", text, names) for text in options.classes]
        features, labels = _two_classes(features, labels, pair)
    coordinates = estimate_coordinates(
        features,
        labels,
        splits=options.splits,
        holdout=options.holdout,
        metric=options.metric,
        angle=options.angle,
        replicates=options.replicates,
        level=options.level,
        seed=options.seed,
    )
    found = _facts(coordinates)
    if coordinates.defined:
        advice = recommend(
            coordinates,
            policies=options.policies,
            tolerance=options.tolerance,
            report=lambda name: print(f"searching policy {name}", file=sys.stderr),
        )
        found |= _advice(advice)
    else:
        found["message"] = "theta is undefined: probes trained on disjoint parts do not agree"
    print(json_text(found) if options.json else _text(found))
    return 0 if coordinates.defined else 1


def _two_classes(features: Any, labels: Any, pair: list[int]) -> tuple[Any, Any]:
    if len(features) != len(labels):
        raise ValueError(
            f"the arrays have different lengths: features {len(features)}, labels {len(labels)}"
        )
    for one in pair:
        if not np.any(labels == one):
            raise ValueError(f"class {one} has no example in the labels")
    rows = np.flatnonzero(np.isin(labels, pair))
    return features[rows], labels[rows]


def _facts(found: Coordinates) -> dict[str, Any]:
    return {
        "examples": found.examples,
        "features_dim_effective": found.dimension.value,
        "features_dim_effective_stderr": found.dimension.stderr,
        "features_dim_plug_in": found.dimension.plug_in,
        "alpha_total": found.alpha_total,
        "alpha_total_interval": list(found.alpha_interval),
        "overlap": found.overlap,
        "trained_on": found.trained_on,
        "theta_part_deg": _degrees(found.theta_part),
        "theta_deg": _degrees(found.theta),
        "theta_deg_interval": [_degrees(end) for end in found.theta_interval],
        "theta_from": found.source,
        "theta_of_overlap_deg": _degrees(found.theta_of_overlap),
        "theta_of_error_deg": _degrees(found.theta_of_error),
        "level": found.level,
        "warnings": list(found.warnings),
    }


def _advice(found: Recommendation) -> dict[str, Any]:
    return {
        "policy": found.policy,
        "keep_fraction": found.keep_fraction,
        "keep_fraction_interval": list(found.fraction_interval),
        "keep_fraction_band": list(found.band),
        "tolerance": found.tolerance,
        "error": found.error,
        "full_error": found.full_error,
        "policies": [
            {
                "policy": one.policy,
                "keep_fraction": one.keep_fraction,
                "error": one.error,
                "sufficient_fraction": _finite(one.sufficient_fraction),
            }
            for one in found.policies
        ],
        "caveat": found.caveat,
    }


def _degrees(angle: float) -> float | None:
    return _finite(float(np.rad2deg(angle)))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no NaN


def _text(found: dict[str, Any]) -> str:
    lines = []
    for name, value in found.items():
        if name == "warnings":
            lines += [f"{'warning':<30} {sentence}" for sentence in value]
        elif name == "policies":
            lines.append(f"{'policies':<30} best fraction, its error, fraction that suffices")
            for one in value:
                numbers = [one["keep_fraction"], one["error"], one["sufficient_fraction"]]
                lines.append(f"  {one['policy']:<28} " + "  ".join(map(_number, numbers)))
        elif isinstance(value, list):
            lines.append(f"{name:<30} {' to '.join(map(_number, value))}")
        else:
            lines.append(f"{name:<30} {_number(value)}")
    return "\n".join(lines)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
