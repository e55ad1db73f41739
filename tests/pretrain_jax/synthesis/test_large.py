"""A data set of 100,000 images and 300,000 patches: tables pass by, numbers alone are held."""

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

from hardset.folder import Made, Manifest, digest
from pretrain_jax.synthesis import select
from pretrain_jax.synthesis.images import IMAGE_COLUMNS
from pretrain_jax.synthesis.proposing import PROPOSAL_COLUMNS
from pretrain_jax.synthesis.scoring import score_columns
from pretrain_jax.synthesis.tables import Table, shard_range, write_shard
from tests.stages import open_stage

IMAGES, EACH, SHARDS, ROWS = 100_000, 3, 5, 5_000
STAGES = {"index": "index", "proposals": "propose", "scores": "score"}
NAME = "patient-{0:08d}/" + "examination/" * 10 + "frame-{0:08d}.png"


def image_rows(first: int, end: int) -> dict[str, Any]:
    number = np.arange(first, end)
    count = len(number)
    return {
        "image": number,
        "name": [NAME.format(n) for n in number],
        "frame": np.full(count, -1),
        "height": 200 + number % 3,
        "width": np.full(count, 300),
        "bytes": np.full(count, 10_000),
        "sha256": ["0" * 64] * count,
        "group": [""] * count,
        "label": [""] * count,
    }


def patch_rows(first: int, end: int) -> dict[str, Any]:
    row = np.arange(first, end)
    side = np.full(len(row), 100)
    return {
        "patch": row,
        "image": row // EACH,
        "top": row % 90,
        "left": row % 80,
        "height": side,
        "width": side,
        "area": side**2,
        "rank": row % EACH,
        "confidence": np.ones(len(row)),
    }


def score_rows(first: int, end: int) -> dict[str, Any]:
    margin = np.random.default_rng(first).random(end - first)
    return {"patch": np.arange(first, end), "margin": margin, "margin_0": margin}


def stage(
    out: Path,
    name: str,
    parameters: dict[str, Any],
    inputs: dict[str, Manifest],
    rows: int,
    make: Callable[[int, int], dict[str, Any]],
    columns: dict[str, str],
) -> Manifest:
    """A finished stage whose inputs lie beside it."""
    digests = {key: digest(manifest) for key, manifest in inputs.items()}
    places = {key: out / key for key in ("root", *inputs)}
    opened = open_stage(out / name, STAGES[name], parameters, 0, digests, locations=places)

    def batches(first: int, end: int) -> Iterator[dict[str, Any]]:
        for start in range(first, end, ROWS):
            made = make(start, min(start + ROWS, end))
            yield {
                key: column if columns[key] == "string" else np.asarray(column, columns[key])
                for key, column in made.items()
            }

    for shard in range(SHARDS):
        write_shard(out / name, shard, SHARDS, batches(*shard_range(rows, shard, SHARDS)), columns)
    return opened.finish(Made({"images": IMAGES, "bytes": 10_000 * IMAGES}))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables as the stages write them, of images that do not exist."""
    out = tmp_path_factory.mktemp("large")
    (out / "root").mkdir()
    index = stage(out, "index", {}, {}, IMAGES, image_rows, IMAGE_COLUMNS)
    crops = {"proposer": "random-crop"}
    proposals = stage(
        out, "proposals", crops, {"index": index}, EACH * IMAGES, patch_rows, PROPOSAL_COLUMNS
    )
    inputs = {"index": index, "proposals": proposals}
    kind = crops | {"kind": "patch"}
    stage(out, "scores", kind, inputs, EACH * IMAGES, score_rows, score_columns("patch", 1))
    return out


def test_selection_holds_numbers_only(run: Path, tmp_path: Path) -> None:
    rows = IMAGES * EACH
    text = IMAGES * len(NAME.format(0))  # 17 MB of names alone
    pool = pyarrow.default_memory_pool()
    held = pool.bytes_allocated()
    tracemalloc.start()
    made = select(run / "scores", tmp_path / "s", method="optidel-s", ratio=0.1)
    high = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Per patch: id, pixels, margin, rank, places and one sort's copies: under 100 bytes.
    assert high < 100 * rows
    assert pool.bytes_allocated() - held < text
    table = Table(tmp_path / "s", "selection")
    margins = Table(run / "scores").column("margin")
    hardest = np.argsort(-margins, kind="stable")[: table.rows]
    assert np.array_equal(table.column("patch"), hardest)
    image = hardest[::4] // EACH
    pixels = int(np.sum((200 + image % 3) * 300))
    full = sum((200 + k % 3) * 300 for k in range(IMAGES))
    assert made.counts["pixels"] == pixels <= 0.1 * full < pixels + 202 * 300
