"""Draws pictures to be looked at.

They are PNG files, contact sheets of stages and reconstructions of a model.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardset.datafile import write_bytes_atomic
from pretrain_jax.models.mae import MAE
from pretrain_jax.models.vit import patchify, unpatchify

Pixels = NDArray[np.uint8]
GREY = 0.5  # in the place of what an encoder does not see
COLUMN_GAP = 2  # pixels between the columns of a reconstruction

# Sizes in contact sheets, in pixels.
SIDE = 160
GAP = 6
LINE = 13
FONT, FONT_SIZE = "mpl-data/fonts/ttf/DejaVuSans.ttf", 10
WHITE = (255, 255, 255)
BLACK = (0, 0, 0)
# Okabe and Ito's colours, which are told apart by colour-blind readers too.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0))


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Encode pixels as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: Path, pixels: NDArray[np.uint8], *, replace: bool = True) -> None:
    """Write a PNG file atomically.

    Its folder is created. `replace` is as in `atomic_file`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, png_bytes(pixels), replace=replace)


@dataclass(frozen=True)
class Tile:
    """Represents a picture of a sheet.

    Attributes:
        pixels: (H, W) or (H, W, 1 | 3) uint8.
        lines: text below it; lines that are too long are cut in the middle.
    """

    pixels: Pixels
    lines: tuple[str, ...] = ()


def contact_sheet(
    sections: Sequence[tuple[str, Sequence[Tile]]], *, columns: int = 6, side: int = SIDE
) -> Pixels:
    """Lay labelled pictures out in a grid, section by section.

    Args:
        sections: heading and pictures of each; sections without pictures are left out.
        columns: pictures in a row.
        side: pixels of a picture's longer side; small ones are enlarged without smoothing.

    Returns:
        Shape (H, W, 3).
    """
    from PIL import Image, ImageDraw

    shown = [(heading, list(tiles)) for heading, tiles in sections if tiles]
    lines = max((len(tile.lines) for _, tiles in shown for tile in tiles), default=0)
    cell = side + GAP + LINE * lines
    rows = [math.ceil(len(tiles) / columns) for _, tiles in shown]
    heading_height = LINE + 2 * GAP
    height = sum(heading_height + count * (cell + GAP) for count in rows) + GAP
    sheet = Image.new("RGB", (columns * (side + GAP) + GAP, max(height, 1)), WHITE)
    draw = ImageDraw.Draw(sheet)
    font, known = _font()
    top = GAP
    for (heading, tiles), count in zip(shown, rows, strict=True):
        draw.text((GAP, top), _drawable(heading, known), BLACK, font=font)
        top += heading_height - GAP
        for number, tile in enumerate(tiles):
            x = GAP + number % columns * (side + GAP)
            y = top + number // columns * (cell + GAP)
            picture = _fitted(tile.pixels, side)
            sheet.paste(picture, (x + (side - picture.width) // 2, y))
            for line, text in enumerate(tile.lines):
                short = _shortened(_drawable(text, known), side, font)
                draw.text((x, y + side + LINE * line), short, BLACK, font=font)
        top += count * (cell + GAP) + GAP
    return np.asarray(sheet)


def drawn_boxes(
    pixels: Pixels, boxes: NDArray[np.integer], texts: Sequence[str] = (), *, side: int = SIDE
) -> Pixels:
    """Draw boxes on an image that is brought to a sheet's size.

    Args:
        pixels: (H, W, 3).
        boxes: (n, 4) top, left, height, width in pixels of the image.
        texts: drawn in the corner of each box.
        side: pixels of the result's longer side.
    """
    from PIL import ImageDraw

    picture = _fitted(pixels, side)
    scale_x, scale_y = picture.width / pixels.shape[1], picture.height / pixels.shape[0]
    draw = ImageDraw.Draw(picture)
    font, known = _font()
    for number, (top, left, height, width) in enumerate(boxes.tolist()):
        colour = COLOURS[number % len(COLOURS)]
        corner = (left * scale_x, top * scale_y)
        end = ((left + width) * scale_x - 1, (top + height) * scale_y - 1)
        draw.rectangle((corner, end), outline=colour, width=2)
        if number < len(texts):
            text = _drawable(texts[number], known)
            draw.text((corner[0] + 3, corner[1] + 1), text, colour, font=font)
    return np.asarray(picture)


@lru_cache(maxsize=1)
def _font() -> tuple[Any, frozenset[int]]:
    """Load DejaVu Sans, which matplotlib ships, and the code points of its letters.

    Pillow's own font has ASCII alone. matplotlib is found without importing it.
    """
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
    from PIL import ImageFont

    place = find_spec("matplotlib")
    assert place is not None and place.origin is not None  # required by this package
    path = Path(place.origin).parent / FONT
    with TTFont(path, lazy=True) as tables:
        known = frozenset(tables.getBestCmap())
    return ImageFont.truetype(path, FONT_SIZE), known


def _drawable(text: str, known: frozenset[int]) -> str:
    """Return a line of letters that the font has.

    Other letters become their code points.
    """
    composed = normalize("NFC", text)
    return "".join(
        letter if letter.isprintable() and ord(letter) in known else ascii(letter)[1:-1]
        for letter in composed
    )


def _fitted(pixels: Pixels, side: int) -> Any:
    """Make a Pillow image whose longer side is `side`."""
    from PIL import Image

    flat = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    image = Image.fromarray(np.ascontiguousarray(flat)).convert("RGB")
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _shortened(text: str, width: int, font: Any) -> str:
    """Replace the middle of a text by ... where it is wider than `width`."""
    kept = len(text)
    short = text
    while font.getlength(short) > width and kept > 2:
        kept -= 1
        short = f"{text[: kept // 2]}...{text[len(text) - (kept + 1) // 2 :]}"
    return short


class Reconstruction(NamedTuple):
    """Holds images and their reconstructions.

    The shape is (n, H, W, C), and 1 is the largest pixel value.

    Attributes:
        original: the images.
        masked: grey where the encoder sees nothing.
        restored: the model's patches where it sees nothing, the visible ones as given.
    """

    original: ArrayLike
    masked: ArrayLike
    restored: ArrayLike


def reconstruct(
    model: MAE, images: jax.Array, noise: jax.Array, mean: Sequence[float], std: Sequence[float]
) -> Reconstruction:
    """Mask and reconstruct images.

    On standardised patches see `MAE.reconstruct`.

    Args:
        model: the masked autoencoder.
        images: normalised, shape (n, H, W, C).
        noise: see `masking_noise`, shape (n, patches).
        mean: of each channel, where the largest pixel value is 1.
        std: of each channel.
    """
    encoder = model.config.encoder
    scale, offset = jnp.asarray(std, images.dtype), jnp.asarray(mean, images.dtype)
    original = images * scale + offset
    hidden = model(images, noise).mask[:, :, None] > 0
    shown = jnp.where(hidden, GREY, patchify(original, encoder.patch_size))
    return Reconstruction(
        original=original,
        masked=unpatchify(shown, encoder.patch_size, encoder.grid),
        restored=model.reconstruct(images, noise) * scale + offset,
    )


def picture(found: Reconstruction) -> NDArray[np.uint8]:
    """Lay images out in rows, and return the picture (H, W, 3).

    A row has the original, what the encoder sees, and the reconstruction.
    """
    columns = [_framed(_to_bytes(np.asarray(part, np.float64))) for part in found]
    return np.concatenate([np.concatenate(list(column)) for column in columns], axis=1)


def _to_bytes(images: NDArray[Any]) -> NDArray[np.uint8]:
    shown = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    return np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown


def _framed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(images, ((0, 0), (0, COLUMN_GAP), (0, COLUMN_GAP), (0, 0)), constant_values=255)
