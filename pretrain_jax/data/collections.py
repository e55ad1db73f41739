"""Folder layouts of published collections for pre-training: which files count, and their groups."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from pretrain_jax.data.names import suffix_of
from pretrain_jax.data.video import VIDEO_SUFFIXES

__all__ = ["COLLECTIONS", "video_group"]

HYPER_KVASIR = ("labeled-images", "unlabeled-images", "labeled-videos")
Names = Iterable[str]
Grouped = Iterator[tuple[str, str]]


def video_group(name: str) -> str:
    """The group of a video's frames where none is named: its file's name without the ending.

    "" for a file that is no video: what it is a frame of is not known.
    """
    return PurePosixPath(name).stem if suffix_of(name) in VIDEO_SUFFIXES else ""


def _ldpolypvideo(names: Names) -> Grouped:
    """LDPolypVideo (Ma et al. 2021): frames TrainValid/Images/VIDEO/*.jpg and Test/Images/VIDEO.

    Beside Images lie Annotations (boxes, not read). The videos without labels are files whose
    folder is unverified: every video file below the root counts. A group is a video.
    """
    for name in names:
        path = PurePosixPath(name)
        if video_group(name):
            yield name, video_group(name)
        elif "Images" in path.parts[:-2]:
            yield name, path.parent.as_posix()


def _hyper_kvasir(names: Names) -> Grouped:
    """Hyper-Kvasir (Borgli et al. 2020): labeled-images, unlabeled-images, labeled-videos.

    labeled-images/TRACT/CATEGORY/FINDING/*.jpg, unlabeled-images/images/*.jpg and
    labeled-videos/TRACT/.../*.avi. Its segmented-images are those of Kvasir-SEG and are left out;
    most of them are among the labelled images, too, which the leakage check tells. A group is a
    video; patients are not named.
    """
    for name in names:
        # The archive may lie a folder deeper.
        if set(PurePosixPath(name).parts[:2]) & set(HYPER_KVASIR):
            yield name, video_group(name)


class Collection:
    """A layout: turns the images and videos below a folder into those that count.

    Args:
        choose: names, sorted -> the names that count, with the group of each ("" unknown).
        missing: what a folder without any does not hold.
    """

    def __init__(self, choose: Callable[[Names], Grouped], missing: str) -> None:
        self._choose, self._missing = choose, missing

    def __call__(self, root: Path, names: Names) -> Grouped:
        """The names below `root` that count, and their groups.

        Raises:
            ValueError: there is none.
        """
        found = False
        for found_one in self._choose(names):
            found = True
            yield found_one
        if not found:
            raise ValueError(f"{root} holds {self._missing}")


COLLECTIONS: Mapping[str, Collection] = MappingProxyType(
    {
        "ldpolypvideo": Collection(
            _ldpolypvideo, "neither TrainValid/Images/VIDEO nor Test/Images/VIDEO nor videos"
        ),
        "hyper-kvasir": Collection(
            _hyper_kvasir, f"none of {', '.join(HYPER_KVASIR)} with images or videos"
        ),
    }
)
