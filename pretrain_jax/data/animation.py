"""Composes the pictures of animated PNG and GIF files from their parts.

The rules are those of PNG (third edition, sections 11.3.6 and 12.7) and GIF89a (appendices A and D
of its specification). Pillow 13 leaves parts in the picture that are to be taken away, where each
picture is loaded; FFmpeg reads on behind damage in silence.
"""

import io
import os
import struct
import zlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

from pretrain_jax.data.opening import image_of, unlimited

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
GIF_MAGICS = (b"GIF87a", b"GIF89a")
CONTROL = struct.Struct(">IIIIIHHBB")  # of fcTL
KEEP, BACKGROUND, PREVIOUS = 0, 1, 2  # what is done with a part before the next one
OVER = 1  # a part is blended with what is there, and does not replace it
OF_GIF = {2: BACKGROUND, 3: PREVIOUS}
MOST_SHARED = 1 << 20


class Part(NamedTuple):
    """Holds a part of an animation.

    Attributes:
        image: of Pillow, with transparency.
        place: left and top.
        disposal: `KEEP`, `BACKGROUND` (the place is emptied before the next part) or `PREVIOUS`
            (what was there before comes back).
        over: whether it is blended with what is there.
        alone: whether it is a picture before the animation, and no part of it.
    """

    image: Any
    place: tuple[int, int]
    disposal: int
    over: bool
    alone: bool = False


class Parts(ABC):
    """Finds the parts of an animation in its file, without decoding.

    Attributes:
        file: opened for reading.
        size: width and height of the pictures.
        count: of the pictures.
    """

    file: BinaryIO
    size: tuple[int, int]
    count: int

    @abstractmethod
    def decoded(self, number: int) -> Part:
        """Decode a part.

        Raises:
            ValueError: it does not lie in the picture, or is too large.
            Exception: whatever decoders raise on damaged files.
        """


class PngParts(Parts):
    """Finds the parts of a PNG file by its chunks.

    Args:
        file: opened for reading.
        most: pictures, behind which it stops.
    """

    def __init__(self, file: BinaryIO, most: int) -> None:
        self.file = file
        self._header, self._shared, announced = b"", b"", 0
        # Of each picture the place of its fcTL, 0 of one before the animation, and the first of
        # its entries among the places and lengths of data.
        controls, self._data, self._begins = array("Q"), array("Q"), array("Q")
        control = alone = 0
        file.seek(len(PNG_MAGIC))
        while len(controls) <= most and len(head := file.read(8)) == 8:
            length, kind, place = int.from_bytes(head[:4], "big"), head[4:], file.tell()
            if kind == b"IHDR":
                self._header = file.read(13)
            elif kind == b"acTL":
                announced = int.from_bytes(file.read(4), "big")
            elif kind == b"fcTL":
                control = place
            elif kind in (b"IDAT", b"fdAT"):
                if not announced:
                    break
                if control or not controls:
                    alone += not control
                    controls.append(control)
                    self._begins.append(len(self._data))
                    control = 0
                skip = 4 if kind == b"fdAT" else 0
                self._data.extend((place + skip, max(0, length - skip)))
            elif kind == b"IEND":
                break
            elif not controls and len(self._shared) + length < MOST_SHARED:
                self._shared += head + file.read(length + 4)
            file.seek(place + length + 4)
        self._begins.append(len(self._data))
        self._controls: Sequence[int] = controls
        self.count = max(1, min(announced + alone, len(controls)))
        self.size = struct.unpack(">II", self._header[:8].ljust(8, b"\0"))

    def decoded(self, number: int) -> Part:
        """Decode a part as a PNG file of its own."""
        (wide, high), left, top, disposal, blend = self.size, 0, 0, KEEP, 0
        place = self._controls[number]
        if place:
            self.file.seek(place)
            fields = CONTROL.unpack(self.file.read(CONTROL.size))
            _, wide, high, left, top, _, _, disposal, blend = fields
        if not (0 < wide <= self.size[0] - left and 0 < high <= self.size[1] - top):
            raise ValueError("a part of its animation does not lie in the picture")
        out = bytearray(PNG_MAGIC)
        out += _chunk(b"IHDR", struct.pack(">II", wide, high) + self._header[8:]) + self._shared
        first, end = self._begins[number : number + 2]
        for at in range(first, end, 2):
            self.file.seek(self._data[at])
            out += _chunk(b"IDAT", self.file.read(self._data[at + 1]))
        out += _chunk(b"IEND", b"")
        return Part(_opaque(bytes(out)), (left, top), disposal, blend == OVER, not place)


class GifParts(Parts):
    """Finds the parts of a GIF file by its blocks.

    Args:
        file: opened for reading.
        most: pictures, behind which it stops.
    """

    def __init__(self, file: BinaryIO, most: int) -> None:
        self.file = file
        file.seek(0)
        self._screen = file.read(13).ljust(13, b"\0")
        self.size = struct.unpack("<HH", self._screen[6:10])
        self._colours = file.read(_table(self._screen[10]))
        # Of each picture: where its descriptor lies, where its data end, and its control.
        self._begins, self._ends, self._controls = array("Q"), array("Q"), array("L")
        control = strays = 0
        while len(self._begins) + strays <= most:
            kind = file.read(1)
            if kind == b",":
                begin = file.tell()
                described = file.read(9)
                if len(described) < 9:
                    break
                file.seek(_table(described[8]) + 1, os.SEEK_CUR)
                _pass_blocks(file)
                self._begins.append(begin)
                self._ends.append(file.tell())
                self._controls.append(control)
                control = 0
            elif kind == b"!":
                if file.read(1) == b"\xf9" and len(given := file.read(6)) == 6:
                    control = given[1] << 8 | given[4]
                    file.seek(-1, os.SEEK_CUR)
                _pass_blocks(file)
            elif kind in (b";", b""):
                break
            else:  # Pillow, too, looks for the next block
                strays += 1
        self.count = max(1, len(self._begins))

    def decoded(self, number: int) -> Part:
        """Decode a part as a GIF file of its own."""
        self.file.seek(self._begins[number])
        described = self.file.read(self._ends[number] - self._begins[number])
        left, top = struct.unpack("<HH", described[:4])
        out = GIF_MAGICS[1] + described[4:8] + self._screen[10:13] + self._colours
        flags, clear = divmod(self._controls[number], 256)
        if flags & 1:
            out += b"!\xf9\x04" + bytes([1, 0, 0, clear]) + b"\0"
        out += b"," + bytes(4) + described[4:] + b";"
        return Part(_opaque(out), (left, top), OF_GIF.get(flags >> 2 & 7, KEEP), True)


class Animation:
    """Composes pictures one after the other.

    Args:
        parts: of the file.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._canvas: Any = None
        self._exif: bytes | None = None
        self._next = 0
        self._undo: tuple[Any, tuple[int, int]] | None = None
        self._begun = False

    def tell(self) -> int:
        """Return the number of the picture that was made last; -1 before the first one."""
        return self._next - 1

    def at(self, number: int) -> Any:
        """Return the last picture or one behind it, as a Pillow image.

        Raises:
            ValueError: see `Parts.decoded`.
            Exception: whatever decoders raise on damaged files.
        """
        while self._next <= number:
            self._compose(self._parts.decoded(self._next))
            self._next += 1
        shown = self._canvas.copy()
        if self._exif is not None:
            shown.info["exif"] = self._exif
        return shown

    def _compose(self, part: Part) -> None:
        from PIL import Image

        if not self._begun:
            self._canvas = Image.new("RGBA", self._parts.size)
        elif self._undo is not None:
            self._canvas.paste(*self._undo)
        disposal = part.disposal
        if disposal == PREVIOUS and not self._begun:
            disposal = BACKGROUND
        self._undo = None
        if disposal != KEEP:
            left, top = part.place
            box = (left, top, left + part.image.width, top + part.image.height)
            empty = Image.new("RGBA", part.image.size)
            self._undo = (self._canvas.crop(box) if disposal == PREVIOUS else empty, part.place)
        if part.over:
            self._canvas.alpha_composite(part.image, part.place)
        else:
            self._canvas.paste(part.image, part.place)
        self._exif = part.image.info.get("exif")
        self._begun = not part.alone


def _opaque(content: bytes) -> Any:
    """Decode a file of one picture into colours with transparency."""
    with unlimited, image_of(io.BytesIO(content)) as opened:
        opened.load()
        exif = opened.info.get("exif")
        # Grey of 16 bits does not become colours by itself.
        own = opened.point(lambda value: value / 257, "L") if opened.mode == "I;16" else opened
        found = own.convert("RGBA")
    found.info = {} if exif is None else {"exif": exif}
    return found


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def _table(flags: int) -> int:
    """Return the bytes of the table of colours that flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _pass_blocks(file: BinaryIO) -> None:
    """Go behind the blocks of data that begin here."""
    while size := file.read(1):
        if size == b"\0":
            return
        file.seek(size[0], os.SEEK_CUR)
