"""Files in and out: what was written comes back, what is broken is named."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse

from selection import Pool, Scores, Subset
from selection.files import (
    check_new_file,
    read_array,
    read_matrix,
    read_subset,
    read_subset_ids,
    write_npz,
    write_scores,
    write_subset,
)
from selection.scoring.recorder import TrainingDynamics

VECTORS = np.random.default_rng(0).random((4, 3))


def test_npy_stays_on_disk(tmp_path) -> None:
    np.save(tmp_path / "x.npy", VECTORS)
    found = read_array("features", tmp_path / "x.npy")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, VECTORS)


def test_a_sparse_matrix_is_read_where_it_is_of_use(tmp_path) -> None:
    matrix = scipy.sparse.csr_array(np.where(VECTORS > 0.5, VECTORS, 0.0))
    scipy.sparse.save_npz(tmp_path / "csr.npz", matrix)
    found = read_matrix("features", tmp_path / "csr.npz")
    assert isinstance(found, scipy.sparse.csr_array)
    np.testing.assert_array_equal(found.toarray(), matrix.toarray())
    np.savez(tmp_path / "dense.npz", x=VECTORS)
    np.testing.assert_array_equal(read_matrix("features", tmp_path / "dense.npz"), VECTORS)
    scipy.sparse.save_npz(tmp_path / "coo.npz", matrix.tocoo())
    with pytest.raises(ValueError, match=r"format coo; save matrix.tocsr\(\) instead"):
        read_matrix("features", tmp_path / "coo.npz")
    parts = {"data": matrix.data, "indices": matrix.indices + 7, "indptr": matrix.indptr}
    np.savez(tmp_path / "bad.npz", format=b"csr", shape=matrix.shape, **parts)
    with pytest.raises(ValueError, match=r"bad\.npz holds a damaged sparse matrix: "):
        read_matrix("features", tmp_path / "bad.npz")
    np.savez(tmp_path / "vast.npz", format=b"csr", shape=(4, 2**62), **parts)
    with pytest.raises(ValueError, match=r"vast\.npz holds .*: its shape would need \d+ bytes"):
        read_matrix("features", tmp_path / "vast.npz")
    np.savez(tmp_path / "flat.npz", format=b"csr", shape=(4, 3, 1), **parts)
    with pytest.raises(ValueError, match=r"flat\.npz holds a damaged sparse matrix"):
        read_matrix("features", tmp_path / "flat.npz")
    with pytest.raises(ValueError, match="sparse matrices are not accepted here"):
        read_array("features", tmp_path / "csr.npz")


def test_npz_by_key(tmp_path) -> None:
    np.savez(tmp_path / "one.npz", x=VECTORS)
    np.savez(tmp_path / "two.npz", x=VECTORS, y=[1, 2])
    np.testing.assert_array_equal(read_array("features", tmp_path / "one.npz"), VECTORS)
    assert read_array("labels", f"{tmp_path}/two.npz:y").tolist() == [1, 2]
    with pytest.raises(ValueError, match="needs a key; it holds x, y"):
        read_array("features", tmp_path / "two.npz")
    with pytest.raises(ValueError, match="holds no 'z'; it holds x, y"):
        read_array("features", f"{tmp_path}/two.npz:z")


def test_parquet_columns(tmp_path) -> None:
    path = tmp_path / "x.parquet"
    table = {
        "vector": VECTORS.tolist(),
        "fixed": pa.FixedSizeListArray.from_arrays(VECTORS.astype(np.float32).ravel(), 3),
        "id": ["a", "b", "c", "d"],
        "gap": [1.0, None, 2.0, 3.0],
        "uneven": [[1.0], [2.0, 3.0], [4.0], [5.0]],
    }
    pq.write_table(pa.table(table), path)
    np.testing.assert_array_equal(read_array("features", f"{path}:vector"), VECTORS)
    found = read_array("features", f"{path}:fixed")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VECTORS.astype(np.float32))
    assert read_array("ids", f"{path}:id").tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="no value in row 1 of column gap"):
        read_array("scores", f"{path}:gap")
    with pytest.raises(
        ValueError, match="2 values in a list of row 1 of column uneven, 1 in row 0"
    ):
        read_array("features", f"{path}:uneven")


VIEWS = np.random.default_rng(1).random((4, 2, 3))


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.list_(pa.float64())),
        pa.large_list(pa.list_(pa.float64(), 3)),
        pa.list_(pa.list_(pa.float64(), 3), 2),
        pa.list_(pa.large_list(pa.float64()), 2),
    ],
)
def test_parquet_columns_of_views(tmp_path, kind: pa.DataType, chunked: bool) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"views": pa.array(VIEWS.tolist(), kind)})
    pq.write_table(table, path, row_group_size=3 if chunked else None)
    np.testing.assert_array_equal(read_array("features", path), VIEWS)
    np.testing.assert_array_equal(Pool.of(features=read_array("features", path)).features, VIEWS)


def test_parquet_strings_categoricals_and_tensors(tmp_path) -> None:
    path = tmp_path / "x.parquet"
    names = ["pear", "apple", "pear", "fig"]
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(VIEWS)
    columns = {
        "text": names,
        "large": pa.array(names, pa.large_string()),
        "category": pa.array(names).dictionary_encode(),
        "views": tensors,
        "a:b": [1, 2, 3, 4],
    }
    pq.write_table(pa.table(columns), path, row_group_size=2)
    for name in ("text", "large", "category"):
        found = read_array("labels", f"{path}:{name}")
        assert found.tolist() == names
        assert Pool.of(labels=found).labels.tolist() == [2, 0, 2, 1]
    np.testing.assert_array_equal(read_array("features", f"{path}:views"), VIEWS)
    # A column's name may hold the character that sets it apart from the file's.
    assert read_array("labels", f"{path}:a:b").tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (pa.array([{"a": 1.0}] * 4), r"column c is of type struct<a: double>"),
        (pa.array([[("k", 1.0)]] * 4, pa.map_(pa.string(), pa.float64())), "is of type map<string"),
        (pa.array([[{"a": 1.0}]] * 4), r"column c is of type list<.*struct"),
        (pa.array([], pa.list_(pa.float64())), "column c has no rows"),
        (pa.array([], pa.float64()), "column c has no rows"),
        (pa.array([[]] * 4, pa.list_(pa.float64())), "has lists without values in column c"),
        (pa.array([[1.0, None], [2.0, 3.0]]), "has no value in row 0 of column c"),
        (pa.array([[1.0, 4.0], None, [2.0, 3.0]]), "has no value in row 1 of column c"),
        (pa.array([[[1.0], [2.0]], [[3.0], None]]), "has no value in row 1 of column c"),
        (
            pa.array([[[1.0], [2.0]], [[3.0], [4.0, 5.0]]]),
            "2 values in a list of row 1 of column c, 1 in row 0; they must be as many",
        ),
        (pa.array([[[1.0], [2.0]], [[3.0]]]), "1 values in a list of row 1 of column c, 2 in row"),
        (pa.array([1, 2], pa.timestamp("s")), r"column c is of type timestamp"),
        (pa.array([1, 2]).cast(pa.decimal128(20)), r"column c is of type decimal128"),
        (pa.array([b"a", b"b"]), r"column c is of type binary"),
    ],
)
@pytest.mark.parametrize("groups", [1, None])
def test_parquet_columns_that_are_no_arrays(tmp_path, column, sentence: str, groups) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"c": column}), path, row_group_size=groups)
    with pytest.raises(ValueError, match=f"features file .*x.parquet.*{sentence}"):
        read_array("features", path)


def test_npz_reads_the_named_array_alone(tmp_path) -> None:
    path = tmp_path / "mixed.npz"
    np.savez(path, x=VECTORS, names=np.array(["a", None], dtype=object), **{"a:b": [5, 6]})
    np.testing.assert_array_equal(read_array("features", f"{path}:x"), VECTORS)
    assert read_array("labels", f"{path}:a:b").tolist() == [5, 6]
    with pytest.raises(
        ValueError, match=r"features file .*mixed.npz:names has dtype object.* astype"
    ):
        read_array("features", f"{path}:names")
    with pytest.raises(ValueError, match="holds no 'y'; it holds x, names, a:b"):
        read_array("features", f"{path}:y")
    # An archive of which one entry is broken, too.
    broken = bytearray(path.read_bytes())
    start = broken.index(b"names.npy") + 60
    broken[start : start + 40] = bytes(40)
    (tmp_path / "broken.npz").write_bytes(bytes(broken))
    np.testing.assert_array_equal(read_array("features", f"{tmp_path}/broken.npz:x"), VECTORS)


def test_folders_come_with_the_first_file_and_not_before(tmp_path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    assert check_new_file(path, (".json",)) == path
    assert not list(tmp_path.iterdir())
    write_scores(path, Scores.of([1.0]))
    assert json.loads(path.read_text())["columns"]["score"] == [1.0]
    write_npz(tmp_path / "d" / "e.npz", {"x": VECTORS})
    write_subset(tmp_path / "f" / "g.parquet", Subset.of([0], requested=1))
    assert len(list(tmp_path.rglob("*.*"))) == 3
    with pytest.raises(
        OSError, match=r"output folder .*below cannot be written: .*c.json is a file"
    ):
        check_new_file(path / "below" / "it.json", (".json",))


def test_ids_of_a_subset(tmp_path) -> None:
    subset = Subset.of([2, 0], requested=2)
    for name, ids in (("a.parquet", np.array(["x", "y", "z"])), ("b.json", np.arange(3))):
        write_subset(tmp_path / name, subset, ids)
        assert read_subset_ids(tmp_path / name).tolist() == ids[[2, 0]].tolist()
    write_subset(tmp_path / "c.json", subset)
    assert read_subset_ids(tmp_path / "c.json") is None
    # Files that do not say so yet: other ids than the rows were given.
    for name, wanted in (("b.json", None), ("a.parquet", ["z", "x"])):
        old = tmp_path / f"old-{name}"
        if name == "b.json":
            stored = json.loads((tmp_path / name).read_text())
            for name in ("named", "made_with", "seal"):
                stored.pop(name)
            old.write_text(json.dumps(stored))
        else:
            table = pq.read_table(tmp_path / name)
            facts = json.loads(table.schema.metadata[b"hardset"])
            for name in ("named", "made_with"):
                facts.pop(name)
            pq.write_table(table.replace_schema_metadata({b"hardset": json.dumps(facts)}), old)
        found = read_subset_ids(old)
        assert (None if found is None else found.tolist()) == wanted


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.parquet", "x.csv"])
def test_damaged_files(tmp_path, name: str) -> None:
    with pytest.raises(ValueError, match=f"scores file .*{name} does not exist"):
        read_array("scores", tmp_path / name)
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=f"{name}"):
        read_array("scores", tmp_path / name)


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_subset_comes_back(tmp_path, suffix: str) -> None:
    path = tmp_path / f"kept{suffix}"
    subset = Subset.of(
        [3, 1, 2],
        weights=[2.0, 1.0, 0.5],
        gains=np.array([5.0, 4.0, 4.0]),
        objective=13.0,
        nested=True,
        requested=4,
        radius=np.float64(0.5),
        weights_sum=3.5,
    )
    write_subset(path, subset, np.array(["a", "b", "c", "d"]), method="hard")
    found = read_subset(path)
    for name in ("indices", "weights", "gains"):
        np.testing.assert_array_equal(getattr(found, name), getattr(subset, name))
    assert (found.objective, found.nested, found.requested) == (13.0, True, 4)
    assert found.diagnostics == {"radius": 0.5, "weights_sum": 3.5}
    with pytest.raises(ValueError, match="exists already"):
        write_subset(path, subset)


def test_subset_in_pandas_terms(tmp_path) -> None:
    write_subset(tmp_path / "kept.parquet", Subset.of([2, 0], requested=2), np.array([7, 8, 9]))
    table = pq.read_table(tmp_path / "kept.parquet").to_pydict()
    assert table == {"index": [2, 0], "id": [9, 7], "weight": [1.0, 1.0]}


def test_no_subset(tmp_path) -> None:
    (tmp_path / "kept.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no subset"):
        read_subset(tmp_path / "kept.json")
    with pytest.raises(ValueError, match="does not exist"):
        read_subset(tmp_path / "none.json")


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".json"])
def test_scores_are_written(tmp_path, suffix: str) -> None:
    path = tmp_path / f"s{suffix}"
    write_scores(path, Scores.of([1.5, -2.0], name="aum", seeds=3), np.array(["x", "y"]))
    if suffix == ".json":
        stored = json.loads(path.read_text())
        assert stored.pop("seal").startswith("hardset-sha256:")
        assert set(stored.pop("made_with")) > {"hardset", "numpy"}
        assert stored == {
            "name": "aum",
            "provenance": {"seeds": 3},
            "columns": {"id": ["x", "y"], "score": [1.5, -2.0]},
        }
    else:
        source = f"{path}:score" if suffix == ".parquet" else path
        assert read_array("scores", source).tolist() == [1.5, -2.0]


def test_output_file_is_checked_first(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.npy or \.parquet or \.json"):
        write_scores(tmp_path / "s.txt", Scores.of([1.0]))
    assert not list(tmp_path.iterdir())


def test_dynamics_come_back(tmp_path) -> None:
    dynamics = TrainingDynamics.of(VECTORS[None] * 3, [0, 1, 2, 0], VECTORS[None])
    dynamics.save(tmp_path / "run.npz")
    found = TrainingDynamics.load(tmp_path / "run.npz")
    np.testing.assert_array_equal(found.losses, dynamics.losses)
    np.testing.assert_array_equal(found.gradient_norms, dynamics.gradient_norms)
    assert found.correct.dtype == bool
    with pytest.raises(ValueError, match="exists already"):
        dynamics.save(tmp_path / "run.npz")
    write_npz(tmp_path / "other.npz", {"x": VECTORS})
    with pytest.raises(ValueError, match=r"does not hold training dynamics, but \['x'\]"):
        TrainingDynamics.load(tmp_path / "other.npz")
