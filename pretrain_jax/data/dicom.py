"""Reads DICOM files into images of 8 bits that name no patient.

The rules are those of DICOM PS3.3: modality transformation (C.11.1), windows (C.11.2), photometric
interpretation (C.7.6.3.1.2) and functional groups of multi-frame images (C.7.6.16). pydicom parses
and decodes. Sentences of errors hold neither the file's name nor a value that may identify anybody.
"""

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardset.checks import require
from pretrain_jax.data.grey import (
    Counted,
    check_window,
    counted,
    ramp,
    robust_range,
    to_bytes,
    window_ends,
)
from pretrain_jax.data.opening import TooLargeError, check_pixels, regular_file
from pretrain_jax.data.privacy import SALT_BYTES, quiet, salted_hash

PREAMBLE, MAGIC = 128, b"DICM"
GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# Of the standard, most of them retired: no file of them was found to test a conversion with.
UNREAD = ("YBR_PARTIAL_420", "YBR_PARTIAL_422", "HSV", "ARGB", "CMYK")
MOST_REASON = 300  # characters
MOST_FRAMES = 100_000  # whose numbers have five digits
DEFLATED = b"1.2.840.10008.1.2.1.99"
MOST_INFLATED = 2**30  # bytes
CHUNK = 1 << 20
# Types of elements whose length has four bytes (PS3.5, 7.1.2).
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PADDING = ("PixelPadding", "FloatPixelPadding", "DoubleFloatPixelPadding")
# What a header is read for.
HEADER = (
    "SpecificCharacterSet",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "InstanceNumber",
    "NumberOfFrames",
    "BurnedInAnnotation",
    "PhotometricInterpretation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SpacingBetweenSlices",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
Values = NDArray[Any]
Of = TypeVar("Of")


class DicomError(ValueError):
    """Says why a file gives no images, in words that identify nobody."""


class Plane(NamedTuple):
    """Says where an image lies.

    Attributes:
        along: directions of rows and columns in the patient, 6 cosines; () where unknown.
        position: along the normal of its plane in mm, 0 where unknown.
        spacing: distances of rows, of columns and of slices in mm, NaN where unknown.
    """

    along: tuple[float, ...]
    position: float
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class DicomHeader:
    """Describes the images of one DICOM file.

    Attributes:
        ids: a name for each: a salted hash of SOPInstanceUID, with "-" and the frame's number from
            0 on, in five digits, where the file says how many frames it has.
        group: a salted hash of PatientID, "" where there is none.
        series: a salted hash of SeriesInstanceUID, "" where there is none.
        number: its InstanceNumber, 0 where there is none.
        planes: of every image.
        burned_in: whether the file says that its pixels show who the patient is.
        windowed: whether all its grey values have a window or a table of the file's own, or it has
            colours.
    """

    ids: tuple[str, ...]
    group: str
    series: str
    number: float
    planes: tuple[Plane, ...]
    burned_in: bool
    windowed: bool


@dataclass(frozen=True)
class DicomImages(DicomHeader):
    """Holds the images of one DICOM file.

    Attributes:
        pixels: uint8 arrays (H, W, 1) of grey or (H, W, 3) of colour images.
    """

    pixels: tuple[NDArray[np.uint8], ...]


def is_dicom(file: BinaryIO) -> bool:
    """Say whether an open file is DICOM by its content, and rewind it."""
    file.seek(0)
    head = file.read(PREAMBLE + len(MAGIC))
    file.seek(0)
    return head[PREAMBLE:] == MAGIC


def read_header(path: str | Path, salt: bytes) -> DicomHeader:
    """Read what a DICOM file says of its images, without their pixels.

    Args:
        path: the file.
        salt: of the hashes, see `pretrain_jax.data.privacy.project_salt`; 32 bytes.

    Raises:
        DicomError: it is no DICOM file or damaged; says which.
        ValueError: it is too large or no regular file; the salt is out of range.
        OSError: it cannot be read.
    """
    _check_salt(salt)
    return _parsed(path, lambda dataset: _header(dataset, salt), pixels=False)


def read_dicom(
    path: str | Path,
    salt: bytes,
    *,
    window: tuple[float, float] | None = None,
    between: tuple[float, float] | None = None,
) -> DicomImages:
    """Read all frames of a DICOM file as they are displayed.

    Grey values are rescaled to their unit and shown through a window: the given one, else the
    first one of the file, else its first table (VOI LUT), else from the lower to the upper end of
    `between`. MONOCHROME1 is inverted. What PixelPaddingValue marks is black. Palettes and YBR
    become RGB; colours have no window.

    Args:
        path: the file.
        salt: of the hashes, see `pretrain_jax.data.privacy.project_salt`; 32 bytes.
        window: centre and width of a window of the kind LINEAR, in rescaled units; the width is
            at least 1.
        between: rescaled values that are black and white; by default the percentiles 0.5 and 99.5
            of the file, see `grey_counts`.

    Raises:
        DicomError: it is no DICOM image, damaged or of an unknown kind, or its decoder is not
            installed; says which.
        ValueError: it is too large or no regular file; the window or the salt is out of range.
        OSError: it cannot be read.
    """
    _check_salt(salt)
    check_window(window)

    def read(dataset: Any) -> DicomImages:
        header = _header(dataset, salt)
        return DicomImages(**vars(header), pixels=tuple(_shown(dataset, window, between)))

    return _parsed(path, read)


def grey_counts(path: str | Path) -> list[Counted]:
    """Count the rescaled grey values of each frame, without what PixelPaddingValue marks.

    Raises:
        DicomError: see `read_dicom`.
        ValueError: likewise.
        OSError: it cannot be read.
    """
    return _parsed(path, lambda dataset: list(_counts(dataset)))


def _check_salt(salt: bytes) -> None:
    if len(salt) != SALT_BYTES:
        raise ValueError(f"the salt has {len(salt)} bytes, not {SALT_BYTES}")


def _parsed(path: str | Path, read: Callable[[Any], Of], *, pixels: bool = True) -> Of:
    """Read a file by pydicom, none of whose sentences gets out."""
    require("pydicom", "medical")
    import pydicom

    with regular_file(path) as file, quiet("pydicom"):
        if not is_dicom(file):
            raise DicomError("it is no DICOM file: bytes 128 to 131 are not DICM")
        try:
            meta = pydicom.filereader.read_file_meta_info(path)
            _check_inflated(file, str(meta.get("TransferSyntaxUID", "")).encode() == DEFLATED)
            tags: list[Any] | None = None if pixels else list(HEADER)
            return read(pydicom.dcmread(file, stop_before_pixels=not pixels, specific_tags=tags))
        except (DicomError, TooLargeError, MemoryError):
            raise
        except Exception as error:  # sentences of pydicom may quote what the file holds
            raise DicomError(f"it is a damaged DICOM file ({type(error).__name__})") from None


def _check_inflated(file: BinaryIO, wanted: bool) -> None:
    """Check how large a file becomes that is compressed as a whole, and rewind it.

    pydicom inflates it at once, whatever it becomes.
    """
    if wanted:
        file.seek(PREAMBLE + len(MAGIC))
        _skip_meta(file)
        inflated, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        data = file.read(CHUNK)
        while data and not inflated.eof:
            size += len(inflated.decompress(data, CHUNK))
            data = inflated.unconsumed_tail or file.read(CHUNK)
            if size > MOST_INFLATED:
                raise TooLargeError(f"it has more than {MOST_INFLATED} bytes when it is inflated")
    file.seek(0)


def _skip_meta(file: BinaryIO) -> None:
    """Go to the end of the group 0002, which says the transfer syntax."""
    while True:
        place, head = file.tell(), file.read(8)
        if head[:2] != b"\2\0":
            file.seek(place)
            return
        size = file.read(4) if head[4:6] in LONG else head[6:8]
        file.seek(int.from_bytes(size, "little"), 1)


def _header(dataset: Any, salt: bytes) -> DicomHeader:
    tags = ("SOPInstanceUID", "PatientID", "SeriesInstanceUID")
    identifier, patient, series = (_text(dataset, tag) for tag in tags)
    if not identifier:
        raise DicomError("it has no SOPInstanceUID, which names an image")
    frames = _whole(dataset, "NumberOfFrames", 1)
    if frames > MOST_FRAMES:
        raise DicomError(f"it says that it has more than {MOST_FRAMES} frames")
    name = salted_hash(salt, "image", identifier)
    numbered = dataset.get("NumberOfFrames") is not None
    grey = _text(dataset, "PhotometricInterpretation") in GREY
    return DicomHeader(
        tuple(f"{name}-{number:05d}" for number in range(frames)) if numbered else (name,),
        salted_hash(salt, "patient", patient) if patient else "",
        salted_hash(salt, "series", series) if series else "",
        _number(dataset, "InstanceNumber") or 0.0,
        tuple(_plane(dataset, frame) for frame in range(frames)),
        _text(dataset, "BurnedInAnnotation").upper() == "YES",
        not grey or all(_voi(dataset, frame, None) is not None for frame in range(frames)),
    )


def _value(dataset: Any, tag: str) -> Any:
    """Return the first value of an element, None where it is missing or empty."""
    try:
        found = dataset.get(tag)
    except Exception:  # of values that break the rules of their type
        raise DicomError(f"its {tag} cannot be read") from None
    if isinstance(found, str) or not hasattr(found, "__len__"):
        return None if found == "" else found
    return found[0] if len(found) else None


def _text(dataset: Any, tag: str) -> str:
    """Return a text, without the spaces and zeros that fill it up."""
    found = dataset.get(tag)
    several = found is not None and not isinstance(found, str) and hasattr(found, "__len__")
    text = "\\".join(map(str, found)) if several else str("" if found is None else found)
    return text.strip(" \0")


def _whole(dataset: Any, tag: str, missing: int | None = None) -> int:
    found = _value(dataset, tag)
    if found is None and missing is not None:
        return missing
    try:
        number = int(found)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise DicomError(f"its {tag} is not a whole number >= 1")
    return number


def _number(dataset: Any, tag: str) -> float | None:
    found = _value(dataset, tag)
    if found is None:
        return None
    try:
        number = float(found)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DicomError(f"its {tag} is no finite number")
    return number


def _numbers(dataset: Any, tag: str, count: int) -> tuple[float, ...]:
    """Return finite numbers, () where they are missing or not as many."""
    found = dataset.get(tag)
    if found is None or not hasattr(found, "__len__") or len(found) != count:
        return ()
    numbers = tuple(map(float, found))
    if not all(map(math.isfinite, numbers)):
        raise DicomError(f"its {tag} is not finite")
    return numbers


def _plane(dataset: Any, frame: int) -> Plane:
    """Project the place of a slice on the normal of its plane (PS3.3 C.7.6.2.1.1)."""

    def macro(name: str, tag: str, count: int) -> tuple[float, ...]:
        return _numbers(_macro(dataset, frame, name, tag), tag, count)

    along = macro("PlaneOrientationSequence", "ImageOrientationPatient", 6)
    place = macro("PlanePositionSequence", "ImagePositionPatient", 3)
    sides = macro("PixelMeasuresSequence", "PixelSpacing", 2) or (math.nan, math.nan)
    item = _macro(dataset, frame, "PixelMeasuresSequence", "SpacingBetweenSlices")
    step = _number(item, "SpacingBetweenSlices")
    known = along and place
    normal = np.cross(along[:3], along[3:]) if known else np.zeros(3)
    return Plane(
        along if known else (),
        float(np.dot(normal, place)) if known else 0.0,
        (sides[0], sides[1], math.nan if step is None else abs(step)),
    )


def _macro(dataset: Any, frame: int, name: str, tag: str) -> Any:
    """Return the part of a file that has an element for a frame.

    In multi-frame files it is a functional group of the frame, or one that all frames share.
    """
    of_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (of_frame[frame : frame + 1], shared[:1]):
        for group in groups:
            for item in (group.get(name) or [])[:1]:
                if _value(item, tag) is not None:
                    return item
    return dataset


def _photometric(dataset: Any) -> str:
    """Return how values become colours, and check it and the size of a frame."""
    found = _text(dataset, "PhotometricInterpretation")
    if not found and not any(name in dataset for name in PIXELS):
        raise DicomError("it has no pixels, as a report or an index of files")
    if found not in (*GREY, PALETTE, *COLOUR):
        known = ", ".join((*GREY, PALETTE, *COLOUR))
        what = f"the {found}" if found in UNREAD else "an unknown" if found else "no"
        raise DicomError(f"it has {what} PhotometricInterpretation; {known} are read")
    check_pixels(_whole(dataset, "Rows"), _whole(dataset, "Columns"))
    return found


def _shown(
    dataset: Any, window: tuple[float, float] | None, between: tuple[float, float] | None
) -> Iterator[NDArray[np.uint8]]:
    photometric = _photometric(dataset)
    top = 2.0 ** _whole(dataset, "BitsStored", _whole(dataset, "BitsAllocated")) - 1
    if photometric in COLOUR:
        for stored in _decoded(dataset):
            yield to_bytes(stored / top)
    elif photometric == PALETTE:
        from pydicom.pixels.processing import apply_color_lut

        for stored in _decoded(dataset):
            found = apply_color_lut(stored, dataset)[:, :, :3]
            yield to_bytes(found / float(np.iinfo(found.dtype).max))
    else:
        for frame, stored in enumerate(_decoded(dataset)):
            values = _rescaled(stored, dataset, frame)
            show = _voi(dataset, frame, window)
            if show is None:
                # Frames are decoded again rather than held all at once.
                between = between or robust_range(lambda: _counts(dataset)) or (0.0, 0.0)
                shares = ramp(values, *between)
            else:
                shares = show(values)
            shown = to_bytes(shares)
            if photometric == "MONOCHROME1":
                shown = 255 - shown
            shown[_padded(stored, dataset)] = 0
            yield shown[:, :, None]


def _counts(dataset: Any) -> Iterator[Counted]:
    _photometric(dataset)
    for frame, stored in enumerate(_decoded(dataset)):
        values = _rescaled(stored, dataset, frame)
        yield counted(values[~_padded(stored, dataset)])


def _padded(stored: Values, dataset: Any) -> NDArray[np.bool_]:
    """Mark stored values that fill an image up to its rectangle (PS3.3 C.7.5.1.1.2)."""
    for name in PADDING:
        first = _number(dataset, f"{name}Value")
        if first is None:
            continue
        last = _number(dataset, f"{name}RangeLimit")
        ends = [first, first if last is None else last]
        if stored.dtype.kind == "i":  # the value may be written as if it had no sign
            size = 2 ** (8 * stored.dtype.itemsize)
            ends = [one - size if one >= size / 2 else one for one in ends]
        return (min(ends) <= stored) & (stored <= max(ends))
    return np.zeros(stored.shape, bool)


def _decoded(dataset: Any) -> Iterator[Values]:
    """Decode the frames' stored values, one after another."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import iter_pixels

    syntax = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    if syntax is None:
        raise DicomError("it does not say its transfer syntax, by which pixels are decoded")
    if syntax.type != "Transfer Syntax":  # what is said there may be anything
        raise DicomError("its transfer syntax is none of the standard's")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DicomError(f"its transfer syntax {syntax.name} has no known decoder") from None
    if not decoder.is_available:
        wanted = "; ".join(one.partition(" - requires ")[2] for one in decoder.missing_dependencies)
        raise DicomError(
            f"its transfer syntax {syntax.name} needs a decoder that is not installed, one of: "
            f"{wanted}"
        )
    frames = _whole(dataset, "NumberOfFrames", 1)
    # With indices: without them some signed JPEG 2000 ends in an error inside pydicom 3.0.
    decoded, count = iter_pixels(dataset, indices=range(frames)), 0
    while True:
        try:
            found = next(decoded, None)
        except Exception as error:  # decoders raise many types on damaged input
            reason = " ".join(str(error).split())[:MOST_REASON]
            raise DicomError(f"its pixels cannot be decoded: {reason}") from None
        if found is None:
            break
        count += 1
        yield _checked(found, dataset)
    if count != frames:
        raise DicomError(f"it holds {count} frames and says {frames}")


def _checked(stored: Values, dataset: Any) -> Values:
    """Check what pydicom leaves unchecked; it has dropped the bits that are not stored."""
    if stored.dtype.kind == "f":
        if not np.isfinite(stored).all():
            raise DicomError("it holds values that are not finite")
    elif _value(dataset, "HighBit") not in (None, bits := _whole(dataset, "BitsStored") - 1):
        raise DicomError(f"its HighBit is not {bits}, the last one of the bits stored")
    return stored


def _rescaled(stored: Values, dataset: Any, frame: int) -> Values:
    """Transform stored values to the unit of their modality."""
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        return apply_modality_lut(stored, dataset)
    item = _macro(dataset, frame, "PixelValueTransformationSequence", "RescaleSlope")
    slope, intercept = (_number(item, tag) for tag in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or intercept is None:
        return stored.astype(np.float64)
    return stored * slope + intercept


def _voi(
    dataset: Any, frame: int, window: tuple[float, float] | None
) -> Callable[[Values], Values] | None:
    """Choose the map from rescaled values to shares of white, None without any."""
    kind = "LINEAR"
    if window is not None:
        centre, width = window
    else:
        item = _macro(dataset, frame, "FrameVOILUTSequence", "WindowCenter")
        first = [_number(item, tag) for tag in ("WindowCenter", "WindowWidth")]
        if first[0] is None or first[1] is None:
            return _table(dataset)
        centre, width = first[0], first[1]
        kind = _text(item, "VOILUTFunction").upper() or "LINEAR"
    if width <= 0 or (kind == "LINEAR" and width < 1):
        raise DicomError(f"its WindowWidth is {width:g}, too narrow for a window")
    if kind == "LINEAR":
        return lambda values: ramp(values, *window_ends(centre, width))
    if kind == "LINEAR_EXACT":
        return lambda values: ramp(values, centre - width / 2, centre + width / 2)
    if kind == "SIGMOID":
        return lambda values: 0.5 + 0.5 * np.tanh(2 * (values - centre) / width)
    raise DicomError("its VOILUTFunction is none of LINEAR, LINEAR_EXACT and SIGMOID")


def _table(dataset: Any) -> Callable[[Values], Values] | None:
    if not dataset.get("VOILUTSequence"):
        return None
    from pydicom.pixels.processing import apply_voi

    top = 2.0 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
    return lambda values: apply_voi(np.rint(values).astype(np.int64), dataset) / top
