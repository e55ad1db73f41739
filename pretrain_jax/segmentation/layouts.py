"""Reads published segmentation sets of endoscopy in the folders of their archives.

The layouts are those of the archives as they are commonly unpacked. Several archives circulate for
some sets; every variant known here is tried in order. None of the archives was at hand: the
layouts come from their publishers' pages and from public programs that read them. Groups that no
file of the archive names can be given in a table cases.csv (see `read_pair`).
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from unicodedata import normalize

from hardset.checks import check_choice
from pretrain_jax.data.listing import (
    COLLECTIONS,
    Tally,
    entries,
    list_line,
    write_list,
)
from pretrain_jax.data.names import IMAGE_SUFFIXES
from pretrain_jax.segmentation.dataset import Case, Part, SegmentationSet, listed
from pretrain_jax.segmentation.masks import MaskKind

CASES_NAME, CLASSES_NAME = "cases.csv", "classes.txt"
# The name of a mask is that of its image with one of these endings.
ENDINGS = re.compile(r"[_\- ]*(masks?|segmentation|seg|label|labels|gt)$", re.IGNORECASE)
PARTS: Mapping[str, Part] = {"": "", "training": "training", "train": "training", "test": "test"}
# Validation parts are trained on, as nothing is chosen by them here. Where there is no test part,
# they are the test.
VALIDATION = frozenset({"val", "valid", "validation"})
POLYP = ("background", "polyp")
PAIR = "folder"


def pretraining_cases(root: Path, layout: str) -> tuple[Case, ...]:
    """Return the images and videos of a folder of a layout.

    Raises:
        ValueError: the folder does not have the layout.
    """
    found = entries(f"{layout}:{root}")
    return tuple(Case(name, root / name, None, group) for name, _, group in found)


def write_image_list(cases: Iterable[Case], path: str | Path) -> None:
    """Write an image list that `find_images` reads.

    It has a path a line, relative to the list.

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


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text that are not blank.

    The spaces around them are left out.

    Raises:
        ValueError: the file is not text in UTF-8.
    """
    return [line.strip() for line in _text(path).split("\n") if line.strip()]


def read_table(path: Path) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Read the names of the columns and the rows of a CSV file.

    What a row lacks is "".

    Raises:
        ValueError: the file is not text in UTF-8, or no table.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), restval="")
    try:
        return tuple(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV table: line {reader.line_num}: {error}") from None


def _text(path: Path) -> str:
    # Programs for tables write a byte order mark; names are those of `pair_cases`, composed.
    try:
        return normalize("NFC", path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8; save it in that encoding") from None


@dataclass(frozen=True)
class Variant:
    """Says where images and masks lie, and how a mask is called.

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
        """Find the two folders.

        It is None where one is missing. Capitals in their names do not matter.
        """
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
    """Read the set of a folder of images and a folder of masks.

    Image and mask have the same name.

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
    """Return what masks hold, and the classes.

    The classes are those of a classes.txt where there is one.
    """
    if (root / CLASSES_NAME).is_file():
        return "labels", class_names(root)
    return "binary", classes


def unpacked(root: Path, *variants: Variant) -> Path:
    """Find the folder with the folders of a variant.

    It is `root`, or the only folder below it that has them.
    """
    return below(root, lambda place: any(variant.at(place) is not None for variant in variants))


def below(root: Path, fits: Callable[[Path], bool]) -> Path:
    """Find the folder that fits.

    It is `root`, or the only one in it that does. It is `root` where none does.

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
    """Write the end of a sentence on what a folder holds.

    It names the folders that stand in the place of those of a layout.
    """
    names = [place.name for place in _subfolders(root)]
    return f"; it holds {'the folders ' + listed(names) if names else 'no folders'}"


def _subfolders(root: Path) -> list[Path]:
    return sorted(
        place
        for place in root.iterdir()
        if place.is_dir() and not place.name.startswith((".", "__MACOSX"))
    )


def _folder(root: Path, name: str) -> Path | None:
    """Find the folder of a name relative to `root`.

    It has other capitals where the folder is there with those alone.
    """
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
    """Return the classes of a folder.

    They are those of its classes.txt where there is one.

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
    """Return the cases of two folders, sorted by name.

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
    """Match masks to images of nearly the same name.

    The names differ in an ending and in what separates it only.

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
    """Return the cases with groups and parts from a table.

    It is cases.csv in `root`, if there is one.

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
    """Return the images that lie directly in a folder, sorted by name."""
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


# What repackaged collections use for all polyp sets.
COMMON = Variant("images", "masks")


def _cases(root: Path, *variants: Variant) -> tuple[Case, ...]:
    for variant in variants:
        if variant.at(root) is not None:
            return pair_cases(root, variant)
    known = "; or ".join(f"{one.images} and {one.masks}" for one in variants)
    raise ValueError(
        f"{root} does not hold the folders of this layout: {known}{what_is_there(root)}"
    )


def _binary(
    name: str, root: Path, cases: tuple[Case, ...], classes: tuple[str, ...] = POLYP
) -> SegmentationSet:
    kind, named = kind_of(root, classes)
    return SegmentationSet(name, named, kind, with_table(root, cases))


def _common(root: Path) -> tuple[Path, tuple[Case, ...]]:
    place = unpacked(root, COMMON)
    return place, _cases(place, COMMON)


def _kvasir_instrument(root: Path) -> SegmentationSet:
    """Read Kvasir-Instrument, 590 frames with tools (arXiv:2011.08065).

    It has images/*.jpg, masks/*.png, train.txt and test.txt.

    The two lists are the published split, a name a line; their form is unverified, names with and
    without suffix are read.
    """
    own = Variant("images/images", "masks/masks")
    root = unpacked(root, own, COMMON)
    cases = _cases(root, own, COMMON)
    training, test = (_names(root / f"{part}.txt") for part in ("train", "test"))
    if training or test:
        both = sorted(training & test)
        if both:
            raise ValueError(f"{root}: train.txt and test.txt both list {listed(both)}")
        unknown = sorted((training | test) - {case.name for case in cases})
        if unknown:
            raise ValueError(f"{root}: train.txt or test.txt lists unknown {listed(unknown)}")
        cases = tuple(
            replace(
                case,
                part="test" if case.name in test else "training" if case.name in training else "",
            )
            for case in cases
        )
    return _binary("Kvasir-Instrument", root, cases, ("background", "instrument"))


def _kvasir_seg(root: Path) -> SegmentationSet:
    """Read Kvasir-SEG, 1,000 polyp images (arXiv:1911.07069).

    It has images/*.jpg and masks/*.jpg of the same names.

    Masks are JPEG files with compression noise. Patients are not named.
    """
    return _binary("Kvasir-SEG", *_common(root))


def _imageclefmed(root: Path) -> SegmentationSet:
    """Read the development set of ImageCLEFmed MEDVQA-GI 2023.

    It has images/*.jpg, masks/*, and gt.json, which is not read.

    That this edition is the one meant by the benchmarks, and that an image has one mask of its own
    name, is unverified.
    """
    return _binary("ImageCLEFmed", *_common(root), ("background", "foreground"))


def _etis(root: Path) -> SegmentationSet:
    """Read ETIS-Larib, 196 frames of 34 sequences.

    It has ETIS-LaribPolypDB/1.tif and "Ground Truth"/p1.tif.

    The repackaged form has images/ and masks/. No file says which sequence a frame is of.
    """
    original = Variant("ETIS-LaribPolypDB", "Ground Truth", "p{}")
    root = unpacked(root, original, COMMON)
    return _binary("ETIS", root, _cases(root, original, COMMON))


def _polypgen(root: Path) -> SegmentationSet:
    """Read PolypGen2021_MultiCenterData (arXiv:2106.04463).

    It has single frames and positive sequences.

    data_C1 to data_C6 hold images_C1/NAME.jpg and masks_C1/NAME_mask.jpg; sequenceData/positive
    holds seq1/images_seq1 and seq1/masks_seq1. Sequences are groups; patients of single frames are
    not named. Frames of sequenceData/negativeOnly have no masks and are left out.
    """
    root = below(root, lambda one: bool(_folders(one, "data_C*") or _positive(one)))
    cases: list[Case] = []
    for centre in _folders(root, "data_C*"):
        number = centre.name.removeprefix("data_")
        cases += _polypgen_pair(root, centre, number, group="")
    for sequence in _positive(root):
        cases += _polypgen_pair(root, sequence, sequence.name, group=sequence.name)
    if not cases:
        raise ValueError(
            f"{root} holds neither data_C1 to data_C6 nor sequenceData/positive/seq1 and so on"
            f"{what_is_there(root)}"
        )
    return _binary("PolypGen2021", root, tuple(cases))


def _positive(root: Path) -> list[Path]:
    return _folders(root / "sequenceData" / "positive", "seq*")


def _folders(root: Path, pattern: str) -> list[Path]:
    """Return the folders of a folder.

    Archives and notes may lie beside them.
    """
    return sorted(path for path in root.glob(pattern) if path.is_dir())


def _polypgen_pair(root: Path, folder: Path, tail: str, group: str) -> tuple[Case, ...]:
    images, masks = f"images_{tail}", f"masks_{tail}"
    # Some centres' masks are said to be called like the images; unverified. One image of centre 3,
    # C3_EndoCV2021_00489_.jpg, has a mask with one underscore fewer than the others.
    variant = Variant(images, masks, "{}_mask")
    if variant.at(folder) is None:
        raise ValueError(
            f"{folder} does not hold the folders {images} and {masks}{what_is_there(folder)}"
        )
    prefix = f"{folder.relative_to(root).as_posix()}/"
    return pair_cases(folder, variant, prefix=prefix, group=group)


def _cvc_300(root: Path) -> SegmentationSet:
    """Read CVC-300 as distributed with arXiv:2006.11392 (60 frames).

    It has images/*.png and masks/*.png.
    """
    return _binary("CVC-300", *_common(root))


def _cvc_clinicdb(root: Path) -> SegmentationSet:
    """Read CVC-ClinicDB, 612 frames of 29 sequences.

    It has Original/1.tif and "Ground Truth"/1.tif.

    They may also lie under PNG/ or TIF/, or be repackaged as images/ and masks/. A copy on Kaggle
    has a table metadata.csv with frame_id and sequence_id (unverified), which gives the groups.
    """
    variants = (
        Variant("Original", "Ground Truth"),
        Variant("PNG/Original", "PNG/Ground Truth"),
        Variant("TIF/Original", "TIF/Ground Truth"),
        COMMON,
    )
    root = unpacked(root, *variants)
    cases = _cases(root, *variants)
    table = root / "metadata.csv"
    if table.is_file():
        columns, rows = read_table(table)
        if not {"frame_id", "sequence_id"} <= set(columns):
            raise ValueError(f"{table} lacks the columns frame_id and sequence_id")
        sequences = {row["frame_id"]: f"sequence {row['sequence_id']}" for row in rows}
        without = [case.name for case in cases if case.name not in sequences]
        if without:
            raise ValueError(
                f"{table} gives no sequence to {len(without)} of {len(cases)} case(s): "
                f"{listed(without)}; its frame_id must be the image's name without its ending"
            )
        cases = tuple(replace(case, group=sequences[case.name]) for case in cases)
    return _binary("CVC-ClinicDB", root, cases)


def _cvc_colondb(root: Path) -> SegmentationSet:
    """Read CVC-ColonDB.

    It has images/ and masks/ (380 frames), or the original's 1.bmp and p1.bmp (300).

    The original's masks s1.bmp (uninformative regions) and c1.bmp (contours) are not read. No file
    says which of the 15 sequences a frame is of.
    """
    original = Variant(".", ".", "p{}", image=r"\d+")
    root = unpacked(root, COMMON, original)
    return _binary("CVC-ColonDB", root, _cases(root, COMMON, original))


def _names(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    return {re.sub(r"\.(jpe?g|png)$", "", line, flags=re.IGNORECASE) for line in read_lines(path)}


PUBLISHED: Mapping[str, Callable[[Path], SegmentationSet]] = MappingProxyType(
    {
        "kvasir-instrument": _kvasir_instrument,
        "kvasir-seg": _kvasir_seg,
        "imageclefmed": _imageclefmed,
        "etis": _etis,
        "polypgen2021": _polypgen,
        "cvc-300": _cvc_300,
        "cvc-clinicdb": _cvc_clinicdb,
        "cvc-colondb": _cvc_colondb,
    }
)


def read_segmentation(folder: str | Path, layout: str = PAIR) -> SegmentationSet:
    """Return the set in a folder of a published layout.

    Args:
        folder: the unpacked archive.
        layout: "folder" (see `read_pair`) or one of `PUBLISHED`.

    Raises:
        ValueError: an unknown layout, a missing folder, or one that does not have the layout.
    """
    check_choice("layout", layout, (PAIR, *PUBLISHED))
    root = _read_folder(folder)
    if layout == PAIR:
        return read_pair(root)
    return PUBLISHED[layout](root)


def read_pretraining(folder: str | Path, layout: str) -> tuple[Case, ...]:
    """Read images and videos for pre-training, without masks.

    They lie in a folder of a published layout.

    Args:
        folder: the unpacked archive.
        layout: one of `COLLECTIONS`.

    Raises:
        ValueError: an unknown layout, a missing folder, or one that does not have the layout.
    """
    check_choice("layout", layout, COLLECTIONS)
    return pretraining_cases(_read_folder(folder), layout)


def _read_folder(folder: str | Path) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"data set folder {root} does not exist; unpack the archive there")
    return root
