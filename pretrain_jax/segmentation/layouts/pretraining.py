"""Published collections for pre-training as cases: files and videos without masks."""

import os
from collections.abc import Iterable
from pathlib import Path

from pretrain_jax.data.collections import COLLECTIONS
from pretrain_jax.data.listing import entries, list_line, write_list
from pretrain_jax.segmentation.dataset import Case

__all__ = ["PRETRAINING", "pretraining_cases", "write_image_list"]

PRETRAINING = COLLECTIONS


def pretraining_cases(root: Path, layout: str) -> tuple[Case, ...]:
    """The images and videos of a folder of a layout.

    Raises:
        ValueError: the folder does not have the layout.
    """
    found = entries(f"{layout}:{root}")
    return tuple(Case(name, root / name, None, group) for name, _, group in found)


def write_image_list(cases: Iterable[Case], path: str | Path) -> None:
    """Write an image list that `find_images` reads: a path a line, relative to the list.

    Where the group is known, it stands in the third column, behind an empty class.

    Raises:
        ValueError: a name or a group with a tab or a line break.
    """
    target = Path(path)
    folder = target.parent.resolve()
    write_list(
        target,
        (list_line(os.path.relpath(case.image.resolve(), folder), case.group) for case in cases),
    )
