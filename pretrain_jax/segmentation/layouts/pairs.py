"""Images and masks that lie in two folders and share their names."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

from pretrain_jax.data.sources import IMAGE_SUFFIXES
from pretrain_jax.segmentation.dataset import Case, Part, SegmentationSet, listed
from pretrain_jax.segmentation.layouts.text import read_lines, read_table
from pretrain_jax.segmentation.masks import MaskKind

__all__ = [
    "CASES_NAME",
    "CLASSES_NAME",
    "Variant",
    "class_names",
    "images_in",
    "pair_cases",
    "read_pair",
    "with_table",
]

CASES_NAME, CLASSES_NAME = "cases.csv", "classes.txt"
PARTS: Mapping[str, Part] = {"": "", "training": "training", "train": "training", "test": "test"}


@dataclass(frozen=True)
class Variant:
    """Where images and masks lie, and how a mask is called.

    Attributes:
        images: folder of the images.
        masks: folder of the masks.
        mask: name of an image's mask without suffix; {} is the image's name.
        image: regular expression of the images' names without suffix.
    """

    images: str
    masks: str
    mask: str = "{}"
    image: str = ".+"

    def at(self, root: Path) -> tuple[Path, Path] | None:
        """The two folders, None where one is missing."""
        images, masks = root / self.images, root / self.masks
        return (images, masks) if images.is_dir() and masks.is_dir() else None


def read_pair(
    folder: str | Path, *, images: str = "images", masks: str = "masks"
) -> SegmentationSet:
    """The set of a folder of images and a folder of masks of the same names.

    An optional file classes.txt beside the two names the classes of masks of indices, one a line,
    the background first; masks are binary without it. An optional table cases.csv with the
    columns name and group, part (training, test) or both gives groups and a split.

    Args:
        folder: what holds both folders.
        images: name of the folder of images.
        masks: name of the folder of masks.

    Raises:
        ValueError: something is missing, ambiguous or of a wrong form; names it.
    """
    root = Path(folder)
    variant = Variant(images, masks)
    if variant.at(root) is None:
        raise ValueError(f"{root} does not hold the folders {images} and {masks}")
    cases = with_table(root, pair_cases(root, variant))
    kind: MaskKind = "labels" if (root / CLASSES_NAME).is_file() else "binary"
    return SegmentationSet(root.name, class_names(root), kind, cases)


def class_names(root: Path) -> tuple[str, ...]:
    """The classes of a folder, from its classes.txt where there is one.

    Raises:
        ValueError: the list is not text in UTF-8, or does not name two or more different classes.
    """
    path = root / CLASSES_NAME
    if not path.is_file():
        return "background", "foreground"
    classes = tuple(read_lines(path))
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"{path} does not name two or more different classes")
    return classes


def pair_cases(
    root: Path, variant: Variant, *, prefix: str = "", group: str = ""
) -> tuple[Case, ...]:
    """The cases of two folders, sorted by name.

    Args:
        root: what holds both.
        variant: the folders, which exist.
        prefix: put before the names.
        group: of all cases.

    Raises:
        ValueError: an image without mask, a mask without image, two files of one name.
    """
    images, masks = root / variant.images, root / variant.masks
    mask_pattern = re.escape(variant.mask).replace(r"\{\}", f"({variant.image})")
    found = _by_stem(images, variant.image)
    known = _by_stem(masks, mask_pattern)
    wanted = {variant.mask.format(stem): stem for stem in found}
    missing = [found[stem].name for mask, stem in wanted.items() if mask not in known]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(found)} image(s) in {images} have no mask in {masks}: "
            f"{listed(missing)}"
        )
    alone = [known[mask].name for mask in known if mask not in wanted]
    if alone:
        raise ValueError(f"{len(alone)} mask(s) in {masks} have no image: {listed(alone)}")
    return tuple(
        Case(f"{prefix}{stem}", found[stem], known[variant.mask.format(stem)], group)
        for stem in sorted(found)
    )


def with_table(root: Path, cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases with groups and parts from the table cases.csv in `root`, if there is one.

    Raises:
        ValueError: the table is not text in UTF-8, a column is missing, a name is unknown or
            listed twice, a part is none.
    """
    path = root / CASES_NAME
    cases = tuple(cases)
    if not path.is_file():
        return cases
    columns, rows = read_table(path)
    if "name" not in columns or not {"group", "part"} & set(columns):
        raise ValueError(f"{path} needs the column name, and group or part; it has {columns}")
    known = {case.name: case for case in cases}
    seen: set[str] = set()
    for row in rows:
        name, part = row["name"], row.get("part", "").lower()
        if name not in known or name in seen:
            raise ValueError(f"{path}: {name!r} is {'listed twice' if name in seen else 'no case'}")
        if part not in PARTS:
            raise ValueError(f"{path}: part = {part!r} of {name!r} is neither training nor test")
        seen.add(name)
        case = known[name]
        known[name] = replace(case, group=row.get("group") or case.group, part=PARTS[part])
    return tuple(known[case.name] for case in cases)


def images_in(folder: Path) -> list[Path]:
    """The images that lie directly in a folder, sorted by name."""
    return sorted(
        file
        for file in folder.iterdir()
        # Archives made on a Mac hold files called ._NAME, which are no images.
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )


def _by_stem(folder: Path, pattern: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for file in images_in(folder):
        # Some systems store letters and their marks apart.
        stem = normalize("NFC", file.stem)
        if not re.fullmatch(pattern, stem):
            continue
        if stem in files:
            raise ValueError(
                f"{folder} holds both {files[stem].name} and {file.name}; which of them is "
                "meant cannot be told"
            )
        files[stem] = file
    return files
