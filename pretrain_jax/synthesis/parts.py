"""Reads the patches of a finished proposal.

Whole images are patches of their own.
"""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.folder import CLAIM, Input, digest, input_folder, read_manifest
from hardset.listing import Listed
from pretrain_jax.data import read_pixels
from pretrain_jax.data.listing import STILL
from pretrain_jax.data.opening import changed_image
from pretrain_jax.data.options import adopt_reading
from pretrain_jax.data.transforms import resized
from pretrain_jax.synthesis.tables import Table

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


def read_image(root: Path, name: str, frame: int = STILL, channels: int = 3) -> Pixels:
    """Read an image of an index, shape (H, W, channels).

    Raises:
        UnreadableImageError: it cannot be decoded.
        BadPixelsError: NaN, infinite or out-of-range pixels.
    """
    return read_pixels(str(root / name), frame, channels=channels).astype(np.uint8)


def cut(pixels: Pixels, box: Box, size: tuple[int, int]) -> Pixels:
    """Cut a part of an image and resize it.

    It is bicubic with antialiasing, and nothing around the part counts.

    Args:
        pixels: (H, W, C).
        box: top, left, height, width.
        size: height and width of the result.

    Returns:
        Shape (*size, C).
    """
    top, left, height, width = box
    part = pixels[top : top + height, left : left + width]
    if part.shape[:2] == size:
        return part
    return resized(part, size, (0, 0, width, height)).astype(np.uint8, copy=False)


class Images:
    """Holds the images of a finished index.

    Args:
        folder: of stage `index`.

    Attributes:
        folder: the same.
        manifest: of the stage.
        table: its rows, see `IMAGE_COLUMNS`; height and width are 0 where an image is unreadable.
        root: the folder or container to which names are relative.

    Raises:
        ValueError: the stage is not finished, or the images' folder is gone.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(folder, "index")
        self.table = Table(folder)
        adopt_reading(self.manifest.parameters)
        self.root = (self.folder.resolve() / self.manifest.locations["root"]).resolve()
        if not self.root.exists():  # a folder or a container
            raise ValueError(
                f"the images of {folder} are not in {self.root} any more; put them back, or name "
                "the folder where they are now with --data: unchanged ones go on"
            )

    def check_unchanged(self) -> None:
        """Check that the images are those that the index read.

        This happens once in a process.

        Sizes and times are compared; what is newer than the index is hashed, see `changed_file`.

        Raises:
            ValueError: the first image that is gone or has changed.
        """
        _check_once(self.folder.resolve(), self.root, digest(self.manifest))

    def as_input(self) -> Input:
        """Describe the index as a stage reads it."""
        return Input.of(self.folder, self.manifest)

    def pixel_counts(self) -> NDArray[np.int64]:
        """Return height x width of every image, by its number."""
        parts = [
            batch["height"].astype(np.int64) * batch["width"]
            for batch in self.table.batches(["height", "width"])
        ]
        return np.concatenate(parts)


@lru_cache(maxsize=16)
def _check_once(folder: Path, root: Path, _: str) -> None:
    """Call `check_unchanged` once in a process for each index.

    The digest that comes last tells the index.
    """
    check_unchanged(folder, root)


def check_unchanged(folder: Path, root: Path) -> None:
    """Compare the images below `root` with a finished index."""
    changed = changed_image(_recorded(Table(folder), root), folder / CLAIM)
    if changed is not None:
        path, what = changed
        since = " since it was indexed" if what == "has changed" else ""
        raise ValueError(
            f"image {path} {what}{since} in {folder}; put it back, or start anew with another "
            "folder"
        )


def _recorded(table: Table, root: Path) -> Iterator[Listed]:
    """List every file of an index once.

    A file's bytes are divided among its frames or pages.
    """
    before = ""
    for batch in table.batches(["name", "frame", "bytes", "sha256"]):
        columns = (batch[name] for name in ("name", "frame", "bytes", "sha256"))
        for name, frame, size, sha256 in zip(*columns, strict=True):
            if name != before and sha256:
                yield Listed(root / name, int(size) if frame == STILL else None, sha256)
            before = name


def patch_id(name: str, frame: int, box: Box, proposer: str) -> int:
    """Number a patch by its place and proposer.

    The number is the first 63 bits of their sha256.
    """
    top, left, height, width = box
    text = f"{name}\0{frame}\0{top},{left},{height},{width}\0{proposer}"
    found = hashlib.sha256(text.encode()).digest()[:8]
    return int.from_bytes(found, "big") >> 1


WHOLE = "image"  # in the place of the proposer, where images are taken as a whole
ROWS = 4096


class Part(NamedTuple):
    """Represents a part of an image.

    Attributes:
        row: id in the table that is made: the patch's, or the image's number.
        key: 63-bit id of the patch; of a whole image as of a patch that covers it.
        image: number of the image.
        name: of its file.
        frame: of a video, or page, or -1.
        box: top, left, height, width.
    """

    row: int
    key: int
    image: int
    name: str
    frame: int
    box: Box


class Patches:
    """Holds the patches of a finished stage `propose`.

    Args:
        folder: of the stage.

    Attributes:
        folder: the same.
        manifest: of the stage.
        table: its rows, see `PROPOSAL_COLUMNS`; their images ascend.
        images: the index that they were proposed from.
        proposer: its name.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(folder, "propose")
        self.table = Table(folder)
        self.images = Images(input_folder(folder, self.manifest, "index"))
        self.proposer = str(self.manifest.parameters["proposer"])

    def as_input(self) -> Input:
        """Describe the proposals as a stage reads them."""
        return Input.of(self.folder, self.manifest)

    def parts(self, first: int, end: int) -> Iterator[Part]:
        """Read the patches of some rows, with the names of their images."""
        columns = ["patch", "image", "top", "left", "height", "width"]
        for batch in self.table.batches(columns, start=first, stop=end, size=ROWS):
            numbers, places = np.unique(batch["image"], return_inverse=True)
            named = self.images.table.take(numbers, ["name", "frame"])
            for place, (patch, image, *box) in zip(
                places, zip(*batch.values(), strict=True), strict=True
            ):
                top, left, height, width = (int(side) for side in box)
                name, frame = str(named["name"][place]), int(named["frame"][place])
                own = (top, left, height, width)
                yield Part(int(patch), int(patch), int(image), name, frame, own)


def whole_images(images: Images, first: int, end: int) -> Iterator[Part]:
    """Read the readable images of some rows, each as one patch."""
    columns = ["image", "name", "frame", "height", "width"]
    for batch in images.table.batches(columns, start=first, stop=end, size=ROWS):
        for image, name, frame, height, width in zip(*batch.values(), strict=True):
            if height:
                box = (0, 0, int(height), int(width))
                key = patch_id(name, int(frame), box, WHOLE)
                yield Part(int(image), key, int(image), name, int(frame), box)
