"""Decodes TIFF files into pixels by their tags.

Pillow reads some of them wrongly, and others not at all.

tifffile finds the samples, this module says what they mean (TIFF 6.0, sections 4 to 6, 16 to 18, 20
and 21). Compressions that tifffile leaves to a package of its own are Pillow's, which reads them in
8 bits, or grey in 16.
"""

import io
import logging
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data.opening import Remark, TooLargeError, check_pixels, opened_image

Samples = NDArray[Any]
VALUES = 1 << 22  # of a piece that is converted at once

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
TWELVE_BITS = 4096
MOST_OF_SAMPLES = (281, 341)  # MaxSampleValue and SMaxSampleValue
REDUCED, MASK = 1, 4  # of another image, in the tag NewSubfileType
MOST_PAGES = 100_000
WHOLE = 2**16 - 1


def read_tiff(file: BinaryIO, remarks: list[Remark]) -> Samples:
    """Read a TIFF file's first image as it is displayed.

    The shape is (H, W, 1 or 3). Alpha is dropped.

    Args:
        file: opened for reading.
        remarks: gets what is to be noticed.

    Returns:
        uint8, uint16 or floating point, the full range of integers standing for 0 to 1.

    Raises:
        ValueError: damaged, too large, or of a kind that is not known; says which.
        Exception: whatever decoders raise on damaged files.
    """
    import tifffile

    # tifffile reports to stderr what is wrong with a file, and raises what matters.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    with tifffile.TiffFile(file) as opened:
        if not opened.pages:
            raise ValueError("it holds no page: the file is cut, or its first directory damaged")
        page: Any = opened.pages[0]
        pages = max(_pages(file), _described(page))
        if pages > 1:
            remarks.append(Remark("pictures", f"holds {pages} pages, of which the first is read"))
        shape = tuple(int(length) for length in page.shape)
        axes = str(page.axes)
        if axes.replace("S", "") != "YX":
            raise ValueError(f"its first page has the axes {axes}, no rows and columns")
        height, width = int(page.imagelength), int(page.imagewidth)
        check_pixels(height, width)
        if min(height, width) < 1 or np.prod(shape) > MOST_SAMPLES * height * width:
            raise ValueError(f"its first page has the shape {shape}")
        _check_tiles(page)
        meaning, samples = _meaning(page)
        bits = _bits(page)
        compression = int(page.compression)
        if page.is_subsampled and compression not in JPEG:
            raise ValueError("its YCbCr has fewer samples of colour; save it as RGB")
        if compression in (UNCOMPRESSED, PACKBITS, *DEFLATE):
            if int(page.predictor) not in (1, HORIZONTAL):
                raise ValueError(
                    f"it is stored with the predictor {_name(page.predictor)}; save it without one"
                )
            _check_segments(page, bits, compression)
            kept = _samples(page, bits)
            found = kept if kept.ndim == 3 else kept[:, :, None]
            if axes.startswith("S"):
                found = np.moveaxis(kept, 0, -1)
            pixels = _interpreted(found, page, meaning, samples, bits)
        elif bits <= 8:
            if meaning in GREY and [int(one) for one in page.extrasamples] == [ASSOCIATED]:
                raise ValueError(
                    f"its grey is multiplied with its alpha under the compression "
                    f"{_name(page.compression)}; save it without alpha"
                )
            with _of_pillow(page):
                return _by_pillow(file)
        elif meaning in GREY and samples == 1 and bits == 16:
            with _of_pillow(page):
                return _grey_by_pillow(file, page, meaning)
        else:
            raise ValueError(
                f"it has {bits} bits a sample with the compression {_name(page.compression)}; save "
                "it without compression or with deflate"
            )
        if pixels.dtype == np.uint16 and not is_dark(pixels):
            tops = [_number(page, tag) for tag in MOST_OF_SAMPLES]
            top = max((one for one in tops if one is not None), default=WHOLE)
            if 0 < top < WHOLE // 2:
                remarks.append(dark_remark(top))
        return turned(pixels, _number(page, ORIENTATION) or 1)


def dark_remark(top: int) -> Remark:
    """Remark that an image of 16 bits is nearly black.

    Its values end at `top`.
    """
    bits = int(top).bit_length()
    return Remark(
        "dark",
        f"has 16 bits a sample, of which it uses {bits} (up to {top}): it is taken as nearly "
        f"black; multiply its values by {2 ** (16 - bits)}, so that they fill the 16 bits",
    )


def is_dark(pixels: Samples) -> bool:
    """Say whether 16-bit pixels use the lowest 12 bits only.

    Pixels that are all 0 do not count as dark.
    """
    return 0 < int(pixels.max(initial=0)) < TWELVE_BITS


def turned(pixels: Samples, orientation: int) -> Samples:
    """Turn pixels (H, W, ...) as they are displayed.

    The orientation is a number from 1 to 8 of EXIF and TIFF.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def by_rows(pixels: Samples, convert: Any, channels: int, kind: Any) -> Samples:
    """Convert an image (H, W, C) a few rows at a time.

    So the memory between is bounded.
    """
    height, width = pixels.shape[:2]
    found = np.empty((height, width, channels), kind)
    step = max(1, VALUES // max(1, width * pixels.shape[2]))
    for top in range(0, height, step):
        found[top : top + step] = convert(pixels[top : top + step])
    return found


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


def _interpreted(stored: Samples, page: Any, meaning: int, samples: int, bits: int) -> Samples:
    """Convert samples (H, W, samples) to grey or RGB.

    Alpha is dropped.
    """
    if stored.dtype.kind == "f":
        if meaning not in (*GREY, COLOUR):
            raise ValueError("it has floating-point samples that are neither grey nor RGB")
        top: float = 1.0
        kind: Any = stored.dtype.newbyteorder("=")
    else:
        top, kind = 2**bits - 1, np.uint8 if bits <= 8 else np.uint16
    whole = 1.0 if stored.dtype.kind == "f" else float(np.iinfo(kind).max)
    if meaning == PALETTE:
        return _coloured(stored[:, :, 0], page, bits)
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
            cover = values[:, :, own:]
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


def _coloured(indices: Samples, page: Any, bits: int) -> Samples:
    colours = page.colormap
    if colours is None or bits > 8:
        raise ValueError("it is of a palette that it lacks" if bits <= 8 else "its palette is odd")
    table = np.asarray(colours).reshape(3, -1).T
    # Files of old programs have colours of 8 bits in the 16; libtiff tells them in the same way.
    eight = table if int(table.max(initial=0)) < 256 else np.rint(table / 257.0)
    if len(table) <= int(indices.max(initial=0)):
        raise ValueError(f"its palette has {len(table)} colours, and it uses more")
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


def _by_pillow(file: BinaryIO) -> Samples:
    """Read pixels of 8 bits or fewer, as Pillow displays them."""
    from PIL import ImageOps

    file.seek(0)
    with opened_image(file) as opened:
        opened.load()
        ImageOps.exif_transpose(opened, in_place=True)
        mode = "L" if opened.mode in ("1", "L", "LA", "La") else "RGB"
        if opened.mode == "LAB":
            raise ValueError("its samples mean CIE L*a*b*; save it as RGB")
        if opened.mode in ("La", "RGBa"):
            opened = opened.convert(f"{opened.mode[:-1]}A")
        pixels = np.asarray(opened if opened.mode == mode else opened.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _grey_by_pillow(file: BinaryIO, page: Any, meaning: int) -> Samples:
    """Read 16-bit pixels by Pillow, as they are to be displayed.

    Pillow applies the orientation. It inverts images in which white is zero only at times, so
    that they are inverted here.
    """
    file.seek(0)
    content = bytearray(file.read())
    if meaning == 0:  # told to Pillow as black is zero, and inverted here
        tag, order = page.tags[262], page.parent.byteorder
        content[tag.valueoffset : tag.valueoffset + 2] = struct.pack(f"{order}H", 1)
    with opened_image(io.BytesIO(content)) as opened:
        if not opened.mode.startswith("I;16"):
            raise ValueError(f"its 16 bits are read in the mode {opened.mode} only")
        pixels = np.asarray(opened).astype(np.uint16)[:, :, None]
    return np.uint16(WHOLE) - pixels if meaning == 0 else pixels


def _described(page: Any) -> int:
    """Count the pictures that one page is said to hold.

    ImageJ and tifffile itself say so in the page's description.
    """
    text = str(page.description)[:10_000]
    if text.startswith("ImageJ="):
        found = re.search(r"^images=(\d{1,9})\s*$", text, re.MULTILINE)
        return int(found.group(1)) if found else 1
    shaped = re.match(r'\{"shape": \[([0-9, ]{1,200})\]', text)
    if shaped:
        own = int(np.prod([max(1, int(one)) for one in page.shape]))
        whole = 1
        for one in shaped.group(1).split(","):
            whole *= int(one) if one.strip() else 1
        return whole // max(1, own) or 1
    return 1


def _pages(file: BinaryIO) -> int:
    """Count the images in the chain of directories.

    Reduced images and masks do not count. A chain that loops ends.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    large = head[2:4] in (b"+\0", b"\0+")
    count_form, place_form, entry = ("Q", "Q", 20) if large else ("H", "I", 12)
    place = struct.unpack(f"{order}{place_form}", head[8:16] if large else head[4:8])[0]
    seen: set[int] = set()
    pages = 0
    while place and place not in seen and len(seen) < MOST_PAGES:
        seen.add(place)
        file.seek(place)
        width = struct.calcsize(count_form)
        raw = file.read(width)
        if len(raw) < width:
            break
        entries = struct.unpack(f"{order}{count_form}", raw)[0]
        if entries > 4096:
            break
        body = file.read(entries * entry)
        kind = 0
        for at in range(0, len(body) - entry + 1, entry):
            if struct.unpack(f"{order}H", body[at : at + 2])[0] == 254:
                value = body[at + (12 if large else 8) :][:4]
                kind = struct.unpack(f"{order}I", value)[0]
        pages += not kind & (REDUCED | MASK)
        tail = file.read(struct.calcsize(place_form))
        if len(tail) < struct.calcsize(place_form):
            break
        place = struct.unpack(f"{order}{place_form}", tail)[0]
    return max(1, pages)
