"""TIFF by its tags: files written by hand, pixels by the formulas of TIFF 6.0 in NumPy."""

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pretrain_jax.data import UnreadableImageError, read_pixels
from pretrain_jax.data.opening import Remark
from tests.pretrain_jax.data.tiff_files import DEFLATE, LZW, PACKBITS, RATIONAL, SHORT, tiff

COUNTS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
HEIGHT, WIDTH = 5, 7
PLAIN_YCBCR = {530: (SHORT, [1, 1])}


def stored(bits: int, count: int, floating: bool, seed: int = 0) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    if floating:
        return rng.uniform(0, 1, (HEIGHT, WIDTH, count)).astype(f"f{bits // 8}")
    return rng.integers(0, 2**bits, (HEIGHT, WIDTH, count))


def palette(bits: int) -> NDArray[np.int64]:
    return np.random.default_rng(9).integers(0, 65536, (3, 2**bits))


def shown(samples: NDArray[Any], bits: int, photometric: int) -> NDArray[np.float64]:
    """Values from 0 to 1, (H, W, 3), as TIFF 6.0 says: sections 4 to 6, 16 and 21."""
    top = 1.0 if samples.dtype.kind == "f" else 2.0**bits - 1
    value = samples / top
    if photometric in (0, 1):
        grey = 1 - value if photometric == 0 else value
        return np.repeat(grey[:, :, :1].astype(float), 3, axis=2)
    if photometric == 2:
        return value[:, :, :3].astype(float)
    if photometric == 3:
        return np.moveaxis(palette(bits)[:, samples[:, :, 0]], 0, -1) / 65535
    if photometric == 5:
        return np.stack([(1 - value[..., k]) * (1 - value[..., 3]) for k in range(3)], axis=2)
    middle = (top + 1) / 2
    luma, blue, red = samples[..., 0], samples[..., 1] - middle, samples[..., 2] - middle
    r, b = luma + 1.402 * red, luma + 1.772 * blue
    g = (luma - 0.299 * r - 0.114 * b) / 0.587
    return np.clip(np.stack([r, g, b], axis=2) / top, 0, 1)


DEPTHS = [(1, False), (2, False), (4, False), (8, False), (12, False), (16, False)]
DEPTHS += [(16, True), (32, True)]


@pytest.mark.parametrize("photometric", COUNTS)
@pytest.mark.parametrize(("bits", "floating"), DEPTHS)
def test_every_kind_of_sample(tmp_path: Path, bits: int, floating: bool, photometric: int) -> None:
    """Right to half a step of 8 bits and, where it has more, of 16; or refused in a sentence."""
    path = tmp_path / "image.tif"
    count = COUNTS[photometric]
    read = refused = 0
    for planar, order, compression, tile in itertools.product(
        (1, 2), "<>", (1, DEFLATE, PACKBITS, LZW), (0, 16)
    ):
        samples = stored(bits, count, floating)
        tags = PLAIN_YCBCR if photometric == 6 else {}
        if photometric == 3:
            tags = {320: (SHORT, palette(bits if bits <= 8 else 8).ravel().tolist())}
        path.write_bytes(
            tiff(
                samples,
                bits,
                photometric,
                planar=planar,
                order=order,
                compression=compression,
                tile=tile,
                tags=tags,
            )
        )
        case = f"planar {planar}, order {order}, compression {compression}, tile {tile}"
        try:
            found = read_pixels(str(path))
            deep = read_pixels(str(path), bits=16)
        except UnreadableImageError as error:
            assert "cannot be decoded: it" in str(error), case
            assert "\n" not in str(error) and len(str(error)) < 400
            refused += 1
            continue
        read += 1
        wanted = shown(samples, bits, photometric)
        off = 1.0 if compression == LZW else 0.51  # Pillow's own rounding
        assert np.abs(found - 255 * wanted).max() <= off, case
        if bits > 8 and photometric != 3:
            assert np.abs(deep - 65535 * wanted).max() <= 0.51, case
    grey = photometric in (0, 1)
    if bits == 8 or (bits == 16 and not floating and grey):
        assert not refused
    if bits == 16 and not floating and photometric in (2, 5):
        assert read == 24  # all but LZW
    if floating and (grey or photometric == 2):
        assert read == 24
    if floating and photometric not in (0, 1, 2):
        assert not read
    if bits in (2, 4, 12) and grey:
        assert read >= 12  # in strips


DISPLAYED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: np.moveaxis(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.moveaxis(np.rot90(a, 2), 0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", DISPLAYED)
@pytest.mark.parametrize(("bits", "floating"), [(1, False), (8, False), (16, False), (32, True)])
def test_orientation_of_every_kind(
    tmp_path: Path, bits: int, floating: bool, orientation: int
) -> None:
    path = tmp_path / "image.tif"
    for photometric, compression in itertools.product((0, 1, 2, 5, 6), (1, LZW)):
        if floating and (photometric > 2 or compression == LZW):
            continue
        if bits == 16 and photometric > 1 and compression == LZW:
            continue
        if bits == 1 and photometric > 1:
            continue
        samples = stored(bits, COUNTS[photometric], floating)
        tags = PLAIN_YCBCR if photometric == 6 else {}
        path.write_bytes(
            tiff(
                samples,
                bits,
                photometric,
                orientation=orientation,
                compression=compression,
                tags=tags,
            )
        )
        wanted = DISPLAYED[orientation](255 * shown(samples, bits, photometric))
        found = read_pixels(str(path))
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", [1, DEFLATE, LZW])
@pytest.mark.parametrize("photometric", [1, 2])
def test_alpha(tmp_path: Path, bits: int, compression: int, photometric: int) -> None:
    """Alpha is dropped; colours that were multiplied with it are divided by it first."""
    if bits == 16 and compression == LZW:
        return
    path, own = tmp_path / "image.tif", COUNTS[photometric]
    top = 2**bits - 1
    colour = stored(bits, own, False)
    alpha = np.random.default_rng(3).integers(top // 2, top, (HEIGHT, WIDTH, 1))
    wanted = 255 * shown(colour, bits, photometric)
    for kind in (1, 2):
        held = np.rint(colour * (alpha / top)).astype(int) if kind == 1 else colour
        path.write_bytes(
            tiff(
                np.concatenate([held, alpha], axis=2),
                bits,
                photometric,
                compression=compression,
                extra=(kind,),
            )
        )
        if photometric == 1 and kind == 1 and compression == LZW:
            with pytest.raises(UnreadableImageError, match="save it without alpha"):
                read_pixels(str(path))
            continue
        assert np.abs(read_pixels(str(path)) - wanted).max() <= (2.1 if kind == 1 else 1)


def test_sixteen_bits_of_white_is_zero_against_pillow(tmp_path: Path) -> None:
    """An inverted copy of what Pillow itself writes and reads in black is zero."""
    grey = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    held = io.BytesIO()
    Image.fromarray(grey).save(held, "TIFF")
    (tmp_path / "black.tif").write_bytes(held.getvalue())
    (tmp_path / "white.tif").write_bytes(tiff(65535 - grey[:, :, None].astype(int), 16, 0))
    for bits in (8, 16):
        black, white = (
            read_pixels(str(tmp_path / f"{name}.tif"), channels=1, bits=bits)
            for name in ("black", "white")
        )
        np.testing.assert_array_equal(black, white)
    np.testing.assert_array_equal(black[:, :, 0], grey)


def test_references_and_coefficients_of_ycbcr(tmp_path: Path) -> None:
    """Video range 16 to 235 and 16 to 240 with the coefficients of Rec. 709: white, black, red."""
    codes = np.array([[[235, 128, 128], [16, 128, 128], [63, 102, 240]]])
    tags = PLAIN_YCBCR | {
        529: (RATIONAL, [2126, 10000, 7152, 10000, 722, 10000]),
        532: (RATIONAL, [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1]),
    }
    path = tmp_path / "video.tif"
    path.write_bytes(tiff(codes, 8, 6, tags=tags))
    found = read_pixels(str(path))[0].astype(int)
    assert np.abs(found - [[255, 255, 255], [0, 0, 0], [255, 0, 0]]).max() <= 2


def noticed(path: Path) -> list[str]:
    remarks: list[Remark] = []
    read_pixels(str(path), remarks=remarks)
    return [remark.kind for remark in remarks]


def test_pages_are_noticed(tmp_path: Path) -> None:
    samples = stored(8, 1, False)
    path = tmp_path / "stack.tif"
    path.write_bytes(tiff(samples, 8, 1))
    assert noticed(path) == []
    path.write_bytes(tiff(samples, 8, 1, pages=6))
    assert noticed(path) == ["pictures"]
    remarks: list[Remark] = []
    np.testing.assert_array_equal(
        read_pixels(str(path), channels=1, remarks=remarks), samples.astype(np.uint8)
    )
    assert remarks[0].text == "holds 6 pages, of which the first is read"
    # Smaller copies of the first page, as slides have them, are no further images.
    path.write_bytes(tiff(samples, 8, 1, pages=3, tags={254: (SHORT, [1])}))
    assert noticed(path) == []


def test_twelve_bits_in_sixteen_are_noticed(tmp_path: Path) -> None:
    samples = stored(12, 1, False)
    path = tmp_path / "camera.tif"
    path.write_bytes(tiff(samples, 16, 1))
    remarks: list[Remark] = []
    read_pixels(str(path), remarks=remarks)
    assert "uses 12" in remarks[0].text and "multiply its values by 16" in remarks[0].text
    path.write_bytes(tiff(samples, 12, 1))
    assert noticed(path) == []
    path.write_bytes(tiff(samples * 16, 16, 1))
    assert noticed(path) == []
    # A single bright pixel does not hide what the file itself says.
    for tag in (281, 341):
        path.write_bytes(tiff(samples * 4, 16, 1, tags={tag: (SHORT, [16383])}))
        assert noticed(path) == ["dark"]
    np.save(tmp_path / "camera.npy", samples[:, :, 0].astype(np.uint16))
    assert noticed(tmp_path / "camera.npy") == ["dark"]
    Image.fromarray(samples[:, :, 0].astype(np.uint16)).save(tmp_path / "camera.png")
    assert noticed(tmp_path / "camera.png") == ["dark"]
    np.save(tmp_path / "black.npy", np.zeros((4, 4), np.uint16))
    assert noticed(tmp_path / "black.npy") == []


@pytest.mark.parametrize(
    ("photometric", "count", "extra", "sentence"),
    [
        (1, 3, (), "has 3 samples a pixel, of which 1 are"),
        (1, 2, (), "has 2 samples a pixel"),
        (8, 3, (), r"mean CIE L\*a\*b\*"),
        (4, 1, (), "mean a transparency mask"),
        (32803, 1, (), "mean CFA"),
        (2, 2, (), "has 2 samples a pixel, of which 3 are RGB"),
    ],
)
def test_samples_of_another_meaning_are_refused(
    tmp_path: Path, photometric: int, count: int, extra: tuple[int, ...], sentence: str
) -> None:
    path = tmp_path / "image.tif"
    path.write_bytes(tiff(stored(16, count, False), 16, photometric, extra=extra))
    with pytest.raises(UnreadableImageError, match=sentence):
        read_pixels(str(path))


@pytest.mark.parametrize(
    ("count", "bits", "tags", "sentence"),
    [
        (1, 8, {259: (SHORT, [34887])}, "its compression LERC is damaged, or of a kind"),
        (1, 16, {259: (SHORT, [50002])}, "its compression JPEGXL .* save it without compression"),
        (1, 32, {317: (SHORT, [3])}, "stored with the predictor FLOATINGPOINT; save it without"),
    ],
)
def test_what_is_stored_in_a_way_that_is_not_read_is_named(
    tmp_path: Path, count: int, bits: int, tags: dict[int, Any], sentence: str
) -> None:
    path = tmp_path / "image.tif"
    path.write_bytes(tiff(stored(bits, count, bits == 32), bits, 1, tags=tags))
    with pytest.raises(UnreadableImageError, match=sentence):
        read_pixels(str(path))
