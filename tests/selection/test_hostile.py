"""Files that are not what they say: one sentence each, within a stated bound of memory."""

import datetime
import decimal
import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse

from selection import KCenter, Pool, Scores, SelectionSampler, effective_dimension
from selection.files import read_array, read_subset
from selection.scoring.recorder import TrainingDynamics

GOOD = {"index": [1], "id": [1], "weight": [1.0]}
FACTS = {"objective": None, "nested": False, "requested": 1, "named": False, "diagnostics": {}}


def parquet(path: Path, column: pa.Array, name: str = "c") -> None:
    pq.write_table(pa.table({name: column}), path)


def whole(path: Path) -> bytes:
    parquet(path, pa.array(range(60)))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: b"", "file size is 0 bytes"),
        (lambda data: data[:-10], "magic bytes not found"),
        (lambda data: b"PAR1PAR1", "smaller than the size reported"),
        (lambda data: data[:-4] + b"PARE", "encrypted"),
        (lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1", "smaller than the size reported"),
        (lambda data: b"PAR1" + bytes(range(200)) + b"\x64\0\0\0PAR1", "cannot be read as Parquet"),
    ],
)
def test_broken_parquet(tmp_path: Path, change, sentence: str) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(change(whole(path)))
    with pytest.raises(ValueError, match=f"scores file .*x.parquet.*{sentence}") as error:
        read_array("scores", path)
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_random_bytes_in_parquet_are_read_or_refused(tmp_path: Path) -> None:
    """Without a seal nobody can tell a changed number; but nothing else may happen."""
    path, random = tmp_path / "x.parquet", np.random.default_rng(0)
    data = whole(path)
    for _ in range(60):
        broken = bytearray(data)
        for place in random.integers(len(data), size=4):
            broken[place] = random.integers(256)
        path.write_bytes(bytes(broken))
        try:
            assert read_array("scores", path).ndim == 1
        except ValueError as error:
            assert "x.parquet" in str(error)


def test_small_files_that_unpack_to_more_than_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet(path, pa.nulls(140_000_000, pa.bool_()))
    sentence = "c would need 1120000000 bytes of memory; at most 1073741824 are taken"
    with pytest.raises(ValueError, match=sentence):
        read_array("labels", path)
    # One long name among many: NumPy's texts are all as long as the longest.
    names = pa.DictionaryArray.from_arrays(pa.array([0, *[1] * 99], pa.int32()), ["x" * 3**14, "y"])
    parquet(path, names)
    with pytest.raises(ValueError, match="bytes of memory"):
        read_array("labels", path)


def test_columns_of_odd_names(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet(path, pa.array([1.0, 2.0]), "a.b")
    assert read_array("scores", path).tolist() == [1.0, 2.0]
    pq.write_table(pa.table({"\x1b[31m" + "a" * 10**5: [1.0], "b": [2.0]}), path)
    with pytest.raises(ValueError, match=r"it holds \\x1b\[31ma+ \.\.\. \(\d+ characters\), b"):
        read_array("scores", path)
    pq.write_table(pa.table({f"x{i}": [1.0] for i in range(3000)}), path)
    with pytest.raises(ValueError, match="x19 and 2980 more"):
        read_array("scores", path)
    assert read_array("features", f"{path}:x*").shape == (1, 3000)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 10**5 + "]" * 10**5, "RecursionError"),
        ("", "Expecting value"),
        ("[1, 2]", "it is no table"),
        ('{"columns": {"index": [' + "9" * 5000 + "]}}", "4300 digits"),
        ({"index": [-1]}, "distinct and not below 0"),
        ({"index": [1, 1], "id": [1, 1], "weight": [1, 1]}, "distinct and not below 0"),
        ({"index": [1.5]}, "not a whole number"),
        ({"index": [2**70]}, "must hold whole numbers"),
        ({"index": ["a"]}, "must hold whole numbers"),
        ({"index": [[1]]}, "must be"),
        ({"weight": [float("nan")]}, "weights must be finite"),
        ({"weight": [1, 2]}, "weights must be finite numbers, one a row"),
    ],
)
def test_hostile_subsets(tmp_path: Path, text, sentence: str) -> None:
    path = tmp_path / "k.json"
    if isinstance(text, dict):
        text = json.dumps({**FACTS, "columns": GOOD | text})
    path.write_text(text)
    with pytest.raises(ValueError, match=f"subset file .*k.json holds no subset: .*{sentence}"):
        read_subset(path)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.parquet"])
def test_folders_and_pipes_are_no_files(tmp_path: Path, name: str) -> None:
    """A pipe that nobody writes to would block its reader for ever."""
    path = tmp_path / name
    path.mkdir()
    with pytest.raises(ValueError, match=f"features file .*{name} is a folder"):
        read_array("features", path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f"features file .*{name} is no file"):
        read_array("features", path)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"features file .*{name} does not exist"):
        read_array("features", path)


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.coo_matrix])
def test_sparse_matrices_are_refused_with_the_remedy(kind) -> None:
    matrix = kind(np.eye(50))
    sentence = rf"features is a {kind.__name__} of SciPy; .*matrix.toarray\(\).*TruncatedSVD"
    for call in (
        lambda: Pool.of(features=matrix),
        lambda: effective_dimension(matrix),
        lambda: SelectionSampler(KCenter()).fit_resample(matrix, np.arange(50)),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["1", "2"], r"scores has dtype <U1; it must hold real numbers; .*array.astype\(float\)"),
        (np.array([1.0, None]), r"scores has dtype object; .*array.astype\(float\)"),
        ([[1.0], [2.0, 3.0]], "scores is no array: .*inhomogeneous"),
        (np.ones(2, complex), "scores has dtype complex128; it must hold real numbers$"),
        (np.zeros(2, "datetime64[s]"), "scores has dtype datetime64"),
    ],
)
def test_what_is_no_number(values, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Scores.of(values)


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("losses", np.float64(1), r"losses has shape \(\) and losses \(\); all must be"),
        ("margins", np.ones((1, 2, 5)), r"margins has shape \(1, 2, 5\) and losses \(1, 2, 4\)"),
        ("correct", np.ones((1, 2, 4)), "correct of dtype float64 must hold truth values"),
        ("margins", np.full((1, 2, 4), np.nan), "margins of dtype float64 must hold finite"),
        ("losses", np.full((1, 2, 4), "a"), "losses of dtype <U1 must hold finite"),
    ],
)
def test_dynamics_of_a_users_own(tmp_path: Path, name: str, array, sentence: str) -> None:
    arrays = {one.name: np.ones((1, 2, 4)) for one in fields(TrainingDynamics)}
    arrays["correct"] = arrays["correct"] > 0
    np.savez(tmp_path / "good.npz", **arrays)
    assert len(TrainingDynamics.load(tmp_path / "good.npz")) == 4
    np.savez(tmp_path / "bad.npz", **{**arrays, name: array})
    with pytest.raises(ValueError, match=f"bad.npz: {sentence}"):
        TrainingDynamics.load(tmp_path / "bad.npz")


DAY = datetime.date(2020, 1, 1)


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (pa.array([None, None]), "is of type null"),
        (pa.array([decimal.Decimal("1.5")] * 2), "is of type decimal"),
        (pa.array([DAY, DAY]), "is of type date"),
        (pa.array([0, 1], pa.timestamp("ns", "UTC")), "is of type timestamp"),
        (pa.array([0, 1], pa.time64("ns")), "is of type time"),
        (pa.array([0, 1], pa.duration("s")), "is of type duration"),
        (pa.array([b"a", b"\xff"]), "is of type binary"),
        (pa.array([b"ab", b"cd"], pa.binary(2)), "is of type fixed_size_binary"),
        (pa.array([{"a": 1}, {"a": 2}]), "is of type struct"),
        (pa.array([None, {"a": 1}]), "is of type struct"),
        (pa.array([[("a", 1)], [("b", 2)]], pa.map_(pa.string(), pa.int32())), "is of type map"),
        (pa.array([[{"a": 1}], [{"a": 1}]]), "is of type list<"),
        (pa.array([1, None]), "has no value in row 1"),
        (pa.array([1.0, None]), "has no value in row 1"),
        (pa.array([True, None]), "has no value in row 1"),
        (pa.array(["a", None]), "has no value in row 1"),
        (pa.array([[1], None]), "has no value in row 1"),
        (pa.array([[1.0], [None]]), "has no value in row 1"),
        (pa.array([[1], [1, 2]]), "has 2 values in a list of row 1"),
        (pa.array([[], []], pa.list_(pa.float64())), "has lists without values"),
        (pa.array([], pa.float64()), "has no rows"),
    ],
)
def test_columns_that_are_no_numbers_are_refused(
    tmp_path: Path, column: pa.Array, sentence: str
) -> None:
    path = tmp_path / "x.parquet"
    parquet(path, column)
    with pytest.raises(ValueError, match=rf"scores file .*x\.parquet.*{sentence}") as error:
        read_array("scores", path)
    assert "\n" not in str(error.value)
