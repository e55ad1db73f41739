"""Files as a stage recorded them, records with a checksum, and whether both are the same by now."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hardset.datafile import write_bytes_atomic
from hardset.seal import SealError, check_seal, sealed_json

__all__ = [
    "Recorded",
    "changed_file",
    "check_sealed",
    "file_record",
    "read_record",
    "write_record",
]

CHUNK = 1 << 20


class Recorded(NamedTuple):
    """A file as it was.

    Attributes:
        path: where it lies.
        size: in bytes; None where that was not recorded.
        sha256: of its content.
    """

    path: Path
    size: int | None
    sha256: str


def file_record(path: Path) -> dict[str, Any]:
    """Bytes and sha256 of a file."""
    found = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": found.hexdigest()}


def changed_file(files: Iterable[Recorded], since: Path | None = None) -> Path | None:
    """The first file that is gone or another one than was recorded.

    With `since`, size and time come first: only a file that is not older is hashed. When all are
    the same `since` takes the time of this look, so that a copy, all of whose files are new, is
    hashed once. A change that keeps both size and time is not seen then.

    Args:
        files: as they were recorded.
        since: a file that was written at a time when all of them were as recorded; None hashes all.
    """
    now = time.time_ns()
    known = 0 if since is None else since.stat().st_mtime_ns
    hashed = False
    for path, size, sha256 in files:
        try:
            found = path.stat()
            if size is not None and found.st_size != size:
                return path
            if found.st_mtime_ns >= known:
                hashed = True
                if file_record(path)["sha256"] != sha256:
                    return path
        except PermissionError:  # it may be as it was
            raise
        except OSError:
            return path
    if hashed and since is not None:
        with suppress(OSError):  # of another user: hashed again the next time
            os.utime(since, ns=(now, now))
    return None


def write_record(path: Path, record: Mapping[str, Any], *, replace: bool = True) -> None:
    """Write a JSON object with a checksum, atomically; keys are sorted.

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
    """The JSON object that `write_record` wrote.

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


def check_sealed(path: Path) -> None:
    """Check a file's seal, once in a process as long as its size and time stay.

    Raises:
        SealError: it is not what was written.
        OSError: it cannot be read.
    """
    status = path.stat()
    _check_once(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=4096)
def _check_once(path: Path, *_: int) -> None:
    check_seal(path)
