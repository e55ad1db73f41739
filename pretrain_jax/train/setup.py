"""Prepares what a run needs from its configuration.

It makes images, mesh, sizes and the compiled step.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from pretrain_jax.data.loader import (
    Batch,
    TooManySkippedError,
    decode_all,
    measure_statistics,
)
from pretrain_jax.data.opening import Remark, remark_notes
from pretrain_jax.data.options import reading
from pretrain_jax.data.shipped import write_shipped_images
from pretrain_jax.data.sources import ImageSet, find_images, fingerprint, hold_out
from pretrain_jax.data.transforms import Crop
from pretrain_jax.models.vit.config import DType
from pretrain_jax.train.config import (
    SHIPPED_IMAGES,
    OptimizerOptions,
    RunOptions,
    TrainConfig,
)
from pretrain_jax.train.folder import known_statistics
from pretrain_jax.train.logging import say
from pretrain_jax.train.objectives import ImageObjective
from pretrain_jax.train.step import PROGRAMS, Step, check_batch, make_mesh, make_optimizer, schedule

# Training images, spread over the set, that mean and standard deviation are measured on.
STATISTICS_IMAGES = 256


@dataclass(frozen=True)
class RunData:
    """Holds the images of a run.

    Attributes:
        training: what is trained on.
        validation: the validation set.
        held: its decoded images with their places in `validation`.
        skipped: reasons of unreadable validation images, by name.
        mean: of each channel, where the largest pixel value is 1.
        std: of each channel.
        digests: of the training and the validation images, see `fingerprint`.
        options: with which they are read, see `Reading.content`.
    """

    training: ImageSet
    validation: ImageSet
    held: Batch
    skipped: dict[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digests: Mapping[str, str]
    options: Mapping[str, Any]

    def statistics(self) -> dict[str, Any]:
        """Return what is kept beside the configuration."""
        return {
            "mean": self.mean,
            "std": self.std,
            "training_images": len(self.training),
            "validation_images": len(self.held.images),
            **{f"{part}_digest": digest for part, digest in self.digests.items()},
            **({"reading": dict(self.options)} if self.options else {}),
        }


@dataclass(frozen=True)
class Plan:
    """Holds the sizes that follow from configuration, data and devices.

    Attributes:
        mesh: of devices.
        batch_size: images of a step over all devices.
        steps: optimiser steps.
        dtype: of the computation.
    """

    mesh: Mesh
    batch_size: int
    steps: int
    dtype: DType


def plan_run(config: TrainConfig, images: int | None = None) -> Plan:
    """Plan mesh, batch and steps.

    Args:
        config: checked.
        images: number of training images; without it `steps` must be given.

    Raises:
        ValueError: devices and batch do not fit each other, or steps and scans.
    """
    mesh = make_mesh(config.devices, config.fsdp)
    batch_size = config.batch_size * (mesh.size if config.batch_per_device else 1)
    steps = config.steps
    if steps is None:
        assert config.epochs is not None and images is not None
        steps = max(1, math.ceil(config.epochs * images / batch_size))
        steps += -steps % config.scan_steps
    return make_plan(config, mesh, batch_size, steps, accumulation=config.accumulation)


def make_plan(
    options: RunOptions, mesh: Mesh, batch_size: int, steps: int, *, accumulation: int = 1
) -> Plan:
    """Return the sizes of a run, if devices, batch, steps and scans fit each other.

    Raises:
        ValueError: they do not, or the precision needs another setting of JAX.
    """
    check_batch(batch_size, accumulation, mesh)
    if steps % options.scan_steps:
        raise ValueError(f"steps = {steps} is not a multiple of scan_steps = {options.scan_steps}")
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    dtype = options.precision
    if dtype == "auto":
        dtype = "float32" if on_cpu else "bfloat16"
    if dtype == "float64" and jnp.result_type(float) != jnp.float64:
        raise ValueError("precision = float64 needs the environment variable JAX_ENABLE_X64=1")
    return Plan(mesh, batch_size, steps, dtype)


def crop_of(config: TrainConfig) -> Crop:
    """Say how training images are cut."""
    data = config.data
    size = config.model.encoder.size[0]
    return Crop(size, kind=data.crop, scale=data.crop_scale, flip=data.flip)


def read_data(config: TrainConfig, folder: Path) -> RunData:
    """Find the images, decode the validation set, measure mean and standard deviation.

    Args:
        config: checked.
        folder: of the run, which has the statistics where it goes on.

    Raises:
        ValueError: missing or empty sources, too many unreadable images, bad pixels, other images
            than the run began with.
    """
    data = config.data
    training, validation = _sources(config, folder)
    validation = spread(validation, data.validation_images)
    prints = {"training": fingerprint(training), "validation": fingerprint(validation)}
    known = known_statistics(folder, prints)
    held, skipped = decode_images(config, validation)
    mean, std = data.mean, data.std
    if mean is None and known:
        mean, std = tuple(known["mean"]), tuple(known["std"])
    if mean is None or std is None:
        sample, unreadable = decode_images(config, spread(training, STATISTICS_IMAGES))
        skipped |= unreadable
        mean, std = measure_statistics(sample.images)
    total = len(training) + len(validation)
    if len(skipped) > data.skip_at_most * total:
        raise TooManySkippedError(skipped, total, data.skip_at_most)
    digests = {part: one.digest for part, one in prints.items()}
    options = reading().content()
    return RunData(training, validation, held, skipped, mean, std, digests, options)


def decode_images(config: TrainConfig, images: ImageSet) -> tuple[Batch, dict[str, str]]:
    """Decode all of `images` at the model's size, without randomness.

    The unreadable ones are named.
    """
    crop = crop_of(config)
    if crop.kind == "random":
        crop = dataclasses.replace(crop, kind="centre")
    channels, bits = config.model.encoder.channels, config.data.bits
    remarks: list[tuple[str, Remark]] = []
    found = decode_all(images, crop, channels=channels, bits=bits, remarks=remarks)
    for note in remark_notes(remarks):
        say(f"warning: of {len(images)} images that were looked at {note}")
    return found


def _sources(config: TrainConfig, folder: Path) -> tuple[ImageSet, ImageSet]:
    """Find the training and validation images."""
    data = config.data
    source, held_source = data.path, data.validation
    if source == SHIPPED_IMAGES:
        shipped = write_shipped_images(folder / "images", side=config.model.encoder.size[0])
        source, held_source = str(shipped[0]), held_source or str(shipped[1])
    known: dict[str, Any] = {
        "frame_stride": data.frame_stride,
        "skip_at_most": data.skip_at_most,
    }
    training = find_images(source, **known)
    for sentence in training.left_out:
        say(f"warning: in {source} {sentence}")
    if held_source is None:
        return hold_out(training, data.validation_share, config.seed)
    validation = find_images(held_source, **known)
    if training.classes and validation.classes and training.classes != validation.classes:
        raise ValueError(
            f"the classes of {held_source} ({', '.join(validation.classes)}) are not those of "
            f"{source} ({', '.join(training.classes)})"
        )
    return training, validation


def make_step(config: TrainConfig, plan: Plan, objective: ImageObjective) -> Step:
    """Return the step of a run."""
    options = config.optimizer
    optimizer, rates = _optimizer(options, plan.steps, plan.batch_size)
    return Step(
        objective=objective,
        optimizer=optimizer,
        schedule=rates,
        mesh=plan.mesh,
        seed=config.seed,
        accumulation=config.accumulation,
        ema_decay=options.ema_decay,
    )


# Equal options get the same functions, so that equal steps compare equal and share programs.
@lru_cache(PROGRAMS)
def _optimizer(
    options: OptimizerOptions, steps: int, batch_size: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    return make_optimizer(options, steps, batch_size), schedule(options, steps, batch_size)


@contextmanager
def joined(config: TrainConfig) -> Iterator[None]:
    """Join the other processes of a multi-host run for as long as the block runs."""
    if not config.cluster.join:
        yield
        return
    cluster = config.cluster
    try:
        jax.distributed.initialize(cluster.coordinator, cluster.processes, cluster.process)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"--cluster.join: the other processes cannot be joined: {error}; outside Slurm, MPI "
            "and cloud TPUs give --cluster.coordinator HOST:PORT, --cluster.processes and "
            "--cluster.process"
        ) from None
    try:
        yield
    finally:
        jax.distributed.shutdown()  # type: ignore[no-untyped-call]


def spread(images: ImageSet, count: int) -> ImageSet:
    """Choose at most `count` images, spread evenly over the set."""
    if len(images) <= count:
        return images
    return images.take(np.linspace(0, len(images) - 1, count).round().astype(np.int64))
