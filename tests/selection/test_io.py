"""Files in and out: what was written comes back, what is broken is named."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selection import Scores, Subset
from selection.core.files import read_array, read_subset, write_npz, write_scores, write_subset
from selection.scoring.dynamics import TrainingDynamics

VECTORS = np.random.default_rng(0).random((4, 3))


def test_npy_stays_on_disk(tmp_path) -> None:
    np.save(tmp_path / "x.npy", VECTORS)
    found = read_array("features", tmp_path / "x.npy")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, VECTORS)


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
    with pytest.raises(ValueError, match="2 values in row 1 of column uneven, 1 in row 0"):
        read_array("features", f"{path}:uneven")


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
