"""Files of torch.save written by hand, opcode by opcode, so that no torch is needed."""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class View:
    """A strided view of a storage, as torch describes it."""

    key: str
    storage: str
    count: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def whole(key: str, array: NDArray, storage: str = "FloatStorage") -> View:
    """The view that is all of a contiguous array."""
    strides = tuple(step // array.itemsize for step in array.strides)
    return View(key, storage, array.size, 0, array.shape, strides)


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def integers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(view: View, *, legacy: bool = False) -> bytes:
    """REDUCE of _rebuild_tensor_v2 on (storage, offset, shape, strides, False, OrderedDict())."""
    storage = (
        b"(" + text("storage") + f"ctorch\n{view.storage}\n".encode() + text(view.key)
        + text("cpu") + integer(view.count) + (b"N" if legacy else b"") + b"tQ"
    )  # fmt: skip
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + integer(view.offset)
        + integers(view.shape) + integers(view.strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def table(entries: Mapping[str, bytes]) -> bytes:
    """A dictionary with string keys."""
    items = b"".join(text(name) + value for name, value in entries.items())
    return b"}(" + items + b"u"


def zip_file(path: Path, body: bytes, storages: Mapping[str, bytes], **options: int) -> Path:
    """The zip format; `body` is the pickle without protocol and STOP."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
        archive.writestr("archive/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def legacy_file(path: Path, body: bytes, storages: Mapping[str, tuple[int, bytes]]) -> Path:
    """The format before torch 1.6; storages are (count, bytes)."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    parts += [b"\x80\x02" + body + b".", pickle.dumps(list(storages), 2)]
    parts += [struct.pack("<q", count) + data for count, data in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


def small_file(path: Path) -> tuple[Path, dict[str, NDArray]]:
    """A zip file with two views of one storage, and what they hold."""
    values = np.arange(6, dtype=np.float32)
    views = {
        "a": whole("0", values.reshape(2, 3)),
        "b": View("0", "FloatStorage", 6, 1, (2,), (3,)),
    }
    body = table({name: tensor(view) for name, view in views.items()})
    expected = {"a": values.reshape(2, 3), "b": values[1::3]}
    return zip_file(path, body, {"0": values.tobytes()}), expected
