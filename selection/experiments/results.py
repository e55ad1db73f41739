"""Evaluates what an experiment found.

It computes accuracies, paired differences, ranks, recalls and overlaps.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from selection.experiments.plans import Plan

Floats = NDArray[np.float64]
MARKERS = "osD^vP*X<>hp"
CURVES = 12  # more of them nobody can tell apart


@dataclass(frozen=True, eq=False)
class Unit:
    """Holds what was kept and predicted at one condition and seed.

    Attributes:
        condition: its name.
        seed: its number.
        kept: whether an example is kept, shape (entries, fractions, n).
        seconds: processor time of the selections, shape (entries, fractions).
        predicted: classes of the test set, shape (entries, fractions, m).
        predicted_all: those of a network trained on all examples, shape (m,).
        labels: true classes of the test set, shape (m,).
        origin: number of each training example in the data set, shape (n,).
    """

    condition: str
    seed: int
    kept: NDArray[np.bool_]
    seconds: Floats
    predicted: NDArray[np.uint8]
    predicted_all: NDArray[np.uint8]
    labels: NDArray[np.int64]
    origin: NDArray[np.int64]

    @classmethod
    def of(cls, condition: str, seed: int, arrays: dict[str, NDArray[Any]]) -> "Unit":
        """Make a unit from the arrays of a file."""
        own = dict(arrays)
        count = len(own["origin"])
        own["kept"] = np.unpackbits(own["kept"], axis=-1, count=count).astype(bool)
        return cls(condition, seed, **own)

    def accuracy(self) -> Floats:
        """Compute the share of right predictions, shape (entries, fractions)."""
        return np.mean(self.predicted == self.labels, axis=-1)

    def recalls(self) -> Floats:
        """Compute every class's share of right predictions.

        The shape is (entries, fractions, classes).
        """
        right = self.predicted == self.labels
        return np.stack(
            [right[..., self.labels == c].mean(axis=-1) for c in np.unique(self.labels)], axis=-1
        )


@dataclass(frozen=True)
class Row:
    """Sums up one entry at one condition and fraction, over the seeds.

    Attributes:
        condition, keep_fraction, entry: which one.
        kept: number of kept examples, mean.
        accuracy, accuracy_stderr: mean over seeds and its standard error.
        difference, difference_stderr: accuracy minus that of the plan's first entry, paired.
        rank: mean rank of the accuracy among the entries, 1 is best, ties share.
        worst_recall: recall of the class with the lowest one, mean over the seeds.
        stability: Jaccard index of what two seeds keep, among the examples that both could keep.
        seconds: processor time of a selection, mean; of a nested method that of the largest budget,
            which answers all of them.
    """

    condition: str
    keep_fraction: float
    entry: str
    kept: float
    accuracy: float
    accuracy_stderr: float
    difference: float
    difference_stderr: float
    rank: float
    worst_recall: float
    stability: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Results:
    """Evaluates all units of a plan."""

    plan: Plan
    units: tuple[Unit, ...]

    def of(self, condition: str) -> list[Unit]:
        """Return the units of a condition."""
        return [unit for unit in self.units if unit.condition == condition]

    def all_data(self, condition: str) -> tuple[float, float]:
        """Average the accuracy of training on all examples.

        The mean comes with its standard error.
        """
        return _mean([np.mean(unit.predicted_all == unit.labels) for unit in self.of(condition)])

    def rows(self) -> Iterator[Row]:
        """Return a row for each condition, fraction and entry."""
        for condition in self.plan.conditions:
            units = self.of(condition)
            accuracy = np.stack([unit.accuracy() for unit in units])
            ranks = rankdata(-accuracy, axis=1)
            worst = np.mean([unit.recalls().min(axis=-1) for unit in units], axis=0)
            kept = np.mean([unit.kept.sum(axis=-1) for unit in units], axis=0)
            seconds = np.mean([unit.seconds for unit in units], axis=0)
            for column, fraction in enumerate(self.plan.keep_fraction):
                for place, entry in enumerate(self.plan.entries):
                    values = accuracy[:, place, column]
                    yield Row(
                        condition,
                        fraction,
                        entry.label,
                        float(kept[place, column]),
                        *_mean(values),
                        *_mean(values - accuracy[:, 0, column]),
                        float(ranks[:, place, column].mean()),
                        float(worst[place, column]),
                        _stability(units, place, column),
                        float(seconds[place, column]),
                    )

    def ranks(self) -> list[tuple[str, float, float]]:
        """Rank the entries over conditions, fractions and seeds, best first.

        The standard error is that of the seeds' mean ranks.
        """
        by_seed = []
        for seed in range(self.plan.seeds):
            units = [unit for unit in self.units if unit.seed == seed]
            accuracy = np.concatenate([unit.accuracy() for unit in units], axis=1)
            by_seed.append(rankdata(-accuracy, axis=0).mean(axis=1))
        means = [
            (entry.label, *_mean([ranks[place] for ranks in by_seed]))
            for place, entry in enumerate(self.plan.entries)
        ]
        return sorted(means, key=lambda item: item[1])

    def csv(self) -> str:
        """Write all rows as a table with a header."""
        return _csv([vars(row) for row in self.rows()])

    def recalls_csv(self) -> str:
        """Write mean and standard error of every class's recall, line by line.

        There is a line for each row.

        Classes are numbered in the order of their labels.
        """
        table = []
        for condition in self.plan.conditions:
            # (seeds, entries, fractions, classes)
            recalls = np.stack([unit.recalls() for unit in self.of(condition)])
            for column, fraction in enumerate(self.plan.keep_fraction):
                for place, entry in enumerate(self.plan.entries):
                    line = {"condition": condition, "keep_fraction": fraction, "entry": entry.label}
                    for number, values in enumerate(recalls[:, place, column].T):
                        mean, stderr = _mean(values)
                        line[f"class_{number}"] = f"{mean:.4f}"
                        line[f"class_{number}_stderr"] = f"{stderr:.4f}"
                    table.append(line)
        return _csv(table)

    def markdown(self) -> str:
        """Write the ranks, and a table of accuracies for each condition, in percent."""
        plan = self.plan
        lines = [
            f"{plan.dataset}: {plan.train} training examples, {plan.seeds} seeds, "
            f"{plan.steps} steps of 64 examples, one hidden layer of {plan.hidden}.",
            "",
            "| method | mean rank |",
            "|---|---|",
            *(f"| {name} | {_bar(mean, stderr)} |" for name, mean, stderr in self.ranks()),
        ]
        rows = list(self.rows())
        for condition in plan.conditions:
            mean, stderr = self.all_data(condition)
            heads = " | ".join(
                f"{fraction:g} | - {plan.entries[0].label} | worst class | Jaccard"
                for fraction in plan.keep_fraction
            )
            lines += [
                "",
                f"**{condition}** (all examples: {_bar(100 * mean, 100 * stderr)} %)",
                "",
                f"| method | {heads} |",
                "|---" * (1 + 4 * len(plan.keep_fraction)) + "|",
            ]
            for entry in plan.entries:
                own = [r for r in rows if (r.condition, r.entry) == (condition, entry.label)]
                cells = " | ".join(
                    f"{_bar(100 * r.accuracy, 100 * r.accuracy_stderr)} | "
                    f"{_bar(100 * r.difference, 100 * r.difference_stderr, '+')} | "
                    f"{100 * r.worst_recall:.0f} | "
                    + ("-" if np.isnan(r.stability) else f"{r.stability:.2f}")
                    for r in own
                )
                lines.append(f"| {entry.label} | {cells} |")
        return "\n".join(lines) + "\n"


def _csv(rows: list[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, rows[0], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return buffer.getvalue()


def _bar(value: float, error: float, sign: str = "") -> str:
    """Print a number, with its error bar if one is known."""
    return f"{value:{sign}.1f}" + ("" if np.isnan(error) else f" ± {error:.1f}")


def _mean(values: Any) -> tuple[float, float]:
    """Compute the mean and its standard error.

    The error of one single value is not known.
    """
    array = np.asarray(values, dtype=np.float64)
    error = array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else np.nan
    return float(array.mean()), float(error)


def _stability(units: list[Unit], place: int, column: int) -> float:
    """Average the Jaccard index of what two seeds keep, over pairs of seeds.

    Splits differ between seeds, so only common examples can be compared.
    """
    found = []
    for one, other in combinations(units, 2):
        common = np.intersect1d(one.origin, other.origin)
        kept = [np.isin(common, unit.origin[unit.kept[place, column]]) for unit in (one, other)]
        either = np.sum(kept[0] | kept[1])
        found.append(np.sum(kept[0] & kept[1]) / either if either else 1.0)
    return float(np.mean(found)) if found else float("nan")


def draw(results: Results, path: Path) -> None:
    """Write the picture to `path`, in the format of its suffix."""
    figure = _curves(results) if len(results.plan.entries) <= CURVES else _dots(results)
    figure.savefig(path, dpi=200)


def _curves(results: Results) -> Any:
    """Draw a panel for each condition, with a curve for each method."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    plan = results.plan
    panels = len(plan.conditions)
    figure = Figure(figsize=(3.6 + 3.1 * panels, 4.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, panels, sharey=True))
    colours = mpl.colormaps["tab20"].resampled(20)
    rows = list(results.rows())
    for axis, condition in zip(axes, plan.conditions, strict=True):
        mean, _ = results.all_data(condition)
        axis.axhline(100 * mean, color="black", linewidth=0.8, linestyle=":", label="all examples")
        for number, entry in enumerate(plan.entries):
            own = [r for r in rows if (r.condition, r.entry) == (condition, entry.label)]
            axis.errorbar(
                [row.keep_fraction for row in own],
                [100 * row.accuracy for row in own],
                [100 * row.accuracy_stderr for row in own],
                color=colours(number % 20),
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                linewidth=2.2 if number == 0 else 1.1,
                label=entry.label,
            )
        axis.set_xscale("log")
        axis.set_xticks(plan.keep_fraction, [f"{fraction:g}" for fraction in plan.keep_fraction])
        axis.minorticks_off()
        axis.set_title(condition)
        axis.set_xlabel("kept fraction $f$")
    axes[0].set_ylabel("test accuracy (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small", frameon=False)
    return figure


def _dots(results: Results) -> Any:
    """Draw a panel for each fraction, with a row for each method.

    Rows stand in the plan's order, and each has a marker for each condition.
    """
    from matplotlib.figure import Figure

    plan = results.plan
    entries = [entry.label for entry in plan.entries]
    figure = Figure(
        figsize=(3.2 + 2.4 * len(plan.keep_fraction), 1.4 + 0.2 * len(entries)),
        layout="constrained",
    )
    axes = np.atleast_1d(figure.subplots(1, len(plan.keep_fraction), sharey=True))
    rows = list(results.rows())
    for axis, fraction in zip(axes, plan.keep_fraction, strict=True):
        for number, condition in enumerate(plan.conditions):
            own = [r for r in rows if (r.condition, r.keep_fraction) == (condition, fraction)]
            dots = axis.errorbar(
                [100 * row.accuracy for row in own],
                np.arange(len(own)) + 0.16 * (number - (len(plan.conditions) - 1) / 2),
                xerr=[100 * row.accuracy_stderr for row in own],
                marker=MARKERS[number],
                markersize=3.5,
                linewidth=0,
                elinewidth=1,
                label=condition,
            )
            # The line marks the baseline, which is the plan's first entry.
            axis.axvline(100 * own[0].accuracy, color=dots[0].get_color(), linewidth=0.6)
        axis.set_title(f"$f$ = {fraction:g}")
        axis.set_xlabel("test accuracy (%)")
        axis.grid(axis="y", linewidth=0.3)
    axes[0].set_yticks(np.arange(len(entries)), entries, fontsize="small")
    axes[0].invert_yaxis()
    if len(plan.conditions) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure
