"""Folder layouts of published segmentation sets of endoscopy.

The layouts are those of the archives as they are commonly unpacked. Several archives circulate for
some sets; every variant known here is tried in order. None of the archives was at hand: the
layouts come from their publishers' pages and from public programs that read them. Groups that no
file of the archive names can be given in a table cases.csv (see `read_pair`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from pretrain_jax.segmentation.dataset import Case, SegmentationSet, listed
from pretrain_jax.segmentation.layouts.pairs import (
    Variant,
    below,
    kind_of,
    pair_cases,
    unpacked,
    what_is_there,
    with_table,
)
from pretrain_jax.segmentation.layouts.text import read_lines, read_table

__all__ = ["PUBLISHED"]

POLYP = ("background", "polyp")
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
    """590 frames with tools (arXiv:2011.08065): images/*.jpg, masks/*.png, train.txt, test.txt.

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
    """1,000 polyp images (arXiv:1911.07069): images/*.jpg and masks/*.jpg of the same names.

    Masks are JPEG files with compression noise. Patients are not named.
    """
    return _binary("Kvasir-SEG", *_common(root))


def _imageclefmed(root: Path) -> SegmentationSet:
    """Development set of ImageCLEFmed MEDVQA-GI 2023: images/*.jpg, masks/*, gt.json (not read).

    That this edition is the one meant by the benchmarks, and that an image has one mask of its own
    name, is unverified.
    """
    return _binary("ImageCLEFmed", *_common(root), ("background", "foreground"))


def _etis(root: Path) -> SegmentationSet:
    """196 frames of 34 sequences: ETIS-LaribPolypDB/1.tif and "Ground Truth"/p1.tif.

    The repackaged form has images/ and masks/. No file says which sequence a frame is of.
    """
    original = Variant("ETIS-LaribPolypDB", "Ground Truth", "p{}")
    root = unpacked(root, original, COMMON)
    return _binary("ETIS", root, _cases(root, original, COMMON))


def _polypgen(root: Path) -> SegmentationSet:
    """PolypGen2021_MultiCenterData (arXiv:2106.04463), single frames and positive sequences.

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
    """Archives and notes may lie beside the folders."""
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
    """CVC-300 as distributed with arXiv:2006.11392 (60 frames): images/*.png and masks/*.png."""
    return _binary("CVC-300", *_common(root))


def _cvc_clinicdb(root: Path) -> SegmentationSet:
    """612 frames of 29 sequences: Original/1.tif and "Ground Truth"/1.tif.

    Also under PNG/ or TIF/, or repackaged as images/ and masks/. A copy on Kaggle has a table
    metadata.csv with frame_id and sequence_id (unverified), which gives the groups.
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
    """CVC-ColonDB: images/ and masks/ (380 frames), or the original's 1.bmp and p1.bmp (300).

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
