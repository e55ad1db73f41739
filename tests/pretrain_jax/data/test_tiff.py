"""TIFF by its tags: files written by hand, pixels by the formulas of TIFF 6.0 in NumPy."""

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pretrain_jax.data import UnreadableImageError, read_pixels
from pretrain_jax.data.opening import Remark, remark_notes
from pretrain_jax.data.options import set_reading
from tests.pretrain_jax.data.test_formats import deep_png
from tests.pretrain_jax.data.tiff_files import DEFLATE, LZW, PACKBITS, RATIONAL, SHORT, text, tiff

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
    assert "uses 12" in remarks[0].text
    (note,) = remark_notes([("camera.tif", remarks[0])])
    assert "nearly black; say with --bits 12" in note and "camera.tif has 16 bits" in note
    path.write_bytes(tiff(samples, 12, 1))
    assert noticed(path) == []
    path.write_bytes(tiff(samples * 16, 16, 1))
    assert noticed(path) == []
    np.save(tmp_path / "camera.npy", samples[:, :, 0].astype(np.uint16))
    assert noticed(tmp_path / "camera.npy") == ["dark"]
    Image.fromarray(samples[:, :, 0].astype(np.uint16)).save(tmp_path / "camera.png")
    assert noticed(tmp_path / "camera.png") == ["dark"]
    np.save(tmp_path / "black.npy", np.zeros((4, 4), np.uint16))
    assert noticed(tmp_path / "black.npy") == []


STATED = {
    "MaxSampleValue": {281: (SHORT, [4095])},
    "SMaxSampleValue": {341: (SHORT, [4000])},  # of 12 bits, which the image does not fill
    "SignificantBits": {
        270: text('<OME><Image><Pixels Type="uint16" SignificantBits="12"/></Image></OME>')
    },
}


@pytest.mark.parametrize("photometric", [0, 1, 2, 5])
@pytest.mark.parametrize("stated", [*STATED, "--bits"])
def test_twelve_bits_in_sixteen_fill_the_range(
    tmp_path: Path, stated: str, photometric: int
) -> None:
    """White is zero within the 12 bits; by the file's own tags, else by the option."""
    path = tmp_path / "camera.tif"
    if stated == "--bits":
        set_reading(bits=12)
    for order, compression, planar in itertools.product("<>", (1, DEFLATE, LZW), (1, 2)):
        if compression == LZW and photometric > 1:
            continue
        samples = stored(12, COUNTS[photometric], False)
        tags = STATED.get(stated, {})
        path.write_bytes(
            tiff(
                samples,
                16,
                photometric,
                order=order,
                planar=planar,
                compression=compression,
                tags=tags,
            )
        )
        wanted = shown(samples, 12, photometric)
        remarks: list[Remark] = []
        assert np.abs(read_pixels(str(path), remarks=remarks) - 255 * wanted).max() <= 0.51
        assert np.abs(read_pixels(str(path), bits=16) - 65535 * wanted).max() <= 0.51
        assert remarks == []


def test_tags_are_believed_as_far_as_the_samples_go(tmp_path: Path) -> None:
    path = tmp_path / "camera.tif"
    samples = stored(14, 1, False)
    for top, bits in ((4095, 16), (16383, 14), (9000, 14), (0, 16), (65535, 16)):
        path.write_bytes(tiff(samples, 16, 1, tags={281: (SHORT, [top])}))
        found = read_pixels(str(path), channels=1, bits=16)
        assert np.abs(found - samples * (65535 / (2**bits - 1))).max() <= 0.51
    # What the file says comes before the option.
    set_reading(bits=15)
    path.write_bytes(tiff(samples, 16, 1, tags={281: (SHORT, [16383])}))
    found = read_pixels(str(path), channels=1, bits=16)
    assert np.abs(found - samples * (65535 / 16383)).max() <= 0.51


@pytest.mark.parametrize("bits", range(10, 17))
def test_the_option_holds_for_files_that_say_nothing(tmp_path: Path, bits: int) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, (9, 11), dtype=np.uint16)
    wanted = values * (65535 / (2**bits - 1))
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", np.dstack([values] * 3).astype(">u2"))
    Image.fromarray(values).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(deep_png(np.dstack([values] * 3), 2))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", np.dstack([values] * 3), photometric="rgb")
    set_reading(bits=bits)
    for path in sorted(tmp_path.iterdir()):
        remarks: list[Remark] = []
        found = read_pixels(str(path), channels=1, bits=16, remarks=remarks)[:, :, 0]
        assert np.abs(found - wanted).max() <= 0.51 and remarks == [], path.name
    # Eight bits, palettes and files of their own depth are left as they are.
    eight = (values >> (bits - 8)).astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "eight.png")
    np.testing.assert_array_equal(read_pixels(str(tmp_path / "eight.png"))[..., 0], eight)
    Image.fromarray(values << (16 - bits)).save(tmp_path / "own.jp2", irreversible=False)
    own = read_pixels(str(tmp_path / "own.jp2"), channels=1, bits=16)
    np.testing.assert_array_equal(own[..., 0], values << (16 - bits))


def test_a_value_beyond_the_option_is_refused(tmp_path: Path) -> None:
    values = np.full((4, 4), 4096, np.uint16)
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "a.tif").write_bytes(tiff(values[..., None].astype(int), 16, 1))
    set_reading(bits=12)
    for name in ("a.npy", "a.tif"):
        sentence = "holds the value 4096, and --bits 12 says that values end at 4095; give"
        with pytest.raises(UnreadableImageError, match=sentence):
            read_pixels(str(tmp_path / name))
    for bits in (9, 17):
        with pytest.raises(ValueError, match=f"bits = {bits} .*10.*16"):
            set_reading(bits=bits)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_palettes_that_tifffile_writes(tmp_path: Path, kind: type) -> None:
    """Of 256 colours and of 65536; colours have 16 bits, of which images have 8 (section 5)."""
    rng = np.random.default_rng(4)
    count = np.iinfo(kind).max + 1
    colours = rng.integers(0, 65536, (3, count), np.uint16)
    indices = rng.integers(0, count, (7, 9)).astype(kind)
    path = tmp_path / "image.tif"
    set_reading(bits=12)  # indices are no samples
    for more in ({}, {"compression": "zlib"}, {"byteorder": ">"}):
        tifffile.imwrite(path, indices, photometric="palette", colormap=colours, **more)
        wanted = np.moveaxis(colours[:, indices], 0, -1) / 257
        assert np.abs(read_pixels(str(path)) - wanted).max() <= 0.51


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack", "rgb", "separated"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_kinds_of_sample_that_tifffile_writes(tmp_path: Path, kind: type, photometric: str) -> None:
    """Inks are (1 - C)(1 - K), white is zero inverted (TIFF 6.0, sections 4 and 16)."""
    count = {"rgb": 3, "separated": 4}.get(photometric, 1)
    top = np.iinfo(kind).max
    shape = (6, 8, count) if count > 1 else (6, 8)
    samples = np.random.default_rng(3).integers(0, top + 1, shape).astype(kind)
    number = {"miniswhite": 0, "minisblack": 1, "rgb": 2, "separated": 5}[photometric]
    wanted = shown(samples.reshape(6, 8, count), 8 * kind(0).itemsize, number)
    path = tmp_path / "image.tif"
    for more in ({}, {"compression": "zlib"}, {"bigtiff": True}, {"byteorder": ">"}):
        tifffile.imwrite(path, samples, photometric=photometric, **more)
        assert np.abs(read_pixels(str(path)) - 255 * wanted).max() <= 0.51
        if kind == np.uint16:
            assert np.abs(read_pixels(str(path), bits=16) - 65535 * wanted).max() <= 0.51


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
