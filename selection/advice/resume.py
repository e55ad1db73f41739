"""Keeps the answers of students on disk, so that advice that was interrupted goes on."""

import hashlib
import json
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hardset.arrays import load_arrays, npz_bytes
from hardset.cache import Cache
from hardset.datafile import versions, write_bytes_atomic
from selection.advice.students import Answer, Students
from selection.arrays import Integers, blocks
from selection.files import check_writable

SCHEMA = 1  # of the files; to be raised when the same question gets another answer
KEY_BYTES = 16


class RememberedStudents:
    """Students whose answers are kept in a folder and read again.

    A file holds the answers of one call. It is known by the features, the labels, all that the
    students are made with, and the rows of the question: the same work later, after a kill for
    instance, computes what is missing, and any other work finds nothing of its own there.

    Args:
        students: those who are asked what the folder does not know.
        folder: made when the first answer is stored.
        made_from: what `students` was made from: arrays, SciPy's sparse matrices, estimators, plain
            values.

    Raises:
        OSError: the folder cannot be written.
        ValueError: a part of `made_from` that cannot be told from others.
    """

    def __init__(
        self, students: Students, folder: str | Path, made_from: Sequence[Any] = ()
    ) -> None:
        self._students = students
        self._folder = check_writable(folder)
        self._made_from = _digest([SCHEMA, versions(), *made_from])

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return self._students.classes

    def answers(self, train: Sequence[Integers], ask: Sequence[Integers]) -> list[Answer]:
        """Answer as the students do, from the folder where it knows the answers."""
        key = _digest([self._made_from, len(train), *train, *ask])
        if self._folder.is_dir():
            known = self._store().load(key)
            if known is not None and len(known) == len(train):
                return known
        found = self._students.answers(train, ask)
        self._store().store(key, found)
        return found

    def _store(self) -> Cache[list[Answer]]:
        return Cache(self._folder, ".npz", _read, _write)


def _read(path: Path) -> list[Answer] | None:
    arrays = load_arrays(path)
    count = len(arrays) // 2
    if set(arrays) != {f"{name}_{lane}" for name in Answer._fields for lane in range(count)}:
        return None
    return [Answer(arrays[f"labels_{lane}"], arrays[f"values_{lane}"]) for lane in range(count)]


def _write(path: Path, found: list[Answer]) -> None:
    arrays = {
        f"{name}_{lane}": np.asarray(getattr(one, name))
        for lane, one in enumerate(found)
        for name in Answer._fields
    }
    write_bytes_atomic(path, npz_bytes(arrays))


def _digest(parts: Sequence[Any]) -> str:
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in parts:
        for piece in _pieces(part):
            digest.update(piece)
        digest.update(b"\0")
    return digest.hexdigest()


def _pieces(part: Any) -> Iterator[bytes]:
    """Yield the bytes that tell a value from others, an array's block by block."""
    if hasattr(part, "tocsr"):
        matrix = part.tocsr()
        yield json.dumps(["sparse", *matrix.shape]).encode()
        for array in (matrix.data, matrix.indices, matrix.indptr):
            yield from _pieces(array)
    elif isinstance(part, np.ndarray):
        yield json.dumps([part.dtype.str, *part.shape]).encode()
        for rows in blocks(len(part), part[:1].size):
            yield np.ascontiguousarray(part[rows]).tobytes()
    else:
        try:
            yield json.dumps(part, sort_keys=True).encode()
        except TypeError:
            yield _pickled(part)


def _pickled(part: Any) -> bytes:
    try:
        return pickle.dumps(part, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"finished steps cannot be told apart: {type(part).__name__} cannot be pickled "
            f"({error})"
        ) from None
