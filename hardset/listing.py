"""Reads and writes sealed JSON records, and listings of the files in a folder.

A listing names files with their bytes and checksums. The manifest of a finished stage is one, and
so is `checksums.json`, which is written into folders of formats that have no room for a checksum.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from hardset.cli import one_line
from hardset.datafile import write_bytes_atomic
from hardset.seal import SealError, check_seal, sealed_json

CHECKSUMS = "checksums.json"
LISTINGS = ("manifest.json", CHECKSUMS)
# Entries of a listing that name files; `local` ones differ from computer to computer.
PARTS = ("outputs", "local")
LARGEST = 1 << 28  # bytes of a listing: some two million files
CHUNK = 1 << 20


class Listed(NamedTuple):
    """The record of a file: its place, size and checksum.

    Attributes:
        path: where it lies.
        size: in bytes; None where that was not recorded.
        sha256: of its content.
    """

    path: Path
    size: int | None
    sha256: str


def file_record(path: Path) -> dict[str, Any]:
    """Measure the bytes and the SHA-256 of a file, as listings hold them."""
    with open_file(path) as file:
        return stream_record(file)


def stream_record(file: BinaryIO) -> dict[str, Any]:
    """Measure what is left to read of an open file, as `file_record` does."""
    found = hashlib.sha256()
    size = 0
    while chunk := file.read(CHUNK):
        found.update(chunk)
        size += len(chunk)
    return {"bytes": size, "sha256": found.hexdigest()}


def size_and_time(path: Path) -> tuple[int, int]:
    """Return the bytes of a file, and when it was written, in nanoseconds."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading."""
    return path.open("rb")


def changed_file(
    files: Iterable[Listed],
    since: Path | None = None,
    *,
    look: Callable[[Path], tuple[int, int]] = size_and_time,
    opened: Callable[[Path], BinaryIO] = open_file,
) -> Path | None:
    """Find the first file that is gone or differs from its record.

    With `since`, only a file that is not older than it is hashed; of an older one the size alone is
    compared. A change that keeps the size and an old time is not seen then. When nothing differs,
    `since` gets the time at which this check began. So a copied folder, all of whose files are new,
    is hashed once.

    Args:
        files: as they were recorded.
        since: a file that was written at a time when all of them were as recorded; None hashes all.
        look: gives size and time of a file; raises OSError or ValueError where it is gone.
        opened: opens a file.
    """
    now = time.time_ns()
    known = 0 if since is None else since.stat().st_mtime_ns
    hashed = False
    for path, size, sha256 in files:
        try:
            present, written = look(path)
            if size is not None and present != size:
                return path
            if written >= known:
                hashed = True
                with opened(path) as file:
                    if stream_record(file)["sha256"] != sha256:
                        return path
        except PermissionError:  # it may be as it was
            raise
        except (OSError, ValueError):
            return path
    if hashed and since is not None:
        with suppress(OSError):  # of another user: hashed again the next time
            os.utime(since, ns=(now, now))
    return None


def write_record(path: Path, record: Mapping[str, Any], *, replace: bool = True) -> None:
    """Write a JSON object with a checksum and sorted keys, atomically.

    Args:
        path: the file.
        record: JSON-able.
        replace: whether a file that is there may be replaced, see `atomic_file`.

    Raises:
        ValueError: a number that is not finite.
        OSError: it cannot be written.
    """
    # Sorted here: the seal comes last.
    text = json.dumps(record, sort_keys=True, allow_nan=False)
    write_bytes_atomic(path, sealed_json(json.loads(text), indent=1), replace=replace)


def read_record(path: Path) -> dict[str, Any]:
    """Read the JSON object that `write_record` wrote.

    Raises:
        ValueError: it cannot be read, has no checksum, or is not what was written.
    """
    try:
        check_seal(path)
        record = json.loads(path.read_bytes())
    except PermissionError:  # it may be as it was
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except SealError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not isinstance(record, dict) or "seal" not in record:
        raise ValueError(f"{path} is damaged: it holds no JSON object with a checksum")
    del record["seal"]
    return record


def first_difference(name: str, old: Any, new: Any) -> tuple[str, Any, Any] | None:
    """Find the first difference of nested records: its path, and both values."""
    if old == new:
        return None
    if isinstance(old, dict) and isinstance(new, dict):
        parts = (
            first_difference(f"{name}.{key}", old.get(key), new.get(key))
            for key in sorted(old.keys() | new.keys())
        )
        return next((one for one in parts if one is not None), None)
    return name, old, new


def check_sealed(path: Path) -> None:
    """Check a file's seal, but not again while the file stays the same.

    Within a process a file counts as the same while its size, time and inode do not change.

    Raises:
        SealError: it is not what was written.
        OSError: it cannot be read.
    """
    status = path.stat()
    _check_once(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=4096)
def _check_once(path: Path, *_: int) -> None:
    check_seal(path)


def write_listing(folder: Path) -> None:
    """Write `checksums.json` with bytes and SHA-256 of every file below a folder.

    Raises:
        OSError: a file cannot be read, or the listing cannot be written.
    """
    outputs = {
        path.relative_to(folder).as_posix(): file_record(path)
        for path in _files(folder)
        if path != folder / CHECKSUMS
    }
    write_bytes_atomic(folder / CHECKSUMS, sealed_json({"outputs": outputs}, indent=1))


def read_listing(path: Path) -> list[Listed]:
    """Read the records of the files that a listing names.

    Other JSON names none.

    Raises:
        ValueError: it has changed, or is no JSON.
        OSError: it cannot be read.
    """
    record = _record(path)
    return [
        _listed(path, name, about)
        for part in PARTS
        if isinstance(record.get(part), dict)
        for name, about in record[part].items()
    ]


def _listed(path: Path, name: str, about: Any) -> Listed:
    """Read one entry of a listing at `path`."""
    match about:
        case {"bytes": int() as size, "sha256": str() as sha256}:
            pass
        case _:
            raise ValueError(f"{path} has changed: it does not say what {one_line(name)} is")
    inner = Path(name)
    if inner.is_absolute() or ".." in inner.parts or not _is_name(name):
        raise ValueError(f"{path} has changed: it names {one_line(name)}, outside its folder")
    return Listed(path.parent / inner, size, sha256)


def _is_name(name: str) -> bool:
    """Tell whether a file system can have a file of this name."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def check_listing(folder: Path) -> bool:
    """Check every file that a folder's `checksums.json` names.

    Returns:
        Whether there is one.

    Raises:
        ValueError: the listing or a file has changed, or a file is gone; says which.
        OSError: a file cannot be read.
    """
    if not (folder / CHECKSUMS).is_file():
        return False
    for one in read_listing(folder / CHECKSUMS):
        if not one.path.is_file():
            raise ValueError(f"{one.path} is gone")
        if changed_file([one]) is not None:
            raise ValueError(f"{one.path} has changed since it was written")
    return True


def _record(path: Path) -> dict[str, Any]:
    """Read the JSON object of a listing, and check its seal if it has one."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for ever
        raise ValueError(f"{path} is no file")
    if status.st_size > LARGEST:
        raise ValueError(f"{path} is larger than {LARGEST} bytes: it is no listing of files")
    try:
        intact = check_seal(path, required=path.name == CHECKSUMS)
        record = json.loads(path.read_bytes())
    except SealError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} has changed: it is no JSON: {one_line(error)}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} has changed: it holds no JSON object")
    if "seal" in record and not intact:
        raise SealError(f"{path} has changed since it was written: its checksum is gone")
    return record


def _files(folder: Path) -> Iterator[Path]:
    """List every file in a folder and those below it, in order."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(root) / name for name in sorted(names))
