"""Configures a training run by named presets.

Its fields are the command's options.
"""

import dataclasses
import os
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from hardset.checks import check_choice, check_integer, check_range
from pretrain_jax.models.mae import MAE_PRESETS, MAEConfig
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.models.vit import VIT_PRESETS, ViTConfig

# `DataOptions.path` of the images that other packages ship.
SHIPPED_IMAGES = "shipped-images"
LARGEST = 1 << 40
# Models that are pre-trained, by the name that a run's record has.
MODELS: Mapping[str, type[MAEConfig | SimCLRConfig]] = MappingProxyType(
    {"MAEConfig": MAEConfig, "SimCLRConfig": SimCLRConfig}
)
# Fields of `DataOptions` by their names in versions up to 0.2.2.
RENAMED_DATA: Mapping[str, str] = MappingProxyType({"max_skipped_share": "skip_at_most"})
Precision = Literal["auto", "float32", "bfloat16", "float64"]
# ImageNet's statistics, which the published checkpoints were trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DataOptions:
    """Says where images come from and how they are cut.

    Attributes:
        path: a folder, an image list, a tar or Parquet file or a folder of them, a folder that
            datasets saved, a video or LAYOUT:FOLDER; "shipped-images" for real images
            that other packages ship (see the preset demo).
        validation: source of the validation images; None holds out a share of `path`.
        validation_share: share of the files of `path` held out where `validation` is None.
        validation_images: at most that many validation images are used; they stay in memory.
        frame_stride: every how many frames of a video are kept.
        crop: "random" (random resized crop), "centre", or "none" (all have the model's size).
        crop_scale: range of a random crop's area as a share of the image's.
        flip: whether random crops are mirrored half of the time.
        bits: 8 or 16 bits a channel on their way to the device.
        mean: mean of each channel where the largest pixel value is 1; None measures it.
        std: standard deviation of each channel; None measures it.
        workers: worker processes that decode; 0 decodes on threads.
        skip_at_most: the run stops when more than this share of the images is unreadable.
    """

    path: str = ""
    validation: str | None = None
    validation_share: float = 0.05
    validation_images: int = 1024
    frame_stride: int = 1
    crop: Literal["random", "centre", "none"] = "random"
    crop_scale: tuple[float, float] = (0.2, 1.0)
    flip: bool = True
    bits: Literal[8, 16] = 8
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    workers: int = 4
    skip_at_most: float = 0.01


@dataclass(frozen=True)
class OptimizerOptions:
    """Configures AdamW with a cosine schedule after a linear warmup.

    Attributes:
        learning_rate: peak learning rate; None where `base_learning_rate` is given.
        base_learning_rate: peak learning rate for a batch of 256, scaled linearly with the batch.
        betas: decay rates of the moments.
        eps: added to the root of the second moment.
        weight_decay: decoupled; not on biases, norms and other vectors.
        warmup_share: share of the steps with linear warmup.
        final_share: learning rate of the last step over the peak.
        clip_norm: largest global gradient norm; None does not clip.
        ema_decay: decay of the exponential moving average of the parameters, which then is what
            is validated and reconstructed with; None keeps none.
    """

    learning_rate: float | None = 1.5e-4
    base_learning_rate: float | None = None
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    final_share: float = 0.0
    clip_norm: float | None = None
    ema_decay: float | None = None


@dataclass(frozen=True)
class ClusterOptions:
    """Configures several processes that train one model, one on each host.

    Attributes:
        join: join the others through jax.distributed before anything else.
        coordinator: HOST:PORT of process 0; None detects Slurm, MPI and cloud TPUs.
        processes: number of processes, with `coordinator`.
        process: number of this one, from 0, with `coordinator`.
    """

    join: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Configures how any model is trained, logged and saved.

    It also says on what devices.

    Attributes:
        precision: of the computation; "auto" is bfloat16 on accelerators and float32 on CPU.
            Parameters are float32 (float64 with "float64").
        devices: number of devices; None takes all.
        fsdp: devices over which parameters and optimiser state are sharded; divides the devices.
        scan_steps: optimiser steps in one device program; hides dispatch for small batches.
        log_every: steps between two lines of the log.
        checkpoint_every: steps between two checkpoints.
        keep_checkpoints: how many are kept.
        peak_flops: FLOP/s of one device, for the model FLOPs utilisation; None looks it up.
    """

    precision: Precision = "auto"
    devices: int | None = None
    fsdp: int = 1
    scan_steps: int = 1
    log_every: int = 10
    checkpoint_every: int = 500
    keep_checkpoints: int = 3
    peak_flops: float | None = None

    def check_run(self, *more: str) -> None:
        """Check the fields of the run.

        Args:
            more: further fields that count the steps between two things.

        Raises:
            ValueError: names the field, its value and the valid range.
        """
        check_choice("precision", self.precision, get_args(Precision))
        for name in ("fsdp", "scan_steps", "log_every", "checkpoint_every", "keep_checkpoints"):
            check_integer(name, getattr(self, name), 1, LARGEST)
        if self.devices is not None:
            check_integer("devices", self.devices, 1, LARGEST)
        if self.peak_flops is not None:
            check_range("peak_flops", self.peak_flops, 0.0, 1e20, open_low=True)
        for name in ("log_every", "checkpoint_every", *more):
            if getattr(self, name) % self.scan_steps:
                raise ValueError(
                    f"{name} = {getattr(self, name)} is not a multiple of scan_steps = "
                    f"{self.scan_steps}; nothing can happen within a scan"
                )


# Fields that may change when any run goes on. Its numbers do not depend on them.
FREE_OPTIONS = frozenset(one.name for one in fields(RunOptions)) - {"precision"}


@dataclass(frozen=True)
class TrainConfig(RunOptions):
    """Configures a training run.

    Attributes:
        model: what is trained; its dtype fields follow `precision`.
        data: where images come from.
        optimizer: AdamW and its schedule.
        out: the run's folder; a run that lies there goes on where it stopped.
        init: weights to start from: a stage of pre-training, a run, or a file (.pth, .safetensors)
            or folder of published weights of MAE, ViT, DINOv2 without registers or SAM; None draws
            them.
        batch_size: images of an optimiser step over all devices, or of each device where
            `batch_per_device` is set.
        batch_per_device: whether `batch_size` counts the images of one device.
        accumulation: parts of a batch that are computed one after the other.
        steps: optimiser steps; None where `epochs` is given.
        epochs: passes over the training images; None where `steps` is given.
        seed: of the parameters, the order, the crops and the masks.
        cluster: several hosts.
        validate_every: steps between two validation losses and pictures; 0 only at the end.
        probe_every: steps between two linear and k-NN probes of labelled images; 0 never.
    """

    model: MAEConfig | SimCLRConfig = field(default_factory=MAEConfig)
    data: DataOptions = field(default_factory=DataOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    out: str = "run"
    init: str | None = None
    batch_size: int = 256
    batch_per_device: bool = False
    accumulation: int = 1
    steps: int | None = None
    epochs: float | None = None
    seed: int = 0
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    validate_every: int = 500
    probe_every: int = 0

    def check(self) -> None:
        """Check everything that can be checked without data and devices.

        Raises:
            ValueError: names the field, its value and the valid range.
        """
        _check_data(self)
        _check_optimizer(self.optimizer)
        for name in ("batch_size", "accumulation"):
            check_integer(name, getattr(self, name), 1, LARGEST)
        for name in ("validate_every", "probe_every"):
            check_integer(name, getattr(self, name), 0, LARGEST)
        self.check_run("validate_every", "probe_every")
        check_integer("seed", self.seed, 0, 2**32 - 1)
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"steps = {self.steps} and epochs = {self.epochs}: exactly one of the two must be "
                "given"
            )
        if self.steps is not None:
            check_integer("steps", self.steps, 1, LARGEST)
        if self.epochs is not None:
            check_range("epochs", self.epochs, 0.0, 1e9, open_low=True)
        if not self.out:
            raise ValueError("out = '' is not a folder")


def _check_data(config: TrainConfig) -> None:
    data, encoder = config.data, config.model.encoder
    if not data.path:
        raise ValueError("data.path is missing: a folder, an image list, a video or LAYOUT:FOLDER")
    check_integer("data.frame_stride", data.frame_stride, 1, LARGEST)
    check_integer("data.validation_images", data.validation_images, 1, LARGEST)
    check_range("data.validation_share", data.validation_share, 0.0, 1.0, open_high=True)
    check_range("data.crop_scale", data.crop_scale, 0.0, 1.0, open_low=True)
    check_range("data.skip_at_most", data.skip_at_most, 0.0, 1.0)
    check_integer("data.workers", data.workers, 0, 4096)
    if data.crop_scale[0] > data.crop_scale[1]:
        raise ValueError(f"data.crop_scale = {data.crop_scale} is not an ascending range")
    if encoder.size[0] != encoder.size[1]:
        raise ValueError(f"image_size = {encoder.size}: training takes square images")
    if encoder.channels not in (1, 3):
        raise ValueError(f"channels = {encoder.channels} is neither 1 nor 3")
    if (data.mean is None) != (data.std is None):
        raise ValueError("data.mean and data.std must be given together, or neither")
    for name, values in (("data.mean", data.mean), ("data.std", data.std)):
        if values is not None and len(values) != encoder.channels:
            raise ValueError(
                f"{name} has {len(values)} value(s), the images have {encoder.channels} channel(s)"
            )
    if data.std is not None:
        check_range("data.std", data.std, 0.0, 1e6, open_low=True)
    if (encoder.dtype, encoder.param_dtype) != ("float32", "float32"):
        raise ValueError(
            f"model dtype = {encoder.dtype}, param_dtype = {encoder.param_dtype}: set precision "
            "instead, which decides both"
        )


def _check_optimizer(options: OptimizerOptions) -> None:
    if (options.learning_rate is None) == (options.base_learning_rate is None):
        raise ValueError(
            f"optimizer.learning_rate = {options.learning_rate} and base_learning_rate = "
            f"{options.base_learning_rate}: exactly one of the two must be given (the other None)"
        )
    for name in ("learning_rate", "base_learning_rate", "clip_norm"):
        value = getattr(options, name)
        if value is not None:
            check_range(f"optimizer.{name}", value, 0.0, 1e6, open_low=True)
    check_range("optimizer.betas", options.betas, 0.0, 1.0, open_high=True)
    check_range("optimizer.eps", options.eps, 0.0, 1.0, open_low=True)
    check_range("optimizer.weight_decay", options.weight_decay, 0.0, 1e3)
    check_range("optimizer.warmup_share", options.warmup_share, 0.0, 1.0, open_high=True)
    check_range("optimizer.final_share", options.final_share, 0.0, 1.0)
    if options.ema_decay is not None:
        check_range("optimizer.ema_decay", options.ema_decay, 0.0, 1.0, open_high=True)


# Fields that may change when a run of pre-training goes on.
FREE_FIELDS = FREE_OPTIONS | frozenset(
    {
        "out",
        # Other images are told by what they are, see `known_statistics`.
        "data.path",
        "data.validation",
        "data.workers",
        "data.skip_at_most",
        "cluster.join",
        "cluster.coordinator",
        "cluster.processes",
        "cluster.process",
        "validate_every",
        "probe_every",
    }
)


def config_to_json(config: TrainConfig) -> dict[str, Any]:
    """Convert the configuration to JSON-able values.

    `config_from_json` is the inverse.

    The path `init` is told in full: it is the same from wherever the run goes on.
    """
    return dataclasses.asdict(config) | {
        "model": {"kind": type(config.model).__name__} | dataclasses.asdict(config.model),
        "init": None if config.init is None else os.path.realpath(config.init),
    }


def renamed_data(values: dict[str, Any]) -> dict[str, Any]:
    """Give the fields of a stored `DataOptions` the names that they have now.

    `values` is the configuration of a run with the field `data`.
    """
    data = values["data"]
    return values | {"data": {RENAMED_DATA.get(name, name): data[name] for name in data}}


def config_from_json(values: dict[str, Any]) -> TrainConfig:
    """Return the configuration that `config_to_json` wrote, in this version or an earlier one.

    Raises:
        ValueError: an unknown or missing field, or an unknown kind of model.
    """
    try:
        model = dict(values["model"])
        check_choice("model.kind", named := model.pop("kind"), MODELS)
        kind = MODELS[named]
        rest = _build(TrainConfig, {k: v for k, v in renamed_data(values).items() if k != "model"})
        return dataclasses.replace(rest, model=_build(kind, model))
    except (KeyError, TypeError) as error:
        raise ValueError(f"the configuration is not one of this version: {error}") from None


def config_differences(ours: TrainConfig, theirs: TrainConfig) -> list[str]:
    """Return the fields that keep a run from going on from another.

    In these fields the two runs differ.
    """
    return json_differences(config_to_json(ours), config_to_json(theirs), FREE_FIELDS)


def json_differences(
    ours: dict[str, Any], theirs: dict[str, Any], free: Collection[str]
) -> list[str]:
    """List the entries in which two nested records differ.

    They are listed by their path with dots. Those of `free` do not count.
    """
    first, second = _flat(ours), _flat(theirs)
    return [
        f"{name} = {first.get(name)!r} here and {second.get(name)!r} there"
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name) and name not in free
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            # JSON has no tuples.
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _build(kind: Any, values: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = values.keys() - {each.name for each in fields(kind)}
    if unknown:
        raise TypeError(f"{kind.__name__} has no field {', '.join(sorted(unknown))}")
    return kind(**{name: _value(hints[name], value) for name, value in values.items()})


def _value(hint: Any, value: Any) -> Any:
    if isinstance(value, dict):
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        return _build(next(o for o in options if dataclasses.is_dataclass(o)), value)
    return tuple(value) if isinstance(value, list) else value


# Pre-training of OptiDEL: MAE-ViT-Base/16, 224 px, mask 75%, batch 16, 100 epochs, AdamW, cosine.
# Its text has no learning rate: peak 1.5e-4 from MedDEL (arXiv:2401.17542); betas, decay, warmup
# and normalised pixels from MAE (arXiv:2111.06377).
_REFERENCE = TrainConfig(
    model=MAE_PRESETS["mae_vit_base"],
    data=DataOptions(mean=IMAGENET_MEAN, std=IMAGENET_STD),
    optimizer=OptimizerOptions(
        learning_rate=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05, warmup_share=0.05
    ),
    out="runs/mae_vit_base_reference",
    batch_size=16,
    epochs=100.0,
    checkpoint_every=1000,
    validate_every=1000,
)

# The smallest of the usual sizes on 64-pixel images: minutes to hours on a few cores.
_TINY_CPU = TrainConfig(
    model=MAEConfig(ViTConfig(image_size=64, patch_size=8, width=192, heads=3), 96, 2, 3),
    data=DataOptions(workers=1),
    optimizer=OptimizerOptions(learning_rate=1e-3),
    out="runs/mae_vit_tiny_cpu",
    batch_size=64,
    steps=2000,
    checkpoint_every=200,
    validate_every=200,
)

# Minutes on two cores. Plain pixels: its pictures owe nothing to the hidden patches' moments.
_DEMO = TrainConfig(
    model=MAEConfig(
        ViTConfig(image_size=64, patch_size=8, width=128, depth=4, heads=4),
        decoder_width=64,
        decoder_depth=2,
        decoder_heads=2,
        norm_pixel_loss=False,
    ),
    data=DataOptions(path=SHIPPED_IMAGES, validation_images=128, workers=0),
    optimizer=OptimizerOptions(learning_rate=2e-3, warmup_share=0.1),
    out="runs/demo",
    batch_size=64,
    steps=500,
    checkpoint_every=100,
    validate_every=100,
    probe_every=500,
)

# AdamW as in MoCo v3's vision transformers (arXiv:2104.02057); views are cropped on the device.
_SIMCLR_ADAMW = OptimizerOptions(
    learning_rate=None,
    base_learning_rate=1.5e-4,
    betas=(0.9, 0.999),
    weight_decay=0.1,
    warmup_share=0.1,
)
_SIMCLR_BASE = TrainConfig(
    model=SimCLRConfig(dataclasses.replace(VIT_PRESETS["vit_base"], pool="mean")),
    data=DataOptions(crop="centre", mean=IMAGENET_MEAN, std=IMAGENET_STD),
    optimizer=_SIMCLR_ADAMW,
    out="runs/simclr_vit_base",
    batch_size=1024,
    epochs=100.0,
    checkpoint_every=500,
    validate_every=500,
)
_SIMCLR_TINY_CPU = TrainConfig(
    model=SimCLRConfig(
        ViTConfig(image_size=64, patch_size=8, width=192, heads=3, depth=6, pool="mean"), 512, 64
    ),
    data=DataOptions(crop="centre", workers=1),
    optimizer=dataclasses.replace(_SIMCLR_ADAMW, base_learning_rate=1e-3),
    out="runs/simclr_vit_tiny_cpu",
    batch_size=256,
    accumulation=4,
    steps=1000,
    checkpoint_every=100,
    validate_every=100,
)

# Runs by name; `data.path`, and what else differs, is set with `dataclasses.replace`.
PRESETS: Mapping[str, TrainConfig] = MappingProxyType(
    {
        "mae_vit_base_reference": _REFERENCE,
        "mae_vit_tiny_cpu": _TINY_CPU,
        "simclr_vit_base": _SIMCLR_BASE,
        "simclr_vit_tiny_cpu": _SIMCLR_TINY_CPU,
        "demo": _DEMO,
    }
)
