"""Tables 1 and 2 of the OptiDEL paper as data; its Figure 6 is drawn from Table 1."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice
from pretrain_jax.segmentation.metrics import normdel

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


SOURCE = "OptiDEL, arXiv:2408.07107"
ALL_DATA = "all"


@dataclass(frozen=True, eq=False)
class PublishedTable:
    """A table of mIoU in percent, a row for each data set.

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
        """NormDEL of every entry, at the nominal storage of its column."""
        storage = [percent / 100 for _, percent in self.columns]
        return np.array(
            [[normdel(x, r) for x, r in zip(row, storage, strict=True)] for row in self.miou / 100]
        )

    def curve(self, dataset: str, method: str) -> tuple[list[float], list[float]]:
        """Storage in percent and mIoU in percent of a method, ascending, all data at the end.

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
    """A printed table with the methods called as in this package."""
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
