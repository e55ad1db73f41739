"""Opens image files that are safe to decode.

It says which kinds are opened, how large they may be, and what is odd about them.
"""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from hardset.cli import printable
from hardset.listing import Listed, changed_file
from pretrain_jax.data.containers import Container, known_image, located
from pretrain_jax.data.members import Member
from pretrain_jax.data.options import VARIABLES, reading

# Pillow tells formats by content. Of others, such as PostScript, it would start other programs.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000")
# The sentence on several images with one kind of remark, by the kind.
MEANINGS = {
    "pictures": "hold several pictures (pages, slices, frames), of which the first is read; save "
    "each as a file of its own to have all, or read those of TIFF, GIF, PNG, WebP and AVIF for "
    "pre-training with --pages all",
    "dark": "hardly use their 16 bits and are taken as nearly black; say with --bits 12 how many "
    "bits they have (10 to 16)",
}
SHOWN = 3  # of each kind
LARGEST_PIXEL, SPARE = 4 * 8, 1 << 20  # bytes: four channels in double precision, and headers
# Formats that Pillow may have been built without: by codec, their name and how files begin.
CODECS: Mapping[str, tuple[str, tuple[tuple[int, bytes], ...]]] = MappingProxyType(
    {
        "avif": ("an AVIF", ((4, b"ftypavif"), (4, b"ftypavis"))),
        "jpg_2000": ("a JPEG 2000", ((0, b"\0\0\0\x0cjP  \r\n"), (0, b"\xff\x4f\xff\x51"))),
        "webp": ("a WebP", ((8, b"WEBP"),)),
    }
)
WEBP_CANVAS = 30  # bytes that tell the size of a WebP file


class Remark(NamedTuple):
    """Holds what a reader noticed in an image that it could read.

    Attributes:
        kind: "pictures" (further ones are not read) or "dark" (the range is hardly used).
        text: the rest of a sentence that begins with the file's name.
    """

    kind: str
    text: str


class TooLargeError(ValueError):
    """Says that an image has more pixels than are decoded."""


class NoFileError(ValueError):
    """Says that there is no such file, or that it is none."""


def remark_notes(remarks: Sequence[tuple[str, Remark]]) -> list[str]:
    """Return a sentence on each kind of remarks.

    Remarks come with the names of their images.
    """
    notes = []
    for kind, meaning in MEANINGS.items():
        own = [f"{name} {remark.text}" for name, remark in remarks if remark.kind == kind]
        if own:
            more = f"; and {len(own) - SHOWN} more" if len(own) > SHOWN else ""
            shown = "; ".join(printable(one) for one in own[:SHOWN])
            notes.append(f"{len(own)} image(s) {meaning}: {shown}{more}")
    return notes


def check_pixels(height: int, width: int) -> None:
    """Check an image's size before anything of that size is held.

    Raises:
        TooLargeError: more pixels than are allowed.
    """
    limit = reading().max_megapixels
    if height * width > limit * 1e6:
        raise TooLargeError(
            f"it has {height} x {width} pixels, {height * width / 1e6:.4g} megapixels, more than "
            f"the {limit:g} that are decoded; raise --max-megapixels, or "
            f"{VARIABLES['max_megapixels']} where a command has no such option"
        )


def regular_file(path: str | Path) -> BinaryIO:
    """Open a regular file for reading, or an image in a container.

    The path of such an image goes on behind that of the file, see
    `pretrain_jax.data.containers`. A pipe, a socket or a device, which might never answer, is
    refused.

    Raises:
        NoFileError: it is missing, a broken link, or no regular file.
        ValueError: its container is damaged.
        OSError: it cannot be read.
    """
    place = Path(path)
    found = _looked_at(os.fspath(path))
    if not isinstance(found, os.stat_result):
        container, member = found
        return container.open(member)
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        raise NoFileError(f"it is {kind}, no file")
    return place.open("rb")


class SizeAndTime(NamedTuple):
    """Holds the bytes of an image's file, and its time in nanoseconds."""

    size: int
    written: int


def size_and_time(path: str | Path) -> SizeAndTime:
    """Look at the file of an image without opening it.

    The time of an image in a container is that of the container's file.

    Raises:
        NoFileError: it is missing, or a broken link.
        ValueError: its container is damaged.
        OSError: it cannot be looked at.
    """
    found = _looked_at(os.fspath(path))
    if not isinstance(found, os.stat_result):
        container, member = found
        return SizeAndTime(member.size, container.states[member.shard].written)
    return SizeAndTime(found.st_size, found.st_mtime_ns)


def changed_image(files: Iterable[Listed], since: Path | None = None) -> tuple[Path, str] | None:
    """Find the first image that is gone or differs from its record, and say which.

    Args:
        files: as they were recorded.
        since: see `hardset.listing.changed_file`.

    Returns:
        The image, and "has changed" or "is gone"; None where all are as recorded.
    """
    path = changed_file(files, since, look=size_and_time, opened=regular_file)
    if path is None:
        return None
    try:
        size_and_time(path)
    except (OSError, ValueError):
        return path, "is gone"
    return path, "has changed"


def _looked_at(path: str) -> os.stat_result | tuple[Container, Member]:
    if (known := known_image(path)) is not None:
        return known
    try:
        # A Path keeps its parts: for millions of files that takes memory and time.
        return os.stat(path)  # noqa: PTH116
    except OSError as error:
        # Names in containers may be longer than those of files.
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise
        found = located(path)
        if found is None:
            link = os.path.islink(path)  # noqa: PTH114
            what = "it is a broken link" if link else "there is no such file"
            raise NoFileError(what) from None
        return found


@contextmanager
def as_file(path: str | Path) -> Iterator[Path]:
    """Give the path of a file that holds an image's bytes.

    It is for readers that open paths alone: an image in a container is copied into a temporary
    file.

    Raises:
        ValueError: it is missing, or no regular file.
        TooLargeError: the copy would be larger than the largest image in floating point.
        OSError: it cannot be read.
    """
    with regular_file(path) as file:
        if Path(path).is_file():
            yield Path(path)
            return
        if size_and_time(path).size > reading().max_megapixels * 1e6 * LARGEST_PIXEL + SPARE:
            raise TooLargeError(
                f"it has more bytes than {reading().max_megapixels:g} megapixels need"
            )
        with tempfile.NamedTemporaryFile(suffix=Path(path).suffix) as copy:
            shutil.copyfileobj(file, copy)
            copy.flush()
            yield Path(copy.name)


def missing_codec(head: bytes, has: Callable[[str], bool | None]) -> str:
    """Say what Pillow lacks to decode an image that begins so.

    The text is "" where it lacks nothing.

    Args:
        head: the first 12 bytes of the file, or more.
        has: says whether Pillow was built with a codec, as `PIL.features.check` does.
    """
    for codec, (name, known) in CODECS.items():
        if any(head[at : at + len(magic)] == magic for at, magic in known) and not has(codec):
            return (
                f"it is {name} image, and the installed Pillow has no codec for it; install a "
                "Pillow of PyPI, whose wheels have it, or save the image as PNG"
            )
    return ""


class _Unlimited:
    """Takes Pillow's own limit away while an image is open.

    `check_pixels` has taken its place.
    """

    def __init__(self) -> None:
        self._lock, self._open = Lock(), 0
        self._before: int | None = None

    def __enter__(self) -> None:
        from PIL import Image

        with self._lock:
            if not self._open:
                self._before = Image.MAX_IMAGE_PIXELS
                Image.MAX_IMAGE_PIXELS = None
            self._open += 1

    def __exit__(self, *_: object) -> None:
        from PIL import Image

        with self._lock:
            self._open -= 1
            if not self._open:
                Image.MAX_IMAGE_PIXELS = self._before


unlimited = _Unlimited()


@contextmanager
def opened_image(file: BinaryIO) -> Iterator[Any]:
    """Open an image of one of `FORMATS` by Pillow.

    It is not decoded yet, and not too large.

    Pillow gets an open file, as it maps grey TIFF by its name and turns that wrongly.

    Raises:
        ValueError: none of these formats, or too large.
    """
    with unlimited, image_of(file) as opened:
        yield opened


def image_of(file: BinaryIO) -> Any:
    """Return the image that `opened_image` opens, which stays open.

    Whatever is done with it is done in a block `with unlimited`, and the caller closes it.
    """
    from PIL import Image, UnidentifiedImageError, features

    head = file.read(WEBP_CANVAS)
    file.seek(0)
    if missing := missing_codec(head, features.check):
        raise ValueError(missing)
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":  # Pillow would make the canvas at once
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        check_pixels(height, width)
    with unlimited:
        try:
            opened = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError("it is no image of a known format") from None
        try:
            check_pixels(opened.height, opened.width)
        except TooLargeError:
            opened.close()
            raise
        return opened
