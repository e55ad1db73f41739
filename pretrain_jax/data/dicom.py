"""Reads DICOM files into images of 8 bits that name no patient.

The rules are those of DICOM PS3.3: modality transformation (C.11.1), windows (C.11.2), photometric
interpretation (C.7.6.3.1.2) and functional groups of multi-frame images (C.7.6.16). pydicom parses
and decodes. Sentences of errors hold neither the file's name nor a value that may identify anybody.
"""

import hashlib
import hmac
import logging
import math
import os
import secrets
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hardset.checks import require
from hardset.datafile import atomic_file
from pretrain_jax.data.opening import TooLargeError, check_pixels, regular_file

PREAMBLE, MAGIC = 128, b"DICM"
GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
SHARES = (0.005, 0.995)  # of the pixels, where no window is given
SALT_BYTES = 32
HASH_DIGITS = 32
WIDEST_WINDOW = 1e9
MOST_REASON = 300  # characters
Values = NDArray[Any]
_quieted = Lock()


class DicomError(ValueError):
    """Says why a file gives no images, in words that identify nobody."""


@dataclass(frozen=True)
class DicomImages:
    """Holds the images of one DICOM file.

    Attributes:
        ids: a name for each: a salted hash of SOPInstanceUID, with "-" and the frame's number from
            0 on, in five digits, where the file says how many frames it has.
        group: a salted hash of PatientID, "" where there is none.
        series: a salted hash of SeriesInstanceUID, "" where there is none.
        position: of a slice along the normal of its plane in mm, else the InstanceNumber, else 0.
        pixels: uint8 arrays (H, W, 1) of grey or (H, W, 3) of colour images.
        burned_in: whether the file says that its pixels show who the patient is.
    """

    ids: tuple[str, ...]
    group: str
    series: str
    position: float
    pixels: tuple[NDArray[np.uint8], ...]
    burned_in: bool


def is_dicom(file: BinaryIO) -> bool:
    """Say whether an open file is DICOM by its content, and rewind it."""
    file.seek(0)
    head = file.read(PREAMBLE + len(MAGIC))
    file.seek(0)
    return head[PREAMBLE:] == MAGIC


def project_salt(path: str | Path, outputs: str | Path) -> bytes:
    """Read the salt of a project's hashes, or make one where there is none.

    Who has the salt can find out which hash is whose, by trying identifiers. So nobody but its
    owner may read the file, and it does not lie among results, which are handed on.

    Args:
        path: a file of 64 hexadecimal digits; it is made with the mode 600.
        outputs: the folder of results.

    Raises:
        ValueError: it lies in `outputs`, others may read it, or it holds something else.
        OSError: it cannot be read or made.
    """
    target = Path(os.path.realpath(path))
    if target.is_relative_to(os.path.realpath(outputs)):
        raise ValueError(
            f"the salt {path} lies in {outputs}, which holds results; keep it elsewhere"
        )
    if not target.exists():
        try:
            with atomic_file(target, replace=False) as temporary:
                temporary.chmod(0o600)
                temporary.write_text(secrets.token_hex(SALT_BYTES) + "\n", encoding="ascii")
        except FileExistsError:
            pass  # another process was faster
    with regular_file(target) as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        text = file.read(2 * SALT_BYTES + 2)
    if mode & 0o077:
        raise ValueError(
            f"the salt {path} has the mode {mode:o}; others may not read it: chmod 600"
        )
    try:
        salt = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        salt = b""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"the salt {path} does not hold {2 * SALT_BYTES} hexadecimal digits")
    return salt


def check_window(window: tuple[float, float] | None) -> None:
    """Check centre and width of a window of the kind LINEAR.

    Raises:
        ValueError: a width below 1 or above 1e9, or no finite number.
    """
    if window is not None and not (
        all(map(math.isfinite, window)) and 1 <= window[1] <= WIDEST_WINDOW
    ):
        raise ValueError(
            f"window = {window}: the centre must be a number, the width one from 1 to "
            f"{WIDEST_WINDOW:g}"
        )


def salted_hash(salt: bytes, kind: str, value: str) -> str:
    """Hash an identifier of a kind with the project's salt (HMAC-SHA256, 32 digits)."""
    return hmac.new(salt, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()[:HASH_DIGITS]


def read_dicom(
    path: str | Path, salt: bytes, *, window: tuple[float, float] | None = None
) -> DicomImages:
    """Read all frames of a DICOM file as they are displayed.

    Grey values are rescaled to their unit and shown through a window: the given one, else the
    first one of the file, else its first table (VOI LUT), else from the percentile 0.5 to 99.5 of
    all frames. MONOCHROME1 is inverted. Palettes and YBR become RGB; colours have no window.

    Args:
        path: the file.
        salt: of the hashes, see `project_salt`; 32 bytes.
        window: centre and width of a window of the kind LINEAR, in rescaled units; the width is
            at least 1.

    Raises:
        DicomError: it is no DICOM image, damaged or of an unknown kind, or its decoder is not
            installed; says which.
        ValueError: it is too large or no regular file; the window or the salt is out of range.
        OSError: it cannot be read.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"the salt has {len(salt)} bytes, not {SALT_BYTES}")
    check_window(window)
    require("pydicom", "medical")
    with regular_file(path) as file, _quiet():
        if not is_dicom(file):
            raise DicomError("it is no DICOM file: bytes 128 to 131 are not DICM")
        try:
            return _read(file, salt, window)
        except (DicomError, TooLargeError, MemoryError):
            raise
        except Exception as error:  # sentences of pydicom may quote what the file holds
            raise DicomError(f"it is a damaged DICOM file ({type(error).__name__})") from None


def _read(file: BinaryIO, salt: bytes, window: tuple[float, float] | None) -> DicomImages:
    import pydicom

    dataset = pydicom.dcmread(file)
    frames = _whole(dataset, "NumberOfFrames", 1)
    tags = ("SOPInstanceUID", "PatientID", "SeriesInstanceUID")
    identifier, patient, series = (_text(dataset, tag) for tag in tags)
    if not identifier:
        raise DicomError("it has no SOPInstanceUID, which names an image")
    name = salted_hash(salt, "image", identifier)
    pixels = tuple(_shown(dataset, frames, window))
    numbered = dataset.get("NumberOfFrames") is not None
    return DicomImages(
        tuple(f"{name}-{number:05d}" for number in range(len(pixels))) if numbered else (name,),
        salted_hash(salt, "patient", patient) if patient else "",
        salted_hash(salt, "series", series) if series else "",
        _position(dataset),
        pixels,
        _text(dataset, "BurnedInAnnotation").upper() == "YES",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom from printing values, which it does where they break a rule.

    The filters of warnings belong to the process, so that threads take turns.
    """
    logger = logging.getLogger("pydicom")
    with _quieted, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = before


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


def _position(dataset: Any) -> float:
    """Project the place of a slice on the normal of its plane (PS3.3 C.7.6.2.1.1)."""
    place, along = (dataset.get(f"Image{what}Patient") for what in ("Position", "Orientation"))
    if place is None or along is None or len(place) != 3 or len(along) != 6:
        return _number(dataset, "InstanceNumber") or 0.0
    found = float(np.dot(np.cross(np.float64(along[:3]), np.float64(along[3:])), np.float64(place)))
    if not math.isfinite(found):
        raise DicomError("its ImagePositionPatient or ImageOrientationPatient is not finite")
    return found


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


def _shown(
    dataset: Any, frames: int, window: tuple[float, float] | None
) -> Iterator[NDArray[np.uint8]]:
    photometric = _text(dataset, "PhotometricInterpretation")
    if photometric not in (*GREY, PALETTE, *COLOUR):
        known = ", ".join((*GREY, PALETTE, *COLOUR))
        what = "no" if not photometric else "an unknown"
        raise DicomError(f"it has {what} PhotometricInterpretation; {known} are known")
    check_pixels(_whole(dataset, "Rows"), _whole(dataset, "Columns"))
    top = 2.0 ** _whole(dataset, "BitsStored", _whole(dataset, "BitsAllocated")) - 1
    if photometric in COLOUR:
        for stored in _decoded(dataset, frames):
            yield _to_bytes(stored / top)
    elif photometric == PALETTE:
        from pydicom.pixels.processing import apply_color_lut

        for stored in _decoded(dataset, frames):
            found = apply_color_lut(stored, dataset)[:, :, :3]
            yield _to_bytes(found / float(np.iinfo(found.dtype).max))
    else:
        low_high: list[tuple[float, float]] = []  # once the percentiles are wanted
        for frame, stored in enumerate(_decoded(dataset, frames)):
            values = _rescaled(stored, dataset, frame)
            show = _voi(dataset, frame, window)
            if show is None:
                if not low_high:
                    low_high.append(_percentiles(dataset, frames))
                low, high = low_high[0]
                shares = _ramp(values, low, high)
            else:
                shares = show(values)
            shown = _to_bytes(shares)[:, :, None]
            yield 255 - shown if photometric == "MONOCHROME1" else shown


def _to_bytes(shares: Values) -> NDArray[np.uint8]:
    return np.rint(np.clip(shares, 0.0, 1.0) * 255).astype(np.uint8)


def _decoded(dataset: Any, frames: int) -> Iterator[Values]:
    """Decode the frames' stored values, one after another."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import iter_pixels

    syntax = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    if syntax is None:
        raise DicomError("it does not say its transfer syntax, by which pixels are decoded")
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
        return lambda values: _ramp(values, centre - width / 2, centre + width / 2 - 1)
    if kind == "LINEAR_EXACT":
        return lambda values: _ramp(values, centre - width / 2, centre + width / 2)
    if kind == "SIGMOID":
        return lambda values: 0.5 + 0.5 * np.tanh(2 * (values - centre) / width)
    raise DicomError("its VOILUTFunction is none of LINEAR, LINEAR_EXACT and SIGMOID")


def _table(dataset: Any) -> Callable[[Values], Values] | None:
    if not dataset.get("VOILUTSequence"):
        return None
    from pydicom.pixels.processing import apply_voi

    top = 2.0 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
    return lambda values: apply_voi(np.rint(values).astype(np.int64), dataset) / top


def _ramp(values: Values, low: float, high: float) -> Values:
    """Map values from 0 at `low` to 1 at `high`.

    It is a step where they are equal.
    """
    if high == low:
        return np.where(values > low, 1.0, 0.0)
    return (values - low) / (high - low)


def _percentiles(dataset: Any, frames: int) -> tuple[float, float]:
    """Return the least values that 0.5% and 99.5% of all pixels do not exceed.

    Frames are decoded again rather than held all at once.
    """
    values, counts = np.empty(0), np.empty(0, np.int64)
    for frame, stored in enumerate(_decoded(dataset, frames)):
        found, often = np.unique(_rescaled(stored, dataset, frame), return_counts=True)
        values, where = np.unique(np.concatenate([values, found]), return_inverse=True)
        counts = np.bincount(where, np.concatenate([counts, often])).astype(np.int64)
    low, high = np.searchsorted(np.cumsum(counts), np.array(SHARES) * counts.sum())
    return float(values[low]), float(values[high])
