"""Holds the OptiDEL paper's Tables 1 and 2.

It brings one's own runs into their shape.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice
from pretrain_jax.report.statistics import ALL_DATA, Row, Setting, number
from pretrain_jax.segmentation.metrics import normdel

SOURCE = "OptiDEL, arXiv:2408.07107"

Own = Mapping[Setting, Sequence[Row]]
Column = tuple[str, float]  # method and storage in percent

STORAGE_PERCENT = (5.0, 10.0, 25.0, 50.0)

DATASETS = (
    "Kvasir-Instrument",
    "Kvasir-SEG",
    "ImageCLEFmed",
    "ETIS",
    "PolypGen2021",
    "CVC-300",
    "CVC-ClinicDB",
    "CVC-ColonDB",
)

# Rows are datasets. Table 1: all data, then Random, MedDEL, OptiDEL at each storage volume.
_TABLE_1 = """
77.78  76.29 79.76 83.99  75.59 80.11 84.26  75.89 80.44 83.78  79.02 79.53 83.38
60.81  58.80 62.20 65.97  57.38 63.15 66.93  56.60 60.57 67.14  54.08 62.46 65.88
59.64  55.47 57.08 62.04  59.74 56.45 64.21  58.91 56.29 66.80  58.29 56.53 62.04
51.64  50.67 53.05 56.48  53.91 54.40 57.87  50.93 57.58 64.23  51.31 52.13 56.13
57.11  53.39 54.64 57.01  50.66 53.60 58.56  51.53 54.34 58.44  52.15 55.08 56.82
83.26  76.54 83.84 86.92  86.27 83.66 87.90  85.73 84.51 87.22  85.33 85.22 87.30
82.78  76.33 79.25 82.49  80.65 80.98 83.32  81.70 81.92 83.93  79.47 81.03 83.21
76.74  76.00 75.72 77.84  76.78 75.79 77.18  76.84 75.74 78.59  77.24 77.42 77.81
"""

# Table 2: MedDEL, OptiDEL-S, OptiDEL at each storage volume.
_TABLE_2 = """
79.76 80.68 83.99  80.11 80.41 84.26  80.44 81.04 83.78  79.53 81.06 83.38
62.20 64.00 65.97  63.15 62.57 66.93  60.57 63.97 67.14  62.46 63.60 65.88
57.08 60.14 62.04  56.45 60.57 64.21  56.29 60.38 66.80  56.53 62.07 62.04
53.05 53.00 56.48  54.40 56.85 57.87  57.58 59.53 64.23  52.13 50.40 56.13
54.64 55.12 57.01  53.60 56.88 58.56  54.34 55.62 58.44  55.08 54.34 56.82
83.84 84.20 86.92  83.66 86.69 87.90  84.51 86.17 87.22  85.22 86.30 87.30
79.25 80.65 82.49  80.98 82.08 83.32  81.92 82.91 83.93  81.03 82.91 83.21
75.72 76.00 77.84  75.79 75.14 77.18  75.74 76.52 78.59  77.42 74.23 77.81
"""


def _numbers(text: str) -> NDArray[np.float64]:
    return np.array([row.split() for row in text.strip().splitlines()], dtype=np.float64)


def _by_method(
    numbers: NDArray[np.float64], methods: tuple[str, ...]
) -> dict[str, NDArray[np.float64]]:
    blocks = numbers.reshape(len(DATASETS), len(STORAGE_PERCENT), len(methods))
    return {method: blocks[:, :, k] for k, method in enumerate(methods)}


# mIoU of every method, shape (datasets, storage volumes), by table.
PRINTED = {
    1: _by_method(_numbers(_TABLE_1)[:, 1:], ("Random", "MedDEL", "OptiDEL")),
    2: _by_method(_numbers(_TABLE_2), ("MedDEL", "OptiDEL-S", "OptiDEL")),
}

# mIoU of training on all data, one a dataset.
PRINTED_ALL_DATA = _numbers(_TABLE_1)[:, 0]


@dataclass(frozen=True, eq=False)
class PublishedTable:
    """Holds a table of mIoU in percent, with a row for each data set.

    Attributes:
        title: number and subject of the table.
        columns: method and storage in percent of each column.
        miou: in percent, shape (data sets, columns).
    """

    title: str
    columns: tuple[tuple[str, float], ...]
    miou: NDArray[np.float64]

    @property
    def normdel(self) -> NDArray[np.float64]:
        """Compute NormDEL of every entry.

        The storage is the nominal one of its column.
        """
        storage = [percent / 100 for _, percent in self.columns]
        return np.array(
            [[normdel(x, r) for x, r in zip(row, storage, strict=True)] for row in self.miou / 100]
        )

    def curve(self, dataset: str, method: str) -> tuple[list[float], list[float]]:
        """List storage and mIoU of a method in percent.

        All data come at the end.

        Raises:
            ValueError: a data set that the table does not have.
        """
        check_choice("dataset", dataset, DATASETS)
        row = self.miou[DATASETS.index(dataset)]
        points = [
            (storage, float(value))
            for (name, storage), value in zip(self.columns, row, strict=True)
            if name in (method, ALL_DATA)
        ]
        storage, values = zip(*sorted(points), strict=True)
        return list(storage), list(values)


def _table(number: int, subject: str, *, all_data: bool) -> PublishedTable:
    """Make a printed table with the methods called as in this package."""
    printed = PRINTED[number]
    columns = [(name.lower(), storage) for storage in STORAGE_PERCENT for name in printed]
    miou = np.stack(list(printed.values()), axis=2).reshape(len(DATASETS), -1)
    if all_data:
        columns.insert(0, (ALL_DATA, 100.0))
        miou = np.column_stack([PRINTED_ALL_DATA, miou])
    return PublishedTable(f"Table {number}: {subject}", tuple(columns), miou)


TABLES = (
    _table(1, "selection methods", all_data=True),
    _table(2, "what the proposer adds", all_data=False),
)

# Methods of Figure 6, whose points Table 1 prints.
FIGURE_6 = ("meddel", "optidel")


@dataclass(frozen=True)
class ShapedTable:
    """Holds a table in the shape of a printed one, as texts.

    Attributes:
        caption: what it shows.
        columns: method and storage in percent of each column.
        rows: a heading and the cells of each row.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Return the headings over neighbouring columns of equal storage.

        Each comes with the number of columns that it spans.
        """
        storage = [percent for _, percent in self.columns]
        return [(f"{one:g} % storage", storage.count(one)) for one in dict.fromkeys(storage)]


@dataclass(frozen=True)
class Beside:
    """Holds one's own runs beside the published ones.

    Attributes:
        known: rows of each setting on a data set of the paper.
        printed: of several settings of such a data set the rows of the one that is most like the
            paper's, by data set.
        panels: likewise of other data sets, by title, where there are two points to draw.
        tables: the printed tables of mIoU and of NormDEL with own rows below, and further ones for
            ratios that are not printed.
    """

    known: Own
    printed: Mapping[str, Sequence[Row]]
    panels: Mapping[str, Sequence[Row]]
    tables: Sequence[ShapedTable]


def beside(comparisons: Own, note: str) -> Beside:
    """Put one's own runs beside the published ones.

    Args:
        comparisons: rows of each setting.
        note: follows the names of one's own settings.
    """
    own = {setting: rows for setting, rows in comparisons.items() if setting.objective != "none"}
    known = {one: rows for one, rows in own.items() if one.dataset in DATASETS}
    drawn = {one: rows for one, rows in own.items() if one not in known and _is_curve(rows)}
    tables = []
    for table in TABLES:
        tables += [_with_own(table, own, note, score) for score in ("miou", "normdel")]
        other = _other_ratios(table, own)
        if other:
            name = f"Own runs in the shape of {table.title}, at the ratios that were run. mIoU (%)"
            tables.append(ShapedTable(name, other, _own_rows(other, own, note, "miou")))
    panels = {f"own: {name}{note}": rows for name, rows in _likest(drawn).items()}
    return Beside(known, _likest(known), panels, tables)


def printed_miou(dataset: str, method: str, percent: float) -> float:
    """Look up a printed mIoU in percent.

    It is NaN where the paper has none.
    """
    for table in reversed(TABLES):
        if (method, percent) in table.columns:
            column = table.columns.index((method, percent))
            return float(table.miou[DATASETS.index(dataset), column])
    return math.nan


def _is_curve(rows: Sequence[Row]) -> bool:
    """Say whether the rows make a curve beside those of Figure 6.

    They do where they have more than one point, and one of these is of a method of Figure 6.
    """
    points = [row for row in rows if row.is_point]
    return len(points) > 1 and any(row.method in FIGURE_6 for row in points)


def _likest(own: Own) -> dict[str, Sequence[Row]]:
    """Pick the setting that is most like the paper's, for each data set.

    The paper pre-trains masked autoencoders and fine-tunes all of them with DPT.
    """
    found: dict[str, Setting] = {}
    for setting in own:
        before = found.setdefault(setting.dataset, setting)
        if _unlike(setting) < _unlike(before):
            found[setting.dataset] = setting
    return {dataset: own[setting] for dataset, setting in found.items()}


def _unlike(setting: Setting) -> tuple[bool, bool, bool]:
    return setting.objective != "mae", setting.head != "dpt", setting.mode != "full"


def _with_own(table: PublishedTable, own: Own, note: str, score: str) -> ShapedTable:
    """Put own runs below a printed table, at the ratios that it prints."""
    values, digits = (table.miou, 2) if score == "miou" else (table.normdel, 4)
    name = f"{SOURCE}, {table.title}. mIoU (%)" if score == "miou" else f"NormDEL of {table.title}"
    printed = [
        [dataset, *(number(float(value), digits) for value in row)]
        for dataset, row in zip(DATASETS, values, strict=True)
    ]
    below = _own_rows(table.columns, own, note, score)
    if below:
        name += "; below: own runs, mean ± standard deviation over seeds"
    return ShapedTable(name, table.columns, [*printed, *below])


def _other_ratios(table: PublishedTable, own: Own) -> list[Column]:
    """List the columns for ratios of own runs that are not printed.

    There are none where all are printed.
    """
    methods = list(dict.fromkeys(name for name, _ in table.columns if name != ALL_DATA))
    rows = [row for found in own.values() for row in found if row.results]
    ratios = sorted({row.percent for row in rows if row.method in methods})
    if set(ratios) <= {percent for _, percent in table.columns}:
        return []
    before = [(ALL_DATA, 100.0)] if (ALL_DATA, 100.0) in table.columns else []
    return before + [(name, percent) for percent in ratios for name in methods]


def _own_rows(columns: Sequence[Column], own: Own, note: str, score: str) -> list[list[str]]:
    """Make a row for each setting that has a number in one of the columns."""
    scale, digits = (100.0, 2) if score == "miou" else (1.0, 4)
    found = []
    for setting, rows in own.items():
        known = {(row.method, row.percent): row.scores[score] for row in rows if row.results}
        if not known.keys() & set(columns) - {(ALL_DATA, 100.0)}:
            continue
        cells = (
            known[key].text(scale, digits) if key in known else number(math.nan) for key in columns
        )
        found.append([f"own: {setting.name}{note}", *cells])
    return found
