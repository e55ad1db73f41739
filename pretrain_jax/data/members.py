"""Keeps the places of a container's images, in little memory and sorted by name.

The index of a container is an Arrow stream with a row for each image: its name, where its bytes
lie, how many they are, its class and its group. It is mapped into memory, so that all processes
share it, and is kept in the user's cache folder until the container changes.
"""

import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.compilation import user_folder
from hardset.datafile import atomic_file
from hardset.seal import check_seal, seal_file
from pretrain_jax.data.names import trouble_of

VERSION = "1"
FOLDER = "containers"
UNKNOWN = -1
DIGITS = 8  # of the number of a row, where that is the name of an image
MOST_REFUSED = 1_000_000
MOST_KINDS = 1000
PIECE = 1 << 16  # rows that are looked at together


class ContainerError(ValueError):
    """Says why a container cannot be read, in one sentence that names its file."""


class Member(NamedTuple):
    """Represents an image of a container.

    Attributes:
        name: with / between folders.
        shard: number of the file that holds it.
        offset: of its bytes in that file; in a Parquet file the number of its row.
        size: in bytes.
        label: its class, "" where none is known.
        group: video, sequence or patient, "" where unknown.
    """

    name: str
    shard: int
    offset: int
    size: int
    label: str = ""
    group: str = ""


class Found:
    """Collects what a container holds while it is read once.

    Args:
        rows: whether its images are rows of a table. Such as share their name with others, or have
            none, are called by the number of their row then.

    Attributes:
        refused: a sentence on every image that cannot be used.
        passed_over: number of files that are no images, by their ending.
        labelled: whether it names classes; the first folder of a name is one otherwise.
    """

    def __init__(self, rows: bool = False) -> None:
        self.rows = rows
        self.refused: list[str] = []
        self.passed_over: Counter[str] = Counter()
        self.labelled = False
        self.notes: list[str] = []
        self._text, self._ends = bytearray(), array("q", [0])
        self._numbers = array("q")
        self._columns = {
            name: array(kind)
            for name, kind in zip(
                ("offset", "size", "shard", "label", "group"), "qqiii", strict=True
            )
        }
        self._label_codes: dict[str, int] = {"": 0}
        self._group_codes: dict[str, int] = {"": 0}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._ends) - 1

    def add(self, member: Member, row: int = UNKNOWN) -> None:
        """Add an image, unless its name cannot be used.

        Args:
            member: the image.
            row: its number among all rows of a table.
        """
        if trouble := trouble_of(member.name):
            self.refuse(trouble)
            return
        self._text += member.name.encode()
        self._ends.append(len(self._text))
        if self.rows:
            self._numbers.append(row)
        labels, groups = self._label_codes, self._group_codes
        label = labels.setdefault(member.label, len(labels))
        group = groups.setdefault(member.group, len(groups))
        values = (member.offset, member.size, member.shard, label, group)
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)

    def refuse(self, sentence: str) -> None:
        """Count an image that cannot be used, and say why.

        Raises:
            ContainerError: there are a million of them already.
        """
        self.refused.append(sentence)
        if len(self.refused) > MOST_REFUSED:
            raise ContainerError(f"more than {MOST_REFUSED} images cannot be used: {sentence}")

    def pass_over(self, kind: str) -> None:
        """Count a file that is no image, by its ending."""
        known = kind in self.passed_over or len(self.passed_over) < MOST_KINDS
        self.passed_over[kind if known else ""] += 1

    def table(self) -> Any:
        """Make the index: an Arrow table whose rows are sorted by name.

        What was collected is given up, as two of it might not fit into memory.
        """
        arrow, compute = pyarrow(), pyarrow().compute
        if self.rows:
            self._number_shared_names()
        names = _texts(self._text, self._ends)
        order = None if _ascends(names) else compute.array_sort_indices(names)
        # One column after the other, each of which gives up what it is made of.
        columns = {}
        for name, field in self._columns.items():
            values = np.frombuffer(field, field.typecode) if len(field) else np.zeros(0, "i")
            columns[name] = arrow.array(values if order is None else values[np.asarray(order)])
            del values
            self._columns[name] = array(field.typecode)
        for name, codes in (("label", self._label_codes), ("group", self._group_codes)):
            words = arrow.array(list(codes), arrow.string())
            columns[name] = arrow.DictionaryArray.from_arrays(columns[name], words)
        names = names if order is None else names.take(order)
        self._text, self._ends = bytearray(), array("q", [0])
        kept = self._refuse_repeated(names)
        table = arrow.table({"name": names} | columns)
        return table if kept is None else table.filter(kept)

    def metadata(self) -> dict[str, str]:
        """Return what the index says besides its rows."""
        said = {
            "refused": self.refused,
            "passed_over": dict(self.passed_over),
            "labelled": self.labelled,
            "notes": self.notes,
        }
        return {"container": json.dumps(said)}

    def _number_shared_names(self) -> None:
        """Put the number of its row before each name that several rows have."""
        names = _texts(self._text, self._ends)
        order = np.asarray(pyarrow().compute.array_sort_indices(names))
        shared = np.zeros(len(names), np.bool_)
        same = _repeats(names.take(pyarrow().array(order)))
        shared[order[1:][same[1:]]] = True
        shared[order[:-1][same[1:]]] = True
        if not shared.any():
            return
        self.notes.append(
            f"{int(shared.sum())} rows share their path with others: the numbers of their rows "
            "stand before it"
        )
        text, ends = bytearray(), array("q", [0])
        for place in range(len(names)):
            if shared[place]:
                text += f"{self._numbers[place]:0{DIGITS}d}/".encode()
            text += self._text[self._ends[place] : self._ends[place + 1]]
            ends.append(len(text))
        del names
        self._text, self._ends = text, ends

    def _refuse_repeated(self, names: Any) -> Any:
        """Refuse all but the first of images of one name; return which rows are kept."""
        same = _repeats(names)
        if not same.any():
            return None
        for place in np.flatnonzero(same):
            self.refuse(f"{names[int(place)].as_py().decode()!r} is there more than once")
        return pyarrow().array(~same)


def _texts(text: bytearray, ends: "array[int]") -> Any:
    """View texts and their ends as an Arrow array, without a copy."""
    arrow = pyarrow()
    buffers = [None, arrow.py_buffer(ends), arrow.py_buffer(text if text else b"")]
    return arrow.LargeBinaryArray.from_buffers(arrow.large_binary(), len(ends) - 1, buffers)


def _ascends(names: Any) -> bool:
    compute = pyarrow().compute
    return all(
        compute.all(compute.greater_equal(one[1:], one[:-1])).as_py() is not False
        for one in (names[at : at + PIECE + 1] for at in range(0, len(names), PIECE))
    )


def _repeats(names: Any) -> NDArray[np.bool_]:
    """Say of each of sorted names whether it is that before it."""
    found = np.zeros(len(names), np.bool_)
    for at in range(0, len(names), PIECE):
        part = names[at : at + PIECE + 1]
        same = pyarrow().compute.equal(part[1:], part[:-1])
        found[at + 1 : at + len(part)] = same.to_numpy(zero_copy_only=False)
    return found


class Members:
    """Represents the images of a container, sorted by name.

    Args:
        table: see `Found.table`, of one chunk.

    Attributes:
        refused: see `Found`.
        passed_over: see `Found`.
        labelled: see `Found`.
        notes: sentences.
    """

    def __init__(self, table: Any) -> None:
        said = json.loads(table.schema.metadata[b"container"])
        self.refused: tuple[str, ...] = tuple(said["refused"])
        self.passed_over = Counter[str](said["passed_over"])
        self.labelled: bool = said["labelled"]
        self.notes: tuple[str, ...] = tuple(said["notes"])
        table = table.combine_chunks()
        self._table = table  # holds the memory that is viewed
        self._count: int = table.num_rows
        one = {name: _chunk(table, name) for name in table.column_names}
        _, ends, text = one["name"].buffers()
        self._ends = np.frombuffer(ends, np.int64)[one["name"].offset :]
        self._text = memoryview(text) if text is not None else memoryview(b"")
        self._offsets, self._sizes, self._shards = (
            one[name].to_numpy() for name in ("offset", "size", "shard")
        )
        self._labels, self._groups = (_Words(one[name]) for name in ("label", "group"))

    def __len__(self) -> int:
        """Return the number of images."""
        return self._count

    def __getitem__(self, index: int) -> Member:
        """Return an image by its number."""
        return Member(
            self._name(index).decode(),
            int(self._shards[index]),
            int(self._offsets[index]),
            int(self._sizes[index]),
            self._labels[index],
            self._groups[index],
        )

    def __iter__(self) -> Iterator[Member]:
        """Return all images in the order of their names."""
        return (self[index] for index in range(self._count))

    def find(self, name: str, near: int = 0) -> int:
        """Return the number of an image by its name, or -1.

        Args:
            name: of the image.
            near: a number at which it is looked for first.
        """
        wanted = name.encode(errors="surrogateescape")
        if near < self._count and self._name(near) == wanted:
            return near
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._name(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < self._count and self._name(low) == wanted else UNKNOWN

    def _name(self, index: int) -> bytes:
        return bytes(self._text[self._ends[index] : self._ends[index + 1]])


class _Words:
    """Holds the class or the group of each image, each word once."""

    def __init__(self, column: Any) -> None:
        self._codes, words = column.indices.to_numpy(), column.dictionary
        # Most images have the word of the image before.
        self._word = lru_cache(64)(lambda code: str(words[code].as_py()))

    def __getitem__(self, index: int) -> str:
        return self._word(int(self._codes[index]))


def _chunk(table: Any, name: str) -> Any:
    column = table.column(name)
    if column.num_chunks == 1:
        return column.chunk(0)
    return pyarrow().array([], column.type)


def kept(key: str) -> Members | None:
    """Return an index that was kept, or None where there is none that is whole.

    Args:
        key: digest of all that it was made from.
    """
    folder = user_folder(FOLDER)
    path = None if folder is None else folder / f"{key}.arrow"
    if path is None or not path.is_file():
        return None
    try:
        check_seal(path)
        return _mapped(path)
    except (OSError, ValueError, KeyError):
        with suppress(OSError):
            path.unlink()
        return None


def keep(key: str, found: Found) -> Members:
    """Keep an index in the user's cache folder, and return it.

    Where there is no such folder it lies in a file without a name, as long as the process needs it.
    """
    table = found.table()
    table = table.replace_schema_metadata(found.metadata())
    folder = user_folder(FOLDER)
    if folder is not None:
        with suppress(OSError):  # of a full disk, for example
            path = folder / f"{key}.arrow"
            with atomic_file(path) as temporary:
                _write(temporary, table)
                seal_file(temporary)
            del table
            return _mapped(path)
    with tempfile.NamedTemporaryFile(suffix=".arrow") as file:
        _write(Path(file.name), table)
        del table
        return _mapped(Path(file.name))


def _write(path: Path, table: Any) -> None:
    arrow = pyarrow()
    # Readers of the format take no notice of the seal behind the stream's end.
    with arrow.ipc.new_stream(path, table.schema) as writer:
        for batch in table.combine_chunks().to_batches():
            writer.write_batch(batch)


def _mapped(path: Path) -> Members:
    arrow = pyarrow()
    return Members(arrow.ipc.open_stream(arrow.memory_map(str(path))).read_all())


def pyarrow() -> Any:
    """Import the package pyarrow.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise ValueError(
            "tar, Parquet and Arrow files of images need the package pyarrow, which is not "
            "installed: pip install 'hardset[pretrain]'"
        ) from None
    return pyarrow
