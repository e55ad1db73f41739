"""Finished parts of a sweep on disk: written atomically, checked by checksum when read."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sims.records import RECORD
from theory.command_line import check_output_folder
from theory.datafile import write_bytes_atomic

__all__ = ["RecordCache"]

SCHEMA = 1
DIGEST_BYTES = 32


class RecordCache:
    """A folder of student records, one file a (cell, range of draws).

    A file is an .npy array followed by its SHA-256; one that does not match is computed again.

    Args:
        folder: created if missing; must be writable.
        dim, seed, solver: what the records depend on besides the cell.
    """

    def __init__(self, folder: str | Path, *, dim: int, seed: int, solver: str) -> None:
        self._folder = check_output_folder(folder)
        self._common = [SCHEMA, str(RECORD), np.__version__, dim, seed, solver]

    def _path(self, identity: str, draws: range) -> Path:
        key = json.dumps([self._common, identity, draws.start, draws.stop])
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"

    def load(self, identity: str, draws: range) -> NDArray[np.void] | None:
        """The records, or None if they are missing or damaged."""
        try:
            content = self._path(identity, draws).read_bytes()
        except FileNotFoundError:
            return None
        body, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            return None
        return np.load(io.BytesIO(body), allow_pickle=False)

    def store(self, identity: str, draws: range, records: NDArray[np.void]) -> None:
        """Write the records; the file holds all of them or does not exist.

        Raises:
            OSError: the folder cannot be written, with the reason.
        """
        buffer = io.BytesIO()
        np.save(buffer, records, allow_pickle=False)
        body = buffer.getvalue()
        try:
            write_bytes_atomic(self._path(identity, draws), body + hashlib.sha256(body).digest())
        except OSError as error:
            raise OSError(
                f"cache folder {self._folder} cannot be written: {error.strerror or error}; "
                "finished parts are kept"
            ) from None
