"""Tables of features that pretrain_jax embed writes: never whole in memory."""

import dataclasses
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from hardset.cli import run
from hardset.seal import BLANK_SEAL, seal_file
from selection.__main__ import main
from selection.commands.inputs import PoolFiles
from selection.embeddings import Embeddings
from selection.files import read_array
from selection.pool import Pool
from selection.registry import parse_method

ROWS, WIDTH = 60, 5
NONE = dict.fromkeys([one.name for one in dataclasses.fields(PoolFiles)]) | {"orientation": "hard"}
VALUES = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float16)
IDS = [f"images/{row:03d}.png" for row in range(ROWS)]
GROUPS = [["", "patient-b", "patient-a"][row % 3] for row in range(ROWS)]
LABELS = [["dog", "cat"][row % 2] for row in range(ROWS)]


def table_of(rows: slice, values: np.ndarray = VALUES) -> pyarrow.Table:
    flat = pyarrow.array(values[rows].reshape(-1))
    columns = {"id": IDS[rows], "group": GROUPS[rows], "label": LABELS[rows]}
    lists = pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pyarrow.table({**columns, "features": lists})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three parts, of which the second has several groups of rows."""
    path = tmp_path / "features.parquet"
    path.mkdir()
    for number, (start, stop) in enumerate(((0, 7), (7, 50), (50, ROWS))):
        name = path / f"part-{number:05d}-of-00003.parquet"
        parquet.write_table(table_of(slice(start, stop)), name, row_group_size=20)
    return path


def selected(*arguments: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert run(main, ["select", *arguments]) == 0
    return capsys.readouterr().out.split()


def refused(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run(main, list(arguments)) == 2
    told = capsys.readouterr()
    assert told.out == "" and "Traceback" not in told.err
    return told.err


def farthest_first(values: np.ndarray, first: int, count: int) -> list[int]:
    """Gonzalez's rule, written anew with all distances at once."""
    distances = np.linalg.norm(values[:, None] - values[None], axis=2)
    picks = [first]
    while len(picks) < count:
        picks.append(int(np.argmax(distances[:, picks].min(axis=1))))
    return picks


def test_a_folder_is_read_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = VALUES.astype(np.float64)
    first = int(np.argmin(np.linalg.norm(wide - wide.mean(axis=0), axis=1)))
    expected = [IDS[row] for row in farthest_first(wide, first, 6)]
    arguments = ("k-center:first=central", "--budget", "6", "--features")
    assert selected(*arguments, str(folder), capsys=capsys) == expected
    # One file with the same columns, and a column that is named, give the same.
    one = folder.parent / "one.parquet"
    parquet.write_table(table_of(slice(None)), one)
    assert selected(*arguments, str(one), capsys=capsys) == expected
    ids = ("--ids", f"{one}:id")
    assert selected(*arguments, f"{one}:features", *ids, capsys=capsys) == expected


def test_labels_groups_and_given_ids_come_with_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = folder.parent / "given.txt"
    given.write_text(f"{IDS[3]}\n{IDS[40]}\n")
    arguments = ("k-center", "--budget", "4", "--features", str(folder), "--labels", str(folder))
    found = selected(*arguments, "--balance", "equal", "--given", str(given), capsys=capsys)
    labels = [LABELS[IDS.index(one)] for one in found]
    assert sorted(labels) == ["cat", "cat", "dog", "dog"]
    assert not {IDS[3], IDS[40]} & set(found)

    out = folder.parent / "kept.json"
    assert selected(*arguments, "--out", str(out), capsys=capsys)
    assert json.loads(out.read_text())["columns"]["id"][0] in IDS

    table = Embeddings(folder)
    numbers, names = table.labels("label")
    assert [names[one] for one in numbers] == LABELS
    numbers, none = table.groups("group")
    assert none is None
    # Named groups hold their rows together; a row without a group is one by itself.
    sizes = np.bincount(numbers)
    assert sorted(sizes[sizes > 0]) == [1] * 20 + [20, 20]
    with pytest.raises(ValueError, match=r"no label in row 0 of column group \(20 such row"):
        table.labels("group")


def test_scores_and_advice_read_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "scores.npy"
    arguments = ["score", "ssp:clusters=2", "--features", str(folder), "--out", str(out)]
    assert run(main, arguments) == 0
    assert np.load(out).shape == (ROWS,)
    told = refused("recommend", "--features", str(folder), capsys=capsys)
    assert "--labels is missing" in told


def test_rows_stay_on_disk(folder: Path) -> None:
    table = Embeddings(folder)
    features = table.array("features")
    assert isinstance(features, np.memmap) and features.dtype == np.float32
    np.testing.assert_array_equal(features, VALUES.astype(np.float32))
    assert table.array("id").tolist() == IDS and isinstance(table.array("id"), np.memmap)
    pool = Pool.of(features=features, ids=table.array("id"))
    assert np.shares_memory(pool.features, features)
    np.testing.assert_array_equal(pool.take(np.array([5, 2])).features, features[[5, 2]])


def test_a_table_is_never_in_memory(tmp_path: Path) -> None:
    """2^18 rows of 64 numbers are 64 MB in single precision, and their ids 20 MB."""
    rows, width = 2**18, 64
    values = np.random.default_rng(0).standard_normal((2**14, width)).astype(np.float16)
    (tmp_path / "features").mkdir()
    for number in range(rows // 2**14):
        ids = [f"{number * 2**14 + row:020d}" for row in range(2**14)]
        lists = pyarrow.FixedSizeListArray.from_arrays(values.reshape(-1), width)
        table = pyarrow.table({"id": ids, "features": lists})
        parquet.write_table(table, tmp_path / "features" / f"part-{number:05d}.parquet")
    method = parse_method("k-center")  # its imports are none of the data
    before = pyarrow.total_allocated_bytes()
    tracemalloc.start()
    files = PoolFiles.of(NONE | {"features": str(tmp_path / "features")})
    pool, _ = files.read()
    picks = method.select(pool, 2).indices
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pool) == rows and len(picks) == 2
    # What the method says of itself, and a block of 2^22 numbers while rows are copied.
    assert held < method.memory_bytes(rows, width, 2) + 4 * 2**22
    assert pyarrow.total_allocated_bytes() - before < 2**22


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_what_is_larger_than_a_block_moves_from_file_to_file(tmp_path: Path, kind: type) -> None:
    # 2^22 numbers are a block: these are a few more. Rows in another order stay on disk, too.
    rows = np.random.default_rng(1).standard_normal((2**14 + 3, 2**8)).astype(kind)
    np.save(tmp_path / "rows.npy", rows)
    pool = Pool.of(features=np.load(tmp_path / "rows.npy", mmap_mode="r"))
    order = np.random.default_rng(2).permutation(len(rows))
    moved = pool.take(order).features
    assert isinstance(pool.features, np.memmap) and isinstance(moved, np.memmap)
    np.testing.assert_array_equal(moved, rows[order].astype(np.float32))


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
from hardset.cli import run
from hardset.seal import BLANK_SEAL, seal_file
from selection.__main__ import main
sys.exit(run(main, sys.argv[1:]))
"""


def test_no_room_for_the_copy_is_said(folder: Path) -> None:
    # Files may have 500 bytes; the features need 60 x 5 x 4.
    arguments = ["select", "k-center", "--budget", "2", "--features", str(folder)]
    command = [sys.executable, "-c", LIMITED, *arguments]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 2 and child.stdout == ""
    assert "1200 bytes cannot be copied to the folder of temporary files" in child.stderr
    assert "name another with TMPDIR" in child.stderr and "Traceback" not in child.stderr


def test_what_is_wrong_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(source: Path | str) -> str:
        arguments = ("select", "k-center", "--budget", "2", "--features", str(source))
        return refused(*arguments, capsys=capsys)

    assert f"{folder} has no column 'size'; it has id, group, label" in told(f"{folder}:size")
    part = folder / "part-00001-of-00003.parquet"
    content = part.read_bytes()
    part.unlink()
    assert "holds 2 part(s) of 00003; put the missing ones back" in told(folder)
    part.write_bytes(content[:500])
    assert f"{part} cannot be read as Parquet" in told(folder)
    parquet.write_table(table_of(slice(7, 50), np.ones((ROWS, 3), np.float16)), part)
    assert "has 3 values in a list of row 7 of column features, 5 in row 0" in told(folder)
    parquet.write_table(pyarrow.table({"id": IDS}), part)
    assert f"{part} has the columns id, and" in told(folder)
    values = VALUES.copy()
    values[8, 1] = np.nan
    parquet.write_table(table_of(slice(7, 50), values), part)
    assert "features holds nan at index (8, 1)" in told(folder)
    part.write_bytes(content)
    (folder / "stage.json").write_text("{}")
    assert f"the stage in {folder} is not finished" in told(folder) or "embed" in told(folder)
    other = folder.parent / "other"
    other.mkdir()
    parquet.write_table(pyarrow.table({"c": [1.0]}), other / "table.parquet")
    assert f"{other} is a folder whose files have no column 'features'" in told(other)
    empty = folder.parent / "empty"
    empty.mkdir()
    assert f"{empty} is a folder without a .parquet file" in told(empty)


def test_a_table_that_another_program_rewrote_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path, rewritten = tmp_path / "written.parquet", tmp_path / "rewritten.parquet"
    rows = pyarrow.table({"features": pyarrow.array(np.arange(8.0).reshape(4, 2).tolist())})
    parquet.write_table(rows.replace_schema_metadata({"seal": BLANK_SEAL}), path)
    seal_file(path)
    # The metadata, with the seal in them, come along.
    parquet.write_table(parquet.read_table(path).slice(1), rewritten)
    with pytest.raises(ValueError, match=r"replace_schema_metadata\(None\)"):
        read_array("features", str(rewritten))
    parquet.write_table(parquet.read_table(path).slice(1).replace_schema_metadata(None), rewritten)
    np.testing.assert_array_equal(
        read_array("features", str(rewritten)), np.arange(2.0, 8.0).reshape(3, 2)
    )
