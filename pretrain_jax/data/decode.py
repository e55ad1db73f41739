"""Decodes image files into pixels.

Pixels have 8 or 16 bits and one or three channels; nothing else leaves this module.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from hardset.arrays import ArrayFileError, load_array
from pretrain_jax.data.animation import PNG_MAGIC
from pretrain_jax.data.listing import STILL
from pretrain_jax.data.names import VIDEO_SUFFIXES, suffix_of
from pretrain_jax.data.opening import (
    NoFileError,
    Remark,
    TooLargeError,
    as_file,
    check_pixels,
    opened_image,
    regular_file,
)
from pretrain_jax.data.options import reading
from pretrain_jax.data.pages import TIFF_MAGICS, count_pictures, pages_of_tiff, picture
from pretrain_jax.data.samples import VALUES, by_rows, filled, turned
from pretrain_jax.data.tiff import MOST_PAGES, ORIENTATION, read_tiff
from pretrain_jax.data.video import read_frame

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

WIDEST = 2**16 - 1
PNG_GREY_ALPHA = 4
DEEP_SAMPLES = {
    "rgb48be": 3,
    "rgba64be": 4,
    "ya16be": 2,
}  # of FFmpeg's formats, the high byte first
DEEP_PNG_TYPES = (2, PNG_GREY_ALPHA, 6)  # colour types RGB, grey with alpha, RGBA
# Weights of Rec. 601, by which Pillow weighs 8-bit channels.
LUMINANCE = np.array([299.0, 587.0, 114.0]) / 1000.0
MOST_REASON = 500  # characters
# An image in a .npy file has this many channels at most.
MOST_CHANNELS = 4


class UnreadableImageError(ValueError):
    """Says that a file is missing, truncated or no image.

    Such a file can be skipped.

    Attributes:
        reason: one of `pretrain_jax.data.skipping.REASONS`.
    """

    reason: ClassVar[str] = "unreadable"


class MissingImageError(UnreadableImageError):
    """Says that there is no such file."""

    reason = "missing"


class TooLargeImageError(UnreadableImageError):
    """Says that an image has more megapixels than are decoded."""

    reason = "too large"


class BadPixelsError(UnreadableImageError):
    """Says that the pixels of a file cannot be trained on.

    The file decodes, but its pixels are not usable numbers.
    """

    reason = "bad pixels"


KINDS: Mapping[type[Exception], type[UnreadableImageError]] = MappingProxyType(
    {TooLargeError: TooLargeImageError, NoFileError: MissingImageError}
)


def read_pixels(
    path: str,
    frame: int = STILL,
    *,
    channels: int = 3,
    bits: int = 8,
    remarks: list[Remark] | None = None,
) -> Pixels:
    """Read the pixels of an image as it is displayed.

    The orientation is applied, and all metadata is dropped.

    Of a file with several pictures the first one is read where none is named. What is too large,
    and how many bits 16-bit samples have, `pretrain_jax.data.options.reading` says.

    Args:
        path: an image, a video, or an .npy array of shape (H, W) or (H, W, 1 | 3 | 4).
        frame: number of the frame where `path` is a video, or of the page where it holds several.
        channels: 1 (luminance) or 3 (one channel is repeated); alpha is dropped.
        bits: 8 or 16; the full ranges of integer types map onto each other, floating-point
            images have the range [0, 1].
        remarks: gets what is to be noticed: further pictures, a range that is hardly used.

    Returns:
        Shape (H, W, channels), uint8 or uint16.

    Raises:
        UnreadableImageError: the file cannot be decoded, with the reason.
        BadPixelsError: NaN, infinite or out-of-range pixels.
    """
    noticed: list[Remark] = []
    if frame != STILL and suffix_of(path) in VIDEO_SUFFIXES:
        try:
            pixels: NDArray[Any] = read_frame(path, frame)
        except ValueError as error:
            raise UnreadableImageError(f"{path} {error}") from None
    else:
        try:
            pixels = _read_picture(Path(path), frame, noticed)
        except Exception as error:  # decoders raise many types on damaged input
            reason = " ".join(str(error).split())[:MOST_REASON] or type(error).__name__
            kind = KINDS.get(type(error), UnreadableImageError)
            what = "" if frame == STILL else f"page {frame} "
            raise kind(f"{path} {what}cannot be decoded: {reason}") from None
    if remarks is not None:
        remarks += noticed
    if channels == 1:
        return _to_bits(_to_channels(pixels, channels, path), bits, path)
    own = _to_channels(pixels, 0, path)
    # Channels are repeated last, when values are short and take less memory.
    return _to_channels(_to_bits(own, bits, path), channels, path)


def _read_picture(path: Path, number: int, remarks: list[Remark]) -> NDArray[Any]:
    if path.suffix.lower() == ".npy":
        return _filled(read_npy(path), remarks)
    with regular_file(path) as file:
        head = file.read(26)
        file.seek(0)
        if head[:4] in TIFF_MAGICS:
            if number == STILL:
                return read_tiff(file, remarks)
            return read_tiff(file, remarks, number, pages_of_tiff(str(path)))
        if number != STILL:
            return _filled(_array(upright(picture(str(path), number))), remarks)
        with opened_image(file) as opened:
            if head[:8] == PNG_MAGIC and head[24] == 16 and head[25] in DEEP_PNG_TYPES:
                _notice_pictures(opened, file, remarks)
                opened.load()  # the orientation may stand behind the pixels
                orientation = opened.getexif().get(ORIENTATION, 1)
                return _filled(turned(_read_deep_png(file, head[25]), orientation), remarks)
            _notice_pictures(opened, file, remarks)
            found = _array(oriented(opened))
            # JPEG 2000 tells the bits that are used, and Pillow stretches them.
            return found if opened.format == "JPEG2000" else _filled(found, remarks)


def _filled(pixels: NDArray[Any], remarks: list[Remark]) -> NDArray[Any]:
    return filled(pixels, remarks) if pixels.dtype == np.uint16 else pixels


def _notice_pictures(opened: Any, file: BinaryIO, remarks: list[Remark]) -> None:
    """Remark that further pictures are not read.

    Files with too many to be read one by one are refused.
    """
    if not getattr(opened, "is_animated", False):
        return
    if opened.format in ("GIF", "PNG"):  # of which Pillow counts all, or those that are announced
        place = file.tell()
        file.seek(0)
        count = max(2, count_pictures(file))
        file.seek(place)
    else:
        count = opened.n_frames
    if count > MOST_PAGES and reading().pages == "all":
        raise ValueError(
            f"it holds more than {MOST_PAGES} pictures; split it, or read its first one only with "
            "--pages first"
        )
    told = f"more than {MOST_PAGES}" if count > MOST_PAGES else str(count)
    remarks.append(Remark("pictures", f"holds {told} pictures, of which the first is read"))


def _array(image: Any) -> NDArray[Any]:
    """Return the pixels of a Pillow image, shape (H, W) or (H, W, 3).

    Alpha is dropped.
    """
    if image.mode == "LAB":
        raise ValueError("its samples mean CIE L*a*b*; save it as RGB")
    image.info.pop("transparency", None)  # of a palette
    # Pillow goes from alpha that is multiplied in to RGB by way of alpha that is not.
    through = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
    kind = {"1": "L", "L": "L", "LA": "L", "La": "L", "I": "I", "F": "F"}.get(image.mode, "RGB")
    if image.mode.startswith("I;16"):
        kind = image.mode
    step = max(1, VALUES // max(1, image.width))
    pixels: NDArray[Any] | None = None
    for top in range(0, image.height, step):
        part = image.crop((0, top, image.width, min(top + step, image.height)))
        part = part.convert(through) if through else part
        found = np.asarray(part if part.mode == kind else part.convert(kind))
        if pixels is None:
            pixels = np.empty((image.height, *found.shape[1:]), found.dtype.newbyteorder("="))
        pixels[top : top + step] = found
    assert pixels is not None
    if kind.startswith("I;16"):
        return pixels.astype(np.uint16, copy=False)
    # Pillow opens some 16-bit files in its 32-bit integer mode.
    narrow = kind == "I" and pixels.min() >= 0 and pixels.max() <= WIDEST
    return pixels.astype(np.uint16) if narrow else pixels


def oriented(opened: Any) -> Any:
    """Turn an image as it is to be displayed.

    Pillow has opened it from a file object.
    """
    opened.load()
    return upright(opened)


def upright(image: Any) -> Any:
    """Turn a decoded image as its own EXIF says it is to be displayed."""
    from PIL import ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    return image


def _read_deep_png(file: BinaryIO, colours: int) -> NDArray[np.uint16]:
    """Read a PNG file of several channels with all 16 bits.

    Pillow reads these in 8 bits only; PyAV keeps all 16.
    """
    import av

    file.seek(0)
    with av.open(file, mode="r", format="png_pipe") as container:
        frame = next(container.decode(video=0))
        # From the memory of the frame: FFmpeg's conversions spoil lines of interlaced frames.
        samples = DEEP_SAMPLES[frame.format.name]
        plane = frame.planes[0]
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(frame.height, plane.line_size)
        values = np.ascontiguousarray(rows[:, : 2 * samples * frame.width]).view(">u2")
        found = values.reshape(frame.height, frame.width, samples).astype(np.uint16)
    return found[:, :, 0] if colours == PNG_GREY_ALPHA else found[:, :, :3]


def _to_channels(pixels: NDArray[Any], channels: int, path: str) -> NDArray[Any]:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or 0 in pixels.shape:
        raise UnreadableImageError(
            f"{path} holds an array of shape {pixels.shape}, not (H, W) or (H, W, 1, 3 or 4)"
        )
    pixels = pixels[:, :, : 1 if pixels.shape[2] < 3 else 3]
    if channels in (0, pixels.shape[2]):  # 0: as many as there are
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    whole = pixels.dtype.kind in "ui"

    def grey(part: NDArray[Any]) -> NDArray[Any]:
        found = (part.astype(np.float64) @ LUMINANCE)[:, :, None]
        return np.rint(found) if whole else found

    return by_rows(pixels, grey, 1, pixels.dtype)


def _to_bits(pixels: NDArray[Any], bits: int, path: str) -> Pixels:
    top = 2**bits - 1
    wanted = np.uint8 if bits == 8 else np.uint16
    if pixels.dtype == wanted:
        return pixels
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    if pixels.dtype == np.uint16:
        channels = pixels.shape[2]
        return by_rows(
            pixels, lambda part: (part * np.uint32(255) + 32767) // 65535, channels, wanted
        )
    if pixels.dtype == np.bool_:
        return (pixels * top).astype(wanted)
    if pixels.dtype.kind != "f":
        raise BadPixelsError(
            f"image {path} has pixels of type {pixels.dtype}; uint8, uint16 and floating point "
            "in [0, 1] are known"
        )
    _check_numbers(pixels, path)
    return by_rows(
        pixels, lambda part: np.rint(part.astype(np.float64) * top), pixels.shape[2], wanted
    )


def _check_numbers(pixels: NDArray[Any], path: str) -> None:
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        bad = ~np.isfinite(pixels)
        row, column = (int(i) for i in np.unravel_index(bad.argmax(), bad.shape)[:2])
        raise BadPixelsError(
            f"image {path} holds {pixels[bad][0]} at row {row}, column {column} "
            f"({int(bad.sum())} such value(s)); pixels must be finite"
        )
    if low < 0 or high > 1:
        raise BadPixelsError(
            f"image {path} has floating-point pixels from {low:g} to {high:g}, outside the valid "
            "range [0, 1]"
        )


def read_npy(path: str | Path) -> NDArray[Any]:
    """Read an image from a .npy file.

    Its shape is (H, W) or (H, W, 1 to 4). The bytes are in native order.

    Raises:
        ValueError: the file is none, is too large, or holds something else; says what.
        OSError: it cannot be read.
    """
    with as_file(path) as own:
        return _npy(own)


def _npy(path: Path) -> NDArray[Any]:
    try:
        found = load_array(path, mmap=True)  # nothing is held before its size is known
    except ArrayFileError as error:
        raise ValueError(f"it {str(error).removeprefix(f'{path} ')}") from None
    shaped = found.ndim == 2 or (found.ndim == 3 and found.shape[2] <= MOST_CHANNELS)
    if found.dtype.kind not in "biuf" or not shaped or not found.size:
        raise ValueError(
            f"it holds an array of shape {found.shape} and type {str(found.dtype)[:80]}, not "
            "numbers (H, W) or (H, W, 1, 3 or 4)"
        )
    check_pixels(*found.shape[:2])
    return np.array(found)
