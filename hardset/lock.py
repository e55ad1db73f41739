"""One process at a time in a folder, or at a file."""

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
    if joined:
        yield
        return
    from filelock import FileLock, Timeout  # 30 ms that `--help` need not pay

    try:
        with FileLock(Path(folder) / LOCK, timeout=0):
            yield
    except Timeout:
        raise ValueError(
            f"another process works in {folder}; wait until it ends, or name another folder"
        ) from None
