"""Defines the command `recommend`, which asks the theory how much to keep."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from hardset.checks import check_integer, check_range
from hardset.cli import Choice, Json, Option, more_help
from selection.advice import CAVEAT, HARD, POLICIES, AngleSource, Metric
from selection.commands.inputs import File, class_number, read_labels
from selection.files import json_text, read_array

if TYPE_CHECKING:
    from selection.advice.estimates import Coordinates
    from selection.advice.toy_model import ToyModelAdvice

UNDEFINED = "theta is undefined: probes trained on disjoint parts do not agree"


@more_help(lambda: f"{CAVEAT}\n\nBy {HARD}.")
def recommend(
    *,
    features: File,
    labels: File,
    classes: Annotated[tuple[str, ...], Option(metavar="C C")] | None = None,
    policies: Annotated[tuple[str, ...], Choice(POLICIES)] = POLICIES,
    tolerance: float = 0.05,
    splits: int = 4,
    holdout: float = 0.2,
    metric: Metric = "covariance",
    angle: AngleSource = "auto",
    replicates: int = 100,
    level: float = 0.9,
    seed: int = 0,
    as_json: Json = False,
) -> int:
    """Recommend how much to keep, and by which policy.

    The recommendation is that of the replica theory, if the data were the toy model.

    It estimates

      alpha_total  examples over the effective dimension (tr C)^2 / tr C^2 of the features
      theta        angle of a linear probe to the target: probes trained on disjoint parts meet at
                   cos^2 theta; corrected from the part to all examples by the theory's learning
                   curve. On features far from isotropic, pi times the error of cross-validated
                   probes

    and searches the theory for the fraction and the policy of least error at these coordinates.

    It also measures the error of a linear probe by tenfold cross validation on all the data. Where
    that and the theory's differ by more than a factor of 1.5, the data are not the toy model: the
    advice is to keep all, and the theory's fraction is called toy_model_fraction. The interval of
    the measured error excuses a factor of 2, and any error that is smaller than the theory's.
    Classes that no probe separates are not the toy model either.

    Of more than two classes give --classes two at a time, or labels of one class against the
    others. Exit code 1: the data may be the toy model, but theta is undefined, for the probes do
    not agree at all.

    Args:
        features: shape (n, d).
        labels: two classes, (n,).
        classes: use the examples of these two only.
        policies: those that are compared.
        tolerance: accepted relative loss.
        splits: pairs of probes.
        holdout: share on which they are compared.
        metric: in which probes are compared; isotropic is sharper where features are.
        angle: what theta comes from.
        replicates: of the bootstrap.
        level: coverage of the intervals.
        seed: of splits and bootstrap.

    Examples:
        python -m selection recommend --features x.npy --labels y.npy
        python -m selection recommend --features x.npy --labels digits.npy --classes 3 5 --json
        python -m selection recommend --features x.parquet:vector --labels x.parquet:label \\
            --metric isotropic --policies hard easy random --tolerance 0.02
    """
    check_range("tolerance", tolerance, 1e-6, 100.0)
    check_integer("splits", splits, 1, 10**4)
    check_range("holdout", holdout, 0.0, 1.0, open_low=True, open_high=True)
    check_integer("replicates", replicates, 10, 10**6)
    check_range("level", level, 0.0, 1.0, open_low=True, open_high=True)
    check_integer("seed", seed, 0, 2**62)
    if classes is not None and len(classes) != 2:
        raise ValueError(f"--classes names {len(classes)} classes; it needs two")
    rows = read_array("features", features)
    found_labels, names = read_labels("labels", labels)
    if classes is not None:
        pair = [class_number("--classes", text, names) for text in classes]
        rows, found_labels = _two_classes(rows, found_labels, pair)
    from selection.advice.estimates import estimate_coordinates
    from selection.advice.toy_model import toy_model_advice, toy_model_verdict

    coordinates = estimate_coordinates(
        rows,
        found_labels if names is None else names[found_labels],
        splits=splits,
        holdout=holdout,
        metric=metric,
        angle=angle,
        replicates=replicates,
        level=level,
        seed=seed,
    )
    undefined = not coordinates.defined and toy_model_verdict(coordinates).toy_model
    if undefined:
        found = {"message": UNDEFINED, **_facts(coordinates)}
    else:
        advice = toy_model_advice(
            coordinates,
            policies=policies,
            tolerance=tolerance,
            report=lambda name: print(f"searching policy {name}", file=sys.stderr),
        )
        found = {
            "message": advice.verdict.sentence(),
            "advice": advice.advice,
            "hard": advice.hard,
            "score": advice.score,
            "toy_model": advice.toy_model,
            "measured_error": _finite(advice.measured_error),
            "measured_error_interval": [_finite(end) for end in advice.verdict.interval],
            "predicted_error": advice.predicted_error,
            **_facts(coordinates),
            **_advice(advice),
        }
        if not coordinates.defined:
            found["warnings"].append(UNDEFINED)
    print(json_text(found) if as_json else _text(found))
    return 1 if undefined else 0


def _two_classes(features: Any, labels: Any, pair: list[int]) -> tuple[Any, Any]:
    if len(features) != len(labels):
        raise ValueError(
            f"the arrays have different lengths: features {len(features)}, labels {len(labels)}"
        )
    if pair[0] == pair[1]:
        raise ValueError(f"--classes names class {pair[0]} twice; it needs two")
    for one in pair:
        if not np.any(labels == one):
            raise ValueError(f"class {one} has no example in the labels")
    rows = np.flatnonzero(np.isin(labels, pair))
    return features[rows], labels[rows]


def _facts(found: "Coordinates") -> dict[str, Any]:
    return {
        "examples": found.examples,
        "effective_dimension": found.dimension.value,
        "effective_dimension_stderr": found.dimension.stderr,
        "effective_dimension_plug_in": found.dimension.plug_in,
        "alpha_total": found.alpha_total,
        "alpha_total_interval": list(found.alpha_interval),
        "overlap": found.overlap,
        "trained_on": found.trained_on,
        "theta_part_deg": _degrees(found.theta_part),
        "theta_deg": _degrees(found.theta),
        "theta_deg_interval": [_degrees(end) for end in found.theta_interval],
        "theta_from": found.theta_from,
        "theta_of_overlap_deg": _degrees(found.theta_of_overlap),
        "theta_of_error_deg": _degrees(found.theta_of_error),
        "level": found.level,
        "warnings": list(found.warnings),
    }


def _advice(found: "ToyModelAdvice") -> dict[str, Any]:
    # Where the theory's fraction is not advised, what belongs to it has another name.
    name = "keep_fraction" if found.toy_model else "toy_model_fraction"
    return {
        "policy": found.policy,
        "keep_fraction": found.keep_fraction,
        "toy_model_policy": found.toy_model_policy or None,
        "toy_model_fraction": _finite(found.toy_model_fraction),
        f"{name}_interval": [_finite(end) for end in found.fraction_interval],
        f"{name}_band": [_finite(end) for end in found.band],
        "tolerance": found.tolerance,
        "error": found.error,
        "toy_model_error": _finite(found.toy_model_error),
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
    lines = [found["message"]]
    for name, value in found.items():
        if name == "message":
            continue
        if name == "warnings":
            lines += [f"{'warning':<30} {sentence}" for sentence in value]
        elif name == "policies" and not value:
            continue
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
