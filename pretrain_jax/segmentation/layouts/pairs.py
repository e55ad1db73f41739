"""Images and masks that lie in two folders and share their names."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

from pretrain_jax.data.listing import IMAGE_SUFFIXES, Tally
from pretrain_jax.segmentation.dataset import Case, Part, SegmentationSet, listed
from pretrain_jax.segmentation.layouts.text import read_lines, read_table
from pretrain_jax.segmentation.masks import MaskKind

__all__ = [
    "CASES_NAME",
    "CLASSES_NAME",
    "Variant",
    "below",
    "class_names",
    "images_in",
    "kind_of",
    "pair_cases",
    "read_pair",
    "unpacked",
    "what_is_there",
    "with_table",
]

CASES_NAME, CLASSES_NAME = "cases.csv", "classes.txt"
# What names of masks have behind that of the image.
ENDINGS = re.compile(r"[_\- ]*(masks?|segmentation|seg|label|labels|gt)$", re.IGNORECASE)
PARTS: Mapping[str, Part] = {"": "", "training": "training", "train": "training", "test": "test"}
# Nothing is chosen by them here: they are trained on, unless nothing else could be the test.
VALIDATION = frozenset({"val", "valid", "validation"})


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
        """The two folders, None where one is missing; capitals in their names do not matter."""
        images, masks = _folder(root, self.images), _folder(root, self.masks)
        if images is None or masks is None:
            return None
        if images == masks and not any(
            re.fullmatch(self.image, one.stem) for one in images_in(images)
        ):
            return None
        return images, masks


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
    variant = Variant(images, masks)
    root = unpacked(Path(folder), variant)
    if variant.at(root) is None:
        raise ValueError(
            f"{root} does not hold the folders {images} and {masks}{what_is_there(root)}"
        )
    cases = with_table(root, pair_cases(root, variant))
    kind, classes = kind_of(root)
    return SegmentationSet(root.name, classes, kind, cases)


def kind_of(
    root: Path, classes: tuple[str, ...] = ("background", "foreground")
) -> tuple[MaskKind, tuple[str, ...]]:
    """What masks hold, and the classes: those of a classes.txt where there is one."""
    if (root / CLASSES_NAME).is_file():
        return "labels", class_names(root)
    return "binary", classes


def unpacked(root: Path, *variants: Variant) -> Path:
    """The folder with the folders of a variant: `root`, or the only one below it that has them."""
    return below(root, lambda place: any(variant.at(place) is not None for variant in variants))


def below(root: Path, fits: Callable[[Path], bool]) -> Path:
    """The folder that fits: `root`, or the only one in it that does; `root` where none does.

    Raises:
        ValueError: several of them fit.
    """
    if fits(root):
        return root
    found = [place for place in _subfolders(root) if fits(place)]
    if len(found) > 1:
        names = listed([place.name for place in found])
        raise ValueError(f"{root} holds several sets ({names}); name the folder of one of them")
    return found[0] if found else root


def what_is_there(root: Path) -> str:
    """The end of a sentence: which folders a folder holds in the place of those of a layout."""
    names = [place.name for place in _subfolders(root)]
    return f"; it holds {'the folders ' + listed(names) if names else 'no folders'}"


def _subfolders(root: Path) -> list[Path]:
    return sorted(
        place
        for place in root.iterdir()
        if place.is_dir() and not place.name.startswith((".", "__MACOSX"))
    )


def _folder(root: Path, name: str) -> Path | None:
    """The folder of a name relative to `root`, with other capitals where it has those alone."""
    place = root / name
    if place.is_dir():
        return place
    place = root
    for part in Path(name).parts:
        if not place.is_dir():
            return None
        alike = [one for one in _subfolders(place) if one.name.casefold() == part.casefold()]
        if len(alike) != 1:
            return None
        (place,) = alike
    return place


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

    Where no image lies in the folder itself, its folders train, val and test are read, which are
    the parts of a split; the folder of masks has the same. Those of val count as training where
    there is a folder test, and as the test where there is none.

    Args:
        root: what holds both.
        variant: the folders, which exist.
        prefix: put before the names.
        group: of all cases.

    Raises:
        ValueError: an image without mask, a mask without image, two files of one name, images in
            folders of other names.
    """
    places = variant.at(root)
    assert places is not None
    images, masks = places
    inner = [place for place in _subfolders(images) if images_in(place)]
    if images == masks or not inner:
        return _paired(images, masks, variant, prefix, group, "")
    names = {place.name.casefold() for place in inner}
    parts = dict(PARTS) | dict.fromkeys(VALIDATION, "training" if "test" in names else "test")
    odd = [place.name for place in inner if place.name.casefold() not in parts]
    if odd or images_in(images):
        what = f"{inner[0].name}/{images_in(inner[0])[0].name}"
        raise ValueError(
            f"{images} holds images in folders, such as {what}; move all images into {images} "
            f"itself (and their masks into {masks}), or into its folders train, val and test"
        )
    cases: list[Case] = []
    for place in inner:
        own = _folder(masks, place.name)
        if own is None:
            raise ValueError(f"{images} holds the folder {place.name}, and {masks} does not")
        part = parts[place.name.casefold()]
        cases += _paired(place, own, variant, f"{prefix}{place.name}/", group, part)
    return tuple(cases)


def _paired(
    images: Path, masks: Path, variant: Variant, prefix: str, group: str, part: Part
) -> tuple[Case, ...]:
    mask_pattern = re.escape(variant.mask).replace(r"\{\}", f"({variant.image})")
    own = images == masks
    found = _by_stem(images, variant.image)
    if not found:
        tally = Tally()
        tally.passed_over.update(
            one.suffix.lower() for one in images.iterdir() if not one.name.startswith(".")
        )
        there = tally.others()
        raise ValueError(
            f"{images} holds no image of this layout"
            f"{f', but {there}' if there else ': it is empty'}"
        )
    known = _by_stem(masks, mask_pattern if own else ".+")
    masked: dict[str, str] = {}
    for stem in found:
        if variant.mask.format(stem) in known:
            masked[stem] = variant.mask.format(stem)
    if not own:
        masked |= _alike(
            [stem for stem in found if stem not in masked], known.keys() - set(masked.values())
        )
    missing = [found[stem].name for stem in found if stem not in masked]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(found)} image(s) in {images} have no mask in {masks}: "
            f"{listed(missing)}; take them out, or add their masks (black where nothing is shown), "
            f"called as the image is or with _mask or _segmentation behind it"
        )
    alone = [known[mask].name for mask in sorted(known.keys() - set(masked.values()))]
    if alone:
        raise ValueError(
            f"{len(alone)} mask(s) in {masks} have no image: {listed(alone)}; take them out, or "
            f"add their images to {images}"
        )
    return tuple(
        Case(f"{prefix}{stem}", found[stem], known[masked[stem]], group, part)
        for stem in sorted(found)
    )


def _alike(stems: Iterable[str], masks: Iterable[str]) -> dict[str, str]:
    """Masks by image where their names are the same but for an ending and what separates it.

    Raises:
        ValueError: several masks of one image, or several images of one mask.
    """
    found: dict[str, list[str]] = {}
    for mask in sorted(masks):
        found.setdefault(ENDINGS.sub("", mask).rstrip("_- "), []).append(mask)
    paired: dict[str, str] = {}
    of_key: dict[str, str] = {}
    for stem in stems:
        key = stem.rstrip("_- ")
        own = found.get(key, [])
        if len(own) > 1:
            raise ValueError(f"the image {stem} has several masks: {listed(own)}; leave one")
        if own and key in of_key:
            raise ValueError(f"the mask {own[0]} may be of {of_key[key]} or of {stem}; rename one")
        if own:
            paired[stem], of_key[key] = own[0], stem
    return paired


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
