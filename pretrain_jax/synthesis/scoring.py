"""Runs the stage `score`, the margins of patches or of whole images."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from hardset.folder import Input, Made, Manifest, Stage, Work, read_manifest
from pretrain_jax.synthesis.margins import (
    DecodedBatch,
    FeatureWriter,
    ProbeModel,
    Scorer,
    Space,
    decoded_batches,
    join_features,
    load_probe,
    make_scorer,
    missing_features,
)
from pretrain_jax.synthesis.methods import check_scoring
from pretrain_jax.synthesis.parts import WHOLE, Images, Part, Patches, whole_images
from pretrain_jax.synthesis.sheets import PATCHES, parts_sheet
from pretrain_jax.synthesis.tables import Logged, Make, Shards, Table

SCORE = Stage(
    "score",
    inputs=("index", "proposals", "probe"),
    parameters=("kind", "proposer", "model", "masks", "space", "shards", "features"),
)
SAMPLED = 1 << 20  # rows of which rank correlations are taken


def score_columns(kind: str, masks: int) -> dict[str, str]:
    """Name the table's columns.

    They are the id (`patch` or `image`), `margin`, and each mask's.
    """
    each = {f"margin_{k}": "float32" for k in range(masks)}
    return {kind: "int64", "margin": "float32"} | each


def score(
    source: str | Path,
    probe: str | Path | ProbeModel,
    out: str | Path,
    *,
    masks: int = 5,
    seed: int = 0,
    space: Space = "target",
    features: bool = False,
    batch_size: int = 64,
    workers: int = 2,
    shards: int | None = None,
    shard: int | None = None,
    progress: bool = False,
) -> Manifest | None:
    """Measure margins as reconstruction errors.

    A margin is the mean over fixed masks, which are keyed by the patch's id.

    A patch is brought to the model's size, bicubic with antialiasing; so is a whole image. For
    whole images, and on request for patches, the probe's features (mean token of what is visible
    without a mask) are written too: `features.npy`, rows in the table's order.

    Args:
        source: folder of stage `propose`, or of stage `index` to score whole images.
        probe: see `load_probe`; a loaded one is taken as it is.
        out: the stage's folder.
        masks: fixed masks of each patch.
        seed: of the masks.
        space: of the error, see `make_scorer`.
        features: whether those of patches are written, which rules that compare features need;
            those of whole images always are.
        batch_size: patches at once; no number depends on it beyond rounding.
        workers: threads that decode images.
        shards: of the table; default one for 5000 rows.
        shard: the one that this process makes; default all.
        progress: whether to draw a progress bar.

    Returns:
        The manifest with the counts rows, unreadable, margin_mean and, for two masks or more,
        rank_correlation_mean and rank_correlation_min over pairs of masks; None while other
        processes' shards are missing.

    Raises:
        ValueError: arguments out of range, a missing or unfit probe, no readable image.

    Source: the reconstruction loss as margin, OptiDEL, arXiv:2408.07107; masked tokens only,
    arXiv:2111.06377.
    """
    check_scoring(masks, seed, space, batch_size, workers)
    whole = read_manifest(source, ("propose", "index")).stage == "index"
    material = _Material(Images(source) if whole else Patches(source))
    material.images.check_unchanged()
    divided = Shards.of(material.rows, shards, shard)
    model = probe if isinstance(probe, ProbeModel) else load_probe(probe)
    work = SCORE.open(
        out,
        {
            "kind": material.kind,
            "proposer": material.proposer,
            "model": model.name,
            "masks": masks,
            "space": space,
            "shards": divided.count,
        }
        | ({"features": True} if features and not whole else {}),
        seed,
        material.inputs | {"probe": Input(model.digest, model.folder)},
        shared=shard is not None,
    )
    return work.run(
        lambda work: _fill(work, material, model, divided, seed, batch_size, workers, progress)
    )


def _fill(
    work: Work,
    material: "_Material",
    model: ProbeModel,
    divided: Shards,
    seed: int,
    batch_size: int,
    workers: int,
    progress: bool,
) -> Made | None:
    """Make the missing shards of this process.

    Where all shards are there, it sums up what they counted.
    """
    folder, masks = work.folder, int(work.parameters["masks"])
    featured = material.whole or bool(work.parameters.get("features"))
    columns = score_columns(material.kind, masks)

    def begin() -> Make:
        scorer = make_scorer(model, masks, seed, work.parameters["space"], features=featured)

        def make(
            one: int, first: int, end: int, logged: Logged, bar: Any
        ) -> Iterator[dict[str, NDArray]]:
            with ThreadPoolExecutor(workers) as pool:
                decoded = decoded_batches(
                    material.parts(first, end),
                    material.images.root,
                    model.size,
                    model.channels,
                    batch_size,
                    pool,
                    logged,
                )
                writer = FeatureWriter(folder, one, divided.count) if featured else None
                yield from _rows(decoded, scorer, list(columns), writer, bar)

        return make

    lost = missing_features(folder, divided.count) if featured else []
    made = divided.fill(
        folder,
        columns,
        begin,
        name="score",
        unit=material.kind,
        progress=progress,
        lost=lost,
    )
    if made is None or (featured and missing_features(folder, divided.count)):
        return None
    table, logs = made
    if not table.rows:
        raise ValueError(
            f"none of the {material.rows} images of {material.images.folder} can be read"
        )
    if featured:
        join_features(folder, divided.count)
    margins = table.column("margin")
    facts = {"margin_mean": float(margins.mean(dtype=np.float64))}
    correlations = rank_correlations(table, masks)
    notes = [*logs.notes, *logs.write_skipped(folder)]
    if len(correlations) and np.all(np.isfinite(correlations)):
        facts["rank_correlation_mean"] = float(correlations.mean())
        facts["rank_correlation_min"] = float(correlations.min())
    elif masks > 1:
        notes = [*notes, "margins of a mask are all equal: there is no rank correlation"]
    _sheet(folder / "contact.png", material, table, margins)
    return Made(
        {"rows": table.rows, "unreadable": 0} | logs.counts | facts,
        notes,
        seconds=logs.seconds,
        compile_seconds=logs.compile_seconds,
    )


def rank_correlations(table: Table, masks: int) -> NDArray[np.float64]:
    """Compute Spearman's rank correlation of every pair of masks.

    The shape is (masks (masks - 1) / 2,).

    Of more than 2**20 rows that many are taken, evenly spaced.

    Args:
        table: of scores.
        masks: how many it holds.
    """
    if masks < 2 or table.rows < 2:
        return np.zeros(0)
    rows = None
    if table.rows > SAMPLED:
        rows = np.linspace(0, table.rows - 1, SAMPLED).astype(np.int64)
    ranks = []
    for mask in range(masks):
        name = f"margin_{mask}"
        values = table.column(name) if rows is None else table.take(rows, [name])[name]
        ranks.append(rankdata(values))
    spread = np.std(ranks, axis=1)
    if np.any(spread == 0):
        return np.full(masks * (masks - 1) // 2, np.nan)
    return np.corrcoef(ranks)[np.triu_indices(masks, 1)]


class _Material:
    """Holds what is scored.

    It consists of patches, or of images as a whole.
    """

    def __init__(self, read: Images | Patches) -> None:
        patches = read if isinstance(read, Patches) else None
        self.images = read if isinstance(read, Images) else read.images
        self.patches = patches
        self.whole = patches is None
        self.kind = "image" if patches is None else "patch"
        self.proposer = WHOLE if patches is None else patches.proposer
        self.rows = (self.images if patches is None else patches).table.rows
        self.inputs = {"index": self.images.as_input()}
        if patches is not None:
            self.inputs["proposals"] = patches.as_input()

    def parts(self, first: int, end: int) -> Iterator[Part]:
        if self.patches is None:
            return whole_images(self.images, first, end)
        return self.patches.parts(first, end)

    def part(self, table: Table, row: int) -> Part:
        """Read the part whose score stands in a row of the table of scores."""
        if self.whole:
            row = int(table.take(np.array([row]), ["image"])["image"][0])
        return next(self.parts(row, row + 1))


def _rows(
    decoded: Iterator[DecodedBatch],
    scorer: Scorer,
    columns: list[str],
    writer: FeatureWriter | None,
    bar: Any,
) -> Iterator[dict[str, NDArray]]:
    with writer or nullcontext():
        for batch in decoded:
            margins, features = scorer(batch.pixels, batch.keys)
            margins = margins[: len(batch.rows)]
            for row, errors in zip(batch.rows, margins, strict=True):
                if not np.all(np.isfinite(errors)):
                    raise ValueError(
                        f"the probe's error for {columns[0]} {row} is {errors}; its weights are of "
                        "no use: give another probe"
                    )
            if writer is not None and features is not None:
                writer.add(features[: len(batch.rows)])
            each = [batch.rows, margins.mean(axis=1), *margins.T]
            bar.update(len(batch.rows))
            yield dict(zip(columns, each, strict=True))


def _sheet(path: Path, material: _Material, table: Table, margins: NDArray[np.float32]) -> None:
    """Draw the hardest and the easiest patches or images."""
    order = np.argsort(-margins, kind="stable")
    count = min(PATCHES, (len(order) + 1) // 2)
    sections = []
    for name, rows in (("hardest", order[:count]), ("easiest", order[::-1][:count])):
        shown = [(material.part(table, int(row)), f"margin {margins[row]:.4g}") for row in rows]
        sections.append((f"{name} of {len(order)} ({material.proposer})", shown))
    parts_sheet(path, material.images.root, sections)
