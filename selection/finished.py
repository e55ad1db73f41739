"""Subsets that are done, in a folder: what a killed process leaves for the next one."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from selection.files import check_writable, read_subset, write_subset
from selection.subset import Subset

SCHEMA = 2  # to be raised when the same input gives another subset


class Finished:
    """A folder of subsets, each named after everything that it was made from.

    Other selections in the same folder are neither read nor touched.

    Args:
        folder: made with the first subset that is kept.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = check_writable(folder)

    def path(self, *made_from: Any) -> Path:
        """The file of a subset that is made from these picklable values.

        Raises:
            ValueError: one of them cannot be pickled.
        """
        buffers: list[pickle.PickleBuffer] = []
        try:
            stream = pickle.dumps(
                (SCHEMA, np.__version__, made_from), protocol=5, buffer_callback=buffers.append
            )
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(f"finished parts cannot be told apart: {error}") from None
        digest = hashlib.blake2b(stream, digest_size=16)
        for buffer in buffers:
            digest.update(buffer.raw())
        return self._folder / f"{digest.hexdigest()}.parquet"

    @staticmethod
    def read(path: Path) -> Subset | None:
        """The subset, if it is done.

        Raises:
            ValueError: the file is damaged.
        """
        if not path.exists():
            return None
        try:
            return read_subset(path)
        except ValueError as error:
            raise ValueError(f"{error}; delete it, and the part is solved again") from None

    @staticmethod
    def write(path: Path, subset: Subset) -> None:
        """Keep a subset: the whole file or none.

        Raises:
            OSError: it cannot be written.
        """
        try:
            write_subset(path, subset)
        except ValueError:
            if not path.exists():  # else another process has been faster
                raise
