"""Pages of files: counted, told apart, and read by their own tags.

TIFF files are written by hand; animations are composed here as their formats say, or decoded by
FFmpeg.
"""

import io
import struct
import tarfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pretrain_jax.data import UnreadableImageError, find_images, read_pixels
from pretrain_jax.data.listing import STILL, iterate_images
from pretrain_jax.data.opening import Remark
from pretrain_jax.data.options import set_reading
from pretrain_jax.data.pages import page_count
from tests.pretrain_jax.data.test_formats import chunk
from tests.pretrain_jax.data.test_tiff import COUNTS, DISPLAYED, palette, shown, stored
from tests.pretrain_jax.data.tiff_files import (
    DEFLATE,
    LONG,
    LZW,
    PACKBITS,
    SHORT,
    chained,
    page,
    text,
    tiff,
)

GREY = stored(8, 1, False)
REDUCED, MASK = {254: (LONG, [1])}, {254: (LONG, [4])}


def pages_of(path: Path) -> list[NDArray[np.uint8]]:
    """All pages, in the order of their numbers."""
    located = list(iterate_images(path))
    assert [one.frame for one in located] == list(range(len(located)))
    assert {one.frames for one in located} == {len(located)}
    return [read_pixels(str(path), one.frame) for one in located]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("compression", [1, DEFLATE, PACKBITS, LZW])
def test_every_page_by_its_own_tags(
    tmp_path: Path, order: str, large: bool, compression: int
) -> None:
    """Photometric interpretation, depth, palette, orientation and size differ from page to page."""
    kinds = [(0, 8), (1, 8), (2, 8), (3, 8), (5, 8), (0, 16), (1, 16), (1, 1), (0, 1), (2, 8)]
    made, wanted = [], []
    for number, (photometric, bits) in enumerate(kinds):
        samples = stored(bits, COUNTS[photometric], False, seed=number)[: 3 + number % 3]
        tags = {320: (SHORT, palette(8).ravel().tolist())} if photometric == 3 else {}
        turn = number % 8 + 1
        kept = {"order": order, "compression": compression, "orientation": turn, "tags": tags}
        made.append(page(samples, bits, photometric, **kept))
        wanted.append(DISPLAYED[turn](255 * shown(samples, bits, photometric)))
    path = tmp_path / "stack.tif"
    path.write_bytes(chained(made, order, large))
    if large and order == ">" and compression == LZW:  # which Pillow does not open
        assert page_count(str(path)) == len(kinds)
        with pytest.raises(UnreadableImageError, match=r"page 2 .*LZW .*; save it without"):
            read_pixels(str(path), 2)
        return
    found = pages_of(path)
    assert len(found) == len(kinds)
    for number, (one, own) in enumerate(zip(found, wanted, strict=True)):
        assert one.shape == own.shape, number
        assert np.abs(one - own).max() <= (1.0 if compression == LZW else 0.51), number
    # In any order, and the first one where none is named.
    np.testing.assert_array_equal(read_pixels(str(path), 3), found[3])
    np.testing.assert_array_equal(read_pixels(str(path)), found[0])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("large", [False, True])
def test_reduced_pages_and_masks_are_no_images(tmp_path: Path, order: str, large: bool) -> None:
    """NewSubfileType is bits: 1 a reduced image, 2 a page, 4 a mask (TIFF 6.0, section 8)."""
    values = [stored(8, 1, False, seed) for seed in range(6)]
    marks: list[dict[int, Any]] = [REDUCED, {}, MASK, {254: (LONG, [2])}, {255: (SHORT, [2])}]
    marks.append({255: (SHORT, [1])})
    made = [page(one, 8, 1, tags=tags) for one, tags in zip(values, marks, strict=True)]
    path = tmp_path / "pyramid.tif"
    path.write_bytes(chained(made, order, large))
    found = pages_of(path)
    assert len(found) == 3
    for one, own in zip(found, (values[1], values[3], values[5]), strict=True):
        np.testing.assert_array_equal(one, np.repeat(own, 3, axis=2))
    # A thumbnail before the only picture: the file has one, which is no page.
    path.write_bytes(chained(made[:3], order, large))
    (located,) = iterate_images(path)
    assert (located.frame, located.frames, located.group) == (STILL, 1, "")
    np.testing.assert_array_equal(read_pixels(str(path)), np.repeat(values[1], 3, axis=2))
    # Where all are reduced, the first one is what there is.
    path.write_bytes(chained([made[0]] * 2, order, large))
    assert page_count(str(path)) == 1
    np.testing.assert_array_equal(read_pixels(str(path)), np.repeat(values[0], 3, axis=2))


def test_pyramids_below_a_page_are_left_out(tmp_path: Path) -> None:
    """OME-TIFF has the smaller levels of each plane in SubIFDs, which tifffile writes."""
    planes = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    path = tmp_path / "levels.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(planes, subifds=1, metadata={"axes": "ZYX"}, photometric="minisblack")
        writer.write(planes[:, ::2, ::2], subfiletype=1, photometric="minisblack")
    for own, one in zip(planes, pages_of(path), strict=True):
        np.testing.assert_array_equal(one[:, :, 0], own)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("order", "<>")
def test_stacks_of_imagej_without_directories(tmp_path: Path, kind: type, order: str) -> None:
    """Of more than 4 GB ImageJ writes one directory, and the planes behind each other."""
    rng = np.random.default_rng(0)
    top = 1.0 if kind == np.float32 else np.iinfo(kind).max
    planes = (rng.uniform(0, 1, (5, 4, 6)) * top).astype(kind)
    bits = planes.itemsize * 8
    entries, _ = page(planes[0][..., None], bits, 1, order=order)
    entries |= {270: text("ImageJ=1.53t\nimages=5\nslices=5\n"), 278: (LONG, [4])}
    whole = planes.astype(planes.dtype.newbyteorder(order)).tobytes()
    content = chained([(entries, [whole])], order)
    # The directory counts the bytes of the first plane.
    old = struct.pack(f"{order}HHII", 279, LONG, 1, len(whole))
    content = content.replace(old, struct.pack(f"{order}HHII", 279, LONG, 1, len(whole) // 5))
    path = tmp_path / "stack.tif"
    path.write_bytes(content)
    for own, one in zip(planes, pages_of(path), strict=True):
        assert np.abs(one[:, :, 0] - 255.0 * own / top).max() <= 0.51
    # What is said to be there and is not is no page, and a remark says so.
    path.write_bytes(content.replace(b"images=5", b"images=9"))
    assert page_count(str(path)) >= 5
    entries[270] = text("ImageJ=1.53t\nimages=5\nslices=5\n")
    path.write_bytes(chained([(entries, [whole[: len(whole) // 5]])], order))
    remarks: list[Remark] = []
    read_pixels(str(path), remarks=remarks)
    assert [one.text for one in remarks] == ["holds 5 pages, of which the first is read"]


@pytest.mark.parametrize(
    "options", [{"imagej": True}, {"metadata": {"axes": "ZYX"}}, {"ome": True}]
)
@pytest.mark.parametrize("bigtiff", [False, True])
def test_stacks_that_tifffile_writes(
    tmp_path: Path, options: dict[str, Any], bigtiff: bool
) -> None:
    planes = np.random.default_rng(1).integers(0, 65536, (4, 5, 7), np.uint16)
    path = tmp_path / "stack.tif"
    if bigtiff and "imagej" in options:
        return
    for more in ({}, {"compression": "zlib"}, {} if "ome" in options else {"truncate": True}):
        tifffile.imwrite(path, planes, bigtiff=bigtiff, photometric="minisblack", **options, **more)
        found = [read_pixels(str(path), one, channels=1, bits=16) for one in range(4)]
        assert page_count(str(path)) == 4
        np.testing.assert_array_equal(np.stack(found)[..., 0], planes)


def loop(entries: int) -> bytes:
    """Pages whose last one names the second as its next."""
    content = bytearray(tiff(GREY, 8, 1, pages=entries))
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    second = struct.unpack_from("<I", content, first + 2 + 12 * count)[0]
    struct.pack_into("<I", content, len(content) - 4, second)
    return bytes(content)


def many(pages: int) -> bytes:
    """Directories alone, whose pictures are all the same bytes."""
    entries, parts = page(GREY, 8, 1)
    one = chained([(entries, parts)])
    first = struct.unpack_from("<I", one, 4)[0]
    directory = one[first:]
    size = len(directory)
    block = np.tile(np.frombuffer(directory, np.uint8), (pages, 1))
    links = (first + size * np.arange(1, pages + 1)).astype("<u4")
    links[-1] = 0
    block[:, -4:] = links.view(np.uint8).reshape(-1, 4)
    return one[:first] + block.tobytes()


def test_a_loop_and_a_million_pages_end(tmp_path: Path) -> None:
    path = tmp_path / "loop.tif"
    path.write_bytes(loop(4))
    assert len(pages_of(path)) == 4
    path = tmp_path / "many.tif"
    path.write_bytes(many(3000))
    assert page_count(str(path)) == 3000
    np.testing.assert_array_equal(read_pixels(str(path), 2999, channels=1), GREY)
    path.write_bytes(many(1_000_000))
    began = time.process_time()
    (located,) = iterate_images(path)
    assert located.frame == STILL
    with pytest.raises(UnreadableImageError, match="more than 100000 pages; split it, or read its"):
        read_pixels(str(path))
    assert time.process_time() - began < 20
    set_reading(pages="first")
    remarks: list[Remark] = []
    np.testing.assert_array_equal(read_pixels(str(path), channels=1, remarks=remarks), GREY)
    assert "more than 100000 pages" in remarks[0].text


def test_directories_that_overlap_end(tmp_path: Path) -> None:
    """Of a small file that names each of its bytes a directory of 4096 entries."""
    body = np.zeros(200_000, np.uint8)
    body[0::6] = 0  # entries of the kind 0
    content = bytearray(b"II*\0" + struct.pack("<I", 8) + bytes(body))
    for number in range(3000):
        at = 8 + 2 * number
        struct.pack_into("<H", content, at, 4096)
    path = tmp_path / "overlap.tif"
    path.write_bytes(content)
    began = time.process_time()
    assert page_count(str(path)) >= 1
    assert time.process_time() - began < 5


def noise(count: int, height: int = 9, width: int = 12) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (count, height, width, 3), np.uint8)


def test_frames_of_a_gif_are_those_of_ffmpeg(tmp_path: Path) -> None:
    """Pillow writes the differences of frames alone, with transparency between."""
    base = np.zeros((8, 30, 40, 3), np.uint8)
    for number in range(8):
        base[number, :, :, 0] = 90
        base[number, 3 * number : 3 * number + 6, 4 * number : 4 * number + 9] = 250, 10 * number, 0
    path = tmp_path / "moving.gif"
    frames = [Image.fromarray(one) for one in base]
    frames[0].save(path, save_all=True, append_images=frames[1:], disposal=1, duration=90)
    with av.open(str(path)) as container:
        wanted = [one.to_ndarray(format="rgb24") for one in container.decode(video=0)]
    for own, one in zip(wanted, pages_of(path), strict=True):
        np.testing.assert_array_equal(one, own)


@pytest.mark.parametrize("ending", ["webp", "png", "apng", "gif", "avif"])
def test_frames_of_animations(tmp_path: Path, ending: str) -> None:
    """Without loss but for AVIF; GIF has few colours here, so that its palette holds all."""
    frames = noise(5) // 128 * 255 if ending == "gif" else noise(5)
    if ending == "avif":
        frames = np.repeat(np.arange(0, 250, 50, dtype=np.uint8), 9 * 12 * 3).reshape(5, 9, 12, 3)
    path = tmp_path / f"moving.{ending}"
    pictures = [Image.fromarray(one) for one in frames]
    more = {"webp": {"lossless": True}, "avif": {"quality": 100}}.get(ending, {})
    kind = "PNG" if ending == "apng" else None
    pictures[0].save(path, kind, save_all=True, append_images=pictures[1:], duration=50, **more)
    found = pages_of(path)
    assert len(found) == 5
    for one, own in zip(found, frames, strict=True):
        assert np.abs(one.astype(int) - own).max() <= (4 if ending == "avif" else 0)
    # Backwards, and by several threads at once.
    with ThreadPoolExecutor(3) as pool:
        again = list(pool.map(lambda number: read_pixels(str(path), number), range(4, -1, -1)))
    for one, other in zip(found, again[::-1], strict=True):
        np.testing.assert_array_equal(one, other)
    pictures[0].save(path, kind)
    (located,) = iterate_images(path)
    assert located.frame == STILL


def apng(size: tuple[int, int], parts: list[tuple[NDArray[np.uint8], int, int, int, int]]) -> bytes:
    """An animated PNG by hand (PNG, third edition, 11.3.6): (pixels, left, top, dispose, blend)."""
    width, height = size
    out = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    )
    out += chunk(b"acTL", struct.pack(">II", len(parts), 0))
    number = 0
    for place, (pixels, left, top, dispose, blend) in enumerate(parts):
        own = struct.pack(
            ">IIIIIHHBB", number, *pixels.shape[1::-1], left, top, 1, 10, dispose, blend
        )
        out += chunk(b"fcTL", own)
        number += 1
        data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
        if place:
            out += chunk(b"fdAT", struct.pack(">I", number) + data)
            number += 1
        else:
            out += chunk(b"IDAT", data)
    return out + chunk(b"IEND", b"")


def test_parts_of_an_animated_png_are_put_together(tmp_path: Path) -> None:
    """Composed here by the rules of disposal and blending; alpha is 0 or 255."""
    rng = np.random.default_rng(5)
    parts = []
    for number in range(6):
        rows, columns = (8, 10) if number == 0 else (4, 5)
        pixels = rng.integers(0, 256, (rows, columns, 4), np.uint8)
        pixels[..., 3] = 255 if number == 0 else rng.integers(0, 2, (rows, columns)) * 255
        place = (0, 0) if number == 0 else (int(rng.integers(0, 5)), int(rng.integers(0, 4)))
        parts.append((pixels, *place, 0 if number == 0 else number % 2 * 2, int(number % 3 > 0)))
    canvas = np.zeros((8, 10, 4), np.uint8)
    wanted = []
    for pixels, left, top, dispose, blend in parts:
        before = canvas.copy()
        there = canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        cover = pixels[..., 3:] == 255
        there[:] = np.where(cover, pixels, there) if blend else pixels
        wanted.append(canvas.copy())
        if dispose == 2:
            canvas = before
    path = tmp_path / "parts.png"
    path.write_bytes(apng((10, 8), parts))
    for one, own in zip(pages_of(path), wanted, strict=True):
        seen = own[..., 3] == 255  # colours without cover mean nothing
        np.testing.assert_array_equal(one[seen], own[..., :3][seen])


def gif(size: tuple[int, int], colours: NDArray[np.uint8], parts: list[Any]) -> bytes:
    """An animated GIF by hand (GIF89a): (indices, left, top, disposal, transparent index or -1)."""
    out = b"GIF89a" + struct.pack("<HHBBB", *size, 0xF7, 0, 0) + colours.tobytes()
    for indices, left, top, disposal, clear in parts:
        codes: list[int] = []
        flat = indices.ravel().tolist()
        for at in range(0, len(flat), 100):  # nine bits a code, and none that refers back
            codes += [256, *flat[at : at + 100]]
        bits = "".join(format(code, "09b")[::-1] for code in [*codes, 257])
        data = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
        flags = disposal << 2 | (clear >= 0)
        out += b"!\xf9\x04" + struct.pack("<BHBB", flags, 5, max(clear, 0), 0)
        out += b"," + struct.pack("<HHHHB", left, top, *indices.shape[::-1], 0) + b"\x08"
        for at in range(0, len(data), 255):
            out += bytes([len(data[at : at + 255])]) + data[at : at + 255]
        out += b"\0"
    return out + b";"


@pytest.mark.parametrize("seed", range(6))
def test_parts_of_an_animated_gif_are_put_together(tmp_path: Path, seed: int) -> None:
    """Composed here by the rules of disposal, and by FFmpeg."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (256, 3), np.uint8)
    parts: list[Any] = [(rng.integers(0, 256, (9, 12)), 0, 0, 1, -1)]
    for _ in range(7):
        rows, columns = (int(rng.integers(2, high)) for high in (6, 8))
        left, top = int(rng.integers(0, 13 - columns)), int(rng.integers(0, 10 - rows))
        clear = int(rng.integers(-1, 256))
        indices = rng.integers(0, 256, (rows, columns))
        indices[rng.random((rows, columns)) < 0.3] = max(clear, 0)
        parts.append((indices, left, top, int(rng.integers(0, 4)), clear))
    canvas = np.zeros((9, 12, 4), np.uint8)
    wanted = []
    for indices, left, top, disposal, clear in parts:
        before = canvas.copy()
        place = slice(top, top + indices.shape[0]), slice(left, left + indices.shape[1])
        own = np.dstack([colours[indices], np.full(indices.shape, 255, np.uint8)])
        canvas[place] = np.where((indices != clear)[..., None], own, canvas[place])
        wanted.append(canvas.copy())
        if disposal == 2:
            canvas[place] = 0
        canvas = before if disposal == 3 else canvas
    path = tmp_path / "parts.gif"
    path.write_bytes(gif((12, 9), colours, parts))
    with av.open(str(path)) as container:
        theirs = [one.to_ndarray(format="rgba") for one in container.decode(video=0)]
    found = pages_of(path)
    assert len(found) == len(theirs) == 8
    for one, own, other in zip(found, wanted, theirs, strict=True):
        seen = own[..., 3] == 255  # colours without cover mean nothing
        np.testing.assert_array_equal(other[..., 3] == 255, seen)
        np.testing.assert_array_equal(other[seen], own[seen])
        np.testing.assert_array_equal(one[seen], own[..., :3][seen])
    # In random order, too.
    for number in rng.permutation(8):
        np.testing.assert_array_equal(read_pixels(str(path), int(number)), found[number])


def test_frames_that_are_announced_and_missing(tmp_path: Path) -> None:
    content = apng((4, 4), [(np.full((4, 4, 4), 255, np.uint8), 0, 0, 0, 0)] * 3)
    path = tmp_path / "a.png"
    path.write_bytes(content.replace(struct.pack(">II", 3, 0), struct.pack(">II", 2**31 - 1, 0)))
    assert page_count(str(path)) == 3
    path.write_bytes(b"GIF89a" + bytes(7) + b"\0" * 300_000)
    assert page_count(str(path)) == 1
    held = io.BytesIO()
    frames = [Image.new("L", (4, 4), 9 * number) for number in range(30)]
    frames[0].save(held, "GIF", save_all=True, append_images=frames[1:])
    path = tmp_path / "cut.gif"
    for cut in range(1, len(held.getvalue()), 37):
        path.write_bytes(held.getvalue()[:cut])
        assert 1 <= page_count(str(path)) <= 30


def test_hostile_parts_are_refused(tmp_path: Path) -> None:
    """Parts beside the picture, of a vast size, cut, or without their control."""
    plain = np.full((4, 4, 4), 255, np.uint8)
    first = (plain, 0, 0, 0, 0)
    colours = np.zeros((256, 3), np.uint8)
    whole = gif((4, 4), colours, [(np.zeros((4, 4), int), 0, 0, 0, -1)] * 2)
    vast = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
    at = whole.rindex(b"," + struct.pack("<HHHHB", 0, 0, 4, 4, 0))
    made = apng((4, 4), [first] * 2)
    control = made.rindex(b"fcTL")
    hostile = {
        "beside.png": apng((4, 4), [first, (plain, 1, 0, 0, 0)]),
        "behind.png": apng((4, 4), [first, (plain, 2**31, 2**31, 0, 0)]),
        "cut.png": made[: made.rindex(b"fdAT") + 14],
        "control.png": made[: control - 4]
        + struct.pack(">I", 3)
        + b"fcTL123"
        + made[control + 30 :],
        "vast.gif": whole[:at] + vast + whole[at + 10 :],
        "cut.gif": whole[:-9],
    }
    for name, content in hostile.items():
        path = tmp_path / name
        path.write_bytes(content)
        remarks: list[Remark] = []
        read_pixels(str(path), remarks=remarks)  # the first one is whole
        if page_count(str(path)) > 1:
            with pytest.raises(UnreadableImageError, match=rf"{name} page 1 cannot be decoded: ."):
                read_pixels(str(path), 1)
        assert np.array_equal(read_pixels(str(path), 0), read_pixels(str(path))), name


def test_a_gif_of_many_frames_ends(tmp_path: Path) -> None:
    """A thousand thousand frames of one pixel: refused soon, and not the first one silently."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + bytes([2, 2, 0x44, 1, 0])
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    path = tmp_path / "many.gif"
    path.write_bytes(head + frame * 1_000_000 + b";")
    began = time.process_time()
    (located,) = iterate_images(path)
    with pytest.raises(UnreadableImageError, match="more than 100000 pictures"):
        read_pixels(str(path), located.frame)
    assert time.process_time() - began < 20


def test_the_first_page_only(tmp_path: Path) -> None:
    (tmp_path / "stack.tif").write_bytes(tiff(GREY, 8, 1, pages=3))
    frames = [Image.fromarray(one) for one in noise(4)]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "single.png")
    listed = [(one.name, one.frame, one.frames, one.group) for one in iterate_images(tmp_path)]
    assert listed == [
        *(("moving.webp", number, 4, "moving.webp") for number in range(4)),
        ("single.png", STILL, 1, ""),
        *(("stack.tif", number, 3, "stack.tif") for number in range(3)),
    ]
    images = find_images(tmp_path)
    assert [images.name(row).rpartition("/")[2] for row in (0, 4, 7)] == [
        "moving.webp#0",
        "single.png",
        "stack.tif#2",
    ]
    set_reading(pages="first")
    assert [(one.frame, one.group) for one in iterate_images(tmp_path)] == [(STILL, "")] * 3
    assert len(find_images(tmp_path)) == 3
    remarks: list[Remark] = []
    read_pixels(str(tmp_path / "moving.webp"), remarks=remarks)
    assert [one.kind for one in remarks] == ["pictures"]


def test_a_list_names_the_group_of_pages(tmp_path: Path) -> None:
    (tmp_path / "stack.tif").write_bytes(tiff(GREY, 8, 1, pages=2))
    (tmp_path / "list.txt").write_text("stack.tif\tlesion\tpatient 7\n")
    found = list(iterate_images(tmp_path / "list.txt"))
    assert [(one.frame, one.group, one.label) for one in found] == [
        (0, "patient 7", "lesion"),
        (1, "patient 7", "lesion"),
    ]


def test_a_page_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(GREY, 8, 1, pages=2))
    frames = [Image.fromarray(one) for one in noise(2)]
    for ending in ("gif", "png"):
        frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    for ending in ("tif", "gif", "png"):
        with pytest.raises(UnreadableImageError, match=r"page 5 cannot .*: it holds 2 p"):
            read_pixels(str(tmp_path / f"a.{ending}"), 5)


def test_pages_of_files_in_an_archive(tmp_path: Path) -> None:
    """Read as if they were unpacked, under the same names and numbers."""
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    for number, compression in enumerate((1, DEFLATE, LZW)):
        made = [page(stored(8, 1, False, seed), 8, 1, compression=compression) for seed in range(3)]
        (plain / f"{number}.tif").write_bytes(chained(made))
    deep = [page(stored(16, 1, False, seed), 16, 0, compression=LZW) for seed in range(2)]
    (plain / "deep.tif").write_bytes(chained(deep))
    frames = [Image.fromarray(one) for one in noise(3)]
    for ending in ("gif", "png", "webp"):
        frames[0].save(plain / f"a.{ending}", save_all=True, append_images=frames[1:])
    with tarfile.open(packed / "shard-000.tar", "w") as archive:
        for path in sorted(plain.iterdir()):
            archive.add(path, path.name)
    ours, theirs = find_images(plain), find_images(packed)
    assert len(ours) == len(theirs) == 3 * 3 + 2 + 3 * 3
    for row in range(len(ours)):
        assert ours.name(row).rpartition("/")[2] == theirs.name(row).rpartition("/")[2]
        one, other = (read_pixels(*images.locate(row)) for images in (ours, theirs))
        np.testing.assert_array_equal(one, other)
