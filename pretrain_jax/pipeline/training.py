"""Runs the stages that train.

They are `probe`, the model that margins are measured with, and `pretrain`.
"""

import dataclasses
import hashlib
import itertools
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice, check_integer
from hardset.folder import (
    MANIFEST,
    Input,
    Made,
    Manifest,
    Stage,
    Work,
    digest,
    read_manifest,
    remedy,
)
from hardset.listing import file_record
from pretrain_jax.data.options import CONTENT, adopt_reading, reading
from pretrain_jax.data.skipping import SKIPPED_NAME, left_out
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.pipeline.config import Protocol
from pretrain_jax.places import DATA_LIST, FULL_LIST, HALF_LISTS, HALVES, RUN
from pretrain_jax.synthesis import Images
from pretrain_jax.synthesis.source import keep_list, survey
from pretrain_jax.synthesis.synthesising import check_set
from pretrain_jax.train.config import FREE_FIELDS, TrainConfig, config_to_json
from pretrain_jax.train.folder import CHECKPOINTS
from pretrain_jax.train.logging import LOG_NAME, read_log, say
from pretrain_jax.train.loop import train
from pretrain_jax.train.setup import plan_run
from pretrain_jax.train.starting import import_weights
from pretrain_jax.train.weights import holds_run, load_model

PROBE = Stage(
    "probe",
    inputs=("index", "weights", "init"),
    parameters=("config", "halves"),
    # Lists hold places, and runs have files of their own for every host: both may differ.
    local=(RUN, *HALVES, FULL_LIST, *HALF_LISTS),
    renamed={"checkpoint": "weights"},
)
PRETRAIN = Stage(
    "pretrain",
    inputs=("data", "probe", "init"),
    parameters=("method", "ratio", "objective", "protocol", "seed", "config", *CONTENT),
    local=(RUN,),
)
# Counts that are taken over from a synthesised set.
COUNTED = (
    *("images", "storage_ratio", "pixels", "pixels_full", "bytes", "bytes_full", "bytes_ratio"),
    "images_full",
)
# The inputs of a stage tell where a run's data lie, so that these fields do not count.
PLACES = frozenset({"out", "init", "seed", "data.path", "data.validation"})


def probe(
    index: str | Path,
    out: str | Path,
    *,
    config: TrainConfig,
    weights: str | None = None,
    halves: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> Manifest:
    """Make the probe in `out`/run.

    It is the user's model, or one trained on an index.

    Args:
        index: folder of stage `index`.
        out: the stage's folder.
        config: of the training run; its data, out and seed are set here. Of a checkpoint file it
            gives the model and the images' mean and standard deviation.
        weights: a run's folder or a checkpoint file; None trains.
        halves: whether two more are trained, in `out`/half-0 and `out`/half-1, on disjoint halves
            of the images; no group (video, sequence, patient) that the index knows is in both, and
            a note says of how many files it knows none.
        seed: of the training and of the halves.
        progress: whether to draw a progress bar on stderr.

    Raises:
        ValueError: bad configuration, weights or images; see `train`.
    """
    images = Images(index)
    images.check_unchanged()
    given = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(index)))
    given.check()
    if not isinstance(config.model, MAEConfig):
        raise ValueError("model is a SimCLRConfig; a probe is a masked autoencoder")
    if weights is not None and not Path(weights).exists():
        raise ValueError(f"weights {weights} do not exist; name a run's folder or a file")
    parameters: dict[str, Any] = {"config": parameters_of(config), "halves": halves}
    inputs = {"index": images.as_input()}
    if weights is not None:
        inputs["weights"] = Input(content_digest(weights))
    if weights is None and config.init is not None:
        inputs["init"] = Input(content_digest(config.init))
    work = PROBE.open(out, parameters, seed, inputs, shared=config.cluster.join)
    return work.run(
        lambda work: _filled(work, images, config, weights, halves, seed, progress),
        lambda _: _keep_lists(Path(out), images, halves, seed),
    )


def _filled(
    work: Work,
    images: Images,
    config: TrainConfig,
    weights: str | None,
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
    if weights is not None:
        # This comes before anything is written, so that weights of no use leave the folder free.
        _take(weights, base, folder / RUN)
        notes.append("The probe is the user's checkpoint; what its training cost is not counted.")
    _keep_lists(folder, images, halves, seed)
    if weights is None:
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
    """Write the lists of all images and of the halves where they differ.

    It returns which lists were written.
    """
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
    """List the files of which something is readable.

    Each stands once, with its group.
    """
    before = ""
    for batch in images.table.batches(["name", "height", "group"]):
        for name, height, group in zip(batch["name"], batch["height"], batch["group"], strict=True):
            if height > 0 and name != before:  # frames of a video follow each other
                before = str(name)
                yield str(images.root / before), str(group)


def _half(images: Images, seed: int) -> tuple[NDArray[np.bool_], int]:
    """Choose the files of the first half.

    It also counts the files whose group is not known.

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


def _take(weights: str, config: TrainConfig, run: Path) -> None:
    """Copy a run's newest checkpoint, or import a file.

    Then `run` can be loaded.
    """
    if run.exists():
        shutil.rmtree(run)
    source = Path(weights)
    if not holds_run(source):
        import_weights(source, config, run)
        return
    trained = load_model(source)
    if not isinstance(trained.model, MAE):
        raise ValueError(f"checkpoint {source} is no masked autoencoder; a probe is one")
    step = str(trained.step)
    places = (source / CHECKPOINTS / step, source / step, source)
    found = next(place for place in places if (place / "meta").exists())
    shutil.copytree(found, run / CHECKPOINTS / step)


def pretrain(
    data: str | Path,
    out: str | Path,
    *,
    config: TrainConfig,
    seed: int = 0,
    protocol: Protocol = "matched",
    full_images: int | None = None,
    validation: str | Path | None = None,
    probe: str | Path | None = None,
    progress: bool = False,
) -> Manifest:
    """Train a model from scratch on a data set.

    The run lies in `out`/run.

    Of a finished stage whose `data` is no stage's, files with other names or sizes are refused; one
    that was written since and has its size gives a line on stderr.

    Args:
        data: folder of stage `synthesise`, whose data.txt lists the images, or any source that
            `find_images` takes.
        out: the stage's folder.
        config: of the run; its data.path, out and seed are set here. `steps`, or `epochs` of
            the full set, are what "matched" gives every run.
        seed: of the run.
        protocol: "matched": the optimiser steps of a run on the full set; "paper": `epochs`
            passes over `data` itself.
        full_images: number of images of the full set, for "matched" with `epochs`. A folder of
            stage `synthesise` knows it; of other data it must be given, for the full set itself its
            own number.
        validation: source of the validation images, the same for all data sets that are compared;
            default a share held out of `data`.
        probe: folder of stage `probe`; its mean and standard deviation, those of the full set, are
            taken where `config` has none.
        progress: whether to draw a progress bar on stderr.

    Raises:
        ValueError: bad configuration or images, see `train`; an image of the set that has changed;
            "matched" without the size of the full set.
    """
    source, content, method = _data(Path(data))
    inputs = {"data": Input(content, data)}
    if probe is not None:
        inputs["probe"] = Input.of(probe, read_manifest(probe, "probe"))
    if config.init is not None:
        inputs["init"] = Input(content_digest(config.init))
    if known := _storage(Path(data)):
        check_set(data)
    found = survey(source, config.data.frame_stride)
    listed = found.images
    full = known.get("images_full")
    if full is not None and full_images not in (None, full):
        raise ValueError(
            f"full_images = {full_images}, but {data} was made from a full set of {full} images; "
            "leave full_images out"
        )
    config = _with_length(config, protocol, listed, full_images if full is None else int(full))
    parameters: dict[str, Any] = method | reading().content()
    parameters |= {
        "objective": "simclr" if isinstance(config.model, SimCLRConfig) else "mae",
        "protocol": protocol,
        "seed": seed,
        "config": parameters_of(config),
    }

    def again(_: Manifest) -> tuple[str, ...]:
        if not known and found.newest > (Path(out) / MANIFEST).stat().st_mtime_ns:
            say(
                f"warning: {found.newest_file} was written after {out} was finished, which may "
                "have seen another image there; to train anew name another folder"
            )
        return ()

    def fill(work: Work) -> Made:
        options = dataclasses.replace(config.data, path=str(source))
        if validation is not None:
            options = dataclasses.replace(options, validation=str(validation))
        if probe is not None and options.mean is None:
            mean, std = _statistics(Path(probe))
            options = dataclasses.replace(options, mean=mean, std=std)
        run = work.folder / RUN
        run_config = dataclasses.replace(config, data=options, out=str(run), seed=seed)
        result = train(run_config, progress=progress)
        counts = training_counts(run, result.steps) | {"images": listed} | known
        seconds = max(work.working, training_seconds(run, result.steps, config))
        where = f"{RUN}/{SKIPPED_NAME}"
        notes = [left_out(result.skipped.values(), where)] if result.skipped else []
        return Made(counts, notes, seconds=seconds)

    return PRETRAIN.open(out, parameters, seed, inputs, shared=config.cluster.join).run(fill, again)


def _data(path: Path) -> tuple[Path, str, dict[str, Any]]:
    """Describe the data of a run.

    It gives the image list or source, its digest, and how it was chosen.
    """
    if not (path / MANIFEST).is_file():
        return path, survey(path).digest, {}
    manifest = read_manifest(path, "synthesise")
    adopt_reading(manifest.parameters)
    known = {name: manifest.parameters.get(name) for name in ("method", "ratio")}
    return path / DATA_LIST, digest(manifest), known


def _storage(path: Path) -> dict[str, int | float]:
    if not (path / MANIFEST).is_file():
        return {}
    counts = read_manifest(path).counts
    return {name: counts[name] for name in COUNTED if name in counts}


def _with_length(
    config: TrainConfig, protocol: Protocol, images: int, full_images: int | None
) -> TrainConfig:
    check_choice("protocol", protocol, get_args(Protocol))
    if protocol == "paper":
        if config.epochs is None:
            raise ValueError(
                f"protocol = paper gives every run the same epochs, and steps = {config.steps} is "
                "set; give epochs (with steps None)"
            )
        return config
    if full_images is not None:
        check_integer("full_images", full_images, images, 1 << 40)
    elif config.epochs is not None:
        raise ValueError(
            f"protocol = matched with epochs = {config.epochs:g} gives the steps of the full set, "
            "whose number of images is not known here: give full_images, or steps (with epochs "
            "None), or protocol = paper"
        )
    steps = matched_steps(config, images if full_images is None else full_images)
    return dataclasses.replace(config, steps=steps, epochs=None)


def _statistics(probe: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    trained = load_model(probe / RUN)
    return trained.mean, trained.std


def matched_steps(config: TrainConfig, images: int) -> int:
    """Count the optimiser steps of a run on `images` images.

    The protocol is `steps` or `epochs`.
    """
    return plan_run(config, images).steps


def parameters_of(config: TrainConfig) -> dict[str, Any]:
    """Return the fields of a run that its numbers depend on.

    Places and seed are left out.
    """
    return _without(config_to_json(config), FREE_FIELDS | PLACES)


def training_counts(run: Path, steps: int) -> dict[str, int | float]:
    """Read steps, last loss and validation loss of a finished run.

    Args:
        run: folder of a `train` run.
        steps: that it took.

    Raises:
        ValueError: its log is gone, damaged or cut short; says which folder to delete.
    """
    log = run / LOG_NAME
    lines = read_log(log) if log.is_file() else []
    last = [line for line in lines if line["step"] == steps]
    losses = [line["loss"] for line in last if "loss" in line]
    held = [line["validation_loss"] for line in last if "validation_loss" in line]
    if not losses or not held:
        raise ValueError(f"{log} does not tell of step {steps}, the last one; {remedy(log)}")
    return {"steps": steps, "loss": losses[-1], "validation_loss": held[-1]}


def images_per_second(run: Path) -> float | None:
    """Measure the median rate of a run's steps.

    Compilation is left out. It is None where the rate is not known.
    """
    lines = read_log(run / LOG_NAME) if (run / LOG_NAME).is_file() else []
    rates = sorted(r for r in (line.get("images_per_second") for line in lines) if r)
    return rates[len(rates) // 2] if rates else None


def training_seconds(run: Path, steps: int, config: TrainConfig) -> float:
    """Estimate the seconds of a finished run's steps.

    Those before an interruption are included.
    """
    rate = images_per_second(run)
    return steps * config.batch_size / rate if rate else 0.0


def content_digest(path: str | Path) -> str:
    """Hash a file, a stage's manifest, or all files of a folder.

    The names of a folder's files are hashed with them.
    """
    path = Path(path)
    if path.is_file():
        return str(file_record(path)["sha256"])
    if (path / MANIFEST).is_file():
        return digest(read_manifest(path))
    found = hashlib.sha256()
    for root, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            file = Path(root) / name
            found.update(f"{file.relative_to(path)} {file_record(file)['sha256']}\n".encode())
    return found.hexdigest()


def _without(values: dict[str, Any], names: frozenset[str], prefix: str = "") -> dict[str, Any]:
    return {
        name: _without(value, names, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in values.items()
        if prefix + name not in names
    }
