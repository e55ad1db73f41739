"""Decodes TIFF files into pixels by their tags.

Pillow reads some of them wrongly, and others not at all.

tifffile finds the samples, this module says what they mean (TIFF 6.0, sections 4 to 6, 16 to 18, 20
and 21). Compressions that tifffile leaves to a package of its own are Pillow's, which reads them in
8 bits, or grey in 16.
"""

import io
import logging
import math
import os
import re
import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data.opening import Remark, TooLargeError, check_pixels, opened_image
from pretrain_jax.data.options import reading
from pretrain_jax.data.samples import WHOLE, Samples, by_rows, largest_sample, turned

ORIENTATION = 274
GREY, COLOUR, PALETTE, INKS, LUMA = (0, 1), 2, 3, 5, 6
CHANNELS = {0: 1, 1: 1, COLOUR: 3, PALETTE: 1, INKS: 4, LUMA: 3}
OTHER_MEANINGS = {4: "a transparency mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*"}
UNSIGNED, FLOATING = 1, 3
HORIZONTAL = 2  # the predictor of integers: differences of neighbours
UNCOMPRESSED, PACKBITS, DEFLATE, JPEG = 1, 32773, (8, 32946), (6, 7)
ASSOCIATED = 1  # colours were multiplied with the alpha of the file
WIDEST_SAMPLE = 16
MOST_SAMPLES = 5
CMYK = 1
MOST_OF_SAMPLES = (281, 341)  # MaxSampleValue and SMaxSampleValue
REDUCED, MASK = 1, 4  # of another image, in the tag NewSubfileType
OLD_REDUCED = 2  # in the tag SubfileType, which it replaced
SUBFILE, OLD_SUBFILE, DESCRIPTION = 254, 255, 270
MOST_PAGES = 100_000
MOST_ENTRIES = 4096
MOST_DESCRIPTION = 10_000


class Directories(NamedTuple):
    """Says where the pictures of a TIFF file are described.

    Attributes:
        places: of their directories, without those of reduced images and masks; there is one.
        pages: how many pictures there are. Where that is more than places, there is one directory,
            and the others follow its picture byte by byte.
        described: how many pictures the only directory says to describe.
    """

    places: Sequence[int]
    pages: int
    described: int = 1


def read_tiff(
    file: BinaryIO,
    remarks: list[Remark],
    page: int | None = None,
    known: Directories | None = None,
    *,
    as_stored: bool = False,
) -> Samples:
    """Read a picture of a TIFF file as it is displayed.

    The shape is (H, W, 1 or 3). Alpha is dropped.

    Args:
        file: opened for reading.
        remarks: gets what is to be noticed.
        page: number of the picture; None is the first one, and further ones are remarked.
        known: what `directories` found in the file, if that was asked before.
        as_stored: whether 16-bit samples have their full range, whatever bits are used.

    Returns:
        uint8, uint16 or floating point, the full range of integers standing for 0 to 1.

    Raises:
        ValueError: damaged, too large, or of a kind that is not known; says which.
        Exception: whatever decoders raise on damaged files.
    """
    import tifffile

    # tifffile reports to stderr what is wrong with a file, and raises what matters.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    found = directories(file) if known is None else known
    file.seek(0)
    with tifffile.TiffFile(file) as opened:
        if not opened.pages:
            raise ValueError("it holds no page: the file is cut, or its first directory damaged")
        number = page or 0
        if number >= found.pages:
            raise ValueError(f"it holds {found.pages} pages, and none of number {number}")
        if page is None:
            _check_first(found, remarks)
        place = found.places[number if number < len(found.places) else 0]
        shift = number if len(found.places) == 1 else 0
        own: Any = opened.pages[0]
        if place != own.offset:
            opened.filehandle.seek(place)
            own = tifffile.TiffPage(opened, index=number)
        return _read_page(file, own, shift, remarks, as_stored)


def _check_first(found: Directories, remarks: list[Remark]) -> None:
    """Remark that further pages are not read.

    Files with too many to be read one by one are refused.
    """
    if found.pages > MOST_PAGES and reading().pages == "all":
        raise ValueError(
            f"it holds more than {MOST_PAGES} pages; split it, or read its first page only with "
            "--pages first"
        )
    pages = max(found.pages, found.described)
    if pages > 1:
        count = f"more than {MOST_PAGES}" if pages > MOST_PAGES else str(pages)
        remarks.append(Remark("pictures", f"holds {count} pages, of which the first is read"))


def _read_page(
    file: BinaryIO, page: Any, shift: int, remarks: list[Remark], as_stored: bool
) -> Samples:
    """Read the picture that a page describes.

    With `shift` it is the one that follows it by that many.
    """
    shape = tuple(int(length) for length in page.shape)
    axes = str(page.axes)
    if axes.replace("S", "") != "YX":
        raise ValueError(
            f"its page has the axes {axes}, no rows and columns; save each plane as a page"
        )
    height, width = int(page.imagelength), int(page.imagewidth)
    check_pixels(height, width)
    if min(height, width) < 1 or np.prod(shape) > MOST_SAMPLES * height * width:
        raise ValueError(f"its page has the shape {shape}")
    _check_tiles(page)
    meaning, samples = _meaning(page)
    bits = _bits(page)
    compression = int(page.compression)
    orientation = _number(page, ORIENTATION) or 1
    if page.is_subsampled and compression not in JPEG:
        raise ValueError("its YCbCr has fewer samples of colour; save it as RGB")
    if compression in (UNCOMPRESSED, PACKBITS, *DEFLATE):
        if int(page.predictor) not in (1, HORIZONTAL):
            raise ValueError(
                f"it is stored with the predictor {_name(page.predictor)}; save it without one"
            )
        _check_segments(page, bits, compression)
        kept = _following(page, shift) if shift else _samples(page, bits)
        found = kept if kept.ndim == 3 else kept[:, :, None]
        if axes.startswith("S"):
            found = np.moveaxis(kept, 0, -1)
    elif bits <= 8:
        if meaning in GREY and [int(one) for one in page.extrasamples] == [ASSOCIATED]:
            raise ValueError(
                f"its grey is multiplied with its alpha under the compression "
                f"{_name(page.compression)}; save it without alpha"
            )
        with _of_pillow(page):
            return _by_pillow(file, page)
    elif meaning in GREY and samples == 1 and bits == 16:
        with _of_pillow(page):
            found, orientation = _grey_by_pillow(file, page), 1
    else:
        raise ValueError(
            f"it has {bits} bits a sample with the compression {_name(page.compression)}; save "
            "it without compression or with deflate"
        )
    top = _top(found, page, meaning, bits, None if as_stored else remarks)
    return turned(_interpreted(found, page, meaning, samples, top), orientation)


def _top(
    stored: Samples, page: Any, meaning: int, bits: int, remarks: list[Remark] | None
) -> float:
    """Return the value of the samples that stands for 1.

    Without remarks it is that of their width.
    """
    if stored.dtype.kind == "f":
        return 1.0
    if bits < WIDEST_SAMPLE or meaning == PALETTE or remarks is None:
        return 2**bits - 1
    held = int(stored[:, :, : CHANNELS[meaning]].max(initial=0))
    return largest_sample(held, _stated_bits(page), remarks)


def _stated_bits(page: Any) -> int | None:
    """Return how many of 16 bits a file says to use.

    It says so by the largest sample, of the page or of the image, or as OME's SignificantBits.
    """
    tops = [_number(page, tag) for tag in MOST_OF_SAMPLES]
    known = [one for one in tops if one is not None and 0 < one < WHOLE]
    if known:
        return max(known).bit_length()
    text = str(page.parent.pages[0].description)
    if not text.rstrip().endswith("OME>"):
        return None
    given = [int(one) for one in re.findall(r'SignificantBits="(\d{1,2})"', text)]
    return max(given) if given and 0 < max(given) <= WIDEST_SAMPLE else None


def _following(page: Any, shift: int) -> Samples:
    """Read the samples of a picture that has no directory.

    It follows that of the page, uncompressed, behind `shift` - 1 others.
    """
    count, order = int(np.prod(page.shape)), page.parent.byteorder
    kind = np.dtype(page.dtype).newbyteorder(order)
    page.parent.filehandle.seek(page.dataoffsets[0] + shift * count * kind.itemsize)
    content = page.parent.filehandle.read(count * kind.itemsize)
    return np.frombuffer(content, kind).reshape(page.shape)


def _number(page: Any, tag: int) -> int | None:
    """Return the first value of a tag.

    It is None where the tag is missing or no number.
    """
    found = page.tags.get(tag)
    value = found.value if found is not None else None
    value = value[0] if isinstance(value, tuple) and value else value
    return int(value) if isinstance(value, int | float | np.number) else None


def _name(what: Any) -> str:
    return getattr(what, "name", str(what))


def _meaning(page: Any) -> tuple[int, int]:
    """Return PhotometricInterpretation and the number of samples.

    It is a ValueError where these are not known.
    """
    if 262 not in page.tags:
        raise ValueError("it does not say what its samples mean (no PhotometricInterpretation)")
    meaning, samples = int(page.photometric), int(page.samplesperpixel)
    if meaning not in CHANNELS:
        what = OTHER_MEANINGS.get(meaning, _name(page.photometric))
        raise ValueError(
            f"its samples mean {what}; grey, RGB, palette, CMYK and YCbCr are known: save it as RGB"
        )
    own = CHANNELS[meaning]
    alphas = [int(one) for one in page.extrasamples]
    if samples < own or samples > own + 1 or (samples > own and meaning in GREY and not alphas):
        raise ValueError(
            f"it has {samples} samples a pixel, of which {own} are {_name(page.photometric)}; save "
            "one channel a file, or RGB"
        )
    if meaning == LUMA and _bits(page) not in (8, 16):
        raise ValueError("it has YCbCr samples of other widths than 8 and 16 bits; save it as RGB")
    if meaning == INKS and (_number(page, 332) or CMYK) != CMYK:
        raise ValueError("its inks are others than CMYK; save it as RGB")
    return meaning, samples


def _bits(page: Any) -> int:
    """Return the bits of a sample.

    All samples must be unsigned or floating and of one width.
    """
    tag = page.tags.get(258)
    widths = tag.value if tag is not None else 1
    widths = widths if isinstance(widths, tuple) else (widths,)
    formats = page.tags.get(339)
    kinds = formats.value if formats is not None else UNSIGNED
    kinds = {int(one) for one in (kinds if isinstance(kinds, tuple) else (kinds,))}
    if len(set(widths)) > 1:
        raise ValueError(
            f"its samples have {', '.join(map(str, widths))} bits; save it with 8 each"
        )
    bits = int(widths[0])
    if kinds == {FLOATING} and bits in (16, 32, 64):
        return bits
    if kinds not in ({UNSIGNED}, {4}) or not 1 <= bits <= WIDEST_SAMPLE:
        raise ValueError(
            f"it has pixels of type {page.dtype if page.dtype is not None else f'{bits} bits'}; "
            "uint8, uint16 and floating point are known"
        )
    return bits


def _check_tiles(page: Any) -> None:
    """Refuse tiles that are far larger than the image.

    One tile is held at a time.
    """
    if page.is_tiled:
        rows, columns = int(page.tilelength), int(page.tilewidth)
        check_pixels(rows, columns)
        covered = len(page.dataoffsets) * rows * columns
        if covered > 4 * MOST_SAMPLES * max(1 << 20, page.imagelength * page.imagewidth):
            raise ValueError("its tiles are far larger than the image")


def _check_segments(page: Any, bits: int, compression: int) -> None:
    """Refuse strips and tiles that unpack to more than they cover.

    They are refused before they are unpacked.
    """
    rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
    columns = page.tilewidth if page.is_tiled else page.imagewidth
    inside = page.samplesperpixel if int(page.planarconfig) == 1 else 1
    most = -(-int(columns) * inside * bits // 8) * int(rows)
    if compression not in DEFLATE:
        return
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if not count:
            continue
        handle.seek(offset)
        unpacker = zlib.decompressobj()
        left, packed = most, handle.read(count)
        while packed and left >= 0 and not unpacker.eof:
            left -= len(unpacker.decompress(packed, 1 << 20))
            packed = unpacker.unconsumed_tail
        if left < 0:
            raise ValueError(f"a part of it unpacks to more than the {most} bytes that it covers")


def _samples(page: Any, bits: int) -> Samples:
    """Read the samples of a page as they are stored.

    Their shape is tifffile's.
    """
    if bits in (1, 8, 16, 32, 64):
        return np.asarray(page.asarray())
    # tifffile unpacks other widths with a package that is not among this one's requirements.
    inside = page.samplesperpixel if int(page.planarconfig) == 1 else 1
    if page.is_tiled or int(page.predictor) != 1 or int(page.fillorder) != 1:
        raise ValueError(f"it has {bits} bits a sample in tiles or in another order; save 16 bits")
    line = -(-page.imagewidth * inside * bits // 8)
    planes = page.samplesperpixel // inside
    handle, found = page.parent.filehandle, bytearray()
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        handle.seek(offset)
        packed = handle.read(count)
        if int(page.compression) in DEFLATE:
            packed = zlib.decompress(packed)
        elif int(page.compression) == PACKBITS:
            packed = _unpacked_bits(packed)
        found += packed
    wanted = line * page.imagelength * planes
    if len(found) < wanted:
        raise ValueError(f"it ends after {len(found)} of {wanted} bytes")
    lines = np.frombuffer(bytes(found[:wanted]), np.uint8).reshape(-1, line)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint32)
    values = np.empty((len(lines), page.imagewidth * inside), np.uint16)
    for row, own in enumerate(lines):
        single = np.unpackbits(own)[: values.shape[1] * bits].reshape(-1, bits)
        values[row] = single @ weights
    if planes > 1:
        return values.reshape(planes, page.imagelength, page.imagewidth)
    return values.reshape(page.imagelength, page.imagewidth, inside)


def _unpacked_bits(packed: bytes) -> bytes:
    import tifffile

    return bytes(tifffile.TIFF.DECOMPRESSORS[PACKBITS](packed))


def _interpreted(stored: Samples, page: Any, meaning: int, samples: int, top: float) -> Samples:
    """Convert samples (H, W, samples) to grey or RGB.

    Alpha is dropped. `top` is the value that stands for 1.
    """
    bits = _bits(page)
    if stored.dtype.kind == "f":
        if meaning not in (*GREY, COLOUR):
            raise ValueError("it has floating-point samples that are neither grey nor RGB")
        kind: Any = stored.dtype.newbyteorder("=")
    else:
        kind = np.uint8 if bits <= 8 else np.uint16
    whole = 1.0 if stored.dtype.kind == "f" else float(np.iinfo(kind).max)
    if meaning == PALETTE:
        return _coloured(stored[:, :, 0], page)
    own = CHANNELS[meaning]
    alpha = samples > own and [int(one) for one in page.extrasamples][:1] == [ASSOCIATED]
    plain = top == whole and not alpha
    if plain and meaning in (1, COLOUR):
        return np.ascontiguousarray(stored[:, :, :own].astype(kind, copy=False))
    weights = _luma(page, bits) if meaning == LUMA else None

    def convert(part: Samples) -> Samples:
        values = part.astype(np.float64) / top
        colour = values[:, :, :own]
        if alpha:
            cover = np.minimum(values[:, :, own:], 1.0)
            colour = np.minimum(
                np.divide(colour, cover, out=np.zeros_like(colour), where=cover > 0), 1.0
            )
        if meaning == 0:
            colour = 1.0 - colour
        elif meaning == INKS:
            colour = (1.0 - colour[:, :, :3]) * (1.0 - colour[:, :, 3:])
        elif weights is not None:
            colour = _from_luma(colour * top, *weights) / top
        scaled = colour * whole
        return scaled if stored.dtype.kind == "f" else np.rint(np.clip(scaled, 0, whole))

    return by_rows(stored, convert, 1 if meaning in GREY else 3, kind)


def _coloured(indices: Samples, page: Any) -> Samples:
    colours = page.colormap
    if colours is None:
        raise ValueError("it is of a palette that it lacks; save it as RGB")
    table = np.asarray(colours).reshape(3, -1).T
    # Files of old programs have colours of 8 bits in the 16; libtiff tells them in the same way.
    eight = table if int(table.max(initial=0)) < 256 else np.rint(table / 257.0)
    if len(table) <= int(indices.max(initial=0)):
        raise ValueError(f"its palette has {len(table)} colours, and it uses more; save it as RGB")
    return np.asarray(eight.astype(np.uint8)[indices.astype(np.intp)])


def _luma(page: Any, bits: int) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return the constants that convert YCbCr.

    They are the coefficients of red, green and blue, the references of black and white, and the
    bits.
    """
    given = page.tags.get(529)
    weights = _fractions(given.value) if given is not None else [0.299, 0.587, 0.114]
    given = page.tags.get(532)
    top, middle = 2.0**bits - 1, 2.0 ** (bits - 1)
    ends = [0.0, top, middle, top, middle, top] if given is None else _fractions(given.value)
    plain = len(weights) == 3 and len(ends) == 6 and bool(weights[1])
    if not plain or any(black == white for black, white in zip(ends[::2], ends[1::2], strict=True)):
        raise ValueError("its YCbCr tags are damaged")
    return np.array(weights), np.array(ends).reshape(3, 2), bits


def _fractions(values: Any) -> list[float]:
    flat = np.asarray(values, np.float64).ravel()
    return [
        float(up / down) if down else 0.0 for up, down in zip(flat[::2], flat[1::2], strict=False)
    ]


def _from_luma(
    coded: NDArray[np.float64], weights: NDArray[np.float64], ends: NDArray[np.float64], bits: int
) -> NDArray[np.float64]:
    """Convert YCbCr to RGB.

    The formulas are those of TIFF 6.0, section 21, in the range of the samples.
    """
    red, green, blue = weights
    ranges = np.array([2.0**bits, 2.0 ** (bits - 1), 2.0 ** (bits - 1)]) - 1
    luma, first, second = np.moveaxis(
        (coded - ends[:, 0]) * ranges / (ends[:, 1] - ends[:, 0]), -1, 0
    )
    r = second * (2 - 2 * red) + luma
    b = first * (2 - 2 * blue) + luma
    return np.stack([r, (luma - blue * b - red * r) / green, b], axis=2)


@contextmanager
def _of_pillow(page: Any) -> Iterator[None]:
    """Name the compression that Pillow fails on, and the remedy."""
    try:
        yield
    except TooLargeError:
        raise
    except Exception as error:  # decoders raise many types on damaged input
        raise ValueError(
            f"its compression {_name(page.compression)} is damaged, or of a kind that is not read "
            f"here ({str(error) or type(error).__name__}); save it without compression or with "
            "deflate"
        ) from None


class _Rerouted:
    """Shows a TIFF file to Pillow with another directory as its first one.

    Pillow finds a page by going through all those before it.
    """

    def __init__(self, file: BinaryIO, page: Any) -> None:
        self._file, self.fileno = file, file.fileno
        large, order = page.parent.is_bigtiff, page.parent.byteorder
        self._at, form = (8, "Q") if large else (4, "I")
        self._link = struct.pack(f"{order}{form}", page.offset)

    def read(self, size: int = -1) -> bytes:
        begin = self._file.tell()
        found = bytearray(self._file.read(size))
        for number, byte in enumerate(self._link, self._at - begin):
            if 0 <= number < len(found):
                found[number] = byte
        return bytes(found)

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()


def _by_pillow(file: BinaryIO, page: Any) -> Samples:
    """Read a page of 8 bits or fewer, as Pillow displays it."""
    from PIL import ImageOps

    file.seek(0)
    with opened_image(cast(BinaryIO, _Rerouted(file, page))) as opened:
        opened.load()
        ImageOps.exif_transpose(opened, in_place=True)
        mode = "L" if opened.mode in ("1", "L", "LA", "La") else "RGB"
        if opened.mode == "LAB":
            raise ValueError("its samples mean CIE L*a*b*; save it as RGB")
        if opened.mode in ("La", "RGBa"):
            opened = opened.convert(f"{opened.mode[:-1]}A")
        pixels = np.asarray(opened if opened.mode == mode else opened.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _grey_by_pillow(file: BinaryIO, page: Any) -> Samples:
    """Read 16-bit samples by Pillow, turned as they are to be displayed.

    Pillow inverts images in which white is zero only at times, so that it is told here that black
    is.
    """
    file.seek(0)
    shown: Any = _Rerouted(file, page)
    if int(page.photometric) == 0:
        content = bytearray(shown.read())
        tag, order = page.tags[262], page.parent.byteorder
        content[tag.valueoffset : tag.valueoffset + 2] = struct.pack(f"{order}H", 1)
        shown = io.BytesIO(content)
    with opened_image(shown) as opened:
        if not opened.mode.startswith("I;16"):
            raise ValueError(f"its 16 bits are read in the mode {opened.mode} only")
        return np.asarray(opened).astype(np.uint16)[:, :, None]


def directories(file: BinaryIO) -> Directories:
    """Find the pictures in the chain of directories, without decoding.

    Reduced images and masks do not count, as NewSubfileType or SubfileType tells them, nor do
    SubIFDs, which are no part of the chain. A chain ends where it loops, where its directories
    overlap, and behind `MOST_PAGES` pages. Where there is one directory, the description of ImageJ
    or of tifffile may say that other pictures follow its own and have no directory.
    """
    places, description = array("Q"), b""
    first = 0
    for place, entries in _chain(file):
        first = first or place
        kind = entries.number(SUBFILE)
        if not kind & (REDUCED | MASK) and (kind or entries.number(OLD_SUBFILE) != OLD_REDUCED):
            description = description if places else entries.text(DESCRIPTION)
            places.append(place)
        if len(places) > MOST_PAGES:
            break
    if len(places) == 1 and description.startswith((b"ImageJ=", b'{"shape"')):
        return _described(file, places[0], description.decode("latin-1"))
    return Directories(places or (first,), len(places) or 1)


class _Entries(NamedTuple):
    """Holds the entries of a directory: tags, kinds, counts and values as they are stored."""

    file: BinaryIO
    order: str
    rows: NDArray[Any]

    def number(self, tag: int) -> int:
        """Return the first integer of a tag of 16 or 32 bits.

        It is 0 where there is none.
        """
        for row in self.rows[self.rows["tag"] == tag]:
            form = {3: "H", 4: "I"}.get(int(row["kind"]))
            if form and row["count"]:
                wide = bytes(row["value"])[: struct.calcsize(form)]
                return int(struct.unpack(f"{self.order}{form}", wide)[0])
        return 0

    def text(self, tag: int) -> bytes:
        """Return the beginning of a tag of text that does not lie among the entries."""
        for row in self.rows[self.rows["tag"] == tag]:
            form = "Q" if len(bytes(row["value"])) == 8 else "I"
            self.file.seek(struct.unpack(f"{self.order}{form}", bytes(row["value"]))[0])
            return self.file.read(min(int(row["count"]), MOST_DESCRIPTION))
        return b""


def _chain(file: BinaryIO) -> Iterator[tuple[int, _Entries]]:
    """Walk the directories of a TIFF or BigTIFF file, with their places.

    They are those of TIFF 6.0, section 2. tifffile makes objects of all tags: 2.5 s for 20,000
    pages, which are 0.1 s here.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16).ljust(16, b"\0")
    order = "<" if head[:2] == b"II" else ">"
    large = head[2:4] in (b"+\0", b"\0+")
    count_form, form = ("Q", "Q") if large else ("H", "I")
    width = struct.calcsize(form)
    kinds = [("tag", f"{order}u2"), ("kind", f"{order}u2"), ("count", f"{order}u{width}")]
    row = np.dtype([*kinds, ("value", f"V{width}")])
    (place,) = struct.unpack(f"{order}{form}", head[8:16] if large else head[4:8])
    seen: set[int] = set()
    read = 0
    while 0 < place < size and place not in seen and read <= size:
        seen.add(place)
        file.seek(place)
        raw = file.read(struct.calcsize(count_form))
        entries = int.from_bytes(raw, "little" if order == "<" else "big")
        if len(raw) < struct.calcsize(count_form) or entries > MOST_ENTRIES:
            return
        body = file.read(entries * row.itemsize)
        tail = file.read(width)
        read += len(body)
        rows = np.frombuffer(body[: len(body) // row.itemsize * row.itemsize], row)
        yield place, _Entries(file, order, rows)
        if len(tail) < width:
            return
        (place,) = struct.unpack(f"{order}{form}", tail)


def _described(file: BinaryIO, place: int, text: str) -> Directories:
    """Count the pictures that follow one directory.

    ImageJ and tifffile itself say so in its description, and write the pictures one after another.
    """
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    try:
        file.seek(0)
        with tifffile.TiffFile(file) as opened:
            opened.filehandle.seek(place)
            page: Any = tifffile.TiffPage(opened, index=0)
            said = _said(page, text)
            whole = int(np.prod(page.shape)) * (np.dtype(page.dtype).itemsize if page.dtype else 0)
            plain = page.is_contiguous and int(page.compression) == UNCOMPRESSED
            if said < 2 or not plain or not whole or _bits(page) % 8:
                return Directories((place,), 1, said)
            there = (file.seek(0, os.SEEK_END) - page.dataoffsets[0]) // whole
    except Exception:  # whatever it is, reading the page says so
        return Directories((place,), 1)
    return Directories((place,), max(1, min(said, there)), said)


def _said(page: Any, text: str) -> int:
    if text.startswith("ImageJ="):
        found = re.search(r"^images=(\d{1,9})\s*$", text, re.MULTILINE)
        return int(found.group(1)) if found else 1
    shaped = re.match(r'\{"shape": \[([0-9, ]{1,200})\]', text)
    if not shaped:
        return 1
    own = math.prod(max(1, int(one)) for one in page.shape)
    whole = math.prod(int(one) for one in shaped.group(1).split(",") if one.strip())
    return whole // max(1, own) or 1
