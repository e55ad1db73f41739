"""Pixels of files against arrays that were written into them."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pretrain_jax.data import BadPixelsError, UnreadableImageError, find_images, read_pixels

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (7, 9), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (7, 9), dtype=np.uint16)
COLOUR8 = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)
COLOUR16 = RNG.integers(0, 65536, (7, 9, 3), dtype=np.uint16)


def save(path: Path, pixels: NDArray) -> str:
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels)
    elif path.suffix == ".npy":
        np.save(path, pixels)
    elif pixels.dtype == np.uint16 and pixels.ndim == 3:
        encoder = av.CodecContext.create("png", "w")
        encoder.height, encoder.width = pixels.shape[:2]
        encoder.pix_fmt, encoder.time_base = "rgb48be", Fraction(1)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le").reformat(format="rgb48be")
        packets = [*encoder.encode(frame), *encoder.encode(None)]
        path.write_bytes(b"".join(bytes(packet) for packet in packets))
    else:
        Image.fromarray(pixels).save(path)
    return str(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize(
    "pixels", [GREY8, GREY16, COLOUR8, COLOUR16], ids=["g8", "g16", "c8", "c16"]
)
def test_every_depth_and_channel_count(tmp_path: Path, suffix: str, pixels: NDArray) -> None:
    """At its own depth and channels a file gives back the array that was written."""
    path = save(tmp_path / f"image{suffix}", pixels)
    bits, channels = 8 * pixels.dtype.itemsize, 1 if pixels.ndim == 2 else 3
    found = read_pixels(path, channels=channels, bits=bits)
    np.testing.assert_array_equal(found, pixels.reshape(7, 9, channels))


def test_depths_map_full_range_to_full_range(tmp_path: Path) -> None:
    path = save(tmp_path / "ramp.npy", np.array([[0, 128, 255]], np.uint8))
    assert read_pixels(path, channels=1, bits=16).ravel().tolist() == [0, 128 * 257, 65535]
    path = save(tmp_path / "deep.npy", np.array([[0, 32768, 65535]], np.uint16))
    assert read_pixels(path, channels=1, bits=8).ravel().tolist() == [0, 128, 255]
    path = save(tmp_path / "float.npy", np.array([[0, 0.5, 1]], np.float32))
    # round-half-even of 127.5 and 32767.5
    assert read_pixels(path, channels=1, bits=8).ravel().tolist() == [0, 128, 255]
    assert read_pixels(path, channels=1, bits=16).ravel().tolist() == [0, 32768, 65535]


def test_channels_are_repeated_or_weighed(tmp_path: Path) -> None:
    grey = read_pixels(save(tmp_path / "g.png", GREY8), channels=3)
    assert all((grey[:, :, channel] == GREY8).all() for channel in range(3))
    luminance = read_pixels(save(tmp_path / "c.png", COLOUR8), channels=1)[:, :, 0]
    pillow = np.asarray(Image.fromarray(COLOUR8).convert("L"))
    # Pillow truncates where this rounds.
    assert np.abs(luminance.astype(int) - pillow).max() <= 1
    alpha = np.dstack([COLOUR8, GREY8])
    np.testing.assert_array_equal(read_pixels(save(tmp_path / "a.png", alpha)), COLOUR8)


def test_orientation_is_applied_and_metadata_dropped(tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR8)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise for display
    exif[0x010E] = "patient name"
    image.save(tmp_path / "turned.png", exif=exif)
    found = read_pixels(str(tmp_path / "turned.png"))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, np.rot90(COLOUR8, -1))


# As TIFF 6.0 defines them: where row 0 and column 0 of the stored pixels are displayed.
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


def deep_png(path: Path, pixels: np.ndarray, orientation: int) -> None:
    """RGB of 16 bits, with its orientation in the chunk eXIf."""
    exif = Image.Exif()
    exif[274] = orientation
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2"))
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = {b"IHDR": header, b"eXIf": exif.tobytes()[6:], b"IDAT": zlib.compress(rows)}
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in (chunks | {b"IEND": b""}).items():
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", zlib.crc32(kind + content)))


@pytest.mark.parametrize("orientation", DISPLAYED)
def test_orientation_in_every_reader(tmp_path: Path, orientation: int) -> None:
    grey8, grey16, rgb16 = GREY8, GREY16, COLOUR16
    tag = [(274, "H", 1, orientation, True)]
    planes = np.moveaxis(rgb16, -1, 0)
    colour = {"photometric": "rgb", "extratags": tag}
    tifffile.imwrite(tmp_path / "grey8.tif", grey8, extratags=tag)
    tifffile.imwrite(tmp_path / "grey16.tif", grey16, extratags=tag)
    tifffile.imwrite(tmp_path / "rgb8.tif", COLOUR8, **colour)
    tifffile.imwrite(tmp_path / "rgb16.tif", rgb16, **colour)
    tifffile.imwrite(tmp_path / "planar.tif", planes, planarconfig="separate", **colour)
    deep_png(tmp_path / "rgb16.png", rgb16, orientation)
    for name, bits, stored in (
        ("grey8.tif", 8, grey8[..., None]),
        ("grey16.tif", 16, grey16[..., None]),
        ("rgb8.tif", 8, COLOUR8),
        ("rgb16.tif", 16, rgb16),
        ("planar.tif", 16, rgb16),
        ("rgb16.png", 16, rgb16),
    ):
        wanted = np.broadcast_to(stored, (*stored.shape[:2], 3))
        found = read_pixels(str(tmp_path / name), bits=bits)
        np.testing.assert_array_equal(found, DISPLAYED[orientation](wanted), err_msg=name)


def test_wide_integers_are_unreadable(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "wide.tif", np.full((4, 5), 70000, np.int32))
    with pytest.raises(UnreadableImageError, match=r"wide\.tif .* type int32; uint8, uint16"):
        read_pixels(str(tmp_path / "wide.tif"))


@pytest.mark.parametrize("damage", ["truncated", "junk", "empty", "missing"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy"])
def test_damaged_files_are_unreadable(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"image{suffix}"
    content = Path(save(path, RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8))).read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {"truncated": content[: len(content) // 2], "junk": b"junk" * 50, "empty": b""}[damage]
        )
    with pytest.raises(UnreadableImageError, match="image"):
        read_pixels(str(path))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [(np.nan, "holds nan at row 2, column 3"), (np.inf, "holds inf"), (1.5, r"range \[0, 1\]")],
)
def test_bad_numbers_stop(tmp_path: Path, value: float, sentence: str) -> None:
    pixels = np.full((5, 6), 0.5, np.float32)
    pixels[2, 3] = value
    with pytest.raises(BadPixelsError, match=sentence):
        read_pixels(save(tmp_path / "float.npy", pixels))
    with pytest.raises(BadPixelsError, match="type int64"):
        read_pixels(save(tmp_path / "int.npy", np.ones((4, 4), np.int64)))


def write_video(path: Path, frames: int) -> None:
    """Frame k is a grey level of about 20 k, with one key frame only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.gop_size = 100
        for number in range(frames):
            pixels = np.full((32, 32, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def test_video_frames_by_number(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 9)
    images = find_images(tmp_path, frame_stride=2)
    assert images.frames.tolist() == [0, 2, 4, 6, 8]
    assert images.name(2) == f"{tmp_path / 'clip.mp4'}#4"
    for index in (3, 0, 4):  # out of order
        path, frame = images.locate(index)
        # MPEG-4 is lossy and of limited range: a few grey levels.
        assert abs(float(read_pixels(path, frame).mean()) - 20 * frame) < 6
    with pytest.raises(UnreadableImageError, match="no readable frame 9"):
        read_pixels(str(tmp_path / "clip.mp4"), 9)


def test_a_damaged_video_counts_as_one_unreadable_image(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"junk" * 100)
    images = find_images(tmp_path / "clip.mp4")
    assert len(images) == 1
    with pytest.raises(UnreadableImageError):
        read_pixels(*images.locate(0))
