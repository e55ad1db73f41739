"""The loop over a stage's missing shards."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pretrain_jax.stages.tables import Logged, missing_shards, shard_range, write_shard

__all__ = ["left_of", "make_shards"]

# Shard, its first row, its end, what it counts, the progress bar -> the shard's rows.
Make = Callable[[int, int, int, Logged, Any], Iterator[Mapping[str, Any]]]


def left_of(folder: Path, mine: Sequence[int], shards: int) -> list[int]:
    """Those of the shards `mine` that are not written yet."""
    missing = set(missing_shards(folder, shards))
    return [one for one in mine if one in missing]


def make_shards(
    folder: Path,
    todo: Sequence[int],
    shards: int,
    rows: int,
    columns: Mapping[str, str],
    make: Make,
    *,
    name: str,
    unit: str,
    progress: bool,
) -> None:
    """Write shards one after another, each whole or not at all.

    Args:
        folder: of the stage.
        todo: shards to write.
        shards: how many there are in all.
        rows: that are divided among them.
        columns: type of each column by name.
        make: gives a shard's rows.
        name: of the work, on the progress bar.
        unit: of the progress bar.
        progress: whether it is drawn.
    """
    ranges = [shard_range(rows, one, shards) for one in todo]
    total = sum(end - first for first, end in ranges)
    with tqdm(total=total, desc=name, unit=unit, disable=not progress) as bar:
        for one, (first, end) in zip(todo, ranges, strict=True):
            logged = Logged()
            made = make(one, first, end, logged, bar)
            write_shard(folder, one, shards, made, columns, logged=logged)
