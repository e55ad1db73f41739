"""Arrays by name in a folder: found again by what they were made from, and by nothing else."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from hardset.verify import verify
from selection.advice.resume import FolderStore

X = np.arange(12.0).reshape(4, 3)


def test_another_process_finds_what_was_stored(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "new" / "parts", [X, "logistic", None, 5])
    assert "hard 0.7" not in store and not (tmp_path / "new").exists()
    store["hard 0.7"] = np.arange(3)
    again = FolderStore(tmp_path / "new" / "parts", [X.copy(), "logistic", None, 5])
    assert "hard 0.7" in again and "hard 0.5" not in again
    np.testing.assert_array_equal(again["hard 0.7"], np.arange(3))
    assert verify([tmp_path]).passed
    del again["hard 0.7"]
    assert "hard 0.7" not in FolderStore(tmp_path / "new" / "parts", [X, "logistic", None, 5])


@pytest.mark.parametrize(
    "made_from",
    [
        [np.nextafter(X, 9), "logistic", 5],
        [X.astype(np.float32), "logistic", 5],
        [X.T.copy(), "logistic", 5],
        [X.ravel(), "logistic", 5],
        [X, "hinge", 5],
        [X, "logistic", 55],
        [scipy.sparse.csr_array(X), "logistic", 5],
    ],
)
def test_other_work_finds_nothing(tmp_path: Path, made_from: list) -> None:
    FolderStore(tmp_path, [X, "logistic", 5])["ranking"] = np.ones(2)
    assert "ranking" not in FolderStore(tmp_path, made_from)


def test_a_sparse_matrix_is_told_by_its_numbers(tmp_path: Path) -> None:
    FolderStore(tmp_path, [scipy.sparse.csr_array(X)])["ranking"] = np.ones(2)
    assert "ranking" in FolderStore(tmp_path, [scipy.sparse.csr_array(X.copy())])
    assert "ranking" not in FolderStore(tmp_path, [scipy.sparse.csr_array(X[::-1])])


def test_texts_are_told_by_what_they_say(tmp_path: Path) -> None:
    """Columns of a table hold them as objects, which lie elsewhere in every process."""

    def texts(*words: str) -> np.ndarray:
        return np.array(["".join(word) for word in map(list, words)], dtype=object)

    FolderStore(tmp_path, [texts("cat", "dog")])["ranking"] = np.ones(2)
    assert "ranking" in FolderStore(tmp_path, [texts("cat", "dog")])
    assert "ranking" not in FolderStore(tmp_path, [texts("cat", "cow")])


def test_a_damaged_file_counts_as_missing(tmp_path: Path) -> None:
    FolderStore(tmp_path, [X])["ranking"] = np.ones(200)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[:-70] + b"1" + whole[-69:], b""):
        path.write_bytes(damaged)
        assert "ranking" not in FolderStore(tmp_path, [X])
    np.save(path, np.zeros(200))  # without a seal
    assert "ranking" not in FolderStore(tmp_path, [X])
    FolderStore(tmp_path, [X])["ranking"] = np.ones(200)
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file is a file"):
        FolderStore(tmp_path / "file", [X])
