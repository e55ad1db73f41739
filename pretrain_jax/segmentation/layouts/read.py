"""A set by the name of its layout."""

from pathlib import Path

from hardset.checks import check_choice
from pretrain_jax.segmentation.dataset import Case, SegmentationSet
from pretrain_jax.segmentation.layouts.pairs import read_pair
from pretrain_jax.segmentation.layouts.pretraining import PRETRAINING, pretraining_cases
from pretrain_jax.segmentation.layouts.published import PUBLISHED

__all__ = ["PAIR", "read_pretraining", "read_segmentation"]

PAIR = "folder"


def read_segmentation(folder: str | Path, layout: str = PAIR) -> SegmentationSet:
    """The set in a folder of a published layout.

    Args:
        folder: the unpacked archive.
        layout: "folder" (see `read_pair`) or one of `PUBLISHED`.

    Raises:
        ValueError: an unknown layout, a missing folder, or one that does not have the layout.
    """
    check_choice("layout", layout, (PAIR, *PUBLISHED))
    root = _folder(folder)
    if layout == PAIR:
        return read_pair(root)
    return PUBLISHED[layout](root)


def read_pretraining(folder: str | Path, layout: str) -> tuple[Case, ...]:
    """Images and videos for pre-training in a folder of a published layout; without masks.

    Args:
        folder: the unpacked archive.
        layout: one of `PRETRAINING`.

    Raises:
        ValueError: an unknown layout, a missing folder, or one that does not have the layout.
    """
    check_choice("layout", layout, PRETRAINING)
    return pretraining_cases(_folder(folder), layout)


def _folder(folder: str | Path) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"data set folder {root} does not exist; unpack the archive there")
    return root
