"""Stage `pretrain`: a model from scratch on one data set, for equal steps or for equal epochs."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any, get_args

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
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.pipeline.config import Protocol
from pretrain_jax.synthesis.source import survey
from pretrain_jax.synthesis.synthesising import check_set
from pretrain_jax.train.config import FREE_FIELDS, TrainConfig, config_to_json
from pretrain_jax.train.logging import LOG_NAME, read_log, say
from pretrain_jax.train.loop import train
from pretrain_jax.train.setup import plan_run

RUN = "run"
PRETRAIN = Stage("pretrain", inputs=("data", "probe", "init"), local=(RUN,))
DATA_LIST = "data.txt"
# Of a synthesised set.
COUNTED = (
    *("images", "storage_ratio", "pixels", "pixels_full", "bytes", "bytes_full", "bytes_ratio"),
    "images_full",
)
# Where a run's data lie is told by its inputs.
PLACES = frozenset({"out", "init", "seed", "data.path", "data.validation"})


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
    """Train a model from scratch on a data set; the run lies in `out`/run.

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
    parameters: dict[str, Any] = method | {
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
        steps = train(run_config, progress=progress).steps
        counts = training_counts(run, steps) | {"images": listed} | known
        seconds = max(work.working, training_seconds(run, steps, config))
        return Made(counts, seconds=seconds)

    return PRETRAIN.open(out, parameters, seed, inputs, shared=config.cluster.join).run(fill, again)


def matched_steps(config: TrainConfig, images: int) -> int:
    """Optimiser steps of a run on `images` images, by `steps` or `epochs`."""
    return plan_run(config, images).steps


def parameters_of(config: TrainConfig) -> dict[str, Any]:
    """The fields of a run that its numbers depend on, without places and seed."""
    return _without(config_to_json(config), FREE_FIELDS | PLACES)


def training_counts(run: Path, steps: int) -> dict[str, int | float]:
    """Steps, loss of the last step and validation loss at the end of a finished run.

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
    """Median rate of a run's steps, without compilation and validation; None where unknown."""
    lines = read_log(run / LOG_NAME) if (run / LOG_NAME).is_file() else []
    rates = sorted(r for r in (line.get("images_per_second") for line in lines) if r)
    return rates[len(rates) // 2] if rates else None


def training_seconds(run: Path, steps: int, config: TrainConfig) -> float:
    """Seconds of a finished run's steps, those before an interruption included."""
    rate = images_per_second(run)
    return steps * config.batch_size / rate if rate else 0.0


def content_digest(path: str | Path) -> str:
    """sha256 of a file, of a stage's manifest, or of all files in a folder with their names."""
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


def _data(path: Path) -> tuple[Path, str, dict[str, Any]]:
    """Image list or source, its digest, and how it was chosen, where that is known."""
    if not (path / MANIFEST).is_file():
        return path, survey(path).digest, {}
    manifest = read_manifest(path, "synthesise")
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
    from pretrain_jax.train.weights import load_model

    trained = load_model(probe / RUN)
    return trained.mean, trained.std


def _without(values: dict[str, Any], names: frozenset[str], prefix: str = "") -> dict[str, Any]:
    return {
        name: _without(value, names, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in values.items()
        if prefix + name not in names
    }
