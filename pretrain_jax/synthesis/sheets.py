"""Draws the contact sheet of each stage."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data import UnreadableImageError
from pretrain_jax.data.listing import STILL
from pretrain_jax.pictures import Tile, contact_sheet, drawn_boxes, write_png
from pretrain_jax.synthesis.parts import Pixels, cut, read_image
from pretrain_jax.synthesis.tables import Table

if TYPE_CHECKING:
    from pretrain_jax.synthesis.parts import Images, Part


IMAGES = 24
PROPOSED = 12
PATCHES = 18
LARGE = 256
COLUMNS = ("image", "top", "left", "height", "width")


def index_sheet(path: Path, table: Table, root: Path) -> None:
    """Draw images of an index, evenly spaced."""
    rows = table.take(_spread(table.rows, IMAGES), ["name", "frame", "height", "width"])
    tiles = []
    for name, frame, height, width in zip(*rows.values(), strict=True):
        pixels = _read(root, name, int(frame)) if height else None
        if pixels is not None:
            tiles.append(Tile(pixels, (name, f"{height} x {width}")))
    write_png(path, contact_sheet([(f"{table.rows} images, evenly spaced", tiles)]))


def proposals_sheet(path: Path, images: "Images", table: Table, proposer: str) -> None:
    """Draw images with their boxes, evenly spaced.

    The number at a box is its rank.
    """
    tiles = []
    for row in _spread(images.table.rows, PROPOSED).tolist():
        here = images.table.take(np.array([row]), ["name", "frame", "height"])
        name, frame = str(here["name"][0]), int(here["frame"][0])
        pixels = _read(images.root, name, frame) if here["height"][0] else None
        if pixels is None:
            continue
        boxes = boxes_of_image(table, row)
        texts = [str(rank) for rank in range(len(boxes))]
        shown = drawn_boxes(pixels, boxes, texts, side=LARGE)
        tiles.append(Tile(shown, (name, f"{len(boxes)} patches")))
    heading = f"{table.rows} patches of {proposer}; images evenly spaced, 0 is the first choice"
    write_png(path, contact_sheet([(heading, tiles)], columns=4, side=LARGE))


def boxes_of_image(table: Table, image: int) -> NDArray[np.int64]:
    """Find an image's boxes by bisection.

    The images of the table of proposals ascend.
    """
    ends = []
    for wanted in (image, image + 1):
        low, high = 0, table.rows
        while low < high:
            middle = (low + high) // 2
            if table.take(np.array([middle]), ["image"])["image"][0] < wanted:
                low = middle + 1
            else:
                high = middle
        ends.append(low)
    rows = table.take(np.arange(*ends), COLUMNS[1:])
    return np.stack([rows[key] for key in COLUMNS[1:]], axis=1).astype(np.int64).reshape(-1, 4)


def parts_sheet(
    path: Path, root: Path, sections: Sequence[tuple[str, Sequence[tuple["Part", str]]]]
) -> None:
    """Draw parts of images in sections, each with a text and its image's name."""
    shown = []
    for heading, parts in sections:
        tiles = []
        for part, text in parts[:PATCHES]:
            pixels = _read(root, part.name, part.frame)
            if pixels is not None:
                tiles.append(Tile(cut(pixels, part.box, part.box[2:]), (text, part.name)))
        shown.append((heading, tiles))
    write_png(path, contact_sheet(shown))


def selection_sheet(path: Path, images: "Images", table: Table, method: str) -> None:
    """Draw the first and the last picks."""
    count = min(PATCHES, (table.rows + 1) // 2)
    ends = {"first": range(count), "last": range(table.rows - count, table.rows)}
    sections = []
    for name, rows in ends.items():
        tiles = []
        picked = table.take(np.array(rows))
        named = images.table.take(picked["image"], ["name", "frame", "height", "width"])
        for place in range(count):
            full = (0, 0, int(named["height"][place]), int(named["width"][place]))
            top, left, height, width = (
                (int(picked[key][place]) for key in COLUMNS[1:]) if "top" in picked else full
            )
            pixels = _read(images.root, str(named["name"][place]), int(named["frame"][place]))
            if pixels is not None:
                box = (top, left, height, width)
                text = f"margin {picked['margin'][place]:.4g}"
                tiles.append(Tile(cut(pixels, box, box[2:]), (text, str(named["name"][place]))))
        sections.append((f"{name} picks of {table.rows} by {method}", tiles))
    write_png(path, contact_sheet(sections))


def set_sheet(path: Path, names: Iterable[str], count: int) -> None:
    """Draw images of a set, evenly spaced.

    Names are relative to the sheet's folder.
    """
    chosen = set(_spread(count, PATCHES).tolist())
    tiles = []
    for number, name in enumerate(names):
        pixels = _read(path.parent, name, STILL) if number in chosen else None
        if pixels is not None:
            tiles.append(Tile(pixels, (f"{number}", Path(name).name)))
    write_png(path, contact_sheet([(f"{count} images of the set, evenly spaced", tiles)]))


def _read(root: Path, name: str, frame: int) -> Pixels | None:
    try:
        return read_image(root, name, frame)
    except UnreadableImageError:
        return None


def _spread(rows: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, rows - 1, min(most, rows)).round().astype(np.int64))
