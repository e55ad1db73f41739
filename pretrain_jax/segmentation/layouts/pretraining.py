"""Folder layouts of published collections for pre-training: files and videos without masks."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from pretrain_jax.data.sources import IMAGE_SUFFIXES
from pretrain_jax.data.video import VIDEO_SUFFIXES
from pretrain_jax.segmentation.dataset import Case
from theory.datafile import write_text_atomic

__all__ = ["PRETRAINING", "write_image_list"]


def _ldpolypvideo(root: Path) -> tuple[Case, ...]:
    """LDPolypVideo (Ma et al. 2021): frames TrainValid/Images/VIDEO/*.jpg and Test/Images/VIDEO.

    Beside Images lie Annotations (boxes, not read). The videos without labels are files whose
    folder is unverified: every video file below the root counts. A group is a video.
    """
    cases = []
    for file in _files(root):
        parts = file.relative_to(root).parts
        if file.suffix.lower() in VIDEO_SUFFIXES:
            cases.append(_case(root, file, group=file.relative_to(root).as_posix()))
        elif "Images" in parts[:-2]:
            cases.append(_case(root, file, group=file.parent.relative_to(root).as_posix()))
    if not cases:
        raise ValueError(
            f"{root} holds neither TrainValid/Images/VIDEO nor Test/Images/VIDEO nor videos"
        )
    return tuple(cases)


def _hyper_kvasir(root: Path) -> tuple[Case, ...]:
    """Hyper-Kvasir (Borgli et al. 2020): labeled-images, unlabeled-images, labeled-videos.

    labeled-images/TRACT/CATEGORY/FINDING/*.jpg, unlabeled-images/images/*.jpg and
    labeled-videos/TRACT/.../*.avi. Its segmented-images are those of Kvasir-SEG and are left out;
    most of them are among the labelled images, too, which the leakage check tells. A group is a
    video; patients are not named.
    """
    parts = ("labeled-images", "unlabeled-images", "labeled-videos")
    cases = [
        _case(root, file, group=name if file.suffix.lower() in VIDEO_SUFFIXES else "")
        for part in parts
        if (root / part).is_dir()
        for file in _files(root / part)
        for name in [file.relative_to(root).as_posix()]
    ]
    if not cases:
        raise ValueError(f"{root} holds none of {', '.join(parts)} with images or videos")
    return tuple(cases)


def _case(root: Path, file: Path, group: str) -> Case:
    return Case(file.relative_to(root).as_posix(), file, None, group)


def _files(root: Path) -> list[Path]:
    return sorted(
        file
        for file in root.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
    )


def write_image_list(cases: Iterable[Case], path: str | Path) -> None:
    """Write an image list that `find_images` reads: a path a line, relative to the list."""
    target = Path(path)
    folder = target.parent.resolve()
    lines = [f"{os.path.relpath(case.image.resolve(), folder)}\n" for case in cases]
    write_text_atomic(target, "".join(lines))


PRETRAINING: Mapping[str, Callable[[Path], tuple[Case, ...]]] = MappingProxyType(
    {"ldpolypvideo": _ldpolypvideo, "hyper-kvasir": _hyper_kvasir}
)
