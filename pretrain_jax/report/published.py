"""Tables 1 and 2 of the OptiDEL paper as data; its Figure 6 is drawn from Table 1."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice
from pretrain_jax.segmentation.metrics import normdel
from theory.published import ALL_DATA as PRINTED_ALL_DATA
from theory.published import DATASETS, STORAGE_PERCENT
from theory.published import TABLES as PRINTED

__all__ = ["ALL_DATA", "DATASETS", "FIGURE_6", "SOURCE", "TABLES", "PublishedTable"]

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
