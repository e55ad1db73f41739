"""Composes the pictures of an animated PNG file (PNG, third edition, sections 11.3.6 and 12.7).

Pillow 13 leaves parts in that are to be taken away (disposal "previous" after blending "over") when
each picture is loaded. FFmpeg converts colours on its way.
"""

import io
import struct
import zlib
from array import array
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

from pretrain_jax.data.opening import image_of, unlimited

MAGIC = b"\x89PNG\r\n\x1a\n"
CONTROL = struct.Struct(">IIIIIHHBB")  # of fcTL
BACKGROUND, PREVIOUS = 1, 2  # what is done with a part before the next one
OVER = 1  # a part is blended with what is there, and does not replace it


class Chunks(NamedTuple):
    """Says where the parts of an animation lie in a PNG file.

    Attributes:
        header: of the file, as IHDR has it.
        shared: chunks before the first picture, such as the palette.
        controls: of each part, where its fcTL lies; 0 of a picture before the animation.
        places: of the data of parts, two numbers each: where they lie, and how long they are.
        begins: of each part, its first entry among places, and the end of the last one.
    """

    header: bytes
    shared: bytes
    controls: Sequence[int]
    places: Sequence[int]
    begins: Sequence[int]

    @property
    def pictures(self) -> int:
        """Number of pictures that have data."""
        return len(self.controls)


def chunks_of(file: BinaryIO, most: int) -> Chunks | None:
    """Find the parts of an animated PNG file by its chunks, without decoding.

    It is None for a PNG file of one picture.

    Args:
        file: opened for reading.
        most: parts, behind which it stops.
    """
    file.seek(len(MAGIC))
    header, shared, announced = b"", b"", 0
    controls, places, begins = array("Q"), array("Q"), array("Q")
    control = alone = 0
    while len(controls) <= most and len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        place = file.tell()
        if kind == b"IHDR":
            header = file.read(13)
        elif kind == b"acTL":
            announced = int.from_bytes(file.read(4), "big")
        elif kind == b"fcTL":
            control = place
        elif kind in (b"IDAT", b"fdAT"):
            if not announced:
                return None
            skip = 4 if kind == b"fdAT" else 0
            if control or not controls:
                alone += not control
                controls.append(control)
                begins.append(len(places))
                control = 0
            places.extend((place + skip, max(0, length - skip)))
        elif kind == b"IEND":
            break
        elif not controls and len(shared) + length < 1 << 20:
            shared += head + file.read(length + 4)
        file.seek(place + length + 4)
    begins.append(len(places))
    pictures = min(announced + alone, len(controls))
    if pictures < 2:
        return None
    return Chunks(header, shared, controls[:pictures], places, begins)


class Animation:
    """Composes pictures one after the other.

    Args:
        file: opened for reading, as long as pictures are asked for.
        chunks: of the file.
    """

    def __init__(self, file: BinaryIO, chunks: Chunks) -> None:
        self._file, self._chunks = file, chunks
        self._canvas: Any = None
        self._next = 0
        self._undo: tuple[Any, tuple[int, int]] | None = None

    def tell(self) -> int:
        """Return the number of the picture that was made last; -1 before the first one."""
        return self._next - 1

    def at(self, number: int) -> Any:
        """Return a picture that is none before the last one, as a Pillow image.

        Raises:
            ValueError: a part that does not lie in the picture, or is too large.
            Exception: whatever decoders raise on damaged files.
        """
        exif = None
        while self._next <= number:
            exif = self._compose(self._next)
            self._next += 1
        shown = self._canvas.copy()
        if exif is not None:
            shown.info["exif"] = exif
        return shown

    def _compose(self, number: int) -> bytes | None:
        """Put the next part on the canvas; return its EXIF."""
        from PIL import Image

        width, height = struct.unpack(">II", self._chunks.header[:8])
        left = top = dispose = blend = 0
        place = self._chunks.controls[number]
        if place:
            self._file.seek(place)
            fields = CONTROL.unpack(self._file.read(CONTROL.size))
            (_, wide, high, left, top, _, _, dispose, blend) = fields
        else:
            wide, high = width, height
        if not (0 < wide <= width - left and 0 < high <= height - top):
            raise ValueError("a part of its animation does not lie in the picture")
        part = self._part(number, wide, high)
        if self._canvas is None or not place or not number:
            self._canvas = Image.new("RGBA", (width, height))
        elif not self._chunks.controls[number - 1]:  # that picture is none of the animation
            self._canvas = Image.new("RGBA", (width, height))
            dispose = BACKGROUND if dispose == PREVIOUS else dispose
        elif self._undo is not None:
            self._canvas.paste(*self._undo)
        box = (left, top, left + wide, top + high)
        empty = Image.new("RGBA", (wide, high))
        kept = self._canvas.crop(box) if dispose == PREVIOUS and number else empty
        self._undo = (kept, (left, top)) if dispose in (BACKGROUND, PREVIOUS) else None
        if blend == OVER:
            self._canvas.alpha_composite(part, (left, top))
        else:
            self._canvas.paste(part, (left, top))
        return part.info.get("exif")

    def _part(self, number: int, width: int, height: int) -> Any:
        """Decode a part as a PNG file of its own."""
        chunks = self._chunks
        out = bytearray(MAGIC)
        out += _chunk(b"IHDR", struct.pack(">II", width, height) + chunks.header[8:])
        out += chunks.shared
        first, end = chunks.begins[number : number + 2]
        for at in range(first, end, 2):
            self._file.seek(chunks.places[at])
            out += _chunk(b"IDAT", self._file.read(chunks.places[at + 1]))
        out += _chunk(b"IEND", b"")
        with unlimited, image_of(io.BytesIO(out)) as opened:
            opened.load()
            # Grey of 16 bits does not become colours by itself.
            own = opened.point(lambda value: value / 257, "L") if opened.mode == "I;16" else opened
            found = own.convert("RGBA")
            found.info = {"exif": opened.info["exif"]} if "exif" in opened.info else {}
            return found


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check
