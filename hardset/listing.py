"""Listings: what a folder holds, file by file, in one JSON file with bytes and checksums.

The manifest of a finished stage is one, and so is `checksums.json`, which is written into folders
of formats that have no room for a checksum.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
    """A file as it was recorded.

    Attributes:
        path: where it lies.
        size: in bytes.
        sha256: of its content.
    """

    path: Path
    size: int
    sha256: str


def file_digest(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def write_listing(folder: Path) -> None:
    """Write `checksums.json`: bytes and sha256 of every file in a folder and those below it.

    Raises:
        OSError: a file cannot be read, or the listing cannot be written.
    """
    outputs = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in _files(folder)
        if path != folder / CHECKSUMS
    }
    write_bytes_atomic(folder / CHECKSUMS, sealed_json({"outputs": outputs}, indent=1))


def read_listing(path: Path) -> list[Listed]:
    """The files that a listing names; none where it is no listing, but other JSON.

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
    """One entry of a listing at `path`."""
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
    """Whether a file system can have a file of this name."""
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
        if one.path.stat().st_size != one.size or file_digest(one.path) != one.sha256:
            raise ValueError(f"{one.path} has changed since it was written")
    return True


def _record(path: Path) -> dict[str, Any]:
    """The JSON object of a listing, its seal checked where it has one."""
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
    """Every file in a folder and those below it, in order."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(root) / name for name in sorted(names))
