"""A file that is no longer what was recorded is found, without hashing the old ones."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from hardset.listing import Listed, changed_file

HOUR = 3600 * 10**9
NOON = 1_700_000_000 * 10**9


def written(path: Path, content: bytes, time: int) -> Listed:
    path.write_bytes(content)
    os.utime(path, ns=(time, time))
    return Listed(path, len(content), hashlib.sha256(content).hexdigest())


def test_size_and_time_come_before_content(tmp_path: Path) -> None:
    hashed: list[Path] = []

    def counted(path: Path) -> BinaryIO:
        hashed.append(path)
        return path.open("rb")

    marker = written(tmp_path / "manifest", b"", NOON).path
    old = written(tmp_path / "old", b"four", NOON - HOUR)
    new = written(tmp_path / "new", b"copy", NOON + HOUR)
    assert changed_file([old, new], marker, opened=counted) is None
    assert hashed == [new.path]
    # That look counts from now on.
    assert marker.stat().st_mtime_ns > NOON + HOUR
    assert changed_file([old, new], marker, opened=counted) is None
    assert hashed == [new.path]
    # Without a time to compare with all are hashed.
    assert changed_file([old, new], opened=counted) is None
    assert hashed == [new.path, old.path, new.path]


def test_what_has_changed(tmp_path: Path) -> None:
    marker = written(tmp_path / "manifest", b"", NOON).path
    one = written(tmp_path / "one", b"four", NOON - HOUR)
    two = written(tmp_path / "two", b"five", NOON - HOUR)
    unsized = two._replace(size=None)
    written(two.path, b"longer", NOON - HOUR)
    assert changed_file([one, two], marker) == two.path
    written(two.path, b"six!", NOON + HOUR)
    assert changed_file([one, two], marker) == two.path
    assert changed_file([one, unsized], marker) == two.path
    assert changed_file([one, two]) == two.path
    assert marker.stat().st_mtime_ns == NOON, "what has changed is told again"
    # The limit of a look at sizes and times.
    written(two.path, b"six!", NOON - HOUR)
    assert changed_file([one, two], marker) is None
    two.path.unlink()
    assert changed_file([one, two], marker) == two.path
