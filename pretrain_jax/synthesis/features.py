"""Features of what was scored on disk, a shard at a time, never all in memory."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardset.seal import BLANK_SEAL, SealError, seal_file
from pretrain_jax.stages.files import check_sealed
from pretrain_jax.stages.manifest import remedy

__all__ = ["FeatureWriter", "join_features", "missing_features", "read_features"]

FEATURES = "features.npy"
# What follows the rows in a shard: their width, and the seal.
END = 8 + len(BLANK_SEAL)


class FeatureWriter:
    """Appends rows of float32 to a shard's file, which is there only after a `with` block's end.

    Args:
        folder: of the stage.
        shard: 0 ... shards - 1.
        shards: of the table.
    """

    def __init__(self, folder: Path, shard: int, shards: int) -> None:
        self._path = _part(folder, shard, shards)
        self._temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        self._width = 0

    def __enter__(self) -> "FeatureWriter":
        self._file = self._temporary.open("wb")
        return self

    def add(self, rows: NDArray[np.floating]) -> None:
        """Append rows, (n, width)."""
        self._width = rows.shape[1]
        self._file.write(np.ascontiguousarray(rows, np.float32).tobytes())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.write(np.array([self._width], np.int64).tobytes())
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            seal_file(self._temporary)
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink()


def join_features(folder: Path, shards: int) -> None:
    """Make `features.npy`, shape (n, width), of the shards and delete them.

    Two processes that finish a stage at the same time may both do it.
    """
    target = folder / FEATURES
    paths = [_part(folder, shard, shards) for shard in range(shards)]
    try:
        counts = [_shape(path) for path in paths]
        width = max(width for _, width in counts)
        temporary = folder / f".{FEATURES}.{os.getpid()}"
        joined = np.lib.format.open_memmap(
            temporary, "w+", np.float32, (sum(rows for rows, _ in counts), width)
        )
        start = 0
        for path, (rows, own) in zip(paths, counts, strict=True):
            if rows:
                joined[start : start + rows] = np.memmap(path, np.float32, "r", 0, (rows, own))
            start += rows
        joined.flush()
        seal_file(temporary)
        temporary.replace(target)
    except FileNotFoundError:
        if not target.is_file():
            raise
    for path in paths:
        path.unlink(missing_ok=True)


def read_features(folder: str | Path) -> NDArray[np.float32]:
    """Features of a score stage, memory-mapped, shape (n, width).

    Raises:
        ValueError: the stage has none, or they are damaged.
    """
    path = Path(folder) / FEATURES
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no {FEATURES}; scores of whole images have features, those of patches "
            "with python -m pretrain_jax score RUN --of NAME --features"
        )
    try:
        check_sealed(path)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except SealError as error:
        raise ValueError(f"{error}; {remedy(path)}") from None
    except (EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}; {remedy(path)}") from None


def missing_features(folder: Path, shards: int) -> list[int]:
    """Shards whose features are lost before they were joined."""
    if (folder / FEATURES).is_file():
        return []
    return [one for one in range(shards) if not _part(folder, one, shards).is_file()]


def _shape(path: Path) -> tuple[int, int]:
    """Rows and width of a shard, whose seal is checked."""
    try:
        check_sealed(path)
    except SealError as error:
        raise ValueError(f"{error}; {remedy(path)}") from None
    with path.open("rb") as file:
        file.seek(-END, os.SEEK_END)
        values = file.tell() // 4
        width = int(np.frombuffer(file.read(8), np.int64)[0])
    return (values // width if width else 0), width


def _part(folder: Path, shard: int, shards: int) -> Path:
    # Hidden: it is no output.
    return folder / f".features-{shard:05d}-of-{shards:05d}"
