"""Reads and writes array files (.npy, .npz), within bounds and with a seal.

NumPy's own reader believes what a header says. It allocates what a compressed archive promises,
takes True for a size, and raises a different exception for each kind of damage. The reader here
compares every size with the bytes that are there before it allocates anything, and refuses a file
in one sentence. Nothing is unpickled.
"""

import ast
import errno
import io
import json
import math
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hardset.cli import one_line
from hardset.seal import BLANK_SEAL, SealError, check_seal, is_sealed, sealed

LIMIT_BYTES = 1 << 30  # what a small archive may unpack to
LIMIT_RATIO = 20  # what a larger one may unpack to, over the file's size
LONGEST_HEADER = 10_000  # NumPy's own limit, characters
LONGEST_NOTE = 1 << 16  # bytes behind an array
CHUNK = 1 << 20
MAGIC = b"\x93NUMPY"
ZIP = b"PK"
ENCRYPTED = 1  # the bit of a zip entry's flags
SHOWN = 10  # names in a message
# Bytes of the header's length, and its encoding.
VERSIONS: dict[tuple[int, ...], tuple[int, str]] = {
    (1, 0): (2, "latin1"),
    (2, 0): (4, "latin1"),
    (3, 0): (4, "utf-8"),
}
HEADER_KEYS = {"descr", "fortran_order", "shape"}


class ArrayFileError(ValueError):
    """A file of arrays is missing, damaged, too large or of another kind."""


class ObjectsError(ArrayFileError):
    """A file of arrays holds Python objects, which are not read."""


def load_array(
    path: str | Path,
    *,
    key: str | None = None,
    mmap: bool = False,
    limit_bytes: int = LIMIT_BYTES,
) -> NDArray[Any]:
    """Read one array of an .npy or .npz file.

    The array has the byte order of this computer. A file that holds a seal (see `hardset.seal`) is
    checked against it.

    Args:
        path: the file; one called .npz is an archive, any other an .npy file.
        key: the array's name in an archive; may be left out where there is only one.
        mmap: whether an .npy file stays on disk, read-only; one of the other byte order is read.
        limit_bytes: what a compressed array may need in memory; 20 times the file's size is
            always read.

    Raises:
        ArrayFileError: the file is missing, damaged, cut short, encrypted, holds Python objects,
            promises more than is allowed, or has no such array.
    """
    path = Path(path)
    if _is_archive(path):
        with _archive(path) as archive:
            members = _members(path, archive)
            return _entry(path, archive, members[_only(path, key, members)], limit_bytes)
    if key is not None:
        raise ArrayFileError(
            f"{path} is an .npy file, which holds one array and no {one_line(key)}"
        )
    with _sentences(path), path.open("rb") as file:
        size = path.stat().st_size
        if file.read(len(ZIP)) == ZIP:
            raise ArrayFileError(f"{path} is an archive of arrays; give it the ending .npz")
        file.seek(0)
        header = _Header(file, f"{path}", size)
        left = size - header.begin
        if header.nbytes > left:
            raise ArrayFileError(
                f"{path} is cut short: {header} needs {header.nbytes} bytes, {left} are there"
            )
        behind = left - header.nbytes
        # Only a seal follows an array, or a note that ends with one (see `npy_bytes`).
        if behind not in (0, len(BLANK_SEAL)) and not (behind <= LONGEST_NOTE and is_sealed(path)):
            raise ArrayFileError(
                f"{path} is damaged: {behind} bytes follow {header}, which ends before them"
            )
        check_seal(path, required=behind > 0)
        if mmap and header.nbytes and header.dtype.isnative:
            return np.memmap(
                path, header.dtype, "r", header.begin, header.shape, "F" if header.fortran else "C"
            )
        return header.array(lambda count: file.read(count))


def load_arrays(path: str | Path, *, limit_bytes: int = LIMIT_BYTES) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz file by name, as `load_array` reads one.

    Args:
        path: the file.
        limit_bytes: what all arrays together may need in memory, see `load_array`.

    Raises:
        ArrayFileError: see `load_array`.
    """
    path = Path(path)
    with _archive(path) as archive:
        members = _members(path, archive)
        _check_size(path, "it", sum(one.file_size for one in members.values()), limit_bytes)
        return {
            name: _entry(path, archive, member, limit_bytes) for name, member in members.items()
        }


def array_names(path: str | Path) -> list[str]:
    """List the names of the arrays in an .npz file.

    Raises:
        ArrayFileError: the file is missing or damaged.
    """
    path = Path(path)
    with _archive(path) as archive:
        return list(_members(path, archive))


def npy_bytes(array: NDArray[Any], note: Mapping[str, Any] | None = None) -> bytes:
    """Make the bytes of an .npy file with a seal behind the array.

    Other readers of the format never look behind the array.

    Args:
        array: its content.
        note: what it was made with, JSON-able; a line of JSON behind the array holds it and the
            seal. One that is longer than 64 KiB is left out.
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    line = b"" if note is None else f"\n{json.dumps({**note, 'seal': BLANK_SEAL})}\n".encode()
    return sealed(buffer.getvalue() + (line if len(line) <= LONGEST_NOTE else b""))


def npz_bytes(arrays: Mapping[str, NDArray[Any]], *, compressed: bool = False) -> bytes:
    """Make the bytes of an .npz file whose seal is the archive's comment."""
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **dict(arrays))  # type: ignore[arg-type]
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = BLANK_SEAL.encode()
    return sealed(buffer.getvalue())


class _Header:
    """The checked header of an .npy file.

    `begin` is the place in the file where the array begins.
    """

    def __init__(self, file: IO[bytes], name: str, size: int) -> None:
        self.name = name
        start = file.read(len(MAGIC) + 2)
        if start[: len(MAGIC)] != MAGIC:
            raise ArrayFileError(f"{name} is no .npy file: it does not begin as one")
        version = tuple(start[len(MAGIC) :])
        if version not in VERSIONS:
            raise ArrayFileError(f"{name} is an .npy file of unknown version {version}")
        width, encoding = VERSIONS[version]
        length = int.from_bytes(file.read(width), "little")
        if length > min(LONGEST_HEADER, size):
            raise ArrayFileError(f"{name} is damaged: its header has {length} bytes")
        text = file.read(length)
        self.begin = len(start) + width + len(text)
        try:
            known = ast.literal_eval(_python3(text.decode(encoding)))
            if not isinstance(known, dict) or known.keys() != HEADER_KEYS:
                raise ValueError("it has other entries than descr, fortran_order and shape")
            self.dtype = np.lib.format.descr_to_dtype(known["descr"])
        except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError) as e:
            raise ArrayFileError(
                f"{name} is damaged: its header cannot be read: {one_line(e)}"
            ) from None
        self.shape, self.fortran = known["shape"], known["fortran_order"]
        if (
            not isinstance(self.shape, tuple)
            or not all(type(n) is int and 0 <= n < 2**63 for n in self.shape)
            or len(self.shape) > 32
            or not isinstance(self.fortran, bool)
        ):
            raise ArrayFileError(
                f"{name} is damaged: it says shape = {one_line(self.shape)}, fortran_order = "
                f"{one_line(self.fortran)}"
            )
        if self.dtype.hasobject:
            raise ObjectsError(
                f"{name} has dtype {self.dtype}: it holds pickled Python objects, which are not "
                "read; convert it by array.astype(float), or astype(str), and save it again"
            )
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        # The product is exact; NumPy's own would wrap around.
        if math.prod(n for n in self.shape if n) * max(self.dtype.itemsize, 1) >= 2**63:
            raise ArrayFileError(f"{name} is damaged: {self} is larger than any memory")

    def __str__(self) -> str:
        return f"an array of shape {one_line(self.shape)} and dtype {one_line(self.dtype)}"

    def array(self, read: Callable[[int], bytes]) -> NDArray[Any]:
        """Make the array from the bytes that `read` gives.

        `read` takes a number of bytes, and gives at most as many.
        """
        if not self.nbytes:
            return np.zeros(self.shape, self.dtype.newbyteorder("="))
        content = np.empty(self.nbytes, np.uint8)
        place = 0
        while place < self.nbytes:
            part = read(min(CHUNK, self.nbytes - place))
            if not part:
                raise ArrayFileError(f"{self.name} is cut short: {self} has {self.nbytes} bytes")
            content[place : place + len(part)] = np.frombuffer(part, np.uint8)
            place += len(part)
        flat = content.view(self.dtype)
        if not self.dtype.isnative:
            flat = flat.astype(self.dtype.newbyteorder("="))
        return flat.reshape(self.shape[::-1]).T if self.fortran else flat.reshape(self.shape)


def _python3(header: str) -> str:
    """Remove from a header the letter L that Python 2 wrote behind long integers."""
    return re.sub(r"(\d)L\b", r"\1", header)


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _check_regular(path: Path) -> None:
    """Raise ArrayFileError where no regular file has this name.

    To read a pipe would block for ever.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ArrayFileError(f"{path} does not exist") from None
    if not stat.S_ISREG(mode):
        raise ArrayFileError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'no file'}")


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn whatever is wrong with a file into one ArrayFileError."""
    try:
        _check_regular(path)
        yield
    except ArrayFileError:
        raise
    except SealError as error:
        raise ArrayFileError(str(error)) from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # an archive that begins before the file does
            raise ArrayFileError(f"{path} is damaged") from None
        raise ArrayFileError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise ArrayFileError(f"{path} does not fit into memory") from None
    except Exception as error:  # zip archives raise many types on damaged input
        raise ArrayFileError(f"{path} is damaged: {one_line(error)}") from None


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an .npz file and check its seal if it has one."""
    with _sentences(path):
        if not zipfile.is_zipfile(path):
            raise ArrayFileError(f"{path} is no .npz archive, or is cut short")
        with zipfile.ZipFile(path) as archive:
            check_seal(path, required=len(archive.comment) == len(BLANK_SEAL))
            yield archive


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Find an archive's entries by array name; refuse entries that cannot be read."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name, shown = member.filename.removesuffix(".npy"), one_line(member.filename)
        if name in found:
            raise ArrayFileError(f"{path} is damaged: it holds {shown} twice")
        if member.flag_bits & ENCRYPTED:
            raise ArrayFileError(f"{path} is encrypted; save it again without a password")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArrayFileError(
                f"{path} is compressed in a way that NumPy does not write; save it again"
            )
        if not member.filename.endswith(".npy"):
            raise ArrayFileError(f"{path} holds {shown}, which is no array")
        found[name] = member
    return found


def _entry(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit_bytes: int
) -> NDArray[Any]:
    """Read one array of an archive."""
    name = f"{path}:{one_line(member.filename.removesuffix('.npy'))}"
    _check_size(path, name, member.file_size, limit_bytes)
    with archive.open(member) as stream:
        header = _Header(stream, name, member.file_size)
        held = member.file_size - header.begin
        if header.nbytes != held:
            raise ArrayFileError(
                f"{name} is damaged: {header} needs {header.nbytes} bytes, {held} are there"
            )
        array = header.array(stream.read)
        stream.read(1)  # at its end the checksum is compared
        return array


def _check_size(path: Path, name: str, needed: int, limit_bytes: int) -> None:
    size = path.stat().st_size
    if needed > max(limit_bytes, LIMIT_RATIO * size):
        raise ArrayFileError(
            f"{path} has {size} bytes and {name} promises {needed}; at most {limit_bytes} bytes, "
            f"or {LIMIT_RATIO} times the file, are unpacked: save it uncompressed"
        )


def _only(path: Path, key: str | None, known: Mapping[str, Any]) -> str:
    """Return the key of the wanted array; without `key`, that of the only array."""
    if key is None and len(known) == 1:
        return next(iter(known))
    if key is None or key not in known:
        names = ", ".join(one_line(one) for one in list(known)[:SHOWN])
        more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
        asked = "needs a key" if key is None else f"holds no {one_line(key)}"
        raise ArrayFileError(f"{path} {asked}; it holds {names or 'no array'}{more}")
    return key
