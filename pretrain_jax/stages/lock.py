"""One process at a time in a folder whose work is not divided into shards."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LOCK", "alone"]

LOCK = ".lock"


@contextmanager
def alone(folder: str | Path, *, joined: bool = False) -> Iterator[None]:
    """Hold a folder for as long as the block runs; a killed process lets go of it.

    Args:
        folder: exists and can be written.
        joined: whether processes of several hosts work in it together; then nothing is held.

    Raises:
        ValueError: another process holds it.
    """
    if joined or sys.platform == "win32":
        yield
        return
    import fcntl

    with (Path(folder) / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process works in {folder}; wait until it ends, or name another folder"
            ) from None
        yield
