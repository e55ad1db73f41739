"""Finds the images that are rows of Parquet and Arrow files.

A column of images has the type struct<bytes: binary, path: string>, as Hugging Face's datasets
store them (https://huggingface.co/docs/datasets/image_dataset, class `Image`), or holds binary
values. Their classes are in the column `label`, which is a ClassLabel where the file's metadata
name its words, and their groups in `group` or `patient_id`.

Bytes of an Arrow file are reached by their place in it. Those of a Parquet file come with the whole
row group that they are in, as it may be compressed.
"""

import json
import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.cli import one_line
from pretrain_jax.data.members import DIGITS, ContainerError, Found, Member, pyarrow
from pretrain_jax.data.names import SUFFIXES, suffix_of
from pretrain_jax.data.tars import GROUPS, word

IMAGE, LABEL = "image", "label"
BYTES, PATH = "bytes", "path"
MOST_BYTES, MOST_ROWS = 1 << 30, 1 << 22  # of a row group
LONGEST_WORD = 4096
GROUPS_HELD = 2
END = b"\xff\xff\xff\xff\0\0\0\0"  # of an Arrow stream
FEATHER = b"ARROW1"
# Endings of images by what their bytes begin with (the formats' own specifications).
MAGICS = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"II+\0", ".tif"),
    (b"MM\0+", ".tif"),
    (b"\x93NUMPY", ".npy"),
    (b"\0\0\0\x0cjP  ", ".jp2"),
    (b"\xff\x4f\xff\x51", ".j2k"),
)
HEAD = 16
# What is raised on damaged files besides pyarrow's own errors.
DAMAGE = (OSError, struct.error, ValueError, TypeError, LookupError, OverflowError)
REMEDY = (
    "write images with their bytes in a column `image`, of the type binary or "
    "struct<bytes: binary, path: string>"
)


def ending_of(head: bytes) -> str:
    """Return the ending of an image by its first bytes, "" if unknown."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return ".avif"
    return next((suffix for magic, suffix in MAGICS if head.startswith(magic)), "")


@dataclass(frozen=True)
class Columns:
    """Names the columns of a table that are read.

    Attributes:
        image: of the images.
        nested: whether its values are structures of bytes and path.
        has_path: whether there are paths.
        label: of the classes, or "".
        words: of the classes, where the column holds their numbers.
        group: of the groups, or "".
    """

    image: str
    nested: bool
    has_path: bool
    label: str
    words: tuple[str, ...]
    group: str

    @property
    def leaves(self) -> tuple[str, ...]:
        """Return the columns as Parquet names them."""
        image = [f"{self.image}.{BYTES}"] if self.nested else [self.image]
        image += [f"{self.image}.{PATH}"] if self.has_path else []
        return (*image, *filter(None, (self.label, self.group)))


def columns_of(path: Path, schema: Any) -> Columns:
    """Find the columns of a table by their names and types.

    Raises:
        ContainerError: there is no column of images, or several.
    """
    types = pyarrow().types
    features = _features(schema)

    def binary(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def nested(kind: Any) -> bool:
        inner = types.is_struct(kind) and kind.get_field_index(BYTES) >= 0
        return bool(inner and binary(kind.field(BYTES).type))

    known = [one for one in schema if binary(one.type) or nested(one.type)]
    named = [one for one in known if one.name == IMAGE]
    if len(known) != 1 and len(named) != 1:
        held = ", ".join(one_line(f"{one.name} ({one.type})", 60) for one in list(schema)[:10])
        what = "no column of images" if not known else f"{len(known)} columns that may be images"
        raise ContainerError(f"{path} holds {what}: its columns are {held or 'none'}; {REMEDY}")
    image = named[0] if named else known[0]
    label = _label(features, schema)
    words = tuple(map(str, features.get(label, {}).get("names") or ()))
    group = next((one for one in GROUPS if one in schema.names), "")
    inner = nested(image.type)
    has_path = inner and image.type.get_field_index(PATH) >= 0
    return Columns(image.name, inner, has_path, label, words, group)


def _features(schema: Any) -> dict[str, Any]:
    """Return what datasets say of the columns, by their names."""
    try:
        said = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): one for name, one in said.items() if isinstance(one, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _label(features: dict[str, Any], schema: Any) -> str:
    classes = [
        name
        for name, one in features.items()
        if one.get("_type") == "ClassLabel" and name in schema.names
    ]
    types = pyarrow().types
    if LABEL in schema.names:
        kind = schema.field(LABEL).type
        plain = types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)
        return LABEL if plain or types.is_dictionary(kind) else ""
    return classes[0] if len(classes) == 1 else ""


def scan_parquet(path: Path, shard: int, first: int, found: Found, advance: Any) -> int:
    """Find the images of a Parquet file.

    Args:
        path: of the file.
        shard: its number.
        first: number of its first row among those of all files.
        found: gets them.
        advance: called with the number of bytes that were gone over.

    Returns:
        The number of its rows.

    Raises:
        ContainerError: it is damaged, holds no column of images, or is too large in parts.
    """
    with _Sentences("Parquet", path):
        file = _parquet(path, ())
        columns = columns_of(path, file.schema_arrow)
        row = 0
        for group in range(file.metadata.num_row_groups):
            for batch in _batches(path, group, columns, columns.leaves):
                _take(path, shard, first + row, row, _Rows.of(batch, columns), found)
                row += batch.num_rows
            advance(path.stat().st_size // file.metadata.num_row_groups)
        return row


def scan_arrow(path: Path, shard: int, first: int, found: Found, advance: Any) -> int:
    """Find the images of an Arrow file as datasets save it.

    See `scan_parquet`.
    """
    arrow = pyarrow()
    with _Sentences("Arrow", path):
        with path.open("rb") as file:
            if file.read(len(FEATHER)) == FEATHER:
                raise ContainerError(
                    f"Arrow file {path} is of the kind with an index (Feather); save the data with "
                    "datasets' save_to_disk, or as Parquet"
                )
            if file.seek(0, 2) < len(END) or not (file.seek(-len(END), 2), file.read())[1] == END:
                raise ContainerError(
                    f"Arrow file {path} is cut short: the mark of its end is missing; save it anew"
                )
        with arrow.memory_map(str(path)) as mapped:
            _check_uncompressed(path, mapped)
            mapped.seek(0)
            base = mapped.read_buffer(1).address
            mapped.seek(0)
            reader = arrow.ipc.open_stream(mapped)
            columns = columns_of(path, reader.schema)
            row = 0
            for batch in reader:
                names = {columns.image, columns.label, columns.group} - {""}
                for name in names:
                    batch.column(name).validate(full=True)
                rows = _Rows.of(batch, columns)
                _take(path, shard, first + row, rows.places(base), rows, found)
                row += batch.num_rows
                advance(batch.nbytes)
            return row


@dataclass
class _Rows:
    """Holds what is needed of some rows of a table."""

    bytes: Any
    paths: list[str | None]
    labels: list[str]
    groups: list[str]

    @classmethod
    def of(cls, batch: Any, columns: Columns) -> "_Rows":
        image = batch.column(columns.image)
        values, paths = image, None
        if columns.nested:
            # With the nulls of the structure itself.
            inner = dict(zip((one.name for one in image.type), image.flatten(), strict=True))
            values, paths = inner[BYTES], inner.get(PATH)
        named = [None] * len(image) if paths is None else _texts(paths)
        labels = _words(batch, columns.label, columns.words)
        return cls(values, named, labels, _words(batch, columns.group, ()))

    def measured(self) -> tuple[NDArray[np.int64], list[bytes | None]]:
        """Return the size of each image, or -1, and its first bytes."""
        compute, types = pyarrow().compute, pyarrow().types
        values, codes = self.bytes, None
        if types.is_dictionary(values.type):
            values, codes = values.dictionary, values.indices
        sizes = compute.fill_null(compute.binary_length(values), -1)
        heads = compute.binary_slice(values, 0, HEAD)
        if codes is not None:
            sizes = compute.fill_null(sizes.take(codes), -1)
            heads = heads.take(codes)
        return np.asarray(sizes).astype(np.int64), heads.to_pylist()

    def places(self, base: int) -> NDArray[np.int64]:
        """Return where the bytes of each image lie behind an address."""
        arrow = pyarrow()
        values = self.bytes
        wide = arrow.types.is_large_binary(values.type)
        if not len(values):
            return np.zeros(0, np.int64)
        _, ends, data = values.buffers()
        kind = np.int64 if wide else np.int32
        begins = np.frombuffer(ends, kind)[values.offset : values.offset + len(values)]
        address = 0 if data is None else data.address - base
        return begins.astype(np.int64) + address


def _take(path: Path, shard: int, first: int, places: Any, rows: _Rows, found: Found) -> None:
    """Add the images of some rows."""
    sizes, heads = rows.measured()
    offsets = range(places, places + len(sizes)) if isinstance(places, int) else places
    for at, (size, head, offset) in enumerate(zip(sizes, heads, offsets, strict=True)):
        own, row = rows.paths[at], first + at
        here = f"row {row} ({path.name})"
        if size < 0:
            more = f", only the path {one_line(own)}" if own else ""
            found.refuse(f"{here} holds no bytes of an image{more}")
            continue
        name, why = _name(own, row, bytes(head or b""))
        if why:
            found.refuse(f"{here} {why}")
            continue
        label, group = rows.labels[at], rows.groups[at]
        found.labelled |= bool(label)
        found.add(Member(name, shard, int(offset), int(size), label, group), row)


def _name(path: str | None, row: int, head: bytes) -> tuple[str, str]:
    """Return the name of an image, and why it has none."""
    parts = [part for part in (path or "").split("/") if part not in ("", ".")]
    if path and (path.startswith("/") or ".." in parts):
        return "", f"has the path {one_line(path)}, which leads out of the file; make it relative"
    name = "/".join(parts) or f"{row:0{DIGITS}d}"
    if suffix_of(name) in SUFFIXES:
        return name, ""
    ending = ending_of(head)
    why = "" if ending else f"begins as no known kind of image does ({head[:8].hex(' ')})"
    return name + ending, why


def _words(batch: Any, column: str, words: tuple[str, ...]) -> list[str]:
    """Return classes or groups as words, "" without one."""
    if not column:
        return [""] * batch.num_rows
    values = batch.column(column)
    if pyarrow().types.is_dictionary(values.type):
        known = [word(one) for one in _texts(values.dictionary)]
        return [known[one] if one is not None else "" for one in values.indices.to_pylist()]
    found = values.to_pylist()
    if words:
        return [
            words[one]
            if isinstance(one, int) and 0 <= one < len(words)
            else word(one)
            if isinstance(one, str)
            else ""
            for one in found
        ]
    return [word(one) for one in found]


def _texts(values: Any) -> list[Any]:
    """Return an array's values; texts that are too long for a name are refused."""
    arrow = pyarrow()
    if arrow.types.is_dictionary(values.type):
        known = _texts(values.dictionary)
        return [None if one is None else known[one] for one in values.indices.to_pylist()]
    if arrow.types.is_string(values.type) or arrow.types.is_large_string(values.type):
        longest = arrow.compute.max(arrow.compute.binary_length(values)).as_py() or 0
        if longest > LONGEST_WORD:
            raise _LongWordError(f"a path, class or group of {longest} bytes")
    return list(values.to_pylist())


def read_row(path: Path, row: int) -> bytes:
    """Read the bytes of an image in a row of a Parquet file.

    Raises:
        ContainerError: the file is damaged.
    """
    with _Sentences("Parquet", path):
        status = path.stat()
        starts = _starts(path, status.st_mtime_ns)
        group = int(np.searchsorted(starts, row, side="right")) - 1
        held = _held.get(path, status.st_mtime_ns, group)
        return bytes(held[row - int(starts[group])].as_py())


class _Groups:
    """Holds the images of the row groups that were read last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._groups: OrderedDict[tuple[Path, int, int], Any] = OrderedDict()

    def get(self, path: Path, time: int, group: int) -> Any:
        """Return the images of a row group of a file."""
        key = (path, time, group)
        with self._lock:
            if key not in self._groups:
                while len(self._groups) >= GROUPS_HELD:
                    self._groups.popitem(last=False)
                self._groups[key] = _images(path, group)
            self._groups.move_to_end(key)
            return self._groups[key]


_held = _Groups()


def _images(path: Path, group: int) -> Any:
    """Read the images of a row group."""
    columns = columns_of(path, _parquet(path, ()).schema_arrow)
    parts = []
    for batch in _batches(path, group, columns, columns.leaves[:1]):
        column = batch.column(columns.image)
        parts.append(column.flatten()[0] if columns.nested else column)
    return pyarrow().chunked_array(parts)


def _batches(path: Path, group: int, columns: Columns, leaves: tuple[str, ...]) -> Iterator[Any]:
    """Read a row group, whose size is checked before.

    Texts and bytes are read as words that are held once, however many rows have them: a small file
    may stand for terabytes. What is stored of single columns is not asked for, as pyarrow ends the
    process over damaged metadata of a column.
    """
    file = _parquet(path, columns.leaves)
    own = file.metadata.row_group(group)
    if own.total_byte_size > MOST_BYTES or own.num_rows > MOST_ROWS:
        raise ContainerError(
            f"row group {group} of Parquet file {path} has {own.num_rows} rows of "
            f"{own.total_byte_size / 2**30:.3g} GiB, which would be read as a whole; write it with "
            f"row groups of at most {MOST_ROWS} rows and {MOST_BYTES >> 30} GiB "
            "(row_group_size=100)"
        )
    yield from file.read_row_group(group, columns=list(leaves), use_threads=False).to_batches()


@lru_cache(maxsize=64)
def _starts(path: Path, _: int) -> NDArray[np.int64]:
    """Return the first row of each row group of a file."""
    metadata = _parquet(path, ()).metadata
    counts = [metadata.row_group(one).num_rows for one in range(metadata.num_row_groups)]
    return np.cumsum([0, *counts[:-1]])


def _parquet(path: Path, once: tuple[str, ...]) -> Any:
    """Open a file whose columns of `once` are read as words."""
    return pyarrow().parquet.ParquetFile(path, read_dictionary=list(once))


def _check_uncompressed(path: Path, mapped: Any) -> None:
    """Check that the buffers of an Arrow stream are stored as they are.

    Compressed ones would be made in memory, of whatever size they tell.
    """
    reader = pyarrow().ipc.MessageReader.open_stream(mapped)
    for message in reader:
        if message.type in ("record batch", "dictionary") and _is_compressed(message):
            raise ContainerError(
                f"Arrow file {path} is compressed; save the data with datasets' save_to_disk, or "
                "as Parquet"
            )
        if message.type == "dictionary":
            raise ContainerError(
                f"Arrow file {path} stores words once for many rows (dictionaries), which datasets "
                "do not; save the data as Parquet"
            )


def _is_compressed(message: Any) -> bool:
    """Say whether the body of a message is compressed.

    The flat buffer (https://github.com/apache/arrow/blob/main/format/Message.fbs) has the record
    batch as the third field of a message, and the compression as the fourth of a record batch.
    """
    data = bytes(message.metadata)
    root = struct.unpack_from("<I", data, 0)[0]
    header = _field(data, root, 2)
    return header is not None and _field(data, header, 3) is not None


def _field(data: bytes, table: int, number: int) -> int | None:
    """Return the place of a table that is a field of another one."""
    slots = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", data, slots)[0]:
        return None
    offset = struct.unpack_from("<H", data, slots + 4 + 2 * number)[0]
    if not offset:
        return None
    place = table + int(offset)
    return place + int(struct.unpack_from("<I", data, place)[0])


class _LongWordError(ValueError):
    """Says that a text is too long for a name."""


class _Sentences:
    """Turns what pyarrow raises on damaged files into a sentence."""

    def __init__(self, kind: str, path: Path) -> None:
        self._kind, self._path = kind, path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        arrow = pyarrow()
        if isinstance(error, (ContainerError, PermissionError, FileNotFoundError)):
            return
        if isinstance(error, _LongWordError):
            raise ContainerError(
                f"{self._kind} file {self._path} holds {error}, at most {LONGEST_WORD} are taken; "
                "shorten it"
            ) from None
        if isinstance(error, (arrow.ArrowException, *DAMAGE)):
            raise ContainerError(
                f"{self._kind} file {self._path} is damaged or cut short "
                f"({one_line(error)}); fetch it again, or write it anew"
            ) from None
