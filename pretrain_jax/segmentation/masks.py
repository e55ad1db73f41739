"""Reads mask files as labels.

Masks hold 0/1, 0/255, JPEG noise, palettes or class indices.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hardset.arrays import ArrayFileError, load_array
from pretrain_jax.data.decode import oriented
from pretrain_jax.data.opening import Remark, check_pixels, opened_image, regular_file
from pretrain_jax.data.tiff import read_tiff

MaskKind = Literal["binary", "labels"]
# Pixels of this label count neither in training nor in any score.
IGNORE = 255
LOSSY = frozenset({"JPEG", "MPO", "WEBP", "AVIF", "JPEG2000"})
MIDDLE = (32, 223)  # beyond the noise around 0 and 255
HALF, FULL = 128, 255
DEEP = 257  # 16 bits hold an 8-bit value this many times
GREY = 8  # levels by which the channels of a grey that was reduced to a palette may differ


def read_mask(path: str | Path, kind: MaskKind, classes: int) -> NDArray[np.uint8]:
    """Return labels of a mask file, shape (H, W).

    Kind "binary" (labels 0 and 1): in a palette image every colour but black is foreground, unless
    it has several colours and all are grey; in files with the values 0 and 1 only, 1; in all others
    what is at least half of the full range in one channel, so that noise of JPEG compression and
    smooth edges do not count. Neither lossy nor of a palette, a mask of three values, or of class
    indices and 255, or with areas of a middle value, is refused: what is foreground in it cannot
    be told. The full range of wide integers is 255, or 65535 where values above 255 are multiples
    of 257. Kind "labels": the value (of a palette image: the index) is the class; `IGNORE` is
    allowed. Transparency is dropped.

    Args:
        path: an image file, or an .npy array (H, W) or (H, W, 1 to 3) of booleans or of integers
            of 0 or more.
        kind: what it holds.
        classes: number of classes, of kind "labels".

    Raises:
        ValueError: the file is missing, no image, does not hold what `kind` says, or holds its
            shape in the transparency alone.
    """
    values, palette, lossy = _read(Path(path))
    if kind == "binary":
        return _binary(values, palette, lossy, path)
    if lossy or values.ndim == 3 or values.dtype.kind not in "bui":
        what = "lossy compression" if lossy else "colours in the place of class indices"
        raise ValueError(f"mask {path} cannot hold labels: it has {what}")
    known = (values < classes) & (values >= 0) | (values == IGNORE)
    if not known.all():
        row, column = (int(i) for i in np.argwhere(~known)[0])
        raise ValueError(
            f"mask {path} has the label {values[row, column]} at row {row}, column {column}; "
            f"the {classes} classes are 0 to {classes - 1}, {IGNORE} is left out"
        )
    return values.astype(np.uint8)


def _binary(
    values: NDArray[Any], palette: NDArray[np.uint8] | None, lossy: bool, path: str | Path
) -> NDArray[np.uint8]:
    if palette is not None:
        shown = palette[np.unique(values)].astype(np.int16)
        grey = bool((np.ptp(shown, axis=1) <= GREY).all())
        if not grey or shown.any(axis=1).sum() <= 1:
            return palette[values].any(axis=-1).astype(np.uint8)
        values = palette[values].max(axis=-1)
    if values.ndim == 3:
        values = values.max(axis=2)
    values = _eight_bits(values, path)
    largest = int(values.max(initial=0))
    if largest <= 1:
        return values.astype(np.uint8)
    if palette is None and not lossy:
        _check_two(values, path)
    if largest < HALF and not lossy:
        raise _not_binary(path, f"values {_shown(np.unique(values))}")
    return (values >= HALF).astype(np.uint8)


def _check_two(values: NDArray[Any], path: str | Path) -> None:
    """Refuse values that are more than a foreground and a background."""
    counts = np.bincount(values.ravel().astype(np.intp), minlength=FULL + 1)
    (found,) = np.nonzero(counts)
    low = found[(found > 0) & (found < HALF)]
    high = found[found >= HALF]
    if not len(high) or (len(found) == 2 and not found[0]):
        return
    if len(found) == 3 or (len(low) and high.tolist() == [FULL]):
        shown = f"values {_shown(found)}"
    else:
        row, column = _middle_area(values)
        if row < 0:
            return
        shown = f"value {values[row, column]} in an area at row {row}, column {column}"
    raise _not_binary(path, shown)


def _shown(values: NDArray[Any]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")


def _not_binary(path: str | Path, shown: str) -> ValueError:
    return ValueError(
        f"mask {path} has the {shown}: neither 0 and 1 nor 0 and {FULL}. Where they are "
        f"class indices, {FULL} being a border that is left out, name the classes, one a line, in "
        f"classes.txt beside the folders of images and masks; else save it as 0 and {FULL}"
    )


def _middle_area(values: NDArray[Any]) -> tuple[int, int]:
    """Find an area of one middle value.

    It returns the centre of a square of 3 x 3 such pixels, or -1 and -1 where there is none.
    """
    centre = values[1:-1, 1:-1]
    same = (centre >= MIDDLE[0]) & (centre <= MIDDLE[1])
    height, width = values.shape
    for down in range(3):
        for right in range(3):
            if not same.any():
                return -1, -1
            same &= values[down : height - 2 + down, right : width - 2 + right] == centre
    if not same.any():
        return -1, -1
    row, column = (int(place) for place in np.unravel_index(same.argmax(), same.shape))
    return row + 1, column + 1


def _eight_bits(values: NDArray[Any], path: str | Path) -> NDArray[Any]:
    """Return integers of any width with the full range 255."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low >= 0 and high <= FULL:
        return values
    if low < 0 or high > FULL * DEEP or (values % DEEP).any():
        raise ValueError(
            f"mask {path} has values from {low} to {high}: neither 0 and 1, nor 0 to {FULL}, nor "
            f"0 to {FULL * DEEP} in steps of {DEEP}; save it with the values 0 and 255"
        )
    return values // DEEP


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.uint8] | None, bool]:
    """Read the values of a mask file, its palette, and whether it is lossy.

    Values have the shape (H, W) or (H, W, 1 to 3), the colours of a palette (n, 3).
    """
    if path.suffix.lower() == ".npy":
        return _read_array(path), None, False
    try:
        with regular_file(path) as file, opened_image(file) as opened:
            if getattr(opened, "is_animated", False):
                raise ValueError("it holds several pictures; a mask is one")
            if opened.mode.startswith("I;16") and opened.format == "TIFF":
                file.seek(0)
                return read_tiff(file, list[Remark](), as_stored=True)[:, :, 0], None, False
            lossy = opened.format in LOSSY
            image = oriented(opened)
    except Exception as error:  # decoders raise many types on damaged input
        raise ValueError(f"mask {path} cannot be read: {error}") from None
    if image.has_transparency_data:
        _check_shown(np.asarray(image.convert("RGBA")), path)
    if image.mode == "P":
        colours = np.zeros((256, 3), np.uint8)
        found = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        colours[: len(found)] = found
        return np.asarray(image), colours, lossy
    if image.mode in ("LA", "RGBA", "RGBX"):
        image = image.convert("L" if image.mode == "LA" else "RGB")
    elif image.mode not in ("1", "L", "I", "I;16", "RGB"):
        image = image.convert("RGB")
    return np.asarray(image), None, lossy


def _check_shown(pixels: NDArray[np.uint8], path: Path) -> None:
    """Refuse a shape that only the transparency shows.

    What it means cannot be told.
    """
    colours, alpha = pixels[..., :3].reshape(-1, 3), pixels[..., 3]
    if (colours == colours[0]).all() and (alpha != alpha.flat[0]).any():
        raise ValueError(
            f"mask {path} is of one colour and differs in transparency only; save the mask as grey "
            "values 0 and 255"
        )


def _read_array(path: Path) -> NDArray[Any]:
    """Read the values of an .npy file.

    Their shape is (H, W), or (H, W, 2 or 3).
    """
    try:
        regular_file(path).close()
        values = load_array(path, mmap=True)
        if values.ndim >= 2:
            check_pixels(*values.shape[:2])
    except (ArrayFileError, OSError, ValueError) as error:
        reason = str(error).removeprefix(f"{path} ")
        raise ValueError(f"mask {path} cannot be read as an .npy array: {reason}") from None
    flat = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
    shaped = flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] in (2, 3))
    whole = flat.dtype.kind in "bu" or (flat.dtype.kind == "i" and flat.min(initial=0) >= 0)
    if not (shaped and whole and flat.size):
        raise ValueError(
            f"mask {path} holds an array of shape {values.shape} and type {values.dtype}; a mask "
            "is (height, width) or (height, width, 1 to 3), of booleans or of integers of 0 or more"
        )
    return np.array(flat)
