"""The advice with every kind of student: what it keeps, and what that truly costs.

    python benchmarks/advice_students.py [--seeds 2] [--only hinge forest] [--out FILE.csv]

Each row is one call of `selection.recommend` on 1,000 training rows, where no other number is
named. The true increase is measured on rows that the call has not seen, 20,000 of a synthetic table
(4,000 of the words) and the rest of a real one, between students of the kept and of all training
rows. Linear students are trained for this by scikit-learn on features standardised over the
training rows. `error` is the standard error of the true increase.
"""

import argparse
import csv
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import LinearSVC

from selection.advice.recommendation import Advice, recommend

TRAIN, FRESH = 1000, 20_000
Table = tuple[Any, np.ndarray, Any, np.ndarray]


def teacher(
    seed: int, classes: int = 2, flip: float = 0.1, threshold: float = 0.0, train: int = TRAIN
) -> Table:
    """A linear teacher in 20 dimensions; a share of the labels is drawn anew."""
    draws = np.random.default_rng(seed)
    x = draws.standard_normal((train + FRESH, 20))
    y = np.argmax(x[:, :classes], axis=1) if classes > 2 else (x[:, 0] > threshold).astype(int)
    again = draws.random(len(y)) < flip
    y[again] = draws.permutation(y)[again]
    return x[:train], y[:train], x[train:], y[train:]


def curved(seed: int) -> Table:
    """A border that is not linear, between features of unequal size."""
    draws = np.random.default_rng(seed)
    x = draws.standard_normal((TRAIN + FRESH, 10)) * np.geomspace(1, 0.1, 10)
    field = x[:, 0] + x[:, 1] ** 2 - 0.5 + 0.3 * draws.standard_normal(len(x))
    y = (field > 0).astype(int)
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


def words(seed: int, train: int = TRAIN) -> Table:
    """Counts of 2,000 words of Zipf's law in texts of 60 words on two subjects."""
    draws = np.random.default_rng(seed)
    size, vocabulary = train + 4000, 2000
    y = draws.integers(0, 2, size)
    law = 1 / np.arange(1, vocabulary + 1)
    tilt = np.exp(0.4 * draws.standard_normal(vocabulary))
    counts = np.stack(
        [
            draws.multinomial(60, (weight := law * (tilt if one else 1 / tilt)) / weight.sum())
            for one in y
        ]
    )
    x = csr_matrix(np.log1p(counts))
    return x[:train], y[:train], x[train:], y[train:]


def real(seed: int, x: Any, y: np.ndarray) -> Table:
    """A random split of a table, at most 1,000 rows to train on and the rest to test."""
    order = np.random.default_rng(seed).permutation(len(y))
    cut = min(TRAIN, int(0.7 * len(y)))
    return x[order[:cut]], y[order[:cut]], x[order[cut:]], y[order[cut:]]


def digits(seed: int, kind: str) -> Table:
    """scikit-learn's digits in classes that a linear student finds hard enough."""
    x, y = load_digits(return_X_y=True)
    return real(seed, x, {"odd": y % 2, "three": y % 3, "eight": (y == 8).astype(int)}[kind])


def cancer(seed: int) -> Table:
    """scikit-learn's breast cancer."""
    return real(seed, *load_breast_cancer(return_X_y=True))


TWO = {
    "teacher": teacher,
    "curved": curved,
    "digits odd": lambda seed: digits(seed, "odd"),
    "cancer": cancer,
}
THREE = {
    "teacher of 3": lambda seed: teacher(seed, 3),
    "digits modulo 3": lambda seed: digits(seed, "three"),
}
RARE = {
    "teacher, 10 %": lambda seed: teacher(seed, flip=0.05, threshold=1.28),
    "teacher, 10 %, 4,000 rows": lambda seed: teacher(seed, 2, 0.05, 1.28, 4000),
    "digit 8": lambda seed: digits(seed, "eight"),
}
FOREST = RandomForestClassifier(50, random_state=0)
SQUARES = make_pipeline(StandardScaler(), PolynomialFeatures(2), LogisticRegression(max_iter=1000))
# What is asked of `recommend`, and the tables on which.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "logistic": ({}, TWO),
    "hinge": ({"student": "hinge"}, TWO),
    "square": ({"student": "square"}, TWO),
    "lam auto": ({"lam": "auto"}, TWO),
    "3 folds": ({"folds": 3}, TWO),
    "10 folds": ({"folds": 10}, TWO),
    "three classes": ({}, THREE),
    "balanced": ({"balanced": True}, RARE),
    "sparse": ({}, {"words": words, "words, 4,000 rows": lambda seed: words(seed, 4000)}),
    "pipeline": ({"student": SQUARES}, {"curved": curved}),
    "forest": ({"student": FOREST}, {"curved": curved, **THREE}),
}


def final(advice: Advice, options: dict[str, Any], x: Any) -> Any:
    """Return an untrained student like those that the advice is about."""
    if not isinstance(options.get("student", ""), str):
        return options["student"]
    varying = int(np.sum(np.ptp(np.asarray(x.todense() if hasattr(x, "nnz") else x), axis=0) > 0))
    ridge = advice.lam * varying
    if advice.student == "hinge":
        model = LinearSVC(
            loss="hinge", C=1 / ridge, intercept_scaling=10, max_iter=10_000, random_state=0
        )
    elif advice.student == "square":
        model = RidgeClassifier(alpha=ridge)
    else:
        model = LogisticRegression(C=1 / ridge, max_iter=10_000)
        if len(advice.classes) > 2:
            model = OneVsRestClassifier(model)
    return make_pipeline(model)


def true_increase(
    advice: Advice, options: dict[str, Any], table: Table
) -> tuple[float, float, float]:
    """Measure the error of all data, its increase by the advice, and that one's standard error."""
    x, y, fresh, truth = table
    linear = isinstance(options.get("student", ""), str)
    if linear:
        scaler = StandardScaler(with_mean=not hasattr(x, "nnz")).fit(x)
        x, fresh = scaler.transform(x), scaler.transform(fresh)
    wrong = [
        final(advice, options, x).fit(x[rows], y[rows]).predict(fresh) != truth
        for rows in (np.arange(len(y)), advice.indices)
    ]
    shares = np.bincount(truth) / len(truth)
    # Of balanced error each class has the same part.
    weight = 1 / (len(shares) * shares[truth]) if advice.balanced else np.ones(len(truth))
    change = weight * (wrong[1].astype(float) - wrong[0])
    error = float(np.mean(weight * wrong[0]))
    return error, float(np.mean(change)), float(np.std(change) / np.sqrt(len(change)))


FIELDS = (
    "case",
    "table",
    "seed",
    "rows",
    "policy",
    "keep_fraction",
    "tolerance",
    "error_all",
    "true_error_all",
    "true_increase",
    "error",
    "seconds",
    "warnings",
)


def summary(rows: list[list[Any]]) -> str:
    """Return a Markdown table with one line for each case."""
    lines = [
        "| case | calls | keep all | median kept | mean true increase | largest, +- | above tol |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(row[0] for row in rows):
        those = [dict(zip(FIELDS, row, strict=True)) for row in rows if row[0] == case]
        worst = max(those, key=lambda one: one["true_increase"])
        above = sum(one["true_increase"] > one["tolerance"] for one in those)
        cells = (
            case,
            len(those),
            sum(one["policy"] == "all" for one in those),
            f"{np.median([one['keep_fraction'] for one in those]):.3g}",
            f"{np.mean([one['true_increase'] for one in those]):.4f}",
            f"{worst['true_increase']:.4f} +- {worst['error']:.4f}",
            above,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Run the cases, and print and write one row for each call."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--out")
    given = parser.parse_args(arguments)
    rows: list[list[Any]] = []
    for case in given.only:
        options, tables = CASES[case]
        for name, make in tables.items():
            for seed in range(given.seeds):
                table = make(seed)
                start = time.perf_counter()
                advice = recommend(table[0], table[1], explain=False, seed=seed, **options)
                seconds = time.perf_counter() - start
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    error, increase, spread = true_increase(advice, options, table)
                measured = (advice.tolerance, advice.error_all, error, increase, spread)
                rows.append(
                    [case, name, seed, len(table[1]), advice.policy, advice.keep_fraction]
                    + [round(one, 4) for one in measured]
                    + [round(seconds, 1), len(advice.warnings)]
                )
                print(*rows[-1], sep="\t", flush=True)
    if given.out:
        with Path(given.out).open("w", newline="") as file:
            csv.writer(file).writerows([FIELDS, *rows])
    print(summary(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
