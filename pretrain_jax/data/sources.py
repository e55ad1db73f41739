"""Sets of images: what a folder, a list or a video holds, in an order that never changes."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data.video import VIDEO_SUFFIXES, frame_times
from theory.checks import check_integer, check_range

__all__ = ["IMAGE_SUFFIXES", "STILL", "ImageSet", "find_images", "hold_out"]

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".npy"}
)
LIST_SUFFIXES = frozenset({".txt", ".tsv", ".lst"})
STILL = -1
UNLABELLED = -1


@dataclass(frozen=True)
class ImageSet:
    """An ordered set of images, each a file or a frame of a video file.

    Attributes:
        files: paths, in sorted or listed order.
        file_index: (n,) the file of each image.
        frames: (n,) number of the frame in a video, `STILL` for a still image.
        labels: (n,) class of each image, -1 without one.
        classes: names of the classes.
    """

    files: tuple[str, ...]
    file_index: NDArray[np.int64]
    frames: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.file_index)

    def locate(self, index: int) -> tuple[str, int]:
        """Path and frame of an image; the frame is `STILL` for a still image."""
        return self.files[self.file_index[index]], int(self.frames[index])

    def name(self, index: int) -> str:
        """How messages call an image: its path, with the frame's number behind #."""
        path, frame = self.locate(index)
        return path if frame == STILL else f"{path}#{frame}"

    def take(self, indices: NDArray[np.int64]) -> "ImageSet":
        """The images at `indices`, in that order."""
        return replace(
            self,
            file_index=self.file_index[indices],
            frames=self.frames[indices],
            labels=self.labels[indices],
        )


def find_images(source: str | Path, *, frame_stride: int = 1) -> ImageSet:
    """All images of a source, in an order that depends on names only.

    Args:
        source: a folder (searched recursively, sorted; its subfolders are the classes where every
            image lies in one of at least two), an image list (`.txt`, `.tsv`, `.lst`: a path a
            line, relative to the list, with an optional class behind a tab), a video or an image.
        frame_stride: every how many frames of a video are kept, >= 1.

    Raises:
        ValueError: the source is missing, empty or of an unknown kind; one sentence.
    """
    check_integer("frame_stride", frame_stride, 1, 2**31)
    path = Path(source)
    labels: list[str | None]
    if path.is_dir():
        files = sorted(
            (
                file
                for file in path.rglob("*")
                if file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
            ),
            key=lambda file: file.relative_to(path).as_posix(),
        )
        labels = _folder_labels(path, files)
    elif not path.exists():
        raise ValueError(
            f"image source {path} does not exist; give a folder of images, a list "
            f"({', '.join(sorted(LIST_SUFFIXES))}: one path a line), or a video"
        )
    elif path.suffix.lower() in LIST_SUFFIXES:
        files, labels = _read_list(path)
    elif path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        files, labels = [path], [None]
    else:
        raise ValueError(
            f"image source {path} is neither a folder, nor a list "
            f"({', '.join(sorted(LIST_SUFFIXES))}), nor an image or video "
            f"({', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))})"
        )
    if not files:
        raise ValueError(
            f"image source {path} is empty: no file in it ends in one of "
            f"{', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))}"
        )
    return _image_set(files, labels, frame_stride)


def hold_out(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Split a set by files into training and validation images; a video is never divided.

    Args:
        images: the set.
        share: share of the files that is held out, in [0, 1); at least one file where positive.
        seed: of the permutation of the files.

    Returns:
        Training images and held-out images, both in the order of `images`.

    Raises:
        ValueError: `share` out of range, or nothing would remain to train on.
    """
    check_range("share", share, 0.0, 1.0, open_high=True)
    files = np.unique(images.file_index)
    count = max(1, round(share * len(files))) if share > 0 else 0
    if count >= len(files):
        raise ValueError(
            f"validation share {share:g} of {len(files)} file(s) leaves none to train on; "
            "give more files or a separate validation source"
        )
    held = np.random.default_rng(seed).permutation(files)[:count]
    mask = np.isin(images.file_index, held)
    return images.take(np.flatnonzero(~mask)), images.take(np.flatnonzero(mask))


def _folder_labels(folder: Path, files: list[Path]) -> list[str | None]:
    parts = [file.relative_to(folder).parts for file in files]
    named = all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) > 1
    return [part[0] if named else None for part in parts]


def _read_list(path: Path) -> tuple[list[Path], list[str | None]]:
    files: list[Path] = []
    labels: list[str | None] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"image list {path} is not text in UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, label = line.partition("\t")
        file = path.parent / name.strip()
        if file.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            raise ValueError(
                f"image list {path}, line {number}: {name.strip()!r} ends in none of "
                f"{', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))}"
            )
        files.append(file)
        labels.append(label.strip() or None)
    return files, labels


def _image_set(files: list[Path], labels: list[str | None], stride: int) -> ImageSet:
    classes = tuple(sorted({label for label in labels if label is not None}))
    codes = {name: code for code, name in enumerate(classes)}
    file_index, frames, image_labels = [], [], []
    for index, (file, label) in enumerate(zip(files, labels, strict=True)):
        video = file.suffix.lower() in VIDEO_SUFFIXES
        # A video that cannot be read counts as one image, which decoding reports as unreadable.
        own = range(0, max(1, len(frame_times(str(file)))), stride) if video else (STILL,)
        code = UNLABELLED if label is None else codes[label]
        for frame in own:
            file_index.append(index)
            frames.append(frame)
            image_labels.append(code)
    return ImageSet(
        files=tuple(str(file) for file in files),
        file_index=np.array(file_index, np.int64),
        frames=np.array(frames, np.int64),
        labels=np.array(image_labels, np.int64),
        classes=classes,
    )
