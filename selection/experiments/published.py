"""Puts printed tables of the InfoMax paper beside our own runs.

They are Tables 1, 3 and 4 of arXiv:2506.01701.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from selection.experiments.results import Results

_BASELINE = "Random"
_SOURCE = "InfoMax paper (arXiv:2506.01701)"


@dataclass(frozen=True)
class PublishedRow:
    """Holds a method's row of a printed table.

    Attributes:
        values: test accuracies in percent, one a column of the table.
        ours: labels of the entries that stand for it, one a column of ours; None where none does.
    """

    values: tuple[float, ...]
    ours: tuple[str | None, ...]


@dataclass(frozen=True)
class PublishedTable:
    """Holds accuracies of the paper, in percent.

    Attributes:
        title: number and subject.
        settings: what was selected from and trained, in the printed order.
        keep_fraction: kept fractions, the columns of every setting.
        ours: heads of our columns.
        rows: the methods by name.
        note: what does not follow from the numbers.
    """

    title: str
    settings: tuple[str, ...]
    keep_fraction: tuple[float, ...]
    ours: tuple[str, ...]
    rows: Mapping[str, PublishedRow]
    note: str

    def accuracy(self, name: str, setting: str, fraction: float) -> float:
        """Look up a number as printed, in percent."""
        row, column = self.settings.index(setting), self.keep_fraction.index(fraction)
        return self.rows[name].values[row * len(self.keep_fraction) + column]


def _rows(text: str, ours: Mapping[str, tuple[str | None, ...]]) -> dict[str, PublishedRow]:
    """Read the rows of a printed table.

    The text has lines "name: numbers", and `ours` has an entry for each line.
    """
    parts = [line.split(":") for line in text.strip().splitlines()]
    return {
        name.strip(): PublishedRow(tuple(map(float, values.split())), ours[name.strip()])
        for name, values in parts
    }


# Columns: CIFAR-10, CIFAR-100, ImageNet-1K, each at 70, 50, 30, 20 and 10 %.
_TABLE_1 = _rows(
    """
    Random:         94.3 93.4 90.9 88.0 79.0  74.6 71.1 65.3 57.4 44.8  72.2 70.3 66.7 62.5 52.3
    Entropy:        94.8 92.9 90.1 84.1 72.1  74.7 68.9 60.3 49.6 35.0  72.3 70.8 64.0 55.8 39.0
    K-center:       94.1 92.5 91.0 82.5 68.4  73.4 69.5 61.4 47.2 40.5  73.0 71.4 64.8 53.1 42.0
    Forgetting:     95.7 94.9 88.1 73.8 46.3  76.0 68.1 49.3 30.3 20.6  72.6 70.9 66.5 62.9 52.3
    EL2N:           95.4 94.8 89.2 78.6 30.3  75.6 68.1 47.2 24.8 11.8  72.2 67.2 48.8 31.2 12.9
    SSP:            93.8 93.1 81.2 64.4 42.9  76.5 66.4 50.3 27.9 19.4  71.1 68.5 52.7 40.3 20.5
    Moderate:       93.9 92.6 90.6 87.3 81.0  74.6 71.1 65.3 58.5 45.5  72.0 70.3 65.9 61.3 52.1
    CCS, no labels: 95.2 93.4 90.6 85.5 80.6  76.4 71.8 61.2 37.5 25.4  71.6 69.5 62.1 47.4 30.2
    CCS:            95.4 95.0 93.0 91.0 86.9  77.1 74.4 68.9 64.0 57.3  72.3 70.5 67.8 64.5 57.3
    D2, no labels:  94.4 94.2 87.6 86.1 83.9  77.8 70.0 66.6 62.3 51.7  72.6 69.4 66.1 60.9 52.5
    D2:             95.7 94.9 93.3 91.4 87.1  78.2 75.9 70.5 65.2 56.9  72.9 71.8 68.1 65.9 55.6
    InfoMax, no labels: 94.9 93.6 92.2 90.1 87.0  77.9 74.6 70.1 64.7 56.2  72.8 70.5 68.0 64.9 56.8
    InfoMax:        95.5 94.7 94.1 92.7 89.1  79.0 76.7 71.5 67.9 58.7  73.3 72.8 69.4 66.5 59.0
    """,
    {
        "Random": ("random",),
        "Entropy": ("hard by entropy",),
        "K-center": ("k-center",),
        "Forgetting": ("hard by forgetting",),
        "EL2N": ("hard",),
        "SSP": ("hard by ssp on inputs",),
        "Moderate": ("moderate",),
        "CCS, no labels": ("ccs:cutoff=0.1 by ssp on inputs",),
        "CCS": ("ccs:cutoff=0.1",),
        "D2, no labels": ("d2 by ssp on inputs",),
        "D2": ("d2",),
        "InfoMax, no labels": ("infomax by ssp on inputs",),
        "InfoMax": ("infomax",),
    },
)

# A ResNet selects. Trained are the same, an SENet and an EfficientNet-B0, each at 50, 30, 20 %.
_TABLE_3 = _rows(
    """
    Random:             93.4 90.9 88.0  93.8 92.9 88.8  90.0 87.2 84.6
    Moderate:           92.6 90.6 87.3  91.4 88.3 85.7  87.1 86.9 82.2
    CCS:                95.0 93.0 91.0  92.7 89.4 88.1  90.5 86.7 84.1
    D2:                 93.3 91.4 87.1  94.3 91.4 87.1  93.3 91.4 87.1
    InfoMax:            94.1 92.7 89.1  94.4 93.3 89.9  92.5 90.6 87.8
    InfoMax, no labels: 93.6 92.2 90.1  94.4 93.8 90.5  93.1 90.8 88.4
    """,
    {
        "Random": ("random",) * 3,
        "InfoMax, no labels": ("infomax by ssp on inputs",) * 3,
        **{
            name: (method, f"{method} proxy 16", f"{method} proxy 256")
            for name, method in (
                ("Moderate", "moderate"),
                ("CCS", "ccs:cutoff=0.1"),
                ("D2", "d2"),
                ("InfoMax", "infomax"),
            )
        },
    },
)

_TABLE_4 = _rows(
    """
    Forgetting alone:                    46.3
    Margin alone:                        34.3
    k-median, supervised features:       38.9
    k-median, DINO features:             31.7
    k-median, VQGAN features:            28.2
    InfoMax, forgetting, supervised:     89.4
    InfoMax, margin, supervised:         88.0
    InfoMax, margin, DINO:               85.4
    InfoMax, margin, VQGAN:              83.7
    """,
    {
        "Forgetting alone": ("hard by forgetting",),
        "Margin alone": ("hard by margin",),
        "k-median, supervised features": ("k-median",),
        "k-median, DINO features": ("k-median on inputs",),
        "k-median, VQGAN features": (None,),
        "InfoMax, forgetting, supervised": ("infomax by forgetting",),
        "InfoMax, margin, supervised": ("infomax by margin",),
        "InfoMax, margin, DINO": ("infomax by margin on inputs",),
        "InfoMax, margin, VQGAN": (None,),
    },
)

_METHODS = PublishedTable(
    "Table 1: methods",
    ("CIFAR-10", "CIFAR-100", "ImageNet-1K"),
    (0.7, 0.5, 0.3, 0.2, 0.1),
    ("here",),
    _TABLE_1,
    "All examples give 95.5, 78.7 and 73.1 % there. Without labels: the distance to k-means "
    "centroids of DINO features there, of raw inputs here.",
)

PUBLISHED: Mapping[str, PublishedTable] = {
    "demo": _METHODS,
    "mnist": _METHODS,
    "letter": _METHODS,
    "cross-model": PublishedTable(
        "Table 3: other networks",
        ("ResNet", "ResNet to SENet", "ResNet to EfficientNet-B0"),
        (0.5, 0.3, 0.2),
        ("same network", "selected by 16 units", "selected by 256 units"),
        _TABLE_3,
        "There the trained network changes, here the one that selects. In the first column the "
        "printed numbers of D2 and InfoMax are those that Table 1 has for 30, 20 and 10 %.",
    ),
    "scores-and-features": PublishedTable(
        "Table 4: scores and features",
        ("CIFAR-10",),
        (0.1,),
        ("here",),
        _TABLE_4,
        "Raw inputs stand here for the features that need no labels.",
    ),
}


def beside(results: Results, table: PublishedTable) -> str:
    """Set the paper's numbers beside ours on clean data, in Markdown.

    Only common fractions are compared.

    In brackets stands the difference to random selection at the same fraction, in points. It can be
    compared across data sets and networks. The last line is Spearman's rank correlation of a
    printed column with our first one, over the methods that were run. The text is empty where no
    fraction is common.
    """
    ours = {
        (row.keep_fraction, row.entry): 100 * row.accuracy
        for row in results.rows()
        if row.condition == "clean"
    }
    common = sorted({fraction for fraction, _ in ours} & set(table.keep_fraction), reverse=True)
    lines = []
    for fraction in common:
        heads = (f"{fraction:g} kept", *table.settings, *table.ours)
        values = np.array(
            [
                [table.accuracy(name, setting, fraction) for setting in table.settings]
                + [ours.get((fraction, label or ""), np.nan) for label in row.ours]
                for name, row in table.rows.items()
            ]
        )
        lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        baseline = dict(zip(table.rows, values, strict=True)).get(_BASELINE)
        for name, row in zip(table.rows, values, strict=True):
            gains = [None] * len(row) if baseline is None or name == _BASELINE else row - baseline
            cells = [_cell(*pair) for pair in zip(row, gains, strict=True)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        printed, first = values[:, : len(table.settings)], values[:, len(table.settings)]
        run = np.isfinite(first)
        if run.sum() > 2:
            found = [f"{spearmanr(column[run], first[run]).statistic:.2f}" for column in printed.T]
            blank = [""] * len(table.ours)
            lines.append(f"| *rank correlation* | {' | '.join(found + blank)} |")
    if not common:
        return ""
    head = f"**{table.title}**, {_SOURCE}, beside {results.plan.dataset}. {table.note}"
    return "\n".join(["", head, *lines]) + "\n"


def _cell(value: float, gain: float | None) -> str:
    """Print an accuracy in percent, and its difference to random selection."""
    if np.isnan(value):
        return "-"
    return f"{value:.1f}" + ("" if gain is None else f" ({gain:+.1f})")
