"""Hostile files: each is refused in a sentence, soon, and within a bound of memory."""

import io
import pickle
import resource
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain_jax.data import UnreadableImageError, find_images, read_pixels
from tests.pretrain_jax.data.tiff_files import DEFLATE, LONG, LZW, SHORT, tiff

MOST_BYTES = 400 << 20
MOST_SECONDS = 5.0
GREY = np.full((8, 8, 1), 77)


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(
    width: int,
    height: int,
    bits: int = 8,
    colours: int = 0,
    *,
    data: bytes = b"",
    more: bytes = b"",
) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + body + chunk(b"IEND", b"")


def bomb(size: int) -> bytes:
    """Zeros, packed to a thousandth."""
    packer = zlib.compressobj(9)
    piece = bytes(1 << 20)
    return b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()


def npy(header: str, version: int = 1, length: int | None = None, body: bytes = b"") -> bytes:
    text = header.encode("latin1")
    size = len(text) if length is None else length
    form = "<H" if version == 1 else "<I"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(form, size) + text + body


def described(shape: str, kind: str = "'|u1'", order: str = "False") -> str:
    return f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}}}\n"


def saved(kind: str, **options: object) -> bytes:
    held = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).convert(str(options.pop("mode", "RGB"))).save(held, kind, **options)
    return held.getvalue()


def patched(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) >= 1
    return content.replace(old, new, 1)


def jpeg_size(content: bytes, height: int, width: int) -> bytes:
    at = content.index(b"\xff\xc0")
    return content[: at + 5] + struct.pack(">HH", height, width) + content[at + 9 :]


def tiff_bomb() -> bytes:
    """An image of 8 x 8 whose first strip unpacks to 50 MB."""
    plain = tiff(GREY, 8, 1, compression=DEFLATE)
    packed = bomb(50 << 20)
    count = tiff(GREY, 8, 1, tags={278: (LONG, [8])})
    del plain
    content = bytearray(count)
    order = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, order)[0]
    place = len(content)
    for number in range(entries):
        at = order + 2 + 12 * number
        tag = struct.unpack_from("<H", content, at)[0]
        value = {259: DEFLATE, 273: place, 279: len(packed)}.get(tag)
        if value is not None:
            struct.pack_into("<HHII", content, at, tag, LONG, 1, value)
    return bytes(content) + packed


def tiff_loop() -> bytes:
    """A directory whose next one is itself, at a place where no image lies."""
    content = bytearray(tiff(GREY, 8, 4))
    first = struct.unpack_from("<I", content, 4)[0]
    struct.pack_into("<I", content, len(content) - 4, first)
    return bytes(content)


def big_tiff(entries: int) -> bytes:
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, entries) + bytes(40)


def gif(width: int, height: int, code: int = 2) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return (
        b"GIF89a"
        + screen
        + b","
        + struct.pack("<HHHHB", 0, 0, width, height, 0)
        + bytes([code, 1, 0, 0])
        + b";"
    )


def bmp(width: int, height: int, bits: int = 24, compression: int = 0) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 20, 0, 0, 54) + info + bytes(20)


def webp(flags: int, width: int, height: int) -> bytes:
    sizes = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + sizes
    return b"RIFF" + struct.pack("<I", len(body)) + body


Make = Callable[[], bytes]
NESTED = "[" * 3000 + "]" * 3000
HOSTILE: dict[str, Make] = {
    "vast.png": lambda: png(20_000, 20_000, 1, data=b""),
    "bomb.png": lambda: png(13_000, 13_000, 8, 2, data=bytes(1000)),
    "vast-deep.png": lambda: png(13_000, 13_000, 16, 2),
    "no-width.png": lambda: png(0, 10),
    "largest.png": lambda: png(2**31 - 1, 2**31 - 1),
    "wrong-sum.png": lambda: patched(png(8, 8), b"IHDR", b"IHDQ"),
    "text-bomb.png": lambda: png(8, 8, more=chunk(b"zTXt", b"a\0\0" + bomb(80 << 20))),
    "profile-bomb.png": lambda: png(8, 8, more=chunk(b"iCCP", b"a\0\0" + bomb(80 << 20))),
    "no-pixels.png": lambda: png(40, 40),
    "no-palette.png": lambda: png(8, 8, 8, 3, data=b"\0" * 20),
    "odd-depth.png": lambda: png(8, 8, 7, 2, data=bytes(300)),
    "cut-deep.png": lambda: png(30, 30, 16, 2, data=bytes(20))[:-30],
    "cut-deep-alpha.png": lambda: png(30, 30, 16, 4, data=b"")[:-20],
    "long-chunk.png": lambda: png(8, 8)[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT",
    "frames.png": lambda: png(
        8, 8, more=chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + chunk(b"fcTL", bytes(26))
    ),
    "bomb.tif": tiff_bomb,
    "loop.tif": tiff_loop,
    "vast.tif": lambda: tiff(GREY, 8, 1, tags={256: (LONG, [2**32 - 1])}),
    "vast-both.tif": lambda: tiff(GREY, 8, 1, tags={256: (LONG, [10**6]), 257: (LONG, [10**6])}),
    "vast-tiles.tif": lambda: tiff(
        GREY, 8, 1, tile=16, tags={322: (LONG, [2**31]), 323: (LONG, [2**31])}
    ),
    "vast-tiles-lzw.tif": lambda: tiff(
        GREY, 8, 1, tile=16, compression=LZW, tags={322: (LONG, [2**31]), 323: (LONG, [2**31])}
    ),
    "wide-tiles-lzw.tif": lambda: tiff(
        GREY, 8, 1, tile=16, compression=LZW, tags={322: (LONG, [65536]), 323: (LONG, [65536])}
    ),
    "cut-lzw.tif": lambda: patched(tiff(GREY, 8, 1, compression=LZW), b"\x80", b"\xff"),
    "many-samples.tif": lambda: tiff(GREY, 8, 1, tags={277: (SHORT, [65535])}),
    "wide-samples.tif": lambda: tiff(GREY, 8, 1, tags={258: (SHORT, [65535])}),
    "no-rows.tif": lambda: tiff(GREY, 8, 1, tags={257: (LONG, [0])}),
    "no-meaning.tif": lambda: patched(
        tiff(GREY, 8, 1), struct.pack("<HHI", 262, SHORT, 1), struct.pack("<HHI", 263, SHORT, 1)
    ),
    "no-colours.tif": lambda: tiff(GREY, 8, 3),
    "few-colours.tif": lambda: tiff(GREY, 8, 3, tags={320: (SHORT, [1, 2, 3])}),
    "signed.tif": lambda: tiff(GREY, 16, 1, tags={339: (SHORT, [2])}),
    "outside.tif": lambda: tiff(GREY, 16, 1)[:100],
    "far-directory.tif": lambda: b"II*\0" + struct.pack("<I", 2**31) + bytes(50),
    "many-entries.tif": lambda: b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(500),
    "large-entries.tif": lambda: big_tiff(2**62),
    "zero-luma.tif": lambda: tiff(
        np.zeros((8, 8, 3), int), 8, 6, tags={530: (SHORT, [1, 1]), 529: (5, [0, 0] * 3)}
    ),
    "vast.jpg": lambda: jpeg_size(saved("JPEG"), 65_500, 65_500),
    "cut.jpg": lambda: saved("JPEG")[:400],
    "no-frame.jpg": lambda: patched(saved("JPEG"), b"\xff\xc0", b"\xff\xfe"),
    "cut-inks.jpg": lambda: saved("JPEG", mode="CMYK")[:-900],
    "head-only.jpg": lambda: b"\xff\xd8\xff\xe0",
    "vast.gif": lambda: gif(65_535, 65_535),
    "odd-code.gif": lambda: gif(8, 8, 255),
    "cut.gif": lambda: saved("GIF")[:-500],
    "vast.webp": lambda: webp(2, 2**24, 2**24),
    "no-frames.webp": lambda: webp(2, 8, 8),
    "cut.webp": lambda: saved("WEBP")[:60],
    "vast.bmp": lambda: bmp(2**31 - 1, 2**31 - 1),
    "odd-bits.bmp": lambda: bmp(8, 8, 77),
    "runs.bmp": lambda: bmp(8, 8, 8, 1),
    "cut.jp2": lambda: saved("JPEG2000")[:120],
    "vast.jp2": lambda: patched(
        saved("JPEG2000"), b"ihdr" + struct.pack(">II", 40, 40), b"ihdr" + b"\x7f\xff\xff\xff" * 2
    ),
    "cut.avif": lambda: saved("AVIF")[:150],
    "bool-shape.npy": lambda: npy(described("(True, 4)"), body=bytes(4)),
    "vast-shape.npy": lambda: npy(described("(10**30, 4)")),
    "vast-number.npy": lambda: npy(described(f"({10**30}, 4)")),
    "large.npy": lambda: npy(described("(90000, 1000)"), body=bytes(100)),
    "beyond.npy": lambda: npy(described("(400000, 400000)", "'<f8'")),
    "negative.npy": lambda: npy(described("(-4, 4)"), body=bytes(16)),
    "empty-shape.npy": lambda: npy(described("(0, 4)")),
    "objects.npy": lambda: npy(described("(1,)", "'|O'"), body=pickle.dumps([1])),
    "nested.npy": lambda: npy(NESTED),
    "long-header.npy": lambda: npy("{", 2, 2**32 - 1),
    "text.npy": lambda: npy(described("(2, 2)", "'<U1'"), body=bytes(16)),
    "archive.npy": lambda: b"PK\x03\x04" + bytes(60),
    "complex.npy": lambda: npy(described("(2, 2)", "'<c8'"), body=bytes(32)),
    "five.npy": lambda: npy(described("(2, 2, 5)"), body=bytes(20)),
    "script.png": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "picture.png": lambda: saved("PPM"),
    "icon.png": lambda: saved("ICO"),
    "empty.png": lambda: b"",
    "zeros.jpg": lambda: bytes(1000),
}


@pytest.fixture
def bounded() -> Iterator[None]:
    """No more address space than a bound above what the process has."""
    with Path("/proc/self/statm").open() as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + MOST_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file(tmp_path: Path, bounded: None, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HOSTILE[name]())
    began = time.process_time()
    with pytest.raises(UnreadableImageError) as caught:
        read_pixels(str(path))
    assert time.process_time() - began < MOST_SECONDS
    told = str(caught.value)
    assert told.startswith(f"{path} cannot be decoded: ") and "\n" not in told
    assert len(told) < 800 and "MemoryError" not in told


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '/etc/hostname'\n",
        b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
        b"\0\0\0\x20ftypisom" + bytes(2000),
        b"\x1aE\xdf\xa3" + b"\xff" * 500,
        b"RIFF\xff\xff\xff\xffAVI LIST" + b"\xff" * 500,
        b"",
    ],
)
def test_hostile_video(tmp_path: Path, bounded: None, content: bytes) -> None:
    """Lists of other files among them, which FFmpeg would follow."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    images = find_images(path)
    assert len(images) == 1
    with pytest.raises(UnreadableImageError, match=r"clip\.mp4 cannot be decoded: "):
        read_pixels(*images.locate(0))
