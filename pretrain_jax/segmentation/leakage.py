"""Finds test frames among the images for pre-training.

It compares equal pixels, similar images and groups.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer
from pretrain_jax.data import UnreadableImageError, read_pixels
from pretrain_jax.data.decode import LUMINANCE
from pretrain_jax.data.listing import STILL, image_root, iterate_images
from pretrain_jax.segmentation.dataset import SegmentationSet, listed

Pixels = NDArray[np.uint8]

GRID, LOW = 32, 8
QUARTERS, POSITIONS = 4, 8  # turns of a square, and with mirror images
# Two copies of an image stay within these limits after compression and in another size or
# brightness. Slices of one head a centimetre apart exceed them.
PERCEPTUAL_DISTANCE = 6
LEAST_CORRELATION = 0.985
BLOCK = 64


@dataclass(frozen=True)
class Frame:
    """Represents an image for pre-training.

    Attributes:
        name: how messages call it.
        path: file.
        frame: number of the frame of a video, -1 of a still image.
        group: video, sequence or patient, "" where unknown.
    """

    name: str
    path: str
    frame: int = STILL
    group: str = ""


@dataclass(frozen=True)
class Leak:
    """Represents a pair of images that must not be.

    Attributes:
        kind: "pixels" (equal), "similar" (perceptual hash), "turned" (similar once it is mirrored
            or turned by a multiple of 90 degrees) or "group".
        pretraining: name of the image for pre-training.
        test: name of the test case.
        distance: Hamming distance of the perceptual hashes; 0 for equal pixels, -1 for groups.
    """

    kind: Literal["pixels", "similar", "turned", "group"]
    pretraining: str
    test: str
    distance: int


class LeakageError(ValueError):
    """Says that test frames are among the images for pre-training.

    Attributes:
        leaks: all of them.
    """

    def __init__(self, leaks: Sequence[Leak], test: str) -> None:
        shown = [f"{leak.pretraining} ~ {leak.test} ({leak.kind})" for leak in leaks]
        cases = len({leak.test for leak in leaks})
        super().__init__(
            f"{cases} test case(s) of {test} are among the images for pre-training: "
            f"{listed(shown)}; take them out"
        )
        self.leaks = tuple(leaks)


def check_leakage(
    pretraining: Iterable[Frame],
    test: SegmentationSet,
    *,
    distance: int = PERCEPTUAL_DISTANCE,
) -> int:
    """Refuse test frames among the images for pre-training.

    See `find_leaks`.

    Returns:
        Number of images for pre-training that were compared.

    Raises:
        LeakageError: there are some, with their list.
    """
    count = 0

    def counted() -> Iterator[Frame]:
        nonlocal count
        for frame in pretraining:
            count += 1
            yield frame

    leaks = find_leaks(counted(), test, distance=distance)
    if leaks:
        raise LeakageError(leaks, test.name)
    return count


def find_leaks(
    pretraining: Iterable[Frame],
    test: SegmentationSet,
    *,
    distance: int = PERCEPTUAL_DISTANCE,
) -> list[Leak]:
    """Find the images for pre-training that leak a test frame.

    They show it, or are of its group.

    Equal pixels are found whatever the file's format and metadata. Similar are images whose
    perceptual hashes differ in few bits and whose grey thumbnails correlate above
    `LEAST_CORRELATION`; both stand compression, other sizes and brightness. They are compared in
    the eight positions of a square, but stand no other rotation and hardly a crop. Groups are
    compared by their names, which must mean the same on both sides. Images of both sides are read
    one at a time; unreadable ones cannot leak and are passed over.

    Args:
        pretraining: the images; never held together.
        test: the test cases.
        distance: greatest Hamming distance of similar images, of 64 bits.

    Raises:
        ValueError: `distance` out of range, or a test image that cannot be read.
    """
    known = KnownCases(test, distance)
    return [leak for _, leak in leaks_among(pretraining, [known])]


def leaks_among(
    pretraining: Iterable[Frame], tests: Sequence["KnownCases"]
) -> Iterator[tuple[int, Leak]]:
    """Find the leaks of several sets, each image being read once.

    They are those of `find_leaks`. Each comes with the number of its set.
    """
    for block in _blocks(pretraining):
        frames, prints = _readable(block)
        for number, known in enumerate(tests):
            for leak in known.leaks(frames, prints):
                yield number, leak


class KnownCases:
    """Knows what test cases look like, so that images can be compared.

    Args:
        test: the cases, whose images are read one at a time; about 64 KB are kept of each.
        distance: see `find_leaks`.

    Raises:
        ValueError: `distance` out of range, or an image that cannot be read.
    """

    def __init__(self, test: SegmentationSet, distance: int = PERCEPTUAL_DISTANCE) -> None:
        check_integer("distance", distance, 0, 63)
        cases = test.cases
        pixels = (_pixels(str(case.image), STILL) for case in cases)
        self._names, self._distance = [case.name for case in cases], distance
        self._prints = _prints(pixels, len(cases), POSITIONS)
        self._digests = dict(zip(self._prints.digests, self._names, strict=True))
        self._groups = {case.group: case.name for case in reversed(cases) if case.group}

    def leaks(self, frames: Sequence[Frame], prints: "_Prints") -> Iterator[Leak]:
        """Return the leaks among frames with these prints."""
        known, names = self._prints, self._names
        apart = np.bitwise_count(prints.hashes[:, None] ^ known.hashes)
        alike = np.full(apart.shape, -1.0)
        one, other = np.nonzero(apart <= self._distance)
        alike[one, other] = np.vecdot(prints.thumbnails[one], known.thumbnails[other])
        nearest = alike.argmax(axis=1) if len(frames) else ()
        for row, (frame, place) in enumerate(zip(frames, nearest, strict=True)):
            if prints.digests[row] in self._digests:
                yield Leak("pixels", frame.name, self._digests[prints.digests[row]], 0)
            elif alike[row, place] >= LEAST_CORRELATION:
                position, case = divmod(int(place), len(names))
                kind: Literal["similar", "turned"] = "turned" if position else "similar"
                yield Leak(kind, frame.name, names[case], int(apart[row, place]))
            elif frame.group and frame.group in self._groups:
                yield Leak("group", frame.name, self._groups[frame.group], -1)


def frames_of(source: str | Path) -> Iterator[Frame]:
    """Return the frames of a source, with their groups.

    The source is a folder, LAYOUT:FOLDER, a list or a video.

    Groups are those of `pretrain_jax.data.listing.entries`, as in the index of a pipeline.
    """
    root = image_root(source)
    for name, frame, _, group, _ in iterate_images(source):
        path = str(root / name)
        yield Frame(path if frame == STILL else f"{path}#{frame}", path, frame, group)


def group_notes(unknown: int, images: int, tests: Sequence[SegmentationSet]) -> list[str]:
    """Return a sentence where groups are missing that could have told more.

    Args:
        unknown: number of the images for pre-training whose group is not known.
        images: number of all of them.
        tests: the test cases.
    """
    cases = [case for test in tests for case in test.cases]
    bare = sum(not case.group for case in cases)
    if not unknown and not bare:
        return []
    return [
        f"the group (video, sequence or patient) of {unknown} of {images} images and of {bare} of "
        f"{len(cases)} test cases is not known: only their pixels were compared, and other frames "
        "of one video may be on both sides"
    ]


def pixel_digest(pixels: Pixels) -> str:
    """Return the sha256 of shape and pixels."""
    found = hashlib.sha256(repr(pixels.shape).encode())
    found.update(pixels.tobytes())
    return found.hexdigest()


def perceptual_hash(pixels: Pixels) -> np.uint64:
    """Hash the look of an image to 64 bits.

    They say which of the lowest 8 x 8 cosine coefficients exceed their median.

    The luminance (Rec. 601) is reduced to 32 x 32 pixels (Lanczos), of which the orthonormal
    type-II cosine transform is taken; the median leaves out the coefficient (0, 0).

    Args:
        pixels: (H, W, 3).

    Source: Zauner 2010, "Implementation and benchmarking of perceptual image hash functions".
    """
    return _hash(_thumbnail(pixels))


class _Prints(NamedTuple):
    """Holds the prints of n images in p positions.

    They are digests of n images, hashes (p n,) and thumbnails (p n, 1024) of mean 0 and norm 1.

    All images come first in one position, then in the next.
    """

    digests: list[str]
    hashes: NDArray[np.uint64]
    thumbnails: NDArray[np.float64]


def _prints(images: Iterable[Pixels], count: int, positions: int = 1) -> _Prints:
    """Make the prints of images in some of the eight positions.

    The first `positions` of the eight positions of a square are taken. One image is held at a time.
    """
    thumbnails = np.zeros((positions, count, GRID * GRID))
    hashes = np.zeros((positions, count), np.uint64)
    digests = []
    for row, pixels in enumerate(images):
        digests.append(pixel_digest(pixels))
        upright = _thumbnail(pixels)
        for position in range(positions):
            small = np.rot90(upright if position < QUARTERS else upright.T, position)
            hashes[position, row] = _hash(small)
            centred = small.ravel() - small.mean()
            thumbnails[position, row] = centred / max(float(np.linalg.norm(centred)), 1e-12)
    # Images that could not be read have left rows free.
    found = thumbnails[:, : len(digests)].reshape(-1, GRID * GRID)
    return _Prints(digests, hashes[:, : len(digests)].ravel(), found)


def _thumbnail(pixels: Pixels) -> NDArray[np.float64]:
    from PIL import Image

    grey = Image.fromarray((pixels @ LUMINANCE).astype(np.float32))
    return np.asarray(grey.resize((GRID, GRID), Image.Resampling.LANCZOS), np.float64)


def _hash(thumbnail: NDArray[np.float64]) -> np.uint64:
    from scipy.fft import dctn

    low = dctn(thumbnail, norm="ortho")[:LOW, :LOW].ravel()
    return np.uint64(int.from_bytes(np.packbits(low > np.median(low[1:])).tobytes(), "big"))


def _pixels(path: str, frame: int) -> Pixels:
    return read_pixels(path, frame, channels=3).astype(np.uint8, copy=False)


def _readable(block: Sequence[Frame]) -> tuple[list[Frame], _Prints]:
    frames: list[Frame] = []

    def images() -> Iterator[Pixels]:
        for frame in block:
            try:
                pixels = _pixels(frame.path, frame.frame)
            except UnreadableImageError:
                continue
            frames.append(frame)
            yield pixels

    prints = _prints(images(), len(block))
    return frames, prints


def _blocks(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    block: list[Frame] = []
    for frame in frames:
        block.append(frame)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block
