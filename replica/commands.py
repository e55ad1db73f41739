"""Defines the commands of replica, which solve points and search for the best selection."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from hardset.checks import check_range
from hardset.cli import Choice, Json, Numbers, print_json
from replica.points import (
    NOISE,
    PROBES,
    RANGES,
    Batch,
    Point,
    batches,
    check_parameter,
    grid,
    json_numbers,
    problem_of,
    read_points,
    solve_points,
)
from theory.policy_names import LOSSES, PLAIN_POLICIES

if TYPE_CHECKING:
    from theory.problem import PerceptronProblem

# Columns of a table of points: what was asked, shown where it differs, and the results.
NAMED = ("id", "policy", "probe", "loss", *RANGES)
COLUMNS = ("overlap", "probe_overlap", "margin", "support_fraction", "residual", "status")
PolicyName = Annotated[str, Choice(PLAIN_POLICIES)]
ProbeName = Annotated[str, Choice(PROBES)]
SearchProbe = Annotated[str, Choice(("fixed", "cross-fitted"))]
LossName = Annotated[str, Choice(LOSSES)]


def solve(
    *,
    alpha_total: Numbers | None = None,
    keep_fraction: Numbers | None = None,
    probe: ProbeName | None = None,
    theta_deg: Numbers | None = None,
    alpha_probe: Numbers | None = None,
    policy: PolicyName | None = None,
    lo: Numbers | None = None,
    w: Numbers | None = None,
    redundancy: Numbers | None = None,
    downstream_deg: Numbers | None = None,
    loss: LossName | None = None,
    lam: Numbers | None = None,
    flip: Numbers | None = None,
    noise_sigma: Numbers | None = None,
    noise_temperature: Numbers | None = None,
    folds: Numbers | None = None,
    folds_overlap: Numbers | None = None,
    points: Path | None = None,
    as_json: Json = False,
) -> int:
    """Solve a point, a grid, or a file of points.

    Several values of an option make a grid, the outer product of all lists in the order of the
    options below; the last list varies fastest. The exit code is 1 if a point is not certified.

    A points file is a JSON list of objects such as

      {"alpha_total": 20, "keep_fraction": 0.2, "theta_deg": 10, "policy": "window", "lo": 0.1}

    with the options' names as keys, "_" for "-"; "id" and "note" hold what you like, other keys
    are refused. Three objects have no option: "spectrum" of the inputs, {"kind": "powerlaw",
    "dim", "a", "r", "rv"} or {"eigenvalues", "teacher", "direction"}; "label_steps" {"edges",
    "probabilities"}; "weight" {"scale", "exponent", "clip"} of the policy power. The answer is
    the same list with the results added.

    Args:
        alpha_total: total examples over N, > 0.
        keep_fraction: kept fraction, in (0, 1].
        probe: a probe at a fixed angle (the default), one trained on independent data, one
            trained on the very data that is pruned, or one for each fold of the data.
        theta_deg: angle of a fixed probe to the teacher, 0 to 90 degrees, by default 0.
        alpha_probe: examples over N that an independent probe saw, > 0.
        policy: which examples are kept, by default hard.
        lo: start of the window, a quantile of abs(z).
        w: share of the hardest examples in the mixture.
        redundancy: copies of each example, >= 1, by default 1.
        downstream_deg: angle of the downstream teacher's shift, 0 to 90 degrees, by default 0.
        loss: the student minimises this loss with a ridge; without it, it has the largest margin.
        lam: ridge strength of the loss, >= 0: the sum over the kept + (lam N/2) W.W.
        flip: probability that an observed label is flipped, 0 to 1/2.
        noise_sigma: Gaussian noise on the teacher's field before its sign is taken.
        noise_temperature: temperature of logistic labels.
        folds: folds and probes of a cross-fitted probe, >= 1.
        folds_overlap: product of two such probes' parts beside the teacher, 0 to 1.
        points: a JSON file of points, in the place of all options above.

    Examples:
        python -m replica solve --alpha-total 5 --keep-fraction 0.35 --theta-deg 20
        python -m replica solve --alpha-total 20 --keep-fraction 0.2 --policy window --lo 0.1
        python -m replica solve --alpha-total 5 20 --keep-fraction .1 .3 --probe in-sample
        python -m replica solve --alpha-total 100 --keep-fraction 0.1 --redundancy 5 --json
        python -m replica solve --alpha-total 20 --keep-fraction .2 --flip .1 --loss hinge --lam .1
        python -m replica solve --points points.json --json
    """
    given = {
        "alpha_total": alpha_total,
        "keep_fraction": keep_fraction,
        "theta_deg": theta_deg,
        "alpha_probe": alpha_probe,
        "lo": lo,
        "w": w,
        "redundancy": redundancy,
        "downstream_deg": downstream_deg,
        "lam": lam,
        "flip": flip,
        "noise_sigma": noise_sigma,
        "noise_temperature": noise_temperature,
        "folds": folds,
        "folds_overlap": folds_overlap,
    }
    named = {"probe": probe, "policy": policy, "loss": loss}
    asked = _asked_points(given, named, points, ("alpha_total", "keep_fraction"))
    solved = solve_points(asked, numbered=points is not None)
    if as_json:
        print_json(solved[0] if points is None and len(solved) == 1 else solved)
    else:
        print(_paragraph(solved[0]) if len(solved) == 1 else _rows(solved))
    return 0 if all(point["status"] == "converged" for point in solved) else 1


def _asked_points(
    given: dict[str, Numbers | None],
    named: dict[str, str | None],
    points: Path | None,
    required: tuple[str, ...],
) -> list[Point]:
    """Return the points of a file, or of a grid of options.

    Args:
        given: lists of numbers by option, in the order of the grid's axes.
        named: policy, probe and loss.
        points: the file, or None.
        required: the options that a grid needs.
    """
    axes = {name: values for name, values in given.items() if values is not None}
    if points is not None:
        for name in (*axes, *(name for name, value in named.items() if value)):
            raise ValueError(
                f"{_option(name)} has no effect beside --points, whose file says it all"
            )
        return read_points(points)
    missing = [_option(name) for name in required if name not in axes]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must be given, or a file with --points")
    fixed = {"policy": named["policy"] or "hard", "probe": named["probe"] or "fixed"}
    if named["loss"]:
        fixed["loss"] = named["loss"]
    if fixed["probe"] in ("fixed", "cross-fitted"):
        axes.setdefault("theta_deg", (0.0,))
    axes = {"redundancy": (1.0,), "downstream_deg": (0.0,)} | axes
    return grid({name: axes[name] for name in given if name in axes}, fixed)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _paragraph(point: Point) -> str:
    """Write a point as lines of names and values, and its status as a sentence."""
    from replica.solution import Status

    lines = [f"  {key:<16} {value}" for key, value in point.items()]
    return "\n".join([*lines, f"  {Status[point['status'].upper()].sentence}"])


def _rows(points: list[Point]) -> str:
    """Write points as a table.

    What all points have in common stands above it, and the reasons of failed points below it.
    """
    from replica.solution import Status

    asked = [key for key in dict.fromkeys(key for one in points for key in one) if key in NAMED]
    common = [key for key in asked if all(one.get(key) == points[0].get(key) for one in points)]
    errors = ["error", "observed_error"] if any(_noisy(one) for one in points) else ["error"]
    # A student with a loss has no margin, and another one's norm is the inverse of it.
    renamed = {"margin": "norm"} if any("loss" in one for one in points) else {}
    results = [*errors, *(renamed.get(name, name) for name in COLUMNS)]
    names = [*(key for key in asked if key not in common), *results]
    cells = [names, *([_cell(one.get(name)) for name in names] for one in points)]
    widths = [max(map(len, column)) + 2 for column in zip(*cells, strict=True)]
    lines = [f"  {key:<16} {points[0][key]}" for key in common if points[0].get(key) is not None]
    lines += ["".join(map(str.rjust, row, widths)) for row in cells]
    found = dict.fromkeys(one["status"] for one in points if one["status"] != "converged")
    return "\n".join([*lines, *(f"  {one}: {Status[one.upper()].sentence}" for one in found)])


def _noisy(point: Point) -> bool:
    return any(point.get(key) for key in ("flip", *NOISE, "label_steps"))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def optimal(
    *,
    alpha_total: Numbers | None = None,
    target_error: Numbers | None = None,
    keep_fraction: Numbers | None = None,
    tolerance: Numbers | None = None,
    weight: bool = False,
    signed: bool = False,
    probe: SearchProbe = "fixed",
    theta_deg: float = 0.0,
    policy: PolicyName = "hard",
    lo: float | None = None,
    w: float | None = None,
    loss: LossName | None = None,
    lam: float | None = None,
    lam_bounds: tuple[float, float] | None = None,
    flip: float | None = None,
    noise_sigma: float | None = None,
    noise_temperature: float | None = None,
    folds: float | None = None,
    folds_overlap: float | None = None,
    as_json: Json = False,
) -> int:
    """Find the best fraction, window or weight, or the data that a target error takes.

    With --alpha-total alone: the smallest fraction of least error under the policy; with
    --tolerance, the smallest one whose error is at most (1 + tolerance) times that of all data.
    With a --keep-fraction too: the best window of abs(z) ranks, or with --weight the best weight
    w(z) found. With --target-error: the alpha_total that the policy needs at --keep-fraction. The
    exit code is 1 if an answer is missing.

    Args:
        alpha_total: total examples over N, > 0.
        target_error: errors to reach, in (0, 1/2).
        keep_fraction: kept fraction, in (0, 1], with --target-error by default 1.
        tolerance: accepted relative loss against all data.
        weight: the best weight w(z) instead of the best window.
        signed: the best window of y z, y the observed label, instead of abs(z).
        probe: a probe at a fixed angle, or one for each fold of the data.
        theta_deg: angle of the probe to the teacher, 0 to 90 degrees.
        policy: which examples are kept.
        lo: start of the window, a quantile of abs(z).
        w: share of the hardest examples in the mixture.
        loss: the student minimises this loss with a ridge; without it, it has the largest margin.
        lam: ridge strength of the loss, >= 0: the sum over the kept + (lam N/2) W.W.
        lam_bounds: a range of lam instead: at every point the best one in it.
        flip: probability that an observed label is flipped, 0 to 1/2.
        noise_sigma: Gaussian noise on the teacher's field before its sign is taken.
        noise_temperature: temperature of logistic labels.
        folds: folds and probes of a cross-fitted probe, >= 1.
        folds_overlap: product of two such probes' parts beside the teacher, 0 to 1.

    Examples:
        python -m replica optimal --alpha-total 10 100 --policy hard
        python -m replica optimal --alpha-total 20 --theta-deg 20 --tolerance 0.01 0.1 --json
        python -m replica optimal --alpha-total 20 --theta-deg 20 --keep-fraction 0.2
        python -m replica optimal --alpha-total 20 --keep-fraction 0.2 --theta-deg 20 --weight
        python -m replica optimal --target-error 0.01 --keep-fraction 0.3 --theta-deg 10
        python -m replica optimal --alpha-total 20 --flip .1 --loss hinge --lam-bounds .001 10
    """
    if (alpha_total is None) == (target_error is None):
        raise ValueError("exactly one of --alpha-total and --target-error must be given")
    fixed = keep_fraction is not None
    searched = target_error is None and fixed
    for option, there, used in (
        ("--tolerance", tolerance is not None, not fixed and not target_error),
        ("--weight", weight, searched),
        ("--signed", signed, searched and not weight),
        ("--lam-bounds", lam_bounds is not None, not weight),
        ("--policy", policy != "hard", not searched),
        ("--lo", lo is not None, not searched),
        ("--w", w is not None, not searched),
    ):
        if there and not used:
            raise ValueError(f"{option} has no effect on what is asked for (see --help)")
    given = {
        "theta_deg": theta_deg,
        "lo": lo,
        "w": w,
        "lam": lam,
        "flip": flip,
        "noise_sigma": noise_sigma,
        "noise_temperature": noise_temperature,
        "folds": folds,
        "folds_overlap": folds_overlap,
    }
    said, setting = _setting(policy, probe, loss, lam_bounds, given)
    for name, values in (("alpha_total", alpha_total), ("keep_fraction", keep_fraction)):
        if values is not None:
            check_parameter(name, values)
    if tolerance is not None:
        check_range("tolerance", tolerance, 1e-6, 100.0)
    if target_error is not None:
        check_range("target_error", target_error, 0.0, 0.5, open_low=True, open_high=True)
    # Imported where the arguments are known to be right: JAX takes a second to load.
    from replica.optimal.fraction import optimal_fraction, sufficient_fraction
    from replica.optimal.policy import optimal_policy
    from replica.optimal.volumes import required_data
    from replica.optimal.window import optimal_window

    problem = problem_of(setting)
    kept, others = problem.policy, _others(problem, lam_bounds)
    rows = np.asarray(target_error if alpha_total is None else alpha_total)[:, None]
    found: Any
    asked: dict[str, Any]
    if target_error is not None:
        fractions = np.asarray(keep_fraction or (1.0,))
        asked = {"target_error": rows, "keep_fraction": fractions}
        found = required_data(rows, fractions, policy=kept, **others)
    elif keep_fraction is not None:
        asked = {"alpha_total": rows, "keep_fraction": np.asarray(keep_fraction)}
        if weight:
            del others["lam_bounds"]
            found = optimal_policy(rows, asked["keep_fraction"], **others)
        else:
            found = optimal_window(rows, asked["keep_fraction"], signed=signed, **others)
    elif tolerance is not None:
        asked = {"alpha_total": rows, "tolerance": np.asarray(tolerance)}
        found = sufficient_fraction(rows, asked["tolerance"], policy=kept, **others)
    else:
        asked = {"alpha_total": rows}
        found = optimal_fraction(rows, policy=kept, **others)
    if searched:
        del said["policy"]
    answers = _answers(asked | said, found)
    _print_answers(answers, as_json)
    return int(any(one["status"] in ("unreachable", "failed") for one in answers))


def frontier(
    *,
    alpha_kept: Numbers,
    alpha_total: Numbers | None = None,
    probe: SearchProbe = "fixed",
    theta_deg: float = 0.0,
    policy: PolicyName = "hard",
    lo: float | None = None,
    w: float | None = None,
    loss: LossName | None = None,
    lam: float | None = None,
    lam_bounds: tuple[float, float] | None = None,
    flip: float | None = None,
    noise_sigma: float | None = None,
    noise_temperature: float | None = None,
    folds: float | None = None,
    folds_overlap: float | None = None,
    as_json: Json = False,
) -> int:
    """Find the least error that a number of kept examples can reach.

    The least error is taken over the volumes of data to choose them from.

    For every alpha_kept: the fraction of alpha_total = alpha_kept/keep_fraction whose student has
    the least error, that error, and the exponent d log e/d log alpha_kept. The exit code is 1 if an
    answer is missing.

    Args:
        alpha_kept: kept examples over N, > 0.
        alpha_total: the volumes to choose from, over N; by default any up to 1000 alpha_kept.
        probe: a probe at a fixed angle, or one for each fold of the data.
        theta_deg: angle of the probe to the teacher, 0 to 90 degrees.
        policy: which examples are kept.
        lo: start of the window, a quantile of abs(z).
        w: share of the hardest examples in the mixture.
        loss: the student minimises this loss with a ridge; without it, it has the largest margin.
        lam: ridge strength of the loss, >= 0: the sum over the kept + (lam N/2) W.W.
        lam_bounds: a range of lam instead: at every point the best one in it.
        flip: probability that an observed label is flipped, 0 to 1/2.
        noise_sigma: Gaussian noise on the teacher's field before its sign is taken.
        noise_temperature: temperature of logistic labels.
        folds: folds and probes of a cross-fitted probe, >= 1.
        folds_overlap: product of two such probes' parts beside the teacher, 0 to 1.

    Examples:
        python -m replica frontier --alpha-kept 1 2 5 10
        python -m replica frontier --alpha-kept 5 --theta-deg 20 --policy window --lo 0.1 --json
        python -m replica frontier --alpha-kept 5 --theta-deg 20 --alpha-total 5 10 20 50
    """
    given = {
        "theta_deg": theta_deg,
        "lo": lo,
        "w": w,
        "lam": lam,
        "flip": flip,
        "noise_sigma": noise_sigma,
        "noise_temperature": noise_temperature,
        "folds": folds,
        "folds_overlap": folds_overlap,
    }
    said, setting = _setting(policy, probe, loss, lam_bounds, given)
    check_range("alpha_kept", alpha_kept, 0.0, np.inf, open_low=True)
    if alpha_total is not None:
        check_parameter("alpha_total", alpha_total)
    # Imported where the arguments are known to be right: JAX takes a second to load.
    from replica.optimal.volumes import frontier as search

    problem = problem_of(setting)
    others = _others(problem, lam_bounds)
    found = search(np.asarray(alpha_kept), policy=problem.policy, volumes=alpha_total, **others)
    answers = _answers({"alpha_kept": alpha_kept, **said}, found)
    _print_answers(answers, as_json)
    return int(any(one["status"] == "failed" for one in answers))


def optimal_lam(
    *,
    alpha_total: Numbers | None = None,
    keep_fraction: Numbers | None = None,
    loss: LossName | None = None,
    lam_bounds: tuple[float, float] = (1e-6, 1e6),
    probe: ProbeName | None = None,
    theta_deg: Numbers | None = None,
    alpha_probe: Numbers | None = None,
    policy: PolicyName | None = None,
    lo: Numbers | None = None,
    w: Numbers | None = None,
    redundancy: Numbers | None = None,
    downstream_deg: Numbers | None = None,
    flip: Numbers | None = None,
    noise_sigma: Numbers | None = None,
    noise_temperature: Numbers | None = None,
    folds: Numbers | None = None,
    folds_overlap: Numbers | None = None,
    points: Path | None = None,
    as_json: Json = False,
) -> int:
    """Find the best ridge strength of a point, a grid, or a file of points.

    Several values of an option make a grid, as in solve, whose points files it takes; their lam
    has no effect. The status at_range_end says that the best lam is one of the bounds. The exit
    code is 1 if an answer is missing.

    Args:
        alpha_total: total examples over N, > 0.
        keep_fraction: kept fraction, in (0, 1].
        loss: the loss that the student minimises with a ridge.
        lam_bounds: range of lam that is searched, > 0.
        probe: a probe at a fixed angle (the default), one trained on independent data, or one for
            each fold of the data.
        theta_deg: angle of a fixed probe to the teacher, 0 to 90 degrees, by default 0.
        alpha_probe: examples over N that an independent probe saw, > 0.
        policy: which examples are kept, by default hard.
        lo: start of the window, a quantile of abs(z).
        w: share of the hardest examples in the mixture.
        redundancy: copies of each example, >= 1, by default 1.
        downstream_deg: angle of the downstream teacher's shift, 0 to 90 degrees, by default 0.
        flip: probability that an observed label is flipped, 0 to 1/2.
        noise_sigma: Gaussian noise on the teacher's field before its sign is taken.
        noise_temperature: temperature of logistic labels.
        folds: folds and probes of a cross-fitted probe, >= 1.
        folds_overlap: product of two such probes' parts beside the teacher, 0 to 1.
        points: a JSON file of points, in the place of all options above but lam_bounds.

    Examples:
        python -m replica optimal-lam --alpha-total 20 --keep-fraction 1 --loss hinge --flip .1
        python -m replica optimal-lam --points points.json --lam-bounds .001 10 --json
    """
    given = {
        "alpha_total": alpha_total,
        "keep_fraction": keep_fraction,
        "theta_deg": theta_deg,
        "alpha_probe": alpha_probe,
        "lo": lo,
        "w": w,
        "redundancy": redundancy,
        "downstream_deg": downstream_deg,
        "flip": flip,
        "noise_sigma": noise_sigma,
        "noise_temperature": noise_temperature,
        "folds": folds,
        "folds_overlap": folds_overlap,
    }
    named = {"probe": probe, "policy": policy, "loss": loss}
    check_parameter("lam", lam_bounds)
    if points is None and loss is None:
        raise ValueError("--loss must be given: the max-margin student has no ridge")
    asked = _asked_points(given, named, points, ("alpha_total", "keep_fraction"))
    for point in asked:
        if point.get("loss"):
            point["lam"] = lam_bounds[0]  # a stand-in

    def work(problem: "PerceptronProblem") -> dict[str, list[Any]]:
        # Imported where the arguments are known to be right: JAX takes a second to load.
        from replica.optimal.ridge import optimal_lam as search
        from replica.optimal.search import SearchStatus

        return _named(search(problem, lam_bounds), SearchStatus)

    solved = solve_points(asked, numbered=points is not None, work=work)
    _print_answers(solved, as_json)
    return int(any(one["status"] == "failed" for one in solved))


def separability(
    *,
    keep_fraction: Numbers | None = None,
    probe: ProbeName | None = None,
    theta_deg: Numbers | None = None,
    alpha_probe: Numbers | None = None,
    policy: PolicyName | None = None,
    lo: Numbers | None = None,
    w: Numbers | None = None,
    redundancy: Numbers | None = None,
    flip: Numbers | None = None,
    noise_sigma: Numbers | None = None,
    noise_temperature: Numbers | None = None,
    folds: Numbers | None = None,
    folds_overlap: Numbers | None = None,
    points: Path | None = None,
    as_json: Json = False,
) -> int:
    """Find the volume of data up to which a hyperplane separates the kept examples.

    Below it a max-margin student exists. Several values of an option make a grid, as in solve,
    whose points files it takes; their volume, loss and spectrum have no effect. The status
    unbounded says that any volume can be separated, as without label noise.

    Args:
        keep_fraction: kept fraction, in (0, 1].
        probe: a probe at a fixed angle (the default), one trained on independent data, or one for
            each fold of the data.
        theta_deg: angle of a fixed probe to the teacher, 0 to 90 degrees, by default 0.
        alpha_probe: examples over N that an independent probe saw, > 0.
        policy: which examples are kept, by default hard.
        lo: start of the window, a quantile of abs(z).
        w: share of the hardest examples in the mixture.
        redundancy: copies of each example, >= 1, by default 1.
        flip: probability that an observed label is flipped, 0 to 1/2.
        noise_sigma: Gaussian noise on the teacher's field before its sign is taken.
        noise_temperature: temperature of logistic labels.
        folds: folds and probes of a cross-fitted probe, >= 1.
        folds_overlap: product of two such probes' parts beside the teacher, 0 to 1.
        points: a JSON file of points, in the place of all options above.

    Examples:
        python -m replica separability --keep-fraction .2 1 --flip .05 .1 .2 --theta-deg 20
        python -m replica separability --points points.json --json
    """
    given = {
        "keep_fraction": keep_fraction,
        "theta_deg": theta_deg,
        "alpha_probe": alpha_probe,
        "lo": lo,
        "w": w,
        "redundancy": redundancy,
        "flip": flip,
        "noise_sigma": noise_sigma,
        "noise_temperature": noise_temperature,
        "folds": folds,
        "folds_overlap": folds_overlap,
    }
    named = {"probe": probe, "policy": policy, "loss": None}
    asked = _asked_points(given, named, points, ("keep_fraction",))
    for point in asked:
        point.setdefault("alpha_total", 1.0)  # a stand-in

    def work(problem: "PerceptronProblem") -> dict[str, list[Any]]:
        # Imported where the arguments are known to be right: JAX takes a second to load.
        from replica.optimal.separability import separability_threshold

        found = separability_threshold(problem)
        volumes = np.asarray(found.alpha_total)
        kinds = np.where(np.isinf(volumes), "unbounded", "found")
        return {
            "alpha_total": json_numbers(volumes),
            "alpha_kept": json_numbers(found.alpha_kept),
            "status": np.where(np.isnan(volumes), "invalid", kinds).tolist(),
        }

    solved = solve_points(asked, numbered=points is not None, work=work)
    _print_answers(solved, as_json)
    return int(any(one["status"] == "invalid" for one in solved))


def _named(found: Any, kinds: Any) -> dict[str, list[Any]]:
    """Return the fields of a search's result as columns, the status by name."""
    columns: dict[str, list[Any]] = {
        field.name: np.asarray(getattr(found, field.name)).tolist()
        for field in dataclasses.fields(found)
    }
    columns["status"] = [kinds(int(status)).name.lower() for status in columns["status"]]
    return columns


def lossless(*, alpha_total: Numbers, redundancy: float = 1.0, as_json: Json = False) -> int:
    """Find the fraction that can be kept without loss, given an in-sample probe.

    A max-margin probe trained on all the data ranks them, ties at its margin by the dual variable.
    Keeping the lossless fraction of them keeps all its support vectors: the student is the probe.
    Exit code 1 says that an answer is missing.

    Args:
        alpha_total: total examples over N, > 0.
        redundancy: copies of each example, >= 1.

    Examples:
        python -m replica lossless --alpha-total 2 5 10 20
        python -m replica lossless --alpha-total 100 --redundancy 10 --json
    """
    check_parameter("alpha_total", alpha_total)
    check_parameter("redundancy", redundancy)
    # Imported where the arguments are known to be right: JAX takes a second to load.
    from replica.in_sample.solver import lossless_fraction

    distinct = np.divide(alpha_total, redundancy)
    found = np.asarray(lossless_fraction(distinct))
    answers = [
        {
            "alpha_total": alpha,
            "redundancy": redundancy,
            "lossless_fraction": float(fraction),
            "support_over_dim": alpha / redundancy * float(fraction),
        }
        for alpha, fraction in zip(alpha_total, found, strict=True)
    ]
    _print_answers(answers, as_json)
    return 0 if np.all(np.isfinite(found)) else 1  # floating point ends before 1e308


def _setting(
    policy: str,
    probe: str,
    loss: str | None,
    lam_bounds: tuple[float, float] | None,
    given: dict[str, float | None],
) -> tuple[dict[str, Any], Batch]:
    """Check what all points of a search have in common, before JAX is loaded.

    Returns:
        What was said, for the answers, and the batch of one point that says it. Its volume and
        fraction are stand-ins.
    """
    options: dict[str, Any] = {"policy": policy, "probe": probe, "loss": loss, **given}
    said = {name: value for name, value in options.items() if value is not None}
    point = {"alpha_total": 1.0, "keep_fraction": 1e-9, **said}
    if lam_bounds is not None:
        check_parameter("lam", lam_bounds)
        if "lam" in said:
            raise ValueError("--lam has no effect beside --lam-bounds, in which it is searched")
        if loss is None:
            raise ValueError("--lam-bounds needs a --loss: the max-margin student has no ridge")
        point["lam"] = lam_bounds[0]
        said["lam_bounds"] = list(lam_bounds)
    return said, batches([point], numbered=False)[0]


def _others(problem: "PerceptronProblem", lam_bounds: tuple[float, float] | None) -> dict[str, Any]:
    """Return what a search takes beside volume, fraction and policy."""
    return {
        "probe": problem.probe,
        "student": problem.student,
        "labels": problem.labels,
        "lam_bounds": lam_bounds,
    }


def _answers(asked: dict[str, Any], found: Any) -> list[dict[str, Any]]:
    """Make a record of each entry of the arrays.

    The status is given by name and as a sentence.
    """
    from replica.optimal.search import SearchStatus

    columns = asked | {
        field.name: getattr(found, field.name) for field in dataclasses.fields(found)
    }
    # The best weight of each answer lists only as many intervals as it has.
    ranks, fields = columns.pop("ranks", None), columns.pop("fields", None)
    shape = np.shape(found.status)
    # What is said of all answers stays as it is.
    same = {name: value for name, value in columns.items() if isinstance(value, str | list)}
    columns = {name: value for name, value in columns.items() if name not in same}
    if "lam" in columns and np.all(np.isnan(columns["lam"])):
        del columns["lam"]  # of max-margin students
    lists = [np.broadcast_to(column, shape).ravel().tolist() for column in columns.values()]
    answers = [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
    for answer, index in zip(answers, np.ndindex(shape), strict=True):
        status = SearchStatus(answer["status"])
        answer |= same | {"status": status.name.lower(), "sentence": status.sentence}
        if ranks is not None and fields is not None:
            kept = ranks[index][:, 1] > ranks[index][:, 0]
            answer["ranks"] = ranks[index][kept].tolist()
            answer["abs_z"] = fields[index][kept].tolist()
    return answers


def _print_answers(answers: list[dict[str, Any]], as_json: bool) -> None:
    """Print answers as a JSON list, or as paragraphs of names and values."""
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        for name, value in answer.items():
            shown = f"{value:.9g}" if isinstance(value, float) else value
            print(f"  {name:<16} {shown}")
        print()
