"""Runs the stage `finetune-folds`, a cross validation by groups.

Each fold is a stage `finetune` in a folder of its own.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hardset.checks import check_integer
from hardset.datafile import write_text_atomic
from hardset.folder import Input, Made, Manifest, Stage, Work, output
from pretrain_jax.data.options import reading
from pretrain_jax.segmentation.config import FinetuneConfig
from pretrain_jax.segmentation.dataset import (
    LARGEST_FOLDS,
    SegmentationSet,
    fold_of,
    without_split,
)
from pretrain_jax.segmentation.finetuning import (
    OF_WEIGHTS,
    RESULT_NAME,
    compare_images,
    dataset_digest,
    finetune,
)
from pretrain_jax.segmentation.leakage import Frame
from pretrain_jax.segmentation.metrics import score_set
from pretrain_jax.segmentation.result import case_scores, result_record, trivial_scores
from pretrain_jax.segmentation.segmenter import (
    FOLD,
    SCRATCH,
    Origin,
    load_encoder,
    origin_of,
)
from pretrain_jax.train.config import FREE_OPTIONS

FOLDS = Stage("finetune-folds", inputs=("dataset", "init"))
SCORES = ("miou", "dice", "boundary_f")


def cross_validate(
    init: str | Path | None,
    dataset: SegmentationSet,
    out: str | Path,
    *,
    folds: int,
    config: FinetuneConfig,
    model: str = "auto",
    seed: int = 0,
    ignore_split: bool = False,
    pretraining: Iterable[Frame] | None = None,
    progress: bool = False,
) -> Manifest:
    """Fine-tune a model for each fold, and score every case once.

    The same call goes on: a finished fold is kept, one that was begun goes on from its newest
    checkpoint.

    Args:
        init: see `finetune`.
        dataset: whose groups are divided as in `fold_of`.
        out: gets a folder `fold-K` for each fold, as `finetune` leaves it, and result.json. This
            has the scores of all cases together, with intervals over groups, and in `folds` those
            of every fold.
        folds: at least 2, at most as many as there are groups.
        config: see `finetune`; `test_share` has no meaning here.
        model: see `finetune`.
        seed: likewise, the same for all folds.
        ignore_split: whether a published split is left out of account; with one, folds are refused
            otherwise.
        pretraining: see `finetune`; compared with all cases.
        progress: whether to draw progress bars on stderr.

    Raises:
        ValueError: see `finetune` and `fold_of`.
        OSError: a folder cannot be written.
    """
    config.check()
    check_integer("folds", folds, 2, LARGEST_FOLDS)
    if ignore_split:
        dataset = without_split(dataset)
    fold_of(dataset, 0, folds, seed=config.split_seed)  # refuses before anything is written
    fields = {k: v for k, v in dataclasses.asdict(config).items() if k not in FREE_OPTIONS}
    parameters = fields | {"folds": folds, "dataset": dataset.name} | reading().content()
    origin, inputs = SCRATCH, {"dataset": Input(dataset_digest(dataset))}
    if init is not None:
        origin, found = origin_of(Path(init), load_encoder(Path(init), config.image_size, model))
        inputs["init"] = Input(found, init)
    stage = dataclasses.replace(FOLDS, apart=tuple(f"{FOLD}{k}" for k in range(folds)))

    def fill(work: Work) -> Made:
        notes: list[str] = []
        known = None
        if pretraining is not None:
            known = compare_images(pretraining, dataset, notes)
        manifests = [
            finetune(
                init,
                dataset,
                work.folder / f"{FOLD}{number}",
                config=config,
                model=model,
                seed=seed,
                compared=known,
                fold=(number, folds),
                progress=progress,
            )
            for number in range(folds)
        ]
        checked = known is not None
        return _pooled(work.folder, dataset, manifests, origin, config, seed, checked, notes)

    return stage.open(out, parameters, seed, inputs).run(fill)


def _pooled(
    folder: Path,
    dataset: SegmentationSet,
    manifests: list[Manifest],
    origin: Origin,
    config: FinetuneConfig,
    seed: int,
    compared: bool,
    notes: list[str],
) -> Made:
    """Write the record of all folds together."""
    records: list[dict[str, Any]] = []
    place = {case.name: number for number, case in enumerate(dataset.cases)}
    scores: list[Any] = [None] * len(dataset)
    trivial: dict[str, list[Any]] = {}
    for number, manifest in enumerate(manifests):
        path = output(folder / f"{FOLD}{number}", manifest, RESULT_NAME)
        records.append(json.loads(path.read_text(encoding="utf-8")))
        training, test = fold_of(dataset, number, len(manifests), seed=config.split_seed)
        for case, score in zip(test.cases, case_scores(records[-1]), strict=True):
            scores[place[case.name]] = score
        for name, found in trivial_scores(training, test).items():
            each = trivial.setdefault(name, [None] * len(dataset))
            for case, score in zip(test.cases, found, strict=True):
                each[place[case.name]] = score
    draws = config.bootstrap_draws
    record = result_record(
        dataset,
        scores,
        {
            name: score_set(found, dataset.groups, draws=draws, seed=seed)
            for name, found in trivial.items()
        },
        origin,
        draws=draws,
        seed=seed,
        head=config.head,
        mode=config.mode,
        steps=config.steps,
        leakage_checked=compared,
        folds=[
            {
                "folder": f"{FOLD}{number}",
                "training_cases": one["training_cases"],
                "test_cases": len(one["cases"]),
                "groups": one["groups"],
                **{name: one[name]["value"] for name in SCORES},
            }
            for number, one in enumerate(records)
        ],
    )
    write_text_atomic(folder / RESULT_NAME, f"{json.dumps(record, indent=1, allow_nan=False)}\n")
    counts = {
        "folds": len(manifests),
        "steps": config.steps,
        "test_cases": len(dataset),
        "miou": record["miou"]["value"],
    }
    notes += [one for one in manifests[0].notes if one.startswith(OF_WEIGHTS)]
    return Made(
        counts,
        notes,
        seconds=sum(one.seconds for one in manifests),
        compile_seconds=sum(one.compile_seconds for one in manifests),
    )
