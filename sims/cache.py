"""Finished parts of a sweep on disk: written atomically, checked by checksum when read."""

import hashlib
import io
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardset.cli import check_output_folder
from hardset.datafile import write_bytes_atomic
from sims.records import RECORD

__all__ = ["RecordCache"]

SCHEMA = 2
DIGEST_BYTES = 32
KEY_BYTES = 16
FLUSH_SECONDS = 1.0


class RecordCache:
    """A folder of student records by (cell, range of draws), many of them a file.

    A file is an .npy array followed by its SHA-256; one that does not match is left out and its
    parts are computed again. What is stored reaches the disk after at most FLUSH_SECONDS, or when
    the cache is closed.

    Args:
        folder: created if missing; must be writable.
        dim, seed, solver: what the records depend on besides the cell.
    """

    def __init__(self, folder: str | Path, *, dim: int, seed: int, solver: str) -> None:
        self._folder = check_output_folder(folder)
        common = json.dumps([SCHEMA, str(RECORD), np.__version__, dim, seed, solver])
        self._prefix = hashlib.sha256(common.encode()).hexdigest()[:KEY_BYTES]
        self._parts: dict[bytes, NDArray[np.void]] = {}
        self._waiting: dict[bytes, NDArray[np.void]] = {}
        self._written = time.monotonic()
        for path in sorted(self._folder.glob(f"{self._prefix}-*.npy")):
            self._parts |= _read(path)

    def load(self, identity: str, draws: range) -> NDArray[np.void] | None:
        """The records, or None if they are missing or were damaged."""
        return self._parts.get(_key(identity, draws))

    def store(self, identity: str, draws: range, records: NDArray[np.void]) -> None:
        """Keep the records, shape (len(draws),).

        Raises:
            OSError: the folder cannot be written, with the reason.
        """
        self._waiting[_key(identity, draws)] = records
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
            buffer = io.BytesIO()
            np.save(buffer, table, allow_pickle=False)
            body = buffer.getvalue()
            digest = hashlib.sha256(body)
            path = self._folder / f"{self._prefix}-{digest.hexdigest()[:KEY_BYTES]}.npy"
            try:
                write_bytes_atomic(path, body + digest.digest())
            except OSError as error:
                raise OSError(
                    f"cache folder {self._folder} cannot be written: {error.strerror or error}; "
                    "finished parts are kept"
                ) from None
            self._parts |= part
            for key in part:
                del self._waiting[key]
        self._written = time.monotonic()


def _table_type(size: int) -> np.dtype[np.void]:
    return np.dtype([("key", f"V{KEY_BYTES}"), ("records", RECORD, (size,))])


def _key(identity: str, draws: range) -> bytes:
    text = json.dumps([identity, draws.start, draws.stop])
    return hashlib.sha256(text.encode()).digest()[:KEY_BYTES]


def _read(path: Path) -> dict[bytes, NDArray[np.void]]:
    content = path.read_bytes()
    body, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        return {}
    table = np.load(io.BytesIO(body), allow_pickle=False)
    return {one["key"].tobytes(): one["records"] for one in table}
