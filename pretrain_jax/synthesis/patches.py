"""Patches of a finished proposal, and whole images as patches of their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pretrain_jax.stages.manifest import input_folder, read_manifest
from pretrain_jax.stages.tables import Table
from pretrain_jax.synthesis.images import Images
from pretrain_jax.synthesis.pixels import Box, patch_id

__all__ = ["WHOLE", "Part", "Patches", "whole_images"]

WHOLE = "image"  # in the place of the proposer, where images are taken as a whole
ROWS = 4096


class Part(NamedTuple):
    """A part of an image.

    Attributes:
        row: id in the table that is made: the patch's, or the image's number.
        key: 63-bit id of the patch; of a whole image as of a patch that covers it.
        image: number of the image.
        name: of its file.
        frame: of a video, or -1.
        box: top, left, height, width.
    """

    row: int
    key: int
    image: int
    name: str
    frame: int
    box: Box


class Patches:
    """The patches of a finished stage `propose`.

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

    def parts(self, first: int, end: int) -> Iterator[Part]:
        """The patches of some rows, with the names of their images."""
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
    """Readable images of some rows, each as one patch."""
    columns = ["image", "name", "frame", "height", "width"]
    for batch in images.table.batches(columns, start=first, stop=end, size=ROWS):
        for image, name, frame, height, width in zip(*batch.values(), strict=True):
            if height:
                box = (0, 0, int(height), int(width))
                key = patch_id(name, int(frame), box, WHOLE)
                yield Part(int(image), key, int(image), name, int(frame), box)
