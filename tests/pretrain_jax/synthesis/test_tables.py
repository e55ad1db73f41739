"""Sharded tables: rows survive any division; shards are whole or missing; little is held."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pretrain_jax.synthesis.tables import (
    Logged,
    Shards,
    Table,
    missing_shards,
    read_logs,
    shard_range,
    write_shard,
    write_table,
)

SCHEMA = {"number": "int64", "name": "string", "half": "float32"}


def batches(first: int, end: int, size: int, logged: Logged | None = None) -> Iterator[dict]:
    for start in range(first, end, size):
        number = np.arange(start, min(start + size, end))
        if logged is not None:
            logged.add("rows", len(number))
        yield {
            "number": number,
            "name": [f"image {n}.png" for n in number],
            "half": (number / 2).astype(np.float32),
        }


def written(folder: Path, rows: int, shards: int, size: int = 7) -> Table:
    for shard in range(shards):
        write_shard(folder, shard, shards, batches(*shard_range(rows, shard, shards), size), SCHEMA)
    return Table(folder)


@given(rows=st.integers(0, 10_000), shards=st.integers(1, 50))
def test_shards_are_a_partition(rows: int, shards: int) -> None:
    ranges = [shard_range(rows, shard, shards) for shard in range(shards)]
    joined = [row for first, end in ranges for row in range(first, end)]
    assert joined == list(range(rows))
    sizes = {end - first for first, end in ranges}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("shards", [1, 4, 30])
def test_rows_come_back(tmp_path: Path, shards: int) -> None:
    table = written(tmp_path, 23, shards)
    assert table.rows == 23
    assert table.columns == tuple(SCHEMA)
    np.testing.assert_array_equal(table.column("number"), np.arange(23))
    for start, stop, size in ((0, None, 5), (3, 20, 4), (7, 8, 100), (9, 9, 3), (20, 99, 2)):
        found = list(table.batches(start=start, stop=stop, size=size))
        wanted = list(range(23))[start:stop]
        assert [n for batch in found for n in batch["number"]] == wanted
        assert [n for batch in found for n in batch["name"]] == [f"image {n}.png" for n in wanted]
        assert all(len(batch["number"]) <= size for batch in found)


def test_rows_are_taken_in_any_order(tmp_path: Path) -> None:
    table = written(tmp_path, 23, 4)
    rows = np.array([22, 0, 5, 5, 17, 1])
    taken = table.take(rows, ["name", "number"])
    assert list(taken) == ["name", "number"]
    assert taken["number"].tolist() == rows.tolist()
    assert taken["name"].tolist() == [f"image {row}.png" for row in rows]
    assert len(table.take(np.zeros(0, np.int64))["number"]) == 0
    with pytest.raises(ValueError, match="rows -1 to 3 of a table with 23 rows"):
        table.take(np.array([3, -1]))


def test_missing_and_damaged_shards(tmp_path: Path) -> None:
    assert missing_shards(tmp_path, 3) == [0, 1, 2]
    write_shard(tmp_path, 1, 3, batches(0, 5, 2), SCHEMA, logged=Logged())
    assert missing_shards(tmp_path, 3) == [0, 2]
    with pytest.raises(ValueError, match=r"not whole: 1 shard\(s\) of 00003"):
        Table(tmp_path)
    with pytest.raises(ValueError, match=r"not whole: 0 shard\(s\)"):
        Table(tmp_path, "other")
    write_table(tmp_path, "other", batches(0, 5, 2), SCHEMA)
    assert Table(tmp_path, "other").rows == 5
    (tmp_path / "other-00000-of-00001.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match=r"holds no checksum.*; put it back, or delete the folder"):
        Table(tmp_path, "other")


def test_an_interrupted_shard_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[dict]:
        yield from batches(0, 100, 10)
        raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="power"):
        write_shard(tmp_path, 0, 1, broken(), SCHEMA, logged=Logged())
    assert list(tmp_path.iterdir()) == []


def test_logs_add_up(tmp_path: Path) -> None:
    for shard in range(3):
        logged = Logged(notes=[f"note {shard}"])
        first, end = shard_range(100, shard, 3)
        write_shard(tmp_path, shard, 3, batches(first, end, 9, logged), SCHEMA, logged=logged)
    total = read_logs(tmp_path, 3)
    assert total.counts == {"rows": 100}
    assert total.notes == ["note 0", "note 1", "note 2"]
    assert total.seconds > 0


def test_arguments() -> None:
    assert Shards.of(9, 3).mine == (0, 1, 2)
    assert Shards.of(9, 3, 2).mine == (2,)
    assert [Shards.of(rows).count for rows in (0, 1, 5000, 5001)] == [1, 1, 1, 2]
    for shard, shards in ((3, 3), (-1, 3), (0, 0), (0, 10**6)):
        with pytest.raises(ValueError, match="valid range"):
            Shards.of(9, shards, shard)


def test_a_large_table_is_never_held(tmp_path: Path) -> None:
    """200,000 rows with long names pass through a fraction of their size, in and out."""
    rows, name = 200_000, "x" * 200

    def long(first: int, end: int) -> Iterator[dict[str, NDArray | list[str]]]:
        for start in range(first, end, 4096):
            number = np.arange(start, min(start + 4096, end))
            names = [f"{name}/{n}.png" for n in number]
            yield {"number": number, "name": names, "half": number.astype(np.float32)}

    size = rows * (len(name) + 20)  # at least 44 MB
    # What other tests hold in Arrow does not count.
    pool = pyarrow.default_memory_pool()
    held = pool.bytes_allocated()
    tracemalloc.start()
    peak = 0
    for shard in range(2):
        write_shard(tmp_path, shard, 2, long(*shard_range(rows, shard, 2)), SCHEMA)
    total = 0
    table = Table(tmp_path)
    for batch in table.batches(["number", "name"]):
        total += int(batch["number"].sum())
        peak = max(peak, pool.bytes_allocated() - held)
    python_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == rows * (rows - 1) // 2
    assert python_peak < size / 4
    assert peak < size / 2
