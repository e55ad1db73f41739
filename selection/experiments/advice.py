"""Asks for advice on the training rows of tables, and measures it on held-out rows.

The students of the held-out rows are scikit-learn's, which shares no code with those that the
advice was tested with.
"""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.checks import require
from hardset.cli import check_output_folder
from hardset.listing import read_record, write_record
from selection.advice.estimates import estimate_coordinates
from selection.advice.explanation import predict
from selection.advice.recommendation import Advice, Curve, measure_curve, recommend
from selection.advice.students import RegularisedStudents
from selection.advice.table_estimates import estimate
from selection.advice.toy_model import toy_model_advice
from selection.advice.verdict import Trial
from selection.experiments.advice_results import FITTED, PATHS
from selection.experiments.datasets import Task
from selection.experiments.plans import TablePlan, check_table_plan
from selection.experiments.runs import claim_plan, record
from selection.experiments.tables import TABLES, Split, installed, load_table, split_table
from selection.methods.ranking import CCS, HardestFirst
from selection.pool import Pool, Scores
from selection.scoring.training import el2n, forgetting

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Record = dict[str, Any]

CUTOFF = 0.1  # of CCS, as in the other experiments
# Of the networks that score: as in the plans that compare methods.
NETWORKS, EPOCHS, HIDDEN = 3, 15, 128


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Trains scikit-learn's student on some training rows and tries it on the held-out ones.

    Attributes:
        features: standardised, of the training rows, shape (n, d).
        labels: 0 or 1, shape (n,).
        test_features: shape (m, d).
        test_labels: shape (m,).
    """

    features: Floats
    labels: Integers
    test_features: Floats
    test_labels: Integers

    @classmethod
    def of(cls, split: Split) -> "HeldOut":
        """Standardise a split by its training rows."""
        features, test_features = split.standardised()
        return cls(features, split.labels, test_features, split.test_labels)

    def wrong(self, kept: Integers) -> NDArray[np.bool_]:
        """Say which held-out rows a student of the kept rows gets wrong, shape (m,).

        It minimises the sum of the logistic losses and half the weights' square, with an intercept
        that is free. A single class among the kept rows is what such a student always says.
        """
        classes = np.unique(self.labels[kept])
        if len(classes) == 1:
            return np.asarray(self.test_labels != classes[0])
        # Newton's steps are scikit-learn's most exact; 1e-8 is far below what changes a row.
        student = require("sklearn.linear_model").LogisticRegression(
            C=1.0, solver="newton-cholesky", tol=1e-8, max_iter=200
        )
        student.fit(self.features[kept], self.labels[kept])
        return np.asarray(student.predict(self.test_features) != self.test_labels)


def run_tables(
    plan: TablePlan, folder: str | Path, *, advance: Callable[[str], object] = lambda text: None
) -> list[Record]:
    """Try the advice on every split of the tables whose package is installed.

    The theory is asked on the first split of each.

    Args:
        plan: which tables, and how many splits of each.
        folder: where finished parts are kept, one file a table and split; a rerun does what is
            missing.
        advance: called with a word on each finished part.

    Returns:
        A record of each part, see `try_advice`.

    Raises:
        ValueError: an unknown table, or a folder of another plan.
        OSError: the folder cannot be written.
    """
    check_table_plan(plan)
    where = check_output_folder(folder)
    claim = claim_plan(where, plan.parameters())
    claim.check()
    claim.write()
    records = []
    for name in plan.tables:
        if not installed(TABLES[name].package):
            continue
        table = None
        for seed in range(plan.splits):
            path = where / f"{name}-{seed}.json"
            if path.exists():
                found = _finished(path)
            else:
                table = table or load_table(name)
                found = try_advice(split_table(table, seed), seed, explained=seed == 0)
                found |= {"table": name, "package": table.source.package, "split": seed}
                write_record(path, found)
            records.append(found)
            advance(f"{name}, split {seed}")
    return records


def _finished(path: Path) -> Record:
    try:
        return read_record(path)
    except ValueError as error:
        raise ValueError(f"{error}; delete it, and it is computed again") from None


def try_advice(split: Split, seed: int, *, explained: bool = True) -> Record:
    """Ask for advice on the training rows, and measure it on the held-out rows.

    Args:
        split: of a table.
        seed: of the advice, the networks and what is kept at random.
        explained: whether the theory is asked, too, which takes longer than all the rest.

    Returns:
        A record that JSON can hold:

        - train, held_out, columns: the sizes;
        - error_all: held-out error of the student of all training rows;
        - advice: what `recommend` said with its defaults, in the names of `Advice`;
        - curve: each policy's cross-validated and held-out increase at every fraction;
        - choices: what each way of choosing keeps, and what that costs on the held-out rows;
        - explanation: the errors that the theory predicts beside those of cross validation, or
          None.
    """
    # One table and one set of options: the finished work is shared.
    store: MutableMapping[str, NDArray[Any]] = {}
    features, labels = split.features, split.labels
    options: dict[str, Any] = {"seed": seed, "store": store}
    curve = measure_curve(features, labels, policies=PATHS, **options)
    advice = recommend(features, labels, explain=False, **options)
    alone = recommend(features, labels, policies=("random",), explain=False, **options)
    students = RegularisedStudents(features, labels)
    trial = Trial(students, labels, folds=curve.folds, balanced=False, **options)
    tried = HeldOut.of(split)
    everything = tried.wrong(np.arange(len(labels)))

    def cost(kept: Integers) -> dict[str, float]:
        """Measure the increase of the held-out error, and its standard error."""
        change = tried.wrong(kept).astype(np.float64) - everything
        deviation = np.sqrt(np.var(change, ddof=1) / len(change))
        return {"kept": len(kept), "increase": float(change.mean()), "stderr": float(deviation)}

    chosen = {"advice": (advice.policy, advice.keep_fraction, advice.indices)}
    chosen["random, certified"] = (alone.policy, alone.keep_fraction, alone.indices)
    chosen["search without a bound"] = _searched(curve, trial)
    chosen |= _toy_model(split, trial, seed)
    chosen |= _by_score(split, trial, advice, seed)
    return {
        "train": len(labels),
        "held_out": len(split.test_labels),
        "columns": features.shape[1],
        "error_all": float(everything.mean()),
        "advice": {
            "policy": advice.policy,
            "keep_fraction": advice.keep_fraction,
            "tolerance": advice.tolerance,
            "error_all": advice.error_all,
            "bound": None if advice.policy == "all" else advice.bound,
            "rows_needed": advice.rows_needed,
        },
        "curve": [
            {
                "policy": one.policy,
                "keep_fraction": one.keep_fraction,
                "validated": one.increase,
                "bound": one.bound,
                **cost(trial.handed_over(one.policy, one.keep_fraction)),
            }
            for one in curve.curve
        ],
        "choices": [
            {"name": name, "policy": policy, "keep_fraction": fraction, **cost(kept)}
            for name, (policy, fraction, kept) in chosen.items()
        ],
        "explanation": _explained(students, trial, curve, seed) if explained else None,
    }


Choice = tuple[str, float, Integers]


def _all(trial: Trial) -> Choice:
    return "all", 1.0, np.arange(len(trial.codes))


def _searched(curve: Curve, trial: Trial) -> Choice:
    """Choose the smallest fraction whose cross-validated error is within the tolerance."""
    within = [
        one
        for one in curve.curve
        if one.policy in ("hard", "mixture") and one.increase <= curve.tolerance
    ]
    if not within:
        return _all(trial)
    best = min(within, key=lambda one: (one.keep_fraction, one.increase))
    kept = trial.handed_over(best.policy, best.keep_fraction)
    return best.policy, best.keep_fraction, kept


def _toy_model(split: Split, trial: Trial, seed: int) -> Mapping[str, Choice]:
    """Ask the toy model, as version 0.1 did, and with its later verdict.

    Where it has no angle, or no answer, all rows are kept.
    """
    features, _ = split.standardised()
    names = "version 0.1", "version 0.1 and its verdict"
    try:
        advice = toy_model_advice(estimate_coordinates(features, split.labels, seed=seed))
    except ValueError:
        return {name: _all(trial) for name in names}
    asked = (
        (advice.toy_model_policy, advice.toy_model_fraction),
        (advice.policy, advice.keep_fraction),
    )
    return {
        name: _all(trial)
        if policy in ("", "all")
        else (policy, fraction, trial.handed_over(policy, fraction))
        for name, (policy, fraction) in zip(names, asked, strict=True)
    }


def _by_score(split: Split, trial: Trial, advice: Advice, seed: int) -> Mapping[str, Choice]:
    """Keep as many rows as the advice does, by scores and methods of the literature."""
    fraction, budget = advice.keep_fraction, len(advice.indices)
    names = "EL2N of the student", "EL2N", "forgetting", "CCS"
    if advice.policy == "all":
        return {name: _all(trial) for name in names}
    inputs = split.standardised()[0].astype(np.float32)
    rows, labels = np.arange(len(inputs)), split.labels
    task = Task(inputs, labels, rows, inputs[:0], labels[:0], 2)
    networks = [1000 * (seed + 1) + number for number in range(NETWORKS)]
    dynamics = record(task, networks, epochs=EPOCHS, hidden=HIDDEN).dynamics()

    def hardest(scores: Scores) -> Integers:
        return HardestFirst().select(Pool.of(scores=scores), budget, seed).indices

    by_error = el2n(dynamics)
    covering = CCS(cutoff=CUTOFF)
    found = {
        # The size of the error p - y grows with the margin to the wrong side.
        names[0]: trial.handed_over("hard-signed", fraction),
        names[1]: hardest(by_error),
        names[2]: hardest(forgetting(dynamics)),
        names[3]: covering.select(Pool.of(scores=by_error), budget, seed).indices,
    }
    return {name: ("", fraction, np.asarray(kept)) for name, kept in found.items()}


def _explained(students: RegularisedStudents, trial: Trial, curve: Curve, seed: int) -> Record:
    """Predict some of the errors that cross validation measured; None where there is no answer."""
    measured = {
        policy: [curve.error_all if f == 1 else _error(curve, policy, f) for f in FITTED]
        for policy in PATHS
    }
    try:
        found = estimate(students, trial.codes, trial.values, folds=trial.folds, seed=seed)
        errors, _ = predict(found, trial.values, folds=trial.folds, keep_fraction=FITTED)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        errors = {policy: np.full(len(FITTED), np.nan) for policy in PATHS}
    predicted = {
        policy: [float(one) if np.isfinite(one) else None for one in errors[policy]]
        for policy in PATHS
    }
    return {"keep_fraction": list(FITTED), "predicted": predicted, "measured": measured}


def _error(curve: Curve, policy: str, keep_fraction: float) -> float:
    (found,) = (
        one for one in curve.curve if (one.policy, one.keep_fraction) == (policy, keep_fraction)
    )
    return found.error
