"""Keeps finished pieces of an advice in a folder, for a call that goes on."""

import hashlib
import json
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hardset.arrays import load_array, npy_bytes
from hardset.cache import Cache
from hardset.datafile import versions, write_bytes_atomic
from hardset.seal import check_seal
from selection.arrays import Array, blocks
from selection.files import check_writable

SCHEMA = 1  # of the files; to be raised when the same work comes to give other arrays
KEY_BYTES = 16


class FolderStore(MutableMapping[str, Array]):
    """Arrays by name in a folder, for the argument `store` of `recommend`.

    Each has a file, which is known by the name and by all that the array was made from. The same
    work later, after a kill for instance, finds what was finished. Other work with the same folder
    finds nothing. A file that is damaged, or was written by something else, counts as missing.

    Args:
        folder: made when the first array is stored.
        made_from: what the arrays depend on besides their names: arrays, sparse matrices of SciPy,
            plain values of JSON.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, made_from: Sequence[Any]) -> None:
        self._folder = check_writable(folder)
        self._origin = _digest([SCHEMA, versions(), *made_from])
        # What one process has read or written it does not read again.
        self._known: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._known:
            found = self._files().load(self._key(name)) if self._folder.is_dir() else None
            if found is None:
                raise KeyError(name)
            self._known[name] = found
        return self._known[name]

    def __setitem__(self, name: str, array: Array) -> None:
        self._files().store(self._key(name), array)
        self._known[name] = array

    def __delitem__(self, name: str) -> None:
        self._known.pop(name, None)
        self._files().path(self._key(name)).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names that this process has met; files do not hold theirs."""
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def _files(self) -> Cache[Array]:
        return Cache(self._folder, ".npy", _read, _write, "finished steps are kept")

    def _key(self, name: str) -> str:
        return _digest([self._origin, name])


def _read(path: Path) -> Array:
    check_seal(path)
    return load_array(path)


def _write(path: Path, array: Array) -> None:
    write_bytes_atomic(path, npy_bytes(array))


def _digest(parts: Sequence[Any]) -> str:
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in parts:
        for piece in _pieces(part):
            digest.update(piece)
        digest.update(b"\0")
    return digest.hexdigest()


def _pieces(part: Any) -> Iterator[bytes]:
    """Yield the bytes that tell a value from others, an array's block by block."""
    if hasattr(part, "indptr"):
        yield json.dumps(["sparse", part.format, *part.shape]).encode()
        for array in (part.data, part.indices, part.indptr):
            yield from _pieces(array)
    elif isinstance(part, np.ndarray):
        if part.dtype.kind == "O":  # texts of a table, whose bytes are addresses
            part = part.astype(np.str_)
        yield json.dumps([part.dtype.str, *part.shape]).encode()
        for rows in blocks(len(part), part[:1].size):
            yield np.ascontiguousarray(part[rows]).tobytes()
    else:
        yield json.dumps(part, sort_keys=True).encode()
