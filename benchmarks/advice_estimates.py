"""The theory's part of the advice against teacher-student data whose truth is known.

    python benchmarks/advice_estimates.py estimates [--draws 60]
    python benchmarks/advice_estimates.py curve [--draws 10]
    python benchmarks/advice_estimates.py tables

`estimates` prints, for each setting, what `selection.advice.table_estimates` finds beside the
truth, and how often its 90 % intervals hold it. `curve` trains students on the hardest rows by
probes of three kinds, and compares them with the theory at the true numbers. `tables` prints what
the theory predicts of the first split of each installed table beside what was measured, as CSV.
Students are those of scikit-learn's LogisticRegression with C = 1, which share no code with the
estimates.
"""

import argparse
import itertools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import replica
from selection.advice.explanation import predict
from selection.advice.folds import fold_numbers
from selection.advice.paths import kept_rows
from selection.advice.students import RegularisedStudents
from selection.advice.table_estimates import estimate
from selection.advice.verdict import Trial
from selection.experiments.tables import TABLES, installed, load_table, split_table
from theory import ERM, CrossFitted, FixedAngle, Flip, Mixture, PerceptronProblem

Floats = NDArray[np.float64]
FOLDS = 5
PARTS = (0.5, 0.25, 0.125, 0.06)
CURVE = ((0.5, "hard"), (0.25, "hard"), (0.125, "hard"), (0.06, "hard"), (0.25, "mixture"))


class Setting(NamedTuple):
    """Teacher-student data: n rows in N dimensions, spectrum j^-decay, teacher, label noise."""

    n: int
    dim: int
    decay: float
    flip: float
    sigma: float


class Truth(NamedTuple):
    """A drawn population, in the units of the table's columns."""

    covariance: Floats
    teacher: Floats
    eigenvalues: Floats
    shares: Floats


class Students(RegularisedStudents):
    """Trains scikit-learn's logistic regression on parts of a table."""

    def weights(self, train):  # type: ignore[no-untyped-def]
        """Return W and b of each part."""
        W, b = np.zeros((len(train), 1, self.design.shape[1])), np.zeros((len(train), 1))
        for place, rows in enumerate(train):
            fit = LogisticRegression(solver="newton-cholesky", tol=1e-8)
            fit.fit(self.design[rows], self._labels[rows])
            W[place, 0], b[place, 0] = fit.coef_[0], fit.intercept_[0]
        return W, b


def draw(setting: Setting, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64], Truth]:
    """Draw rows, labels and their truth; eigenvectors do not lie along the columns."""
    c = np.arange(1, setting.dim + 1.0) ** -setting.decay
    turn, _ = np.linalg.qr(rng.standard_normal((setting.dim, setting.dim)))
    covariance = (turn * c) @ turn.T
    scale = 1 / np.sqrt(np.diag(covariance))
    covariance = covariance * scale[:, None] * scale
    teacher = (turn @ rng.standard_normal(setting.dim)) / scale
    teacher /= np.sqrt(teacher @ covariance @ teacher)
    x = rng.standard_normal((setting.n, setting.dim)) @ np.linalg.cholesky(covariance).T
    y = x @ teacher + setting.sigma * rng.standard_normal(setting.n) > 0
    y ^= rng.random(setting.n) < setting.flip
    found, vectors = np.linalg.eigh(covariance)
    shares = found * (vectors.T @ teacher) ** 2
    truth = Truth(covariance, teacher, found[::-1] / found.mean(), shares[::-1])
    return x, y.astype(np.int64), truth


def angle(weights: Floats, truth: Truth) -> float:
    """Return the angle of a student to the teacher, in degrees."""
    norm = np.sqrt(weights @ truth.covariance @ weights)
    return float(np.rad2deg(np.arccos(weights @ truth.covariance @ truth.teacher / norm)))


def one_estimate(setting: Setting, seed: int) -> list[float]:
    """Return what is true of one draw, what was found, and whether the intervals hold it."""
    rng = np.random.default_rng([seed, setting.n, setting.dim])
    x, y, truth = draw(setting, rng)
    students = Students(x, y)
    number = fold_numbers(y, FOLDS, rng)
    train = [np.flatnonzero(number != fold) for fold in range(FOLDS)]
    W, b = students.weights(train)
    values = np.empty(setting.n)
    for fold in range(FOLDS):
        left = number == fold
        values[left] = students.design[left] @ W[fold, 0] + b[fold, 0]
    angles = [angle(weights / x.std(axis=0), truth) for weights in W[:, 0]]
    theta, found = float(np.mean(angles)), estimate(students, y, values, seed=seed)
    low, high = np.rad2deg(found.theta_interval)
    quarter = setting.dim // 4
    level = 0.05 + 1 / setting.n
    sums = [float(np.mean(c / (level + c))) for c in (truth.eigenvalues, found.eigenvalues)]
    return [
        theta,
        float(np.rad2deg(found.theta)),
        low <= theta <= high,
        found.flip,
        found.flip_interval[0] <= setting.flip <= found.flip_interval[1],
        found.noise_sigma,
        found.noise_sigma_interval[0] <= setting.sigma <= found.noise_sigma_interval[1],
        float(truth.shares[:quarter].sum()),
        float(found.teacher[:quarter].sum()),
        sums[1] / sums[0],
    ]


def estimates(draws: int, workers: int) -> Iterator[str]:
    """Yield the lines of the table of estimates."""
    yield (
        "| n, N | spectrum | flip, sigma | theta | estimate | in interval | flip | in interval | "
        "sigma | in interval | teacher in the top quarter | estimate | sum of c/(lam + c), ratio |"
    )
    yield "|" + "---|" * 13
    sizes = ((2000, 40), (400, 40), (120, 40), (80, 100))
    noises = ((0.0, 0.0), (0.1, 0.0), (0.2, 0.0), (0.05, 0.3))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for (n, dim), decay, (flip, sigma) in itertools.product(sizes, (0.0, 1.0), noises):
            setting = Setting(n, dim, decay, flip, sigma)
            rows = np.array(list(pool.map(partial(one_estimate, setting), range(draws))))
            m, s = rows.mean(axis=0), rows.std(axis=0, ddof=1) / np.sqrt(draws)
            off = np.std(rows[:, 1] - rows[:, 0], ddof=1) / np.sqrt(draws)
            entries = [
                f"{n}, {dim}",
                f"j^-{decay:g}",
                f"{flip}, {sigma}",
                f"{m[0]:.1f}",
                f"{m[1]:.1f} ({off:.1f})",
                f"{m[2]:.2f}",
                f"{m[3]:.3f} ({s[3]:.3f})",
                f"{m[4]:.2f}",
                f"{np.median(rows[:, 5]):.2f}",
                f"{m[6]:.2f}",
                f"{m[7]:.2f}",
                f"{m[8]:.2f}",
                f"{m[9]:.3f}",
            ]
            yield "| " + " | ".join(entries) + " |"


def one_curve(setting: Setting, seed: int) -> list[list[float]]:
    """Return errors of students of the hardest rows by three kinds of probe, and probe angles.

    The kinds are one fresh probe, five fresh ones of a fold each, and those of the other folds.
    """
    rng = np.random.default_rng([seed, 7])
    x, y, truth = draw(setting, rng)
    # Errors are taken exactly, so that no held-out rows add to the noise.
    plain = Students(x, y)
    scale = x.std(axis=0)
    number = fold_numbers(y, FOLDS, rng)
    fresh = []
    for _ in range(FOLDS):
        twin = rng.standard_normal((4 * setting.n // 5, setting.dim))
        twin = twin @ np.linalg.cholesky(truth.covariance).T
        side = twin @ truth.teacher + setting.sigma * rng.standard_normal(len(twin)) > 0
        side ^= rng.random(len(twin)) < setting.flip
        (W, _) = Students(twin, side.astype(np.int64)).weights([np.arange(len(twin))])
        fresh.append(W[0, 0] / twin.std(axis=0))
    W, _ = plain.weights([np.flatnonzero(number != fold) for fold in range(FOLDS)])
    own = [weights / scale for weights in W[:, 0]]
    kinds = ([fresh[0]] * FOLDS, fresh, own)
    found = []
    for probes in kinds:
        scores = np.array([np.abs(x[k] @ probes[number[k]]) for k in range(setting.n)])
        ranks = np.empty(setting.n)
        for fold in range(FOLDS):
            rows = number == fold
            ranks[rows] = np.argsort(np.argsort(scores[rows])) / rows.sum()
        if probes[0] is probes[1]:
            ranks = scores  # one probe ranks all rows together
        errors = []
        for fraction, policy in ((1.0, "hard"), *CURVE):
            kept = kept_rows(policy, ranks, ranks, fraction, rng)
            (V, _) = plain.weights([kept])
            apart = np.deg2rad(angle(V[0, 0] / scale, truth)) / np.pi
            errors.append(setting.flip + (1 - 2 * setting.flip) * apart)
        found.append([float(np.mean([angle(w, truth) for w in probes])), *errors])
    return found


def curve(draws: int, workers: int) -> Iterator[str]:
    """Yield the lines of the table of curves, isotropic, n = 2000 in 40 dimensions."""
    names = [f"{policy} {fraction:g}" for fraction, policy in CURVE]
    for flip in (0.1, 0.0):
        setting = Setting(2000, 40, 0.0, flip, 0.0)
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            found = np.array(list(pool.map(partial(one_curve, setting), range(draws))))
        theta = found[:, 0, 0].mean()
        yield f"flip {flip}, probes at {theta:.2f} degrees"
        yield "| | " + " | ".join(["all", *names]) + " |"
        yield "|" + "---|" * (len(names) + 2)
        fractions = np.array([1.0, *(fraction for fraction, _ in CURVE)])
        shares = np.array([1.0, *(1.0 if policy == "hard" else 0.5 for _, policy in CURVE)])
        solved = {}
        for name, probe in (
            ("theory, one probe", FixedAngle.degrees(theta)),
            ("theory, five probes", CrossFitted.degrees(theta, FOLDS, 0.0)),
        ):
            problem = PerceptronProblem(
                alpha_total=setting.n / setting.dim,
                keep_fraction=fractions,
                probe=probe,
                policy=Mixture(shares),
                student=ERM("logistic", 1 / setting.dim),
                labels=Flip(flip),
            )
            solved[name] = np.asarray(replica.solve(problem).observed_error)
            yield _line(name, [f"{error:.4f}" for error in solved[name]])
        for kind, name in enumerate(("one fresh probe", "five fresh probes", "out of fold")):
            means = found[:, kind, 1:].mean(axis=0)
            errors = found[:, kind, 1:].std(axis=0, ddof=1) / np.sqrt(draws)
            yield _line(name, [f"{m:.4f} ({e:.4f})" for m, e in zip(means, errors, strict=True)])
            if kind < 2:
                theory = list(solved.values())[kind]
                yield f"chi-square per point: {np.mean(((means - theory) / errors) ** 2):.2f}"


def one_table(name: str) -> Iterator[str]:
    """Yield the lines of one table."""
    split = split_table(load_table(name), 0)
    students = Students(split.features, split.labels)
    trial = Trial(students, split.labels, folds=FOLDS, balanced=False, seed=0, store={})
    found = estimate(students, split.labels, trial.values)
    predicted, _ = predict(found, trial.values, folds=FOLDS, keep_fraction=(1.0, *PARTS))
    numbers = (np.rad2deg(found.theta), found.flip, found.noise_sigma)
    head = [name, str(found.examples), str(found.dim), *(f"{number:.4g}" for number in numbers)]
    for policy, errors in predicted.items():
        measured = [trial.error()]
        measured += [trial.measure([policy], part, [0.05])[0].error for part in PARTS]
        for part, one, two in zip((1.0, *PARTS), errors, measured, strict=True):
            yield ",".join([*head, policy, f"{part:g}", f"{one:.5f}", f"{two:.5f}"])


def tables() -> Iterator[str]:
    """Yield the lines of predicted and measured errors of real tables."""
    yield "table,n,N,theta_deg,flip,noise_sigma,policy,keep_fraction,predicted,measured"
    for name, source in TABLES.items():
        if installed(source.package):
            yield from one_table(name)


def _line(name: str, entries: list[str]) -> str:
    return f"| {name} | " + " | ".join(entries) + " |"


def main() -> None:
    """Print the table that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=["estimates", "curve", "tables"])
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.table == "tables":
        lines = tables()
    else:
        make = estimates if options.table == "estimates" else curve
        lines = make(options.draws, options.workers)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
