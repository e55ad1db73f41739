"""Files to pixels: 8 and 16 bits, one and three channels; nothing but pixels leaves this module."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data.sources import STILL
from pretrain_jax.data.video import read_frame

__all__ = ["BadPixelsError", "Pixels", "UnreadableImageError", "oriented", "read_pixels"]

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
BITS_PER_SAMPLE = 258  # of a TIFF file
ORIENTATION = 274
WIDEST = 2**16 - 1
PNG_RGB_TYPES = (2, 6)  # colour types RGB and RGBA
# Rec. 601, as Pillow weighs 8-bit channels.
LUMINANCE = np.array([299.0, 587.0, 114.0]) / 1000.0


class UnreadableImageError(ValueError):
    """A file is missing, truncated or no image; it can be skipped."""


class BadPixelsError(ValueError):
    """A file decodes, but its pixels are no numbers one can train on; the run must stop."""


def read_pixels(path: str, frame: int = STILL, *, channels: int = 3, bits: int = 8) -> Pixels:
    """Pixels of an image as displayed; orientation is applied, all metadata is dropped.

    Args:
        path: an image, a video, or an .npy array of shape (H, W) or (H, W, 1 | 3 | 4).
        frame: number of the frame where `path` is a video.
        channels: 1 (luminance) or 3 (one channel is repeated); alpha is dropped.
        bits: 8 or 16; the full ranges of integer types map onto each other, floating-point
            images have the range [0, 1].

    Returns:
        Shape (H, W, channels), uint8 or uint16.

    Raises:
        UnreadableImageError: the file cannot be decoded, with the reason.
        BadPixelsError: NaN, infinite or out-of-range pixels.
    """
    if frame != STILL:
        try:
            pixels: NDArray[Any] = read_frame(path, frame)
        except ValueError as error:
            raise UnreadableImageError(f"{path} {error}") from None
    else:
        try:
            pixels = _read_still(Path(path))
        except Exception as error:  # decoders raise many types on damaged input
            raise UnreadableImageError(f"{path} cannot be decoded: {error}") from None
    return _to_bits(_to_channels(pixels, channels, path), bits, path)


def _read_still(path: Path) -> NDArray[Any]:
    if path.suffix.lower() == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    from PIL import Image, UnidentifiedImageError

    with path.open("rb") as file:
        head = file.read(26)
        file.seek(0)
        deep_png = head[:8] == PNG_MAGIC and head[24] == 16 and head[25] in PNG_RGB_TYPES
        tiff = path.suffix.lower() in (".tif", ".tiff")
        try:
            # From the open file: by its name Pillow maps grey TIFF and turns that wrongly.
            with Image.open(file) as opened:
                if deep_png:
                    opened.load()  # the orientation may stand behind the pixels
                    return turned(_read_deep_png(path), opened.getexif().get(ORIENTATION, 1))
                if tiff and _is_deep(opened):
                    return _read_tiff(path)
                image = oriented(opened)
        except UnidentifiedImageError:
            if tiff:
                return _read_tiff(path)
            raise ValueError("it is no image of a known format") from None
    if image.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV", "PA", "RGBX"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    pixels = np.asarray(image)
    # Pillow opens some 16-bit files in its 32-bit integer mode.
    narrow = image.mode == "I" and pixels.min() >= 0 and pixels.max() <= WIDEST
    return pixels.astype(np.uint16) if narrow else pixels


def oriented(opened: Any) -> Any:
    """An image that Pillow opened from a file object, as it is to be displayed."""
    from PIL import ImageOps

    opened.load()
    return ImageOps.exif_transpose(opened)


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels (H, W, ...) as displayed, by the orientation 1 to 8 of EXIF and TIFF."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _is_deep(opened: Any) -> bool:
    """Whether Pillow, which reads colour TIFF in 8 bits only, would lose bits."""
    tags = getattr(opened, "tag_v2", {})
    return bool(opened.mode != "I;16" and max(tags.get(BITS_PER_SAMPLE, (8,))) > 8)


def _read_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        pixels = np.asarray(page.asarray())
        tag = page.tags.get(ORIENTATION)
    axes = str(page.axes).lstrip("S")
    if axes == "YX" and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    elif axes not in ("YX", "YXS"):
        raise ValueError(f"its first page has the axes {page.axes}, no rows and columns")
    if pixels.dtype.kind not in "fb" and pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"it has pixels of type {pixels.dtype}; uint8, uint16 and floating point are known"
        )
    return turned(pixels, 1 if tag is None else int(tag.value))


def _read_deep_png(path: Path) -> NDArray[np.uint16]:
    """Pillow reads colour PNG in 8 bits only; PyAV keeps all 16."""
    import av

    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        wide = np.asarray(frame.reformat(format="rgb48le").to_ndarray())
    return wide.astype(np.uint16)


def _to_channels(pixels: NDArray[Any], channels: int, path: str) -> NDArray[Any]:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or 0 in pixels.shape:
        raise UnreadableImageError(
            f"{path} holds an array of shape {pixels.shape}, not (H, W) or (H, W, 1, 3 or 4)"
        )
    pixels = pixels[:, :, : 1 if pixels.shape[2] < 3 else 3]
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    grey = pixels.astype(np.float64) @ LUMINANCE
    if pixels.dtype.kind in "ui":
        grey = np.rint(grey)
    return grey.astype(pixels.dtype)[:, :, None]


def _to_bits(pixels: NDArray[Any], bits: int, path: str) -> Pixels:
    top = 2**bits - 1
    wanted = np.uint8 if bits == 8 else np.uint16
    if pixels.dtype == wanted:
        return pixels
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if pixels.dtype == np.bool_:
        return (pixels * top).astype(wanted)
    if pixels.dtype.kind != "f":
        raise BadPixelsError(
            f"image {path} has pixels of type {pixels.dtype}; uint8, uint16 and floating point "
            "in [0, 1] are known"
        )
    bad = ~np.isfinite(pixels)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0][:2])
        raise BadPixelsError(
            f"image {path} holds {pixels[bad][0]} at row {row}, column {column} "
            f"({int(bad.sum())} such value(s)); pixels must be finite"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        raise BadPixelsError(
            f"image {path} has floating-point pixels from {low:g} to {high:g}, outside the valid "
            "range [0, 1]"
        )
    return np.rint(pixels.astype(np.float64) * top).astype(wanted)
