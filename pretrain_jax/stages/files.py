"""Files as a stage recorded them, and whether they are the same by now."""

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Recorded", "changed_file", "file_record"]

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
        except OSError:
            return path
    if hashed and since is not None:
        with suppress(OSError):  # of another user: hashed again the next time
            os.utime(since, ns=(now, now))
    return None
