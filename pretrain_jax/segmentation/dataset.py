"""Holds images with masks.

It has cases with their groups, splits that keep groups whole, and random crops.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer, check_range
from pretrain_jax.data import UnreadableImageError, read_pixels
from pretrain_jax.data.opening import Remark
from pretrain_jax.data.transforms import Crop, resized
from pretrain_jax.segmentation.masks import IGNORE, MaskKind, read_mask

Part = Literal["", "training", "test"]
SHOWN = 10
Bytes = NDArray[np.uint8]
CACHE_BYTES = 1 << 30
LARGEST_FOLDS = 1000


@dataclass(frozen=True)
class Case:
    """Represents an image with its mask.

    Attributes:
        name: unique within its set.
        image: file.
        mask: file; None where there is none (images for pre-training).
        group: video, sequence or patient, "" where unknown; unique within its set.
        part: on which side of a published split the case lies, "" where there is none.
    """

    name: str
    image: Path
    mask: Path | None
    group: str = ""
    part: Part = ""


@dataclass(frozen=True)
class SegmentationSet:
    """Represents a set of cases.

    Attributes:
        name: of the set.
        classes: names; the first is the background.
        kind: what the mask files hold.
        cases: in an order that depends on names only.

    Raises:
        ValueError: no case, or two of one name.
    """

    name: str
    classes: tuple[str, ...]
    kind: MaskKind
    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        if not self.cases:
            raise ValueError(f"the set {self.name} is empty: no image was found")
        names = [case.name for case in self.cases]
        twice = sorted({name for name in names if names.count(name) > 1}) if _repeats(names) else []
        if twice:
            raise ValueError(f"the set {self.name} has several cases called {listed(twice)}")

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.cases)

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the group of each case.

        A case without one is a group of its own.
        """
        return tuple(case.group or f"case {case.name}" for case in self.cases)

    def take(self, indices: NDArray[np.int64]) -> "SegmentationSet":
        """Return the cases at `indices`, in that order."""
        return replace(self, cases=tuple(self.cases[index] for index in indices))


def split(
    dataset: SegmentationSet, *, test_share: float = 0.2, seed: int = 0
) -> tuple[SegmentationSet, SegmentationSet]:
    """Split a set into training and test cases.

    No group lies on both sides.

    It is the published split where every case has its part. Otherwise groups in random order go to
    the test side until it holds `test_share` of the cases.

    Args:
        dataset: the set.
        test_share: share of the cases in (0, 1), reached or exceeded by less than one group.
        seed: of the order of the groups.

    Raises:
        ValueError: only some cases have a part, a group lies on both sides of a published split,
            or one side would be empty.
    """
    check_range("test_share", test_share, 0.0, 1.0, open_low=True, open_high=True)
    parts = [case.part for case in dataset.cases]
    if any(parts):
        test = _published(dataset)
    else:
        names = np.array(dataset.groups)
        groups, sizes = np.unique(names, return_counts=True)
        order = np.random.default_rng(seed).permutation(len(groups))
        before = np.cumsum(sizes[order]) - sizes[order]
        chosen = groups[order[before < max(1, round(test_share * len(dataset)))]]
        test = np.isin(names, chosen)
    if test.all() or not test.any():
        raise ValueError(
            f"the set {dataset.name} cannot be split: {int(test.sum())} of {len(test)} case(s) in "
            f"{len(set(dataset.groups))} group(s) would be test cases"
        )
    return dataset.take(np.flatnonzero(~test)), dataset.take(np.flatnonzero(test))


def fold_of(
    dataset: SegmentationSet, fold: int, folds: int, *, seed: int = 0
) -> tuple[SegmentationSet, SegmentationSet]:
    """Return the training and the test cases of one fold of a cross validation.

    Every case is a test case of exactly one fold, and no group lies on both sides. Groups go, in
    random order, each to the fold that has the fewest cases by then, so that the folds differ by
    less than the largest group.

    Args:
        dataset: without a published split.
        fold: 0 ... folds - 1.
        folds: their number, at least 2.
        seed: of the order of the groups.

    Raises:
        ValueError: an argument out of range, fewer groups than folds, or a published split.
    """
    check_integer("folds", folds, 2, LARGEST_FOLDS)
    check_integer("fold", fold, 0, folds - 1)
    if any(case.part for case in dataset.cases):
        raise ValueError(
            f"the set {dataset.name} has a published split, which folds would mix: take no folds, "
            "or say that the split is to be ignored (--ignore-split)"
        )
    groups, member, sizes = np.unique(
        np.array(dataset.groups), return_inverse=True, return_counts=True
    )
    if len(groups) < folds:
        what = "take fewer folds" if len(groups) > 1 else "two are needed to test on one"
        raise ValueError(
            f"folds = {folds}: the set {dataset.name} has {len(groups)} group(s), none of which is "
            f"divided; {what}"
        )
    order = np.random.default_rng(seed).permutation(len(groups))
    chosen, held = np.empty(len(groups), np.int64), np.zeros(folds, np.int64)
    for group in order:
        chosen[group] = int(np.argmin(held))
        held[chosen[group]] += sizes[group]
    test = chosen[member] == fold
    return dataset.take(np.flatnonzero(~test)), dataset.take(np.flatnonzero(test))


def without_split(dataset: SegmentationSet) -> SegmentationSet:
    """Return the set as if it had no published split."""
    return replace(dataset, cases=tuple(replace(case, part="") for case in dataset.cases))


def read_case(
    dataset: SegmentationSet,
    case: Case,
    *,
    channels: int = 3,
    remarks: list[tuple[str, Remark]] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read pixels (H, W, channels) and labels (H, W) of a case.

    See `read_mask` for labels.

    Metadata of the files is dropped.

    Args:
        dataset: the set.
        case: one of its cases.
        channels: 1 or 3.
        remarks: gets what is to be noticed in the image, with the case's name.

    Raises:
        ValueError: a file cannot be read, there is no mask, the sizes differ, or no pixel of the
            mask has a class.
    """
    if case.mask is None:
        raise ValueError(f"case {case.name} of {dataset.name} has no mask")
    noticed: list[Remark] = []
    try:
        read = read_pixels(str(case.image), channels=channels, remarks=noticed)
    except UnreadableImageError as error:
        raise type(error)(f"{error}; mend it, or take it out with its mask") from None
    pixels = read.astype(np.uint8, copy=False)
    if remarks is not None:
        remarks += [(case.name, one) for one in noticed]
    labels = read_mask(case.mask, dataset.kind, len(dataset.classes))
    if pixels.shape[:2] != labels.shape:
        raise ValueError(
            f"case {case.name} of {dataset.name}: the image {case.image} is {pixels.shape[0]} x "
            f"{pixels.shape[1]} pixels, its mask {case.mask} {labels.shape[0]} x "
            f"{labels.shape[1]}; they must have the same size: save the mask in that of the image, "
            "or take both out"
        )
    if (labels == IGNORE).all():
        raise ValueError(
            f"case {case.name} of {dataset.name}: every pixel of its mask {case.mask} is {IGNORE}, "
            "which is left out; there is nothing to learn or to score, take the case away"
        )
    return pixels, labels


class ClassesSeen:
    """Notes which classes the masks of cases have.

    Args:
        classes: names; the first is the background.
        what: the cases, as a note calls them.
    """

    def __init__(self, classes: tuple[str, ...], what: str) -> None:
        self._classes, self._what, self._cases = classes, what, 0
        self._seen = np.zeros(IGNORE + 1, np.bool_)

    def __call__(self, labels: NDArray[np.uint8]) -> None:
        """Look at a mask."""
        self._cases += 1
        self._seen |= np.bincount(labels.ravel(), minlength=IGNORE + 1) > 0

    def notes(self) -> list[str]:
        """Describe in a sentence the classes that masks lack.

        There is one where all are background, or lack some other class.
        """
        missing = [
            name for number, name in enumerate(self._classes) if number and not self._seen[number]
        ]
        if not missing or not self._cases:
            return []
        whole = len(missing) == len(self._classes) - 1
        what = "any foreground" if whole else f"the class {' or '.join(missing)}"
        return [
            f"none of the {self._cases} masks {self._what} shows {what}: look whether they are "
            "those of these images"
        ]


def listed(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _published(dataset: SegmentationSet) -> NDArray[np.bool_]:
    without = [case.name for case in dataset.cases if not case.part]
    if without:
        raise ValueError(
            f"the published split of {dataset.name} does not name {len(without)} case(s): "
            f"{listed(without)}"
        )
    test = np.array([case.part == "test" for case in dataset.cases])
    names = np.array(dataset.groups)
    both = sorted(set(names[test]) & set(names[~test]))
    if both:
        raise ValueError(
            f"the split of {dataset.name} has {len(both)} group(s) on both sides: {listed(both)}"
        )
    return test


def _repeats(names: list[str]) -> bool:
    return len(set(names)) < len(names)


class Pair(NamedTuple):
    """Holds pixels (H, W, C) and labels (H, W) of a case."""

    pixels: Bytes
    labels: Bytes


class Crops(NamedTuple):
    """Holds images (B, S, S, C) and labels (B, S, S) of a batch."""

    images: Bytes
    labels: Bytes


def paired_crop(pair: Pair, crop: Crop, rng: np.random.Generator) -> Pair:
    """Cut a random crop of image and labels, at the crop's size.

    The image is bicubic, the labels are taken by the nearest pixel.

    Args:
        pair: the case.
        crop: size, scale, ratio and flip of the crops.
        rng: decides box and mirror.
    """
    from PIL import Image

    height, width = pair.labels.shape
    box = crop.random_box(height, width, rng)
    pixels: Bytes = resized(pair.pixels, crop.size, box).astype(np.uint8, copy=False)
    size = (crop.size, crop.size)
    labels = np.asarray(
        Image.fromarray(pair.labels).resize(size, Image.Resampling.NEAREST, box=box)
    )
    if crop.flip and rng.random() < 0.5:
        pixels, labels = pixels[:, ::-1], labels[:, ::-1]
    return Pair(pixels, labels)


def whole_image(pixels: Bytes, size: int) -> Bytes:
    """Return the whole image (size, size, C).

    Its shape is not kept.
    """
    return resized(pixels, size, (0, 0, pixels.shape[1], pixels.shape[0])).astype(np.uint8)


class TrainingExamples:
    """Makes batches of random crops.

    Each is made while the one before is used.

    Row r of step k is position p = k B + r of the stream: case `order(p)` of epoch p // n, cropped
    with a generator seeded by (seed, p). A run can therefore go on at any step.

    Args:
        cases: the training cases.
        crop: see `paired_crop`.
        batch_size: B, a multiple of `hosts`.
        channels: of the images.
        seed: of order and crops.
        host: number of this host, which makes its own rows.
        hosts: number of hosts.
    """

    def __init__(
        self,
        cases: SegmentationSet,
        crop: Crop,
        *,
        batch_size: int,
        channels: int,
        seed: int,
        host: int = 0,
        hosts: int = 1,
    ) -> None:
        self._cases, self._crop = cases, crop
        self._batch_size, self._channels, self._seed = batch_size, channels, seed
        self._host, self._rows = host, batch_size // hosts
        self._kept: dict[int, Pair] = {}
        self._bytes = 0
        self._step = 0
        self._pool = ThreadPoolExecutor(1)
        self._coming: Future[Crops] | None = None

    def __next__(self) -> Crops:
        """Return the batch of the next step."""
        coming = self._coming or self._pool.submit(self.batch, self._step)
        found = coming.result()
        self._step += 1
        self._coming = self._pool.submit(self.batch, self._step)
        return found

    def state(self) -> dict[str, Any]:
        """Return the number of batches that were handed out."""
        return {"next_batch": self._step}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._step, self._coming = int(state["next_batch"]), None

    def close(self) -> None:
        """Make no further batch."""
        self._pool.shutdown(cancel_futures=True)

    def batch(self, step: int) -> Crops:
        """Return this host's rows of the batch of a step."""
        count = len(self._cases)
        made = []
        first = step * self._batch_size + self._host * self._rows
        for position in range(first, first + self._rows):
            order = np.random.default_rng([self._seed, 0, position // count]).permutation(count)
            rng = np.random.default_rng([self._seed, 1, position])
            made.append(paired_crop(self._pair(int(order[position % count])), self._crop, rng))
        return Crops(
            np.stack([pair.pixels for pair in made]), np.stack([pair.labels for pair in made])
        )

    def _pair(self, index: int) -> Pair:
        """Return a decoded case.

        Decoded cases are kept as long as there is room.
        """
        if index not in self._kept:
            pair = Pair(*read_case(self._cases, self._cases.cases[index], channels=self._channels))
            size = pair.pixels.nbytes + pair.labels.nbytes
            if self._bytes + size > CACHE_BYTES:
                return pair
            self._kept[index] = pair
            self._bytes += size
        return self._kept[index]
