"""Stage `probe`: the masked autoencoder that margins are measured with."""

import dataclasses
import hashlib
import itertools
import math
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.folder import MANIFEST, Input, Made, Manifest, Stage, Work, digest, read_manifest
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.pipeline.pretraining import (
    content_digest,
    parameters_of,
    training_counts,
    training_seconds,
)
from pretrain_jax.report.collect import collect
from pretrain_jax.report.toy_model import bridge_of_run
from pretrain_jax.synthesis import Images
from pretrain_jax.synthesis.lists import keep_list
from pretrain_jax.train.config import TrainConfig
from pretrain_jax.train.folder import CHECKPOINTS
from pretrain_jax.train.loop import train
from pretrain_jax.train.weights import import_weights, load_model

FOLDER = "recommended"
POLICY = "hard"
RECOMMEND = Stage("recommend", inputs=("scores/*",))


def recommend_ratio(run: Path, *, scores: Sequence[str], seed: int = 0) -> Manifest:
    """The best fraction of the hardest examples in the theory, to three digits.

    Args:
        run: folder of a pipeline; the stage lies in `run`/recommended.
        scores: places of the scores of whole images by the probe and by the two probes of disjoint
            halves, from which the coordinates are estimated.
        seed: of the bootstrap of their intervals.

    Returns:
        The manifest with the counts ratio, alpha_total and theta_deg.

    Raises:
        ValueError: the coordinates cannot be estimated, or the theory has no certified answer.
    """
    inputs = {place: Input(digest(read_manifest(run / place, "score"))) for place in scores}

    def fill(_: Work) -> Made:
        found = bridge_of_run(collect(run), seed=seed)
        if isinstance(found, str):
            raise _refusal(found.removesuffix("."))
        if found.recommendation is None:
            raise _refusal("margins by probes of disjoint halves are not positively correlated")
        advice = {one.policy: one.keep_fraction for one in found.recommendation.policies}
        if not math.isfinite(advice[POLICY]):
            raise _refusal(f"the theory has no certified fraction for keeping the {POLICY}est")
        counts = {
            "ratio": float(f"{advice[POLICY]:.3g}"),
            "alpha_total": found.coordinates.alpha_total,
            "theta_deg": math.degrees(found.coordinates.theta),
        }
        sentences = [found.recommendation.caveat, f"{found.recommendation.verdict.sentence()}."]
        return Made(counts, sentences)

    return RECOMMEND.open(run / FOLDER, {"policy": POLICY}, seed, inputs).run(fill)


def recommended_in(run: Path) -> float | None:
    """The ratio that was recommended in a pipeline's folder; None before."""
    if not (run / FOLDER / MANIFEST).is_file():
        return None
    return float(read_manifest(run / FOLDER, "recommend").counts["ratio"])


def _refusal(why: str) -> ValueError:
    return ValueError(f"ratios: there is no 'recommended' one: {why}; give numbers")


RUN = "run"
FULL_LIST = "full.txt"
# Subfolders of the probes that were trained on disjoint halves of the images.
HALVES = ("half-0", "half-1")
HALF_LISTS = tuple(f"{name}.txt" for name in HALVES)
PROBE = Stage(
    "probe",
    inputs=("index", "checkpoint", "init"),
    # Lists hold places; runs have files of their own for every host.
    local=(RUN, *HALVES, FULL_LIST, *HALF_LISTS),
)


def probe(
    index: str | Path,
    out: str | Path,
    *,
    config: TrainConfig,
    checkpoint: str | None = None,
    halves: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> Manifest:
    """A masked autoencoder in `out`/run: the user's, or one trained on all images of an index.

    Args:
        index: folder of stage `index`.
        out: the stage's folder.
        config: of the training run; its data, out and seed are set here. Of a checkpoint file it
            gives the model and the images' mean and standard deviation.
        checkpoint: a run's folder or a checkpoint file; None trains.
        halves: whether two more are trained, in `out`/half-0 and `out`/half-1, on disjoint halves
            of the images; no group (video, sequence, patient) that the index knows is in both, and
            a note says of how many files it knows none.
        seed: of the training and of the halves.
        progress: whether to draw a progress bar on stderr.

    Raises:
        ValueError: bad configuration, checkpoint or images; see `train`.
    """
    images = Images(index)
    images.check_unchanged()
    given = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(index)))
    given.check()
    if not isinstance(config.model, MAEConfig):
        raise ValueError("model is a SimCLRConfig; a probe is a masked autoencoder")
    if checkpoint is not None and not Path(checkpoint).exists():
        raise ValueError(f"checkpoint {checkpoint} does not exist; name a run's folder or a file")
    parameters: dict[str, Any] = {"config": parameters_of(config), "halves": halves}
    inputs = {"index": images.as_input()}
    if checkpoint is not None:
        inputs["checkpoint"] = Input(content_digest(checkpoint))
    if checkpoint is None and config.init is not None:
        inputs["init"] = Input(content_digest(config.init))
    work = PROBE.open(out, parameters, seed, inputs, shared=config.cluster.join)
    return work.run(
        lambda work: _filled(work, images, config, checkpoint, halves, seed, progress),
        lambda _: _keep_lists(Path(out), images, halves, seed),
    )


def _filled(
    work: Work,
    images: Images,
    config: TrainConfig,
    checkpoint: str | None,
    halves: bool,
    seed: int,
    progress: bool,
) -> Made:
    folder = work.folder
    first, without = _half(images, seed) if halves else (None, 0)
    full = folder / FULL_LIST
    data = dataclasses.replace(config.data, path=str(full), validation=str(full))
    base = dataclasses.replace(config, data=data, seed=seed)
    notes, seconds = [], 0.0
    counts: dict[str, int | float] = {"images": images.manifest.counts["images"]}
    if checkpoint is not None:
        # Before anything is written: a checkpoint of no use leaves the folder free.
        _take(checkpoint, base, folder / RUN)
        notes.append("The probe is the user's checkpoint; what its training cost is not counted.")
    _keep_lists(folder, images, halves, seed)
    if checkpoint is None:
        steps = train(dataclasses.replace(base, out=str(folder / RUN)), progress=progress).steps
        counts |= training_counts(folder / RUN, steps)
        seconds += training_seconds(folder / RUN, steps, config)
    spent = 0.0
    if first is not None:
        trained = load_model(folder / RUN)
        data = dataclasses.replace(data, mean=trained.mean, std=trained.std)
        for name, listed, chosen in zip(HALVES, HALF_LISTS, (first, ~first), strict=True):
            own = dataclasses.replace(data, path=str(folder / listed))
            half = dataclasses.replace(base, data=own, out=str(folder / name))
            steps = train(half, progress=progress).steps
            counts[f"files_{name}"] = int(chosen.sum())
            spent += training_seconds(folder / name, steps, config)
        if without:
            notes.append(
                f"The group (video, sequence or patient) of {without} of {len(first)} files is not "
                "known: frames of one video or patient may be in both halves."
            )
    return Made(counts, notes, seconds=max(work.working, seconds + spent), aside=spent)


def _keep_lists(folder: Path, images: Images, halves: bool, seed: int) -> list[str]:
    """Write the lists of all images and of the halves where they differ; which were written."""
    here = folder.resolve()
    chosen: list[NDArray[np.bool_] | None] = [None]
    if halves:
        first, _ = _half(images, seed)
        chosen += [first, ~first]

    def names(part: NDArray[np.bool_] | None) -> Iterable[str]:
        files = (path for path, _ in _files(images))
        kept = files if part is None else itertools.compress(files, part)
        return (os.path.relpath(path, here) for path in kept)

    return [
        name
        for name, part in zip((FULL_LIST, *HALF_LISTS), chosen, strict=False)
        if keep_list(folder / name, partial(names, part))
    ]


def _files(images: Images) -> Iterator[tuple[str, str]]:
    """Files of which something is readable, in order, each once, and the group of each."""
    before = ""
    for batch in images.table.batches(["name", "height", "group"]):
        for name, height, group in zip(batch["name"], batch["height"], batch["group"], strict=True):
            if height > 0 and name != before:  # frames of a video follow each other
                before = str(name)
                yield str(images.root / before), str(group)


def _half(images: Images, seed: int) -> tuple[NDArray[np.bool_], int]:
    """Which files are in the first half, and of how many the group is not known.

    Whole groups in a random order make the half until it is full; a file without one is its own.
    """
    keys, without = array("Q"), 0
    for name, group in _files(images):
        without += not group
        # A path cannot be taken for a group: it is hashed with a mark before it.
        key = hashlib.sha256((group or f"\0{os.path.relpath(name, images.root)}").encode())
        keys.append(int.from_bytes(key.digest()[:8], "big"))
    distinct, codes, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    if len(distinct) < 2:
        raise ValueError("halves: the images are of one group; disjoint halves need two or more")
    order = np.random.default_rng(seed).permutation(len(distinct))
    before = np.cumsum(sizes[order]) - sizes[order]
    chosen = np.zeros(len(distinct), bool)
    chosen[order] = before < len(keys) / 2
    chosen[order[-1]] = False
    return chosen[codes], without


def _take(checkpoint: str, config: TrainConfig, run: Path) -> None:
    """Copy a run's newest checkpoint, or import a file, so that `run` can be loaded."""
    if run.exists():
        shutil.rmtree(run)
    source = Path(checkpoint)
    if not source.is_dir():
        import_weights(source, config, run)
        return
    trained = load_model(source)
    if not isinstance(trained.model, MAE):
        raise ValueError(f"checkpoint {source} is no masked autoencoder; a probe is one")
    step = str(trained.step)
    places = (source / CHECKPOINTS / step, source / step, source)
    found = next(place for place in places if (place / "meta").exists())
    shutil.copytree(found, run / CHECKPOINTS / step)
