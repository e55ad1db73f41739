"""Stage `select`: which images, or which patches, a smaller set is made of."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.stages.manifest import (
    Manifest,
    Stage,
    digest,
    input_folder,
    open_stage,
    read_manifest,
)
from pretrain_jax.stages.tables import Table, write_table
from pretrain_jax.synthesis.features import read_features
from pretrain_jax.synthesis.images import Images
from pretrain_jax.synthesis.methods import (
    Candidates,
    Method,
    method_from_name,
    nested_order,
    parse_rule,
    pick,
)
from pretrain_jax.synthesis.patches import WHOLE, Patches
from pretrain_jax.synthesis.sheets import selection_sheet
from pretrain_jax.synthesis.storage import check_group, group_pixels, pixel_budget
from selection import Selector
from theory import Policy
from theory.checks import check_integer, check_range

__all__ = ["SELECTION", "select", "selection_columns"]

SELECTION = "selection"
BOX = ("image", "top", "left", "height", "width")
ROWS = 1 << 18
ROUNDS = 4


def selection_columns(kind: str) -> dict[str, str]:
    """Columns of the table `selection`; `kind` is "image" or "patch"."""
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
) -> Manifest:
    """Pick images or patches until a share of the full set's pixels is used up.

    The storage of a set is the sum of its images' pixels. An image made of patches has as many
    pixels as the image that its hardest patch is of. The rule's first picks, as many as fit
    into floor(ratio * pixels of all readable images) once they are arranged hardest first, are
    kept; that budget is never exceeded.

    Args:
        source: folder of the stage that the method picks from, see `METHODS`: `index`; `score` of
            images; `score` of patches (for random-patches also `propose`).
        out: the stage's folder.
        method: one of `METHODS`.
        ratio: share of the full set's pixels, in (0, 1]; 1 for the method "all".
        seed: of random picks.
        rule: a policy of `theory` or a method of `selection` in the place of the method's own.
        patches: of an image that is made of patches, a square number.

    Returns:
        The manifest with the counts images, patches, pixels, pixels_full, storage_ratio and
        candidates.

    Raises:
        ValueError: an unknown method or rule, a source that the method does not pick from,
            arguments out of range, a ratio so small that not one image fits.
    """
    chosen = method_from_name(method)
    check_range("ratio", ratio, 0.0, 1.0, open_low=True)
    check_integer("seed", seed, 0, 2**63 - 1)
    check_group(patches)
    if method == "all" and (ratio != 1 or rule is not None):
        raise ValueError("method 'all' keeps everything: it takes ratio = 1 and no rule")
    named = chosen.rule if rule is None else rule
    parsed = parse_rule(named)
    material = _Material(Path(source), chosen)
    group = patches if material.kind == "patch" else 1
    stage = open_stage(
        out,
        "select",
        {
            "method": method,
            "rule": named,
            "ratio": ratio,
            "kind": material.kind,
            "proposer": material.proposer,
            "patches": group,
        },
        seed,
        material.inputs,
        locations=material.locations,
    )
    if isinstance(stage, Manifest):
        return stage
    with stage:
        return _fill(stage, material, parsed)


def _fill(stage: Stage, material: "_Material", rule: Policy | Selector) -> Manifest:
    """Pick, write the table and the sheet, finish."""
    group, ratio = int(stage.parameters["patches"]), float(stage.parameters["ratio"])
    method = str(stage.parameters["method"])
    sizes = material.images.pixel_counts()
    candidates = material.candidates(sizes)
    full = int(sizes.sum())
    budget = pixel_budget(ratio, full)
    rows, weights = _picked(rule, candidates, budget, group, ratio, stage.seed or 0)
    if not len(rows):
        _refuse(candidates, budget, group, ratio, full)
    pixels = int(group_pixels(candidates.pixels[rows], group).sum())
    batches = _batches(material, candidates, rows, weights)
    write_table(stage.folder, SELECTION, batches, selection_columns(material.kind))
    selection_sheet(
        stage.folder / "contact.png", material.images, Table(stage.folder, SELECTION), method
    )
    counts = {
        "images": len(rows) // group,
        "patches": len(rows) if material.kind == "patch" else 0,
        "pixels": pixels,
        "pixels_full": full,
        "storage_ratio": pixels / full,
        "candidates": len(candidates),
    }
    notes = []
    if len(candidates) - len(rows) < group and pixels < budget and method != "all":
        notes.append(
            f"all {len(candidates)} candidates are used and fill {pixels} of the {budget} pixels "
            "asked for: propose more"
        )
    return stage.finish(counts, notes)


class _Material:
    """What a method picks from."""

    def __init__(self, folder: Path, method: Method) -> None:
        stages = {
            "index": ("index",),
            "images": ("score",),
            "patches": ("score",) if method.scored else ("score", "propose"),
        }[method.source]
        manifest = read_manifest(folder, stages)
        self.kind = "patch" if method.source == "patches" else "image"
        self.inputs = {manifest.stage: digest(manifest)}
        self.locations: dict[str, str | Path] = {manifest.stage: folder}
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
            self.inputs["proposals"] = digest(self._patches.manifest)
            self.locations["proposals"] = place
            if self.proposer not in method.proposers:
                raise ValueError(
                    f"method {method.name!r} picks patches of {' or '.join(method.proposers)}; "
                    f"{folder} holds those of {self.proposer}"
                )
        else:
            self.images = Images(
                input_folder(folder, manifest, "index") if self._scores else folder
            )
        self.inputs["index"] = digest(self.images.manifest)
        self.locations["index"] = self.images.folder

    def candidates(self, sizes: NDArray[np.int64]) -> Candidates:
        """Numbers of everything that can be picked; `sizes` are the pixels of each image."""
        scores = None if self._scores is None else Table(self._scores)
        margins = None if scores is None else scores.column("margin")
        if self._patches is not None:
            table = self._patches.table
            if scores is not None and scores.rows != table.rows:
                raise ValueError(
                    f"{self._scores} scores {scores.rows} of {table.rows} patches: some images "
                    "could not be read; propose and score anew without them"
                )
            return Candidates(table.column("patch"), sizes[table.column("image")], margins)
        if scores is None or self._scores is None:
            ids = np.flatnonzero(sizes)
            return Candidates(ids, sizes[ids])
        ids = scores.column("image")
        return Candidates(ids, sizes[ids], margins, read_features(self._scores))

    def boxes(self, rows: NDArray[np.int64]) -> dict[str, NDArray]:
        """Image and box of some patches."""
        return {} if self._patches is None else self._patches.table.take(rows, BOX)


def _picked(
    rule: Policy | Selector,
    candidates: Candidates,
    budget: int,
    group: int,
    ratio: float,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows, as many as fit, hardest first, and their weights."""
    order = None if isinstance(rule, Selector) else nested_order(rule, candidates, seed)
    if order is not None:
        places = _fitted(candidates, order, budget, group)
        if len(order) < len(candidates) and len(places) + group > len(order):
            raise ValueError(
                f"the window leaves {len(order)} of {len(candidates)} candidates, too few for "
                f"ratio = {ratio:g}; start it earlier or lower the ratio"
            )
        return order[places], np.ones(len(places))
    # How many fit is known once they are picked: sizes differ.
    picked = pick(rule, candidates, seed)
    mean = float(candidates.pixels.mean())
    count = min(len(candidates), max(1, round(budget / mean)) * group)
    for _ in range(ROUNDS):
        rows, weights = picked(count)
        places = _fitted(candidates, rows, budget, group)
        used = group_pixels(candidates.pixels[rows[places]], group).sum()
        more = int((budget - used) / mean) * group
        if len(places) + group <= len(rows) or more == 0 or count == len(candidates):
            break
        count = min(len(candidates), count + more)
    return rows[places], weights[places]


def _fitted(
    candidates: Candidates, rows: NDArray[np.int64], budget: int, group: int
) -> NDArray[np.int64]:
    """Places of the first picks, hardest first, that make as many images as fit; by bisection.

    Arranged by hardness other patches come first in their images than in the order of the picks,
    and the sizes of images that differ add up differently.
    """

    def arranged(images: int) -> NDArray[np.int64]:
        first = rows[: images * group]
        if candidates.margins is None:
            return np.arange(len(first))
        return np.argsort(-candidates.margins[first], kind="stable")

    low, high = 0, len(rows) // group
    while low < high:
        middle = (low + high + 1) // 2
        pixels = group_pixels(candidates.pixels[rows[arranged(middle)]], group)
        if pixels.sum() <= budget:
            low = middle
        else:
            high = middle - 1
    return arranged(low)


def _refuse(candidates: Candidates, budget: int, group: int, ratio: float, full: int) -> None:
    if len(candidates) < group:
        raise ValueError(
            f"there are {len(candidates)} patches, fewer than the {group} of one image; propose "
            "more"
        )
    least, most = int(candidates.pixels.min()), int(candidates.pixels.max())
    raise ValueError(
        f"ratio = {ratio:g} of {full} pixels is {budget} pixels, in which not one image fits (they "
        f"have {least} to {most}); a ratio of {math.ceil(1e6 * most / full) / 1e6:g} is enough"
    )


def _batches(
    material: _Material,
    candidates: Candidates,
    rows: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> Iterator[dict[str, Any]]:
    margins = candidates.margins
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        yield {
            "order": np.arange(start, start + len(part)),
            material.kind: candidates.ids[part],
            "margin": np.full(len(part), np.nan, np.float32) if margins is None else margins[part],
            "weight": weights[start : start + ROWS].astype(np.float32),
            **material.boxes(part),
        }
