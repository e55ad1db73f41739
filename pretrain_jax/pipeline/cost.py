"""What a pipeline will cost: hours of each stage from counted operations and measured rates."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from hardset.checks import check_integer
from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.pipeline.config import PipelineConfig
from pretrain_jax.pipeline.finetuning_flops import finetuning_flops
from pretrain_jax.pipeline.options import SAM_PATCHES, Cell
from pretrain_jax.pipeline.pretraining import matched_steps
from pretrain_jax.pipeline.rates import CORE_STAGES, Rate, core_rate, counted_rate, sam_rate
from pretrain_jax.segmentation.config import HeadKind, Mode
from pretrain_jax.segmentation.layouts.pairs import class_names
from pretrain_jax.segmentation.layouts.read import PAIR
from pretrain_jax.segmentation.program import recipe_of
from pretrain_jax.segmentation.shipped import TISSUES
from pretrain_jax.synthesis import METHODS
from pretrain_jax.train.config import TrainConfig
from pretrain_jax.train.flops import (
    mae_forward_flops,
    mae_training_flops,
    simclr_training_flops,
)

__all__ = ["REFERENCE_IMAGES", "Estimate", "cost_table", "estimate_cost"]

# Images of MedDEL's benchmark (arXiv:2401.17542) and of OptiDEL's pre-training set.
REFERENCE_IMAGES = (88_282, 2_857_772)
# While it is unknown, a recommended ratio counts as nearly 1, which is no other ratio of the runs.
MOST = math.nextafter(1.0, 0.0)
HOUR = 3600.0


@dataclass(frozen=True)
class Estimate:
    """Cost of a stage.

    Attributes:
        stage: its name.
        items: how many images (patches x masks, trained images) it computes.
        unit: what an item is.
        low: hours at best.
        high: hours at worst.
        source: of the rate.
        core: whether they are hours of one processor core, not of one accelerator.
    """

    stage: str
    items: float
    unit: str
    low: float
    high: float
    source: str
    core: bool = False


def estimate_cost(
    config: PipelineConfig,
    images: int,
    rates: Mapping[str, Rate] | None = None,
    *,
    sam_patches: int = SAM_PATCHES,
) -> list[Estimate]:
    """Hours of each stage of a pipeline on `images` images.

    Training and scoring are hours of one accelerator: counted operations at the published rates of
    ViT-B masked autoencoders. Index, leakage check, the proposers saliency and random-crop,
    selection and synthesis are hours of one x86 core. The runs at a recommended ratio count as at
    1, which is an upper bound. Fine-tuning is counted for the size of
    its crops and the classes of each set; where its folder is not there yet, for two.

    Args:
        config: the pipeline.
        images: of the full set.
        rates: of stages by name, see `measured_rates`; they replace these defaults.
        sam_patches: masks of an image that pass SAM's filters.

    Raises:
        ValueError: an argument out of range; batch and devices do not fit each other.
    """
    check_integer("images", images, 1, 1 << 40)
    check_integer("sam_patches", sam_patches, 1, 1 << 20)
    known = dict(rates or {})
    found = []
    for stage, items, unit, default in _work(config, images, sam_patches):
        rate = known.get(stage, default)
        low, high = items * rate.low / HOUR, items * rate.high / HOUR
        core = stage in CORE_STAGES
        found.append(Estimate(stage, items, unit, low, high, rate.source, core))
    return found


def cost_table(
    config: PipelineConfig,
    images: Sequence[int],
    rates: Mapping[str, Rate] | None = None,
    *,
    sam_patches: int = SAM_PATCHES,
) -> str:
    """The estimates for several numbers of images as a table; see `estimate_cost`."""
    columns = [estimate_cost(config, count, rates, sam_patches=sam_patches) for count in images]
    lines = []
    for core, name in ((False, "GPU-hours"), (True, "core-hours, no GPU")):
        rows = [row for row in zip(*columns, strict=True) if row[0].core == core]
        head = "".join(f"{f'{count:,} images':>22}" for count in images)
        lines.append(f"{name:<24}{head}  rate")
        for row in rows:
            cells = "".join(f"{_hours(one.low, one.high):>22}" for one in row)
            lines.append(f"{row[0].stage:<24}{cells}  {row[0].source}")
        totals = [
            (sum(one.low for one in own), sum(one.high for one in own))
            for own in zip(*rows, strict=True)
        ]
        lines.append(f"{'total':<24}" + "".join(f"{_hours(*total):>22}" for total in totals))
        lines += [] if core else [""]
    if config.recommends:
        matched = config.protocol == "matched"
        what = "runs of matched steps take as long at any" if matched else "an upper bound"
        lines.append(f"The recommended ratio, not known yet, counts as 1: {what}.")
    return "\n".join(lines)


def _work(
    config: PipelineConfig, images: int, sam_patches: int
) -> list[tuple[str, float, str, Rate]]:
    """Stage, number of items, what they are, and the default rate."""
    train = config.mae.train
    assert isinstance(train.model, MAEConfig)
    trained = matched_steps(train, images) * train.batch_size
    probes = (config.probe.checkpoint is None) + 2 * config.probe.halves * _half(train)
    forward = counted_rate(mae_forward_flops(train.model))
    work: list[tuple[str, float, str, Rate]] = [
        ("index", images, "images", core_rate("index")),
        (
            "probe",
            probes * trained,
            "trained images",
            counted_rate(mae_training_flops(train.model)),
        ),
    ]
    if config.downstream or config.data_is_shipped:
        work.insert(1, ("leakage", images, "images", core_rate("leakage")))
    draws = Counter(name for name, _ in config.proposals())
    for name, count in draws.items():
        rate = sam_rate() if name == "sam" else core_rate(f"propose {name}")
        work.append((f"propose {name}", count * images, "images", rate))
    boxes = {
        "sam": sam_patches,
        "saliency": config.propose.saliency.patches,
        "random-crop": config.propose.random_crop.crops,
    }
    scored = {name: count * boxes[name] for name, count in draws.items()}
    scored |= {"images": 1 + 2 * config.probe.halves} if config.scores_images() else {}
    for name, patches in scored.items():
        masked = patches * images * config.score.masks
        work.append((f"score {name}", masked, "masked patches", forward))
    work += _sets(config, images, boxes)
    for objective in ("mae", "simclr"):
        cells = [cell for cell in config.cells(MOST) if cell.objective == objective]
        options = config.trials(objective).train
        total = sum(_trained_images(config, options, cell, images) for cell in cells)
        if cells:
            cost = counted_rate(_training_flops(options))
            work.append((f"pretrain {objective}", total, "trained images", cost))
    return [*work, *_finetuning(config)]


def _sets(
    config: PipelineConfig, images: int, boxes: Mapping[str, int]
) -> list[tuple[str, float, str, Rate]]:
    """Every set once: what it is chosen from, and the images that are made of patches."""
    candidates, made = 0.0, 0.0
    for cell in {cell.selection: cell for cell in config.cells(MOST)}.values():
        if METHODS[cell.method].source == "patches":
            candidates += images * boxes[config.proposer_of(cell.method)]
            made += images * cell.ratio
        else:
            candidates += images
    return [
        ("select", candidates, "candidates", core_rate("select")),
        ("synthesise", made, "images of patches", core_rate("synthesise")),
    ]


def _finetuning(config: PipelineConfig) -> list[tuple[str, float, str, Rate]]:
    """A row for each head and mode: the mean over encoders and sets is its cost of a crop."""
    cells = Counter(cell.objective for cell in config.cells(MOST))
    runs: list[tuple[str, int, HeadKind, Mode]]
    runs = [(name, count, *pair) for pair in config.pairs() for name, count in cells.items()]
    runs += [("mae", len(config.mae.seeds), head, "scratch") for head in config.scratch_heads()]
    crops: Counter[str] = Counter()
    flops: Counter[str] = Counter()
    for (name, count, head, mode), classes in product(runs, _classes(config)):
        options = dataclasses.replace(config.finetune, head=head, mode=mode)
        encoder = config.trials(name).train.model.encoder
        if options.image_size is not None:
            encoder = dataclasses.replace(encoder, image_size=options.image_size)
        model = recipe_of(options, encoder, classes).model
        stage, own = f"finetune {head}-{mode}", count * options.steps * options.batch_size
        crops[stage] += own
        flops[stage] += own * finetuning_flops(model, frozen=mode == "frozen")
    return [
        (stage, float(own), "trained crops", counted_rate(flops[stage] / own))
        for stage, own in crops.items()
        if own
    ]


def _classes(config: PipelineConfig) -> list[int]:
    """How many each set has, as far as its folder is there; those of published layouts have two."""
    if config.data_is_shipped:
        return [len(TISSUES)]
    return [
        len(class_names(Path(folder))) if layout == PAIR else 2
        for layout, folder in config.layouts()
    ]


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


def _hours(low: float, high: float) -> str:
    first, last = f"{low:,.3g}", f"{high:,.3g}"
    if high >= 1000:
        first, last = f"{low:,.0f}", f"{high:,.0f}"
    return first if first == last else f"{first} .. {last}"
