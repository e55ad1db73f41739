"""TIFF files written by hand, tag by tag, from the tables of TIFF 6.0."""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEXT, SHORT, LONG, RATIONAL = 2, 3, 4, 5
LZW, DEFLATE, PACKBITS = 5, 8, 32773


def packed(samples: NDArray[Any], bits: int, order: str) -> bytes:
    """Rows (H, columns) of samples, each row ending with a whole byte, the highest bit first."""
    if samples.dtype.kind == "f":
        return samples.astype(f"{order}f{bits // 8}").tobytes()
    if bits in (8, 16, 32):
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    rows = []
    for row in samples:
        text = "".join(format(int(value), f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8)))
    return b"".join(rows)


def literal_lzw(content: bytes) -> bytes:
    """LZW that never refers back: a clear code, then at most 250 single bytes of nine bits each."""
    codes: list[int] = []
    for at in range(0, len(content), 250):
        codes += [256, *content[at : at + 250]]
    text = "".join(format(code, "09b") for code in [*codes, 257])
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def literal_packbits(content: bytes) -> bytes:
    parts = [content[at : at + 128] for at in range(0, len(content), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


COMPRESS = {1: bytes, LZW: literal_lzw, DEFLATE: zlib.compress, PACKBITS: literal_packbits}


Entries = dict[int, tuple[int, list[int]]]


def tiff(
    samples: NDArray[Any],
    bits: int,
    photometric: int,
    *,
    order: str = "<",
    pages: int = 1,
    large: bool = False,
    **options: Any,
) -> bytes:
    """A file of `samples` (H, W, S), see `page`."""
    return chained([page(samples, bits, photometric, order=order, **options)] * pages, order, large)


def page(
    samples: NDArray[Any],
    bits: int,
    photometric: int,
    *,
    planar: int = 1,
    orientation: int = 1,
    order: str = "<",
    compression: int = 1,
    extra: tuple[int, ...] = (),
    tile: int = 0,
    tags: Entries | None = None,
) -> tuple[Entries, list[bytes]]:
    """Entries and data of a page; `tile` is the side of square tiles, strips are two rows."""
    height, width, count = samples.shape
    planes = [samples] if planar == 1 else [samples[:, :, k : k + 1] for k in range(count)]
    parts: list[bytes] = []
    for plane in planes:
        if tile:
            full = np.zeros((-height % tile + height, -width % tile + width, plane.shape[2]))
            full = full.astype(plane.dtype)
            full[:height, :width] = plane
            cuts = [
                full[top : top + tile, left : left + tile]
                for top in range(0, len(full), tile)
                for left in range(0, full.shape[1], tile)
            ]
        else:
            cuts = [plane[top : top + 2] for top in range(0, height, 2)]
        for cut in cuts:
            content = packed(cut.reshape(len(cut), -1), bits, order)
            parts.append(COMPRESS[compression](content))
    entries: Entries = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * count),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        274: (SHORT, [orientation]),
        277: (SHORT, [count]),
        284: (SHORT, [planar]),
    }
    if samples.dtype.kind == "f":
        entries[339] = (SHORT, [3] * count)
    if extra:
        entries[338] = (SHORT, list(extra))
    if tile:
        entries |= {322: (SHORT, [tile]), 323: (SHORT, [tile])}
    else:
        entries[278] = (SHORT, [2])
    return entries | (tags or {}), parts


def chained(
    pages: list[tuple[Entries, list[bytes]]], order: str = "<", large: bool = False
) -> bytes:
    """A file of pages one after another; `large` makes a BigTIFF (AWare Systems, 2008)."""
    mark = b"II" if order == "<" else b"MM"
    head = f"{order}2sHHHQ" if large else f"{order}2sHI"
    out = bytearray(struct.pack(head, mark, *((43, 8, 0, 0) if large else (42, 0))))
    word, wide, count_form = ("Q", 8, "Q") if large else ("I", 4, "H")
    link = len(out) - wide
    for entries, parts in pages:
        places = []
        for part in parts:
            places.append(len(out))
            out += part + b"\0" * (len(part) % 2)
        tiled = 322 in entries
        entries = entries | {
            324 if tiled else 273: (LONG, places),
            325 if tiled else 279: (LONG, [len(part) for part in parts]),
        }
        values = {}
        for tag, (kind, numbers) in entries.items():
            form = {TEXT: "B", SHORT: "H", LONG: "I", RATIONAL: "I"}[kind]
            values[tag] = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        far = {}
        for tag, value in values.items():
            if len(value) > wide:
                far[tag] = len(out)
                out += value + b"\0" * (len(value) % 2)
        struct.pack_into(f"{order}{word}", out, link, len(out))
        out += struct.pack(f"{order}{count_form}", len(entries))
        for tag, (kind, numbers) in sorted(entries.items()):
            of_kind = len(numbers) // 2 if kind == RATIONAL else len(numbers)
            out += struct.pack(f"{order}HH{word}", tag, kind, of_kind)
            if tag in far:
                out += struct.pack(f"{order}{word}", far[tag])
            else:
                out += values[tag].ljust(wide, b"\0")
        link = len(out)
        out += struct.pack(f"{order}{word}", 0)
    return bytes(out)


def text(words: str) -> tuple[int, list[int]]:
    """The value of a tag of text."""
    return TEXT, [*words.encode(), 0]
