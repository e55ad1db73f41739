"""What other formats than TIFF hide: orientation, inks, palettes, depth, byte order, gamma."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain_jax.data import UnreadableImageError, find_images, read_pixels
from pretrain_jax.data.opening import Remark, missing_codec
from tests.pretrain_jax.data.tiff_files import SHORT, tiff

SMOOTH = (np.indices((24, 40)).sum(axis=0) * 4).astype(np.uint8)
COLOUR = np.dstack([SMOOTH, SMOOTH[::-1], 255 - SMOOTH])


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


# First row and column, and their steps, of the seven passes of Adam7 (PNG, section 8.2).
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
PASSES = (*PASSES, (1, 0, 2, 1))


def deep_png(
    pixels: np.ndarray, colours: int, more: bytes = b"", interlaced: bool = False
) -> bytes:
    """A PNG of 16 bits by hand, none of its rows filtered."""
    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, interlaced)
    parts = [pixels]
    if interlaced:
        parts = [pixels[y::down, x::right] for y, x, down, right in PASSES]
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes() for part in parts if part.size for row in part
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + more
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_every_format(tmp_path: Path, ending: str, orientation: int) -> None:
    """The first stored row and column are shown where EXIF says (its table of the tag 274)."""
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(COLOUR).save(path, exif=exif, quality=95)
    if ending == "tif":
        Image.fromarray(COLOUR).save(path, tiffinfo={274: orientation})
    shown = {
        1: COLOUR,
        2: COLOUR[:, ::-1],
        3: COLOUR[::-1, ::-1],
        4: COLOUR[::-1],
        5: COLOUR.swapaxes(0, 1),
        6: COLOUR[::-1].swapaxes(0, 1),
        7: COLOUR[::-1, ::-1].swapaxes(0, 1),
        8: COLOUR[:, ::-1].swapaxes(0, 1),
    }[orientation]
    found = read_pixels(str(path))
    assert found.shape == shown.shape
    # Lossy formats are off by a few levels, another orientation by dozens.
    assert np.abs(found.astype(int) - shown).mean() < 6


def test_inks_of_a_jpeg_as_adobe_writes_them(tmp_path: Path) -> None:
    """Stored inverted: white paper is 255 in all four; RGB is (1 - C)(1 - K)."""
    inks = np.dstack([SMOOTH, SMOOTH[::-1], SMOOTH // 2, SMOOTH // 4])
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    parts = inks / 255
    wanted = 255 * (1 - parts[:, :, :3]) * (1 - parts[:, :, 3:])
    assert np.abs(read_pixels(str(tmp_path / "a.jpg")) - wanted).max() < 8


@pytest.mark.parametrize(("colours", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_every_kind_of_png(tmp_path: Path, colours: int, channels: int) -> None:
    rng = np.random.default_rng(colours)
    pixels = rng.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    path = tmp_path / "deep.png"
    gamma = chunk(b"gAMA", struct.pack(">I", 100_000)) + chunk(b"sBIT", b"\x0c" * channels)
    path.write_bytes(deep_png(pixels, colours, gamma))  # neither of which changes pixels
    own = pixels[:, :, : 1 if channels < 3 else 3]
    wanted = np.broadcast_to(own, (5, 7, 3))
    np.testing.assert_array_equal(read_pixels(str(path), bits=16), wanted)
    eight = np.rint(wanted / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_pixels(str(path)), eight)


@pytest.mark.parametrize(("colours", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_in_the_seven_passes_of_a_png(
    tmp_path: Path, colours: int, channels: int
) -> None:
    rng = np.random.default_rng(colours)
    pixels = rng.integers(0, 65536, (64, 50, channels), dtype=np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(deep_png(pixels, colours, interlaced=True))
    wanted = np.broadcast_to(pixels[:, :, : 1 if channels < 3 else 3], (64, 50, 3))
    np.testing.assert_array_equal(read_pixels(str(path), bits=16), wanted)


def test_palettes_and_single_bits(tmp_path: Path) -> None:
    indices = (SMOOTH % 4).astype(np.uint8)
    colours = np.array([[255, 0, 0], [0, 255, 0], [1, 2, 3], [9, 9, 9]], np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette(colours.ravel().tolist())
    for name, options in (("plain.png", {}), ("clear.png", {"transparency": 1})):
        image.save(tmp_path / name, **options)
        np.testing.assert_array_equal(read_pixels(str(tmp_path / name)), colours[indices])
    alphas = bytes([0, 128, 255, 7])
    image.save(tmp_path / "alphas.png", transparency=alphas)
    np.testing.assert_array_equal(read_pixels(str(tmp_path / "alphas.png")), colours[indices])
    bits = SMOOTH > 90
    for name in ("bit.png", "bit.tif", "bit.bmp", "bit.gif"):
        Image.fromarray(bits).save(tmp_path / name)
        found = read_pixels(str(tmp_path / name), channels=1)[:, :, 0]
        np.testing.assert_array_equal(found, bits * np.uint8(255))


@pytest.mark.parametrize("kind", [">u2", "<u2", ">f4", ">f8", "|u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_either_byte_order(tmp_path: Path, kind: str, order: str) -> None:
    values = np.random.default_rng(0).uniform(0, 1, (4, 6, 3))
    top = {"f": 1, "b": 1, "u": 0}[np.dtype(kind).kind] or np.iinfo(np.dtype(kind)).max
    array = np.asarray(np.rint(values * top) if top > 1 else values, order=order).astype(kind)
    if kind == "?":
        array = np.asarray(values > 0.5, order=order)
    np.save(tmp_path / "a.npy", array)
    found = read_pixels(str(tmp_path / "a.npy"), bits=16)
    assert np.abs(found - array.astype(float) / top * 65535).max() <= 0.51


@pytest.mark.parametrize("ending", ["avif", "jp2", "j2k"])
def test_formats_that_are_listed_too(tmp_path: Path, ending: str) -> None:
    Image.fromarray(COLOUR).save(tmp_path / f"a.{ending}")
    images = find_images(tmp_path)
    assert len(images) == 1
    assert np.abs(read_pixels(*images.locate(0)).astype(int) - COLOUR).mean() < 6


CODED = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}


@pytest.mark.parametrize("kind", CODED)
def test_a_codec_that_pillow_lacks_is_named(kind: str) -> None:
    """As a Pillow that was built without it would say; of JPEG 2000 as a bare stream, too."""
    for options in ({}, {"no_jp2": True}) if kind == "JPEG2000" else ({},):
        held = io.BytesIO()
        Image.fromarray(COLOUR).save(held, kind, **options)
        head = held.getvalue()[:12]
        assert missing_codec(head, lambda codec: True) == ""
        told = missing_codec(head, lambda codec: codec != CODED[kind])
        assert "the installed Pillow has no codec for it; install" in told and "PNG" in told
    for plain in ("PNG", "TIFF", "GIF", "BMP", "JPEG"):
        held = io.BytesIO()
        Image.fromarray(COLOUR).save(held, plain)
        assert missing_codec(held.getvalue()[:12], lambda codec: False) == ""


def test_twelve_bits_of_jpeg_2000_fill_the_range(tmp_path: Path) -> None:
    deep = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    Image.fromarray(deep).save(tmp_path / "a.jp2", irreversible=False)
    found = read_pixels(str(tmp_path / "a.jp2"), channels=1, bits=16)
    np.testing.assert_array_equal(found[:, :, 0], deep)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_compressions_of_pillow_in_tiff(tmp_path: Path, compression: str) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.tif", compression=compression)
    off = np.abs(read_pixels(str(tmp_path / "a.tif")).astype(int) - COLOUR).max()
    assert off <= (12 if compression == "jpeg" else 0)
    for name in ("group3", "group4"):
        Image.fromarray(SMOOTH > 90).save(tmp_path / f"{name}.tif", compression=name)
        found = read_pixels(str(tmp_path / f"{name}.tif"), channels=1)[:, :, 0]
        np.testing.assert_array_equal(found, (SMOOTH > 90) * np.uint8(255))


def test_halved_colours_of_plain_ycbcr(tmp_path: Path) -> None:
    """Blocks of 2 x 2 with one pair of colour differences (TIFF 6.0, section 21): Pillow errs."""
    luma = np.array([[10, 60], [110, 160]])
    # One data unit: four lumas, then Cb and Cr. Written as a grey row of six bytes.
    unit = np.concatenate([luma.ravel(), [128, 128]])[None, :, None]
    content = bytearray(tiff(unit, 8, 6, tags={530: (SHORT, [2, 2]), 258: (SHORT, [8, 8, 8])}))
    at = struct.unpack_from("<I", content, 4)[0]
    for number in range(struct.unpack_from("<H", content, at)[0]):
        place = at + 2 + 12 * number
        tag = struct.unpack_from("<H", content, place)[0]
        if tag in (256, 257):
            struct.pack_into("<I", content, place + 8, 2)
        if tag == 277:
            struct.pack_into("<H", content, place + 8, 3)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UnreadableImageError, match="fewer samples of colour; save it as RGB"):
        read_pixels(str(tmp_path / "a.tif"))


def test_a_raised_limit_reads_what_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond twice Pillow's own limit as well, which is another one and stays as it is."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = tmp_path / "wide.png"
    Image.new("1", (500, 400), 1).save(path)
    monkeypatch.setenv("HARDSET_MAX_MEGAPIXELS", "0.1")
    with pytest.raises(UnreadableImageError, match=r"0\.2 megapixels, more than the 0\.1"):
        read_pixels(str(path), channels=1)
    monkeypatch.setenv("HARDSET_MAX_MEGAPIXELS", "0.2")
    assert read_pixels(str(path), channels=1).shape == (400, 500, 1)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_animations_are_noticed(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (80 * number, 0, 0)) for number in range(3)]
    for ending in ("gif", "webp", "png", "avif", "jpg"):
        path = tmp_path / f"a.{ending}"
        several = {"save_all": True, "append_images": frames[1:]}
        frames[0].save(path, "MPO" if ending == "jpg" else None, **several)
        remarks: list[Remark] = []
        found = read_pixels(str(path), remarks=remarks)
        assert [one.kind for one in remarks] == ["pictures"], ending
        assert found.max() <= 8  # the first frame
        frames[0].save(path)
        read_pixels(str(path), remarks=(none := []))
        assert none == []


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    held = io.BytesIO()
    Image.fromarray(COLOUR).save(held, "PNG")
    (tmp_path / "a.jpg").write_bytes(held.getvalue())
    np.testing.assert_array_equal(read_pixels(str(tmp_path / "a.jpg")), COLOUR)
    (tmp_path / "b.png").write_bytes(tiff(65535 - SMOOTH[:, :, None].astype(int) * 257, 16, 0))
    found = read_pixels(str(tmp_path / "b.png"), channels=1)[:, :, 0]
    np.testing.assert_array_equal(found, SMOOTH)
