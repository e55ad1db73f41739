"""Contact sheets: every picture is there, at its place, in its colours."""

import numpy as np

from pretrain_jax.pictures import Tile, contact_sheet, drawn_boxes


def flat(value: tuple[int, int, int], height: int, width: int) -> np.ndarray:
    return np.broadcast_to(np.array(value, np.uint8), (height, width, 3)).copy()


def test_pictures_keep_colour_and_shape() -> None:
    red, blue = (200, 10, 10), (10, 10, 200)
    tiles = [Tile(flat(red, 10, 10)), Tile(flat(blue, 300, 150), ("tall",))]
    sheet = contact_sheet([("heading", tiles), ("nothing", [])], columns=2, side=100)
    assert sheet.dtype == np.uint8
    # The square fills 100 x 100, the tall one 100 x 50.
    assert np.sum(np.all(sheet == red, axis=2)) == 100 * 100
    assert np.sum(np.all(sheet == blue, axis=2)) == 100 * 50
    assert np.sum(np.any(sheet != 255, axis=2)) > 15_000  # and some text


def test_grey_pictures_and_long_names() -> None:
    grey = np.full((20, 20, 1), 77, np.uint8)
    sheet = contact_sheet([("one", [Tile(grey, ("a/very/long/name" * 9,))])], columns=1, side=60)
    assert np.sum(np.all(sheet == 77, axis=2)) >= 60 * 60
    assert sheet.shape[1] < 80  # the name was cut, the sheet not widened


def lines(text: str) -> np.ndarray:
    """Which pixels a line of text makes dark."""
    sheet = contact_sheet([("", [Tile(flat((255, 255, 255), 4, 4), (text,))])], columns=1, side=90)
    return sheet.min(axis=2) < 128


def test_letters_beyond_ascii_are_drawn() -> None:
    """None as the box of a missing one; what the font lacks is written as its code point."""
    letters = "äéßøłñΩπДяقא½→≥"
    pictures = {letter: lines(letter) for letter in letters}
    box = lines("\uffff")
    assert not any(np.array_equal(one, box) for one in pictures.values())
    shapes = {one.tobytes() for one in pictures.values()}
    assert len(shapes) == len(letters)
    assert np.array_equal(lines("中"), lines(r"\u4e2d"))
    assert np.array_equal(lines("a\nb"), lines(r"a\nb"))
    assert np.array_equal(lines("e\u0301"), lines("é"))  # letter and mark apart


def test_boxes_are_where_they_should_be() -> None:
    image = np.zeros((50, 100, 3), np.uint8)
    drawn = drawn_boxes(image, np.array([[10, 20, 30, 40]]), side=200)
    assert drawn.shape == (100, 200, 3)
    rows, columns = np.nonzero(drawn.sum(axis=2))
    assert (rows.min(), rows.max()) == (20, 79)
    assert (columns.min(), columns.max()) == (40, 119)
    assert not drawn[30:70, 50:110].any()
