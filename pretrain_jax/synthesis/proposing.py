"""Runs the stage `propose`, the table of patches of an index's images."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hardset.checks import check_integer, check_range
from hardset.folder import Input, Made, Manifest, Stage
from pretrain_jax.data import UnreadableImageError
from pretrain_jax.data.skipping import SKIPPED_NAME, reason_line
from pretrain_jax.synthesis.parts import Images, patch_id, read_image
from pretrain_jax.synthesis.proposers import Find, Found, Proposer
from pretrain_jax.synthesis.sheets import proposals_sheet
from pretrain_jax.synthesis.tables import Logged, Make, Shards

PROPOSAL_COLUMNS = {
    "patch": "int64",
    "image": "int64",
    "top": "int32",
    "left": "int32",
    "height": "int32",
    "width": "int32",
    "area": "int64",
    "rank": "int32",
    "confidence": "float32",
}
ROWS = 256
MASKS = "masks"
PROPOSE = Stage(
    "propose",
    inputs=("index", "weights"),
    apart=(MASKS,),
    renamed={"checkpoint": "weights"},
)
MOST_SHOWN = 10


def propose(
    index: str | Path,
    out: str | Path,
    *,
    proposer: Proposer,
    seed: int = 0,
    shards: int | None = None,
    shard: int | None = None,
    progress: bool = False,
    skip_at_most: float = 0.0,
) -> Manifest | None:
    """Find patches in every image.

    A patch's number is the first 63 bits of sha256(name, frame, box, proposer). What a proposer
    draws depends on the seed and the image's name alone, not on shards or order.

    Args:
        index: folder of stage `index`.
        out: the stage's folder.
        proposer: where patches may lie.
        seed: of what the proposer draws.
        shards: of the table; default one for 5000 images.
        shard: the one that this process makes; default all.
        progress: whether to draw a progress bar.
        skip_at_most: the share of the images that may be smaller than a patch; they have none.

    Returns:
        The manifest with the counts images, patches, without_patches (unreadable ones among them),
        unreadable, too_small and pixels (of the patches); None while other processes' shards are
        missing.

    Raises:
        ValueError: an image that has changed or is smaller than a patch, no patch at all, a missing
            checkpoint, arguments out of range.
    """
    check_integer("seed", seed, 0, 2**63 - 1)
    images = Images(index)
    images.check_unchanged()
    divided = Shards.of(images.table.rows, shards, shard)
    inputs = {name: Input(sha256) for name, sha256 in proposer.inputs().items()}
    _refuse_small(images, proposer, skip_at_most)
    work = PROPOSE.open(
        out,
        {"proposer": proposer.name, "shards": divided.count} | proposer.parameters(),
        seed,
        {"index": images.as_input(), **inputs},
        shared=shard is not None,
    )
    return work.run(lambda work: _fill(work.folder, images, proposer, seed, divided, progress))


def _fill(
    folder: Path,
    images: Images,
    proposer: Proposer,
    seed: int,
    divided: Shards,
    progress: bool,
) -> Made | None:
    """Make the missing shards of this process.

    Where all shards are there, it sums up what they counted.
    """

    def begin() -> Make:
        find = proposer.start(folder / MASKS)
        return lambda _, first, end, logged, bar: _rows(
            images, first, end, find, proposer, seed, logged, bar
        )

    made = divided.fill(
        folder, PROPOSAL_COLUMNS, begin, name="propose", unit="image", progress=progress
    )
    if made is None:
        return None
    table, logs = made
    if not table.rows:
        raise ValueError(
            f"the proposer {proposer.name} found no patch in any of {images.table.rows} images: "
            f"all were filtered away by {_filters(proposer)}; loosen them and delete {folder}"
        )
    proposals_sheet(folder / "contact.png", images, table, proposer.name)
    counts = {"images": images.table.rows, "patches": table.rows, "without_patches": 0}
    counts |= {"unreadable": 0} | logs.counts
    known = counts["unreadable"] + counts.get("too_small", 0) - len(logs.skipped)
    before = [f"{known} image(s) of no use to the index: see its {SKIPPED_NAME}"] if known else []
    notes = [*logs.notes, *before, *logs.write_skipped(folder)]
    return Made(counts, notes, seconds=logs.seconds, compile_seconds=logs.compile_seconds)


def _rows(
    images: Images,
    first: int,
    end: int,
    find: Find,
    proposer: Proposer,
    seed: int,
    logged: Logged,
    bar: Any,
) -> Iterator[dict[str, Any]]:
    least_side = proposer.least_side
    for batch in images.table.batches(
        ["image", "name", "frame", "height", "width"], start=first, stop=end, size=ROWS
    ):
        rows: list[tuple[Any, ...]] = []
        for image, name, frame, height, width in zip(*batch.values(), strict=True):
            found = None
            if height and min(height, width) < least_side:
                small = f"{_size_of(name, height, width)}, smaller than a patch"
                logged.skip(reason_line("too small", small), "too_small")
            elif height:
                found = _found(images.root, name, int(frame), find, seed, logged)
            else:
                logged.add("unreadable")
            if found is None or not len(found.boxes):
                logged.add("without_patches")
            else:
                logged.add("pixels", int((found.boxes[:, 2] * found.boxes[:, 3]).sum()))
                for rank, (box, area, confidence) in enumerate(zip(*found, strict=True)):
                    top, left, *size = (int(side) for side in box)
                    own = (top, left, size[0], size[1])
                    number = patch_id(name, int(frame), own, proposer.name)
                    rows.append((number, image, *own, area, rank, confidence))
            bar.update()
        columns = zip(*rows, strict=True) if rows else [()] * len(PROPOSAL_COLUMNS)
        yield dict(zip(PROPOSAL_COLUMNS, columns, strict=True))


def _found(
    root: Path, name: str, frame: int, find: Find, seed: int, logged: Logged
) -> Found | None:
    try:
        pixels = read_image(root, name, frame)
    except UnreadableImageError as error:
        logged.skip(reason_line(error.reason, str(error).replace(f"{root}{os.sep}", "")))
        return None
    own = hashlib.sha256(f"{name}\0{frame}".encode()).digest()[:8]
    return find(pixels, np.random.default_rng([seed, int.from_bytes(own, "big")]))


def _refuse_small(images: Images, proposer: Proposer, share: float) -> None:
    """Refuse images that are too small for a patch.

    A patch has a least side. A share of the images may be too small.
    """
    check_range("skip_at_most", share, 0.0, 1.0)
    count = 0
    shown: list[str] = []
    for batch in images.table.batches(["name", "height", "width"]):
        shorter = np.minimum(batch["height"], batch["width"])
        small = np.flatnonzero((shorter < proposer.least_side) & (shorter > 0))
        for row in small[: max(0, MOST_SHOWN - len(shown))]:
            shown.append(_size_of(*(batch[key][row] for key in ("name", "height", "width"))))
        count += len(small)
    if count > share * images.table.rows:
        more = f" and {count - len(shown)} more" if count > len(shown) else ""
        raise ValueError(
            f"{', '.join(shown)}{more}: smaller than a patch, whose shorter side is at least "
            f"{proposer.least_side} pixels ({count} such image(s)); lower --least-side, leave "
            "them out, or let a share be without patches with --skip-at-most"
        )


def _size_of(name: str, height: int, width: int) -> str:
    return f"image {name} is {height} x {width} pixels"


def _filters(proposer: Proposer) -> str:
    settings = proposer.parameters()
    settings = settings.get("generator", settings) | {"least_side": proposer.least_side}
    named = {
        key: value
        for key, value in settings.items()
        if "area" in key or "threshold" in key or key == "least_side"
    }
    return ", ".join(f"{key} = {value}" for key, value in named.items())
