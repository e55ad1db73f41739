"""What a pipeline will cost: GPU-hours of each stage from counted operations and measured rates."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.pipeline.config import Cell, PipelineConfig
from pretrain_jax.pipeline.pretraining import images_per_second, matched_steps
from pretrain_jax.pipeline.probe import RUN
from pretrain_jax.stages import read_manifest
from pretrain_jax.stages.manifest import MANIFEST
from pretrain_jax.synthesis import METHODS
from pretrain_jax.train.config import TrainConfig
from pretrain_jax.train.flops import (
    TRAINING_FACTOR,
    mae_forward_flops,
    mae_training_flops,
    simclr_training_flops,
    vit_forward_flops,
)

__all__ = ["REFERENCE_IMAGES", "Estimate", "Rate", "cost_table", "estimate_cost", "measured_rates"]

# Images of MedDEL's benchmark (arXiv:2401.17542) and of OptiDEL's pre-training set.
REFERENCE_IMAGES = (88_282, 2_857_772)
# MAE ViT-B/16 at 224 px, 75% masked: images trained in a second, published or reported.
ANCHOR = MAEConfig()
SLOW = ("A6000, 313 images/s", 313.0)
FAST = ("A100, 1,980 images/s", 1980.0)
# SAM ViT-H automatic masks, seconds of an image in the reference code.
SAM_SECONDS = (5.6, 8.4)
SAM_SOURCE = "SAM ViT-H reference code, RTX 3090/A100"
COUNTED = f"FLOPs at the rate of MAE ViT-B ({FAST[0]} .. {SLOW[0]})"
# Masks of an image that pass SAM's filters: an assumption, data sets differ.
SAM_PATCHES = 30
HOUR = 3600.0


@dataclass(frozen=True)
class Rate:
    """How fast a stage is.

    Attributes:
        low: seconds of an item at best.
        high: seconds of an item at worst; `low` where it was measured.
        source: where that comes from.
    """

    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Estimate:
    """Cost of a stage.

    Attributes:
        stage: its name.
        items: how many images (patches x masks, trained images) it computes.
        unit: what an item is.
        low: hours of one accelerator at best; None where no rate is known.
        high: hours at worst.
        source: of the rate.
    """

    stage: str
    items: float
    unit: str
    low: float | None
    high: float | None
    source: str


def estimate_cost(
    config: PipelineConfig, images: int, rates: Mapping[str, Rate] | None = None
) -> list[Estimate]:
    """GPU-hours of each stage of a pipeline on `images` images.

    Args:
        config: the pipeline.
        images: of the full set.
        rates: of stages by name, see `measured_rates`; the defaults are published anchors.

    Raises:
        ValueError: batch and devices do not fit each other.
    """
    known = dict(rates or {})
    found = []
    for stage, items, unit, default in _work(config, images):
        rate = known.get(stage, default)
        if rate is None:
            unknown = "no rate known before a first run"
            found.append(Estimate(stage, items, unit, None, None, unknown))
        else:
            low, high = items * rate.low / HOUR, items * rate.high / HOUR
            found.append(Estimate(stage, items, unit, low, high, rate.source))
    return found


def measured_rates(folder: str | Path) -> dict[str, Rate]:
    """Seconds of an item of each stage, from what lies in a pipeline's folder.

    Args:
        folder: of a pipeline on the same accelerator with the same models, also one on few images.
    """
    out = Path(folder)
    found: dict[str, Rate] = {}
    for name, kind, count in (("proposals", "propose", "images"), ("scores", "score", "patches")):
        for path in sorted((out / name).glob(f"*/{MANIFEST}")):
            manifest = read_manifest(path.parent)
            items = manifest.counts.get(count, 0) * manifest.parameters.get("masks", 1)
            stage = f"{kind} {path.parent.name}"
            if items and manifest.seconds > 0:
                seconds = manifest.seconds / items
                found[stage] = Rate(seconds, seconds, f"measured in {path.parent}")
    trained = {"probe": [out / "probe" / RUN]}
    for objective in ("mae", "simclr"):
        runs = sorted((out / "pretrained" / objective).glob(f"*/*/{RUN}"))
        trained[f"pretrain {objective}"] = runs
    for stage, runs in trained.items():
        speeds = sorted(rate for rate in map(images_per_second, runs) if rate)
        if speeds:
            seconds = 1 / speeds[len(speeds) // 2]
            found[stage] = Rate(seconds, seconds, f"measured in {out}")
    return found


def cost_table(
    config: PipelineConfig, images: Sequence[int], rates: Mapping[str, Rate] | None = None
) -> str:
    """The estimates for several numbers of images as a table."""
    columns = [estimate_cost(config, count, rates) for count in images]
    head = f"{'GPU-hours':<24}" + "".join(f"{f'{count:,} images':>22}" for count in images)
    lines = [head + "  rate"]
    for rows in zip(*columns, strict=True):
        cells = "".join(f"{_hours(row.low, row.high):>22}" for row in rows)
        lines.append(f"{rows[0].stage:<24}{cells}  {rows[0].source}")
    totals = [
        (sum(row.low or 0.0 for row in rows), sum(row.high or 0.0 for row in rows))
        for rows in columns
    ]
    lines.append(f"{'total':<24}" + "".join(f"{_hours(*total):>22}" for total in totals))
    return "\n".join(lines)


def _work(config: PipelineConfig, images: int) -> list[tuple[str, float, str, Rate | None]]:
    """Stage, number of items, what they are, and the default rate."""
    train = config.mae.train
    assert isinstance(train.model, MAEConfig)
    trained = matched_steps(train, images) * train.batch_size
    probes = (config.probe.checkpoint is None) + 2 * config.probe.halves * _half(train)
    forward = _counted(mae_forward_flops(train.model))
    work: list[tuple[str, float, str, Rate | None]] = [
        ("probe", probes * trained, "trained images", _counted(mae_training_flops(train.model)))
    ]
    methods = dict.fromkeys(cell.method for cell in config.cells())
    kinds = {method: METHODS[method].source for method in methods}
    proposers = dict.fromkeys(
        config.proposer_of(method) for method in methods if kinds[method] == "patches"
    )
    sam = Rate(*SAM_SECONDS, SAM_SOURCE)
    for name in proposers:
        work.append((f"propose {name}", images, "images", sam if name == "sam" else None))
    boxes = {
        "sam": SAM_PATCHES,
        "saliency": config.propose.saliency.patches,
        "random-crop": config.propose.random_crop.crops,
    }
    scored = {name: boxes[name] for name in proposers}
    scored |= {"images": 1} if "images" in kinds.values() or config.probe.halves else {}
    for name, patches in scored.items():
        masked = patches * images * config.score.masks
        work.append((f"score {name}", masked, "masked patches", forward))
    for objective in ("mae", "simclr"):
        cells = [cell for cell in config.cells() if cell.objective == objective]
        options = config.trials(objective).train
        count = sum(_trained_images(config, options, cell, images) for cell in cells)
        if cells:
            cost = _counted(_training_flops(options))
            work.append((f"pretrain {objective}", count, "trained images", cost))
    datasets = 1 if config.data_is_shipped else len(config.downstream)
    if datasets:
        runs = len(config.cells()) * len(config.pairs())
        runs += len(config.mae.seeds) * len(config.scratch_heads())
        crops = datasets * runs * config.finetune.steps * config.finetune.batch_size
        flops = TRAINING_FACTOR * vit_forward_flops(train.model.encoder)
        rate = dataclasses.replace(_counted(flops), source="likewise, without the head")
        work.append(("finetune", crops, "trained images", rate))
    return work


def _half(train: TrainConfig) -> float:
    """Steps of a run on half of the images over those of a run on all."""
    return 1.0 if train.epochs is None else 0.5


def _trained_images(config: PipelineConfig, train: TrainConfig, cell: Cell, images: int) -> float:
    share = cell.ratio if config.protocol == "paper" else 1.0
    return share * matched_steps(train, images) * train.batch_size


def _training_flops(train: TrainConfig) -> int:
    if isinstance(train.model, SimCLRConfig):
        return simclr_training_flops(train.model)
    return mae_training_flops(train.model)


def _counted(flops: float) -> Rate:
    anchor = mae_training_flops(ANCHOR)
    return Rate(flops / anchor / FAST[1], flops / anchor / SLOW[1], COUNTED)


def _hours(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "-"
    first, last = f"{low:,.3g}", f"{high:,.3g}"
    if high >= 1000:
        first, last = f"{low:,.0f}", f"{high:,.0f}"
    return first if first == last else f"{first} .. {last}"
