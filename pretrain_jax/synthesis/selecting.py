"""Runs the stage `select`, the images or patches of a smaller set."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.folder import Input, Made, Manifest, Stage, Work, input_folder, read_manifest
from pretrain_jax.synthesis.margins import read_features
from pretrain_jax.synthesis.methods import METHODS, Method, Storage, check_selecting
from pretrain_jax.synthesis.parts import WHOLE, Images, Patches
from pretrain_jax.synthesis.picking import (
    Budget,
    Candidates,
    Kept,
    group_pixels,
    kept_picks,
    parse_rule,
    pixel_budget,
)
from pretrain_jax.synthesis.sheets import selection_sheet
from pretrain_jax.synthesis.tables import Table, write_table
from selection import Selector
from theory import Policy

SELECTION = "selection"
SELECT = Stage(
    "select",
    inputs=("index", "score", "propose", "proposals"),
    parameters=("method", "rule", "ratio", "kind", "proposer", "patches", "storage"),
)
BOX = ("image", "top", "left", "height", "width")
ROWS = 1 << 18


def selection_columns(kind: str) -> dict[str, str]:
    """Name the columns of the table `selection`.

    `kind` is "image" or "patch".
    """
    boxes = {"image": "int64"} | dict.fromkeys(BOX[1:], "int32") if kind == "patch" else {}
    return {"order": "int64", kind: "int64"} | boxes | {"margin": "float32", "weight": "float32"}


def select(
    source: str | Path,
    out: str | Path,
    *,
    method: str,
    ratio: float = 1.0,
    seed: int = 0,
    rule: str | None = None,
    patches: int = 4,
    storage: Storage = "pixels",
) -> Manifest:
    """Pick images or patches until a share of the storage is used.

    The share is that of the full set's storage.

    The storage of a set is the sum of its images' pixels, with storage = "bytes" also that of its
    files' bytes. An image made of patches has as many pixels as the image that its hardest patch is
    of; its bytes are known once it is encoded, see `synthesise`. Picks are taken in the order of
    the rule; what does not fit into floor(ratio * that of all readable images) any more is skipped,
    and those after it are tried. The budget is never exceeded; see `kept_picks`.

    Args:
        source: folder of the stage that the method picks from, see `METHODS`: `index`; `score` of
            images; `score` of patches (for random-patches also `propose`).
        out: the stage's folder.
        method: one of `METHODS`.
        ratio: share of the full set's pixels, in (0, 1]; 1 for the method "all".
        seed: of random picks.
        rule: a policy of `theory` or a method of `selection` in the place of the method's own.
        patches: of an image that is made of patches, a square number.
        storage: "pixels": at most `ratio` of the pixels; "bytes": at most `ratio` of the pixels and
            of the bytes. The method "all" has no limit.

    Returns:
        The manifest with the counts images, patches, pixels, storage_ratio, candidates, skipped
        (picks that did not fit) and, of the full set, images_full, pixels_full and bytes_full; of
        whole images also bytes.

    Raises:
        ValueError: an unknown method or rule, a source that the method does not pick from,
            arguments out of range, a ratio so small that not one image fits.
    """
    check_selecting(method, ratio, seed, rule, patches, storage)
    chosen = METHODS[method]
    named = chosen.rule if rule is None else rule
    parsed = parse_rule(named)
    material = _Material(Path(source), chosen)
    group = patches if material.kind == "patch" else 1
    work = SELECT.open(
        out,
        {
            "method": method,
            "rule": named,
            "ratio": ratio,
            "kind": material.kind,
            "proposer": material.proposer,
            "patches": group,
            "storage": storage,
        },
        seed,
        material.inputs,
    )
    return work.run(lambda work: _fill(work, material, parsed, seed))


def _fill(work: Work, material: "_Material", rule: Policy | Selector, seed: int) -> Made:
    """Pick, write the table and the sheet."""
    group, ratio = int(work.parameters["patches"]), float(work.parameters["ratio"])
    method = str(work.parameters["method"])
    full = _full_set(material.images)
    candidates = material.candidates(full)
    counted = work.parameters["storage"] == "bytes" and method != "all"
    budget = Budget(
        pixel_budget(ratio, full.pixels), pixel_budget(ratio, full.bytes) if counted else None
    )
    if not counted or material.kind == "patch":
        candidates = dataclasses.replace(candidates, bytes=None)
    try:
        kept = kept_picks(rule, candidates, budget, group, seed)
    except ValueError as error:
        if candidates.features is not None or "features" not in str(error):
            raise
        raise ValueError(
            f"rule = {work.parameters['rule']!r}: {error}; scores of whole images have features, "
            "those of patches where they were made with score --features"
        ) from None
    rows = kept.rows
    if not len(rows):
        _refuse(candidates, budget, group, ratio, full)
    pixels = int(group_pixels(candidates.pixels[rows], group).sum())
    batches = _batches(material, candidates, kept)
    write_table(work.folder, SELECTION, batches, selection_columns(material.kind))
    selection_sheet(
        work.folder / "contact.png", material.images, Table(work.folder, SELECTION), method
    )
    counts = {
        "images": len(rows) // group,
        "patches": len(rows) if material.kind == "patch" else 0,
        "pixels": pixels,
        "storage_ratio": pixels / full.pixels,
        "candidates": len(candidates),
        "skipped": kept.skipped,
        "images_full": full.images,
        "pixels_full": full.pixels,
        "bytes_full": full.bytes,
    }
    if material.kind == "image":
        counts["bytes"] = int(full.sizes[candidates.ids[rows]].sum())
    notes = []
    if len(candidates) - len(rows) < group and pixels < budget.pixels and method != "all":
        notes.append(
            f"all {len(candidates)} candidates are used and fill {pixels} of the {budget.pixels} "
            "pixels asked for: propose more"
        )
    return Made(counts, notes)


class _Full(NamedTuple):
    """Holds pixels and bytes of each image of the full set.

    They are listed by its number, and are 0 where it is unreadable.
    """

    areas: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def images(self) -> int:
        return int(np.count_nonzero(self.areas))

    @property
    def pixels(self) -> int:
        return int(self.areas.sum())

    @property
    def bytes(self) -> int:
        return int(self.sizes.sum())


def _full_set(images: Images) -> _Full:
    areas = images.pixel_counts()
    return _Full(areas, np.where(areas > 0, images.table.column("bytes"), 0))


class _Material:
    """Holds what a method picks from."""

    def __init__(self, folder: Path, method: Method) -> None:
        stages = {
            "index": ("index",),
            "images": ("score",),
            "patches": ("score",) if method.scored else ("score", "propose"),
        }[method.source]
        manifest = read_manifest(folder, stages)
        self.kind = "patch" if method.source == "patches" else "image"
        self.inputs = {manifest.stage: Input.of(folder, manifest)}
        self._scores = folder if manifest.stage == "score" else None
        self._patches: Patches | None = None
        self.proposer = WHOLE
        if self._scores is not None:
            scored = str(manifest.parameters["kind"])
            if scored != self.kind:
                raise ValueError(
                    f"method {method.name!r} picks {self.kind}s; {folder} holds scores of "
                    f"{scored}s ({manifest.parameters['proposer']})"
                )
        if self.kind == "patch":
            place = input_folder(folder, manifest, "proposals") if self._scores else folder
            self._patches = Patches(place)
            self.images = self._patches.images
            self.proposer = self._patches.proposer
            self.inputs["proposals"] = self._patches.as_input()
            if self.proposer not in method.proposers:
                raise ValueError(
                    f"method {method.name!r} picks patches of {' or '.join(method.proposers)}; "
                    f"{folder} holds those of {self.proposer}"
                )
        else:
            self.images = Images(
                input_folder(folder, manifest, "index") if self._scores else folder
            )
        self.inputs["index"] = self.images.as_input()

    def candidates(self, full: _Full) -> Candidates:
        """Return the numbers of everything that can be picked."""
        areas, sizes = full
        scores = None if self._scores is None else Table(self._scores)
        margins = None if scores is None else scores.column("margin")
        if self._patches is not None:
            table = self._patches.table
            if scores is not None and scores.rows != table.rows:
                raise ValueError(
                    f"{self._scores} scores {scores.rows} of {table.rows} patches: some images "
                    "could not be read; propose and score anew without them"
                )
            return Candidates(
                table.column("patch"), areas[table.column("image")], margins, self._features()
            )
        if scores is None or self._scores is None:
            ids = np.flatnonzero(areas)
            return Candidates(ids, areas[ids], bytes=sizes[ids])
        ids = scores.column("image")
        return Candidates(ids, areas[ids], margins, read_features(self._scores), sizes[ids])

    def _features(self) -> NDArray[np.float32] | None:
        """Read the features of patches, where they were asked for."""
        if self._scores is None or not read_manifest(self._scores).parameters.get("features"):
            return None
        return read_features(self._scores)

    def boxes(self, rows: NDArray[np.int64]) -> dict[str, NDArray]:
        """Read image and box of some patches."""
        return {} if self._patches is None else self._patches.table.take(rows, BOX)


def _refuse(candidates: Candidates, budget: Budget, group: int, ratio: float, full: _Full) -> None:
    if len(candidates) < group:
        raise ValueError(
            f"there are {len(candidates)} patches, fewer than the {group} of one image; propose "
            "more"
        )
    least, most = int(candidates.pixels.min()), int(candidates.pixels.max())
    asked = f"ratio = {ratio:g} of {full.pixels} pixels is {budget.pixels} pixels"
    if group > 1:
        raise ValueError(
            f"{asked}, in which not one image of {group} patches fits (the hardest one gives its "
            f"size: {least} to {most} pixels); a ratio of {_enough(most, full.pixels)} is enough"
        )
    needed = _enough(least, full.pixels)
    if candidates.bytes is not None and budget.bytes is not None:
        # An image whose larger share, of pixels or of bytes, is the smallest has to fit.
        shares = np.maximum(candidates.pixels / full.pixels, candidates.bytes / max(1, full.bytes))
        needed = _enough(float(shares.min()), 1)
        asked += f", of {full.bytes} bytes {budget.bytes} bytes"
    raise ValueError(
        f"{asked}, in which not one image fits (they have {least} to {most} pixels); a ratio of "
        f"{needed} is enough"
    )


def _enough(part: float, whole: int) -> str:
    return f"{math.ceil(1e6 * part / whole) / 1e6:g}"


def _batches(
    material: _Material,
    candidates: Candidates,
    kept: Kept,
) -> Iterator[dict[str, Any]]:
    margins, rows = candidates.margins, kept.rows
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        yield {
            "order": np.arange(start, start + len(part)),
            material.kind: candidates.ids[part],
            "margin": np.full(len(part), np.nan, np.float32) if margins is None else margins[part],
            "weight": kept.weights[start : start + ROWS].astype(np.float32),
            **material.boxes(part),
        }
