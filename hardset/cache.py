"""Keeps results on disk and finds them again by what they were made from.

A file is sealed, see `hardset.seal`, and appears whole or not at all. One that is damaged, or holds
something else, counts as missing: its result is computed anew. Several processes may share a
folder.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardset.arrays import load_array, npy_bytes
from hardset.cli import check_output_folder
from hardset.datafile import write_bytes_atomic

T = TypeVar("T")
SCHEMA = 3
KEY_BYTES = 16
FLUSH_SECONDS = 1.0


class Cache(Generic[T]):
    """A folder of results, one file each.

    Args:
        folder: created if missing; must be writable.
        suffix: of the files.
        read: gives what a file holds. Where the file is damaged or holds something else, it gives
            None or raises ValueError or OSError.
        write: writes a sealed file, atomically, in the place of one that is there.
        kept: the last words of the message that the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        suffix: str,
        read: Callable[[Path], T | None],
        write: Callable[[Path, T], None],
        kept: str = "finished parts are kept",
    ) -> None:
        self.folder = check_output_folder(folder)
        self._suffix, self._read, self._write, self._kept = suffix, read, write, kept

    def path(self, key: str) -> Path:
        """Name the file of a result, whether it exists or not.

        Args:
            key: hexadecimal digest of all that the result is made from.
        """
        return self.folder / f"{key}{self._suffix}"

    def load(self, key: str) -> T | None:
        """Read a result, or return None where it is missing or damaged."""
        try:
            return self._read(self.path(key))
        except (OSError, ValueError):
            return None

    def store(self, key: str, result: T) -> None:
        """Write a result to its file.

        Raises:
            OSError: the folder cannot be written, with the reason.
        """
        try:
            self._write(self.path(key), result)
        except OSError as error:
            raise OSError(
                f"cache folder {self.folder} cannot be written: {error.strerror or error}; "
                f"{self._kept}"
            ) from None


class RecordCache:
    """A cache of arrays of records, found by name and range of rows.

    A file holds many arrays. All files of the same origin are read when the cache is made. What is
    stored is written by `flush`, or by the first `store` that comes more than FLUSH_SECONDS after
    the last writing.

    Args:
        folder: created if missing; must be writable.
        record: type of a row.
        made_from: what all records depend on besides their names, JSON-able.
    """

    def __init__(
        self, folder: str | Path, record: np.dtype[np.void], made_from: Sequence[Any]
    ) -> None:
        self._record = record
        self._common = json.dumps([SCHEMA, str(record), np.__version__, *made_from])
        self._prefix = hashlib.sha256(self._common.encode()).hexdigest()[:KEY_BYTES]
        self._files = Cache(folder, ".npy", self._read, _write_array)
        self._parts: dict[bytes, NDArray[np.void]] = {}
        self._waiting: dict[bytes, NDArray[np.void]] = {}
        self._written = time.monotonic()
        for path in sorted(self._files.folder.glob(f"{self._prefix}-*.npy")):
            table = self._files.load(path.stem)
            if table is not None:
                self._parts |= {one["key"].tobytes(): one["records"] for one in table}

    def load(self, name: str, rows: range) -> NDArray[np.void] | None:
        """Give the records, or None where they are missing, damaged or not yet written."""
        return self._parts.get(self._key(name, rows))

    def store(self, name: str, rows: range, records: NDArray[np.void]) -> None:
        """Store the records, shape (len(rows),).

        Raises:
            OSError: the folder cannot be written, with the reason.
        """
        self._waiting[self._key(name, rows)] = records
        if time.monotonic() - self._written > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the stored records that are not on disk yet.

        A file holds all of its parts or does not exist.

        Raises:
            OSError: the folder cannot be written, with the reason.
        """
        # Ranges of different lengths do not fit one array.
        for size in {len(records) for records in self._waiting.values()}:
            part = {key: one for key, one in self._waiting.items() if len(one) == size}
            table = np.empty(len(part), self._table_type(size))
            table["key"] = list(part)
            table["records"] = list(part.values())
            digest = hashlib.sha256(npy_bytes(table)).hexdigest()
            self._files.store(f"{self._prefix}-{digest[:KEY_BYTES]}", table)
            self._parts |= part
            for key in part:
                del self._waiting[key]
        self._written = time.monotonic()

    def _key(self, name: str, rows: range) -> bytes:
        # All that the records depend on: a file's name does not say it for sure.
        text = json.dumps([self._common, name, rows.start, rows.stop])
        return hashlib.sha256(text.encode()).digest()[:KEY_BYTES]

    def _table_type(self, size: int) -> np.dtype[np.void]:
        return np.dtype([("key", f"V{KEY_BYTES}"), ("records", self._record, (size,))])

    def _read(self, path: Path) -> NDArray[np.void] | None:
        table = load_array(path)
        if table.dtype.names != ("key", "records") or table.ndim != 1:
            return None
        shape = table.dtype["records"].shape
        if len(shape) != 1 or table.dtype != self._table_type(shape[0]):
            return None
        return table


def _write_array(path: Path, array: NDArray[Any]) -> None:
    write_bytes_atomic(path, npy_bytes(array))
