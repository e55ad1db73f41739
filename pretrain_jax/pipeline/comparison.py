"""Runs the stage `leakage`, which looks for test frames among the images.

Every case must be readable, and no test frame may be among the pre-training images.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hardset.folder import Input, Made, Manifest, Stage, Work
from pretrain_jax.segmentation import FinetuneConfig, Frame, LeakageError, SegmentationSet, split
from pretrain_jax.segmentation.burned_text import MOST, shows_text, text_note
from pretrain_jax.segmentation.dataset import ClassesSeen, read_case
from pretrain_jax.segmentation.finetuning import dataset_digest
from pretrain_jax.segmentation.leakage import (
    LEAST_CORRELATION,
    PERCEPTUAL_DISTANCE,
    KnownCases,
    Leak,
    group_notes,
    leaks_among,
)
from pretrain_jax.synthesis import Images
from pretrain_jax.synthesis.tables import Logged, Make, Shards, Table

FOUND = {
    "dataset": "int32",
    "kind": "string",
    "pretraining": "string",
    "test": "string",
    "distance": "int32",
}
LEAKAGE = Stage(
    "leakage",
    inputs=("index", "dataset*"),
    parameters=("distance", "least_correlation", "test_share", "split_seed"),
)
# Kind of a row that is no leak: an image that seems to show writing.
TEXT = "text"


def compare(
    index: str | Path,
    datasets: Sequence[SegmentationSet],
    out: str | Path,
    *,
    config: FinetuneConfig,
) -> Manifest:
    """Compare all images with the test cases, before anything is trained.

    Every case is read.

    The images are read once for all sets. A killed process loses the work on 5000 of them at most.
    A sample of them is looked at for burned-in writing; what it shows is a note of the manifest.

    Args:
        index: folder of stage `index`.
        datasets: segmentation data sets.
        out: the stage's folder.
        config: how they are split.

    Returns:
        The manifest, with the counts images, test_cases and burned_text.

    Raises:
        ValueError: a case whose mask is damaged, of another size or of unknown labels.
        LeakageError: test frames are among the images, with their list.
    """
    images = Images(index)
    images.check_unchanged()
    digests = {f"dataset {number}": dataset_digest(one) for number, one in enumerate(datasets)}
    inputs = {"index": images.as_input()} | {name: Input(one) for name, one in digests.items()}
    parameters = {
        "distance": PERCEPTUAL_DISTANCE,
        "least_correlation": LEAST_CORRELATION,
        "test_share": config.test_share,
        "split_seed": config.split_seed,
    }

    def fill(work: Work) -> Made:
        tests, empty = [], list[str]()
        for dataset in datasets:
            seen = ClassesSeen(dataset.classes, f"of {dataset.name}")
            for case in dataset.cases:
                seen(read_case(dataset, case)[1])
            empty += seen.notes()
            tests.append(split(dataset, test_share=config.test_share, seed=config.split_seed)[1])
        return _compared(work, images, tests, empty)

    return LEAKAGE.open(out, parameters, None, inputs).run(fill)


def _compared(
    work: Work, images: Images, tests: Sequence[SegmentationSet], empty: Sequence[str]
) -> Made:
    """Compare shard by shard.

    The leaks of the first set that has some are told.
    """
    # The folder is hidden, so that the stage's folder is free for another set when this one is
    # refused. Its name tells what was compared, so that no other set takes these shards.
    text = json.dumps([work.claim["parameters"], work.claim["inputs"]], sort_keys=True)
    folder = work.folder / f".{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)

    def begin() -> Make:
        known = [KnownCases(test) for test in tests]
        return lambda _, first, end, logged, bar: _rows(images, first, end, known, logged)

    made = Shards.of(images.table.rows).fill(folder, FOUND, begin, name="leakage", unit="image")
    assert made is not None  # all shards are this process's
    table, total = made
    found = list(_found(table))
    for number, test in enumerate(tests):
        leaks = [Leak(*rest) for dataset, *rest in found if dataset == number]
        if leaks:
            raise LeakageError(leaks, test.name)
    texts = [name for _, kind, name, *_ in found if kind == TEXT]
    unknown = int(images.manifest.counts.get("ungrouped", images.table.rows))
    counts = {"images": 0, "looked_at": 0} | total.counts
    looked_at = counts.pop("looked_at")
    notes = [
        *empty,
        text_note(texts, looked_at, _stride(images)),
        *group_notes(unknown, images.table.rows, tests),
    ]
    cases = sum(len(test) for test in tests)
    return Made(
        counts | {"test_cases": cases, "burned_text": len(texts)},
        notes,
        # Shards of earlier processes count, too.
        seconds=max(work.working, total.seconds),
        compile_seconds=max(work.compiling, total.compile_seconds),
        spent=(folder.name,),
    )


def _rows(
    images: Images, first: int, end: int, known: Sequence[KnownCases], logged: Logged
) -> Iterator[dict[str, Any]]:
    stride = _stride(images)
    texts: list[str] = []

    def frames() -> Iterator[Frame]:
        for number, frame in _frames(images, first, end):
            logged.add("images")
            if number % stride == 0:
                logged.add("looked_at")
                if shows_text(frame):
                    texts.append(frame.name)
            yield frame

    for number, leak in leaks_among(frames(), known):
        yield _row(number, leak.kind, leak.pretraining, leak.test, leak.distance)
    for name in texts:
        yield _row(-1, TEXT, name, "", 0)


def _row(*values: Any) -> dict[str, Any]:
    return {name: [value] for name, value in zip(FOUND, values, strict=True)}


def _found(table: Table) -> Iterator[tuple[Any, ...]]:
    for batch in table.batches(list(FOUND)):
        yield from zip(*(batch[name].tolist() for name in FOUND), strict=True)


def _stride(images: Images) -> int:
    """Return the distance between images that are looked at for writing."""
    return -(-images.table.rows // MOST)


def _frames(images: Images, first: int, end: int) -> Iterator[tuple[int, Frame]]:
    """Read the readable images of some rows with their numbers."""
    names = ("image", "name", "frame", "group", "height")
    for batch in images.table.batches(names, start=first, stop=end):
        columns = (batch[name] for name in names)
        for number, name, frame, group, height in zip(*columns, strict=True):
            if height > 0:
                shown = f"{name}" if frame < 0 else f"{name}#{frame}"
                path = str(images.root / str(name))
                yield int(number), Frame(shown, path, int(frame), str(group))
