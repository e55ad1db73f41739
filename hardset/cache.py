"""Finished parts of a sweep on disk: written atomically, checked by checksum when read."""

import hashlib
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardset.arrays import ArrayFileError, load_array, npy_bytes
from hardset.cli import check_output_folder
from hardset.datafile import write_bytes_atomic
from sims.results import RECORD

SCHEMA = 3
KEY_BYTES = 16
FLUSH_SECONDS = 1.0


class RecordCache:
    """A folder of student records by (cell, range of draws), many of them a file.

    A file is a sealed .npy array, see `hardset.seal`. One that is damaged, or holds something
    else, is left out and its parts are computed again. What is stored reaches the disk after at
    most FLUSH_SECONDS, or when the cache is closed.

    Args:
        folder: created if missing; must be writable.
        dim, seed, solver: what the records depend on besides the cell.
    """

    def __init__(self, folder: str | Path, *, dim: int, seed: int, solver: str) -> None:
        self._folder = check_output_folder(folder)
        common = json.dumps([SCHEMA, str(RECORD), np.__version__, dim, seed, solver])
        self._common = common
        self._prefix = hashlib.sha256(common.encode()).hexdigest()[:KEY_BYTES]
        self._parts: dict[bytes, NDArray[np.void]] = {}
        self._waiting: dict[bytes, NDArray[np.void]] = {}
        self._written = time.monotonic()
        for path in sorted(self._folder.glob(f"{self._prefix}-*.npy")):
            self._parts |= _read(path)

    def load(self, identity: str, draws: range) -> NDArray[np.void] | None:
        """The records, or None if they are missing or were damaged."""
        return self._parts.get(self._key(identity, draws))

    def store(self, identity: str, draws: range, records: NDArray[np.void]) -> None:
        """Keep the records, shape (len(draws),).

        Raises:
            OSError: the folder cannot be written, with the reason.
        """
        self._waiting[self._key(identity, draws)] = records
        if time.monotonic() - self._written > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits; a file holds all of its parts or does not exist.

        Raises:
            OSError: the folder cannot be written, with the reason.
        """
        # Ranges of different lengths do not fit one array.
        for size in {len(records) for records in self._waiting.values()}:
            part = {key: one for key, one in self._waiting.items() if len(one) == size}
            table = np.empty(len(part), _table_type(size))
            table["key"] = list(part)
            table["records"] = list(part.values())
            content = npy_bytes(table)
            digest = hashlib.sha256(content).hexdigest()
            path = self._folder / f"{self._prefix}-{digest[:KEY_BYTES]}.npy"
            try:
                write_bytes_atomic(path, content)
            except OSError as error:
                raise OSError(
                    f"cache folder {self._folder} cannot be written: {error.strerror or error}; "
                    "finished parts are kept"
                ) from None
            self._parts |= part
            for key in part:
                del self._waiting[key]
        self._written = time.monotonic()

    def _key(self, identity: str, draws: range) -> bytes:
        # All that the records depend on: a file's name does not say it for sure.
        text = json.dumps([self._common, identity, draws.start, draws.stop])
        return hashlib.sha256(text.encode()).digest()[:KEY_BYTES]


def _table_type(size: int) -> np.dtype[np.void]:
    return np.dtype([("key", f"V{KEY_BYTES}"), ("records", RECORD, (size,))])


def _read(path: Path) -> dict[bytes, NDArray[np.void]]:
    try:
        table = load_array(path)
    except ArrayFileError:
        return {}
    if table.dtype.names != ("key", "records") or table.ndim != 1:
        return {}
    shape = table.dtype["records"].shape
    if len(shape) != 1 or table.dtype != _table_type(shape[0]):
        return {}
    return {one["key"].tobytes(): one["records"] for one in table}
