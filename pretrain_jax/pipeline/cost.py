"""Estimates what a pipeline will cost.

The hours of each stage come from counted operations and measured rates.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType

from hardset.checks import check_integer
from hardset.folder import MANIFEST, Manifest, read_manifest
from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.pipeline.config import RATIO_NAMES, SAM_PATCHES, PipelineConfig
from pretrain_jax.pipeline.training import images_per_second, matched_steps
from pretrain_jax.places import (
    FINETUNED,
    INDEX,
    LEAKAGE,
    PRETRAINED,
    PROBE,
    PROPOSALS,
    RUN,
    SCORES,
    SELECTIONS,
    SYNTHESISED,
    Cell,
    stages_in,
)
from pretrain_jax.segmentation.config import HeadKind, Mode
from pretrain_jax.segmentation.heads import model_of
from pretrain_jax.segmentation.layouts import PAIR, class_names
from pretrain_jax.segmentation.objective import finetuning_flops
from pretrain_jax.segmentation.shipped import TISSUES
from pretrain_jax.synthesis import METHODS
from pretrain_jax.train.config import TrainConfig
from pretrain_jax.train.flops import (
    mae_forward_flops,
    mae_training_flops,
    simclr_training_flops,
)

# MAE ViT-B/16 at 224 px, 75% masked: images trained in a second, published or reported.
ANCHOR = MAEConfig()
SLOW = ("A6000, 313 images/s", 313.0)
FAST = ("A100, 1,980 images/s", 1980.0)
# Seconds of an image in the reference code, for the automatic masks of SAM ViT-H.
SAM_SECONDS = (5.6, 8.4)
SAM_SOURCE = "SAM ViT-H reference code, RTX 3090/A100"
COUNTED = f"FLOPs at the rate of MAE ViT-B ({FAST[0]} .. {SLOW[0]})"
# Measured on one x86 core with JPEG images of 720 x 576 pixels, decoding included: processor
# seconds of an image; of `select` of one of 1.2 million patches ranked by margin; of `synthesise`
# of one image of four patches, encoded as PNG.
CORE_SECONDS = {
    "index": 0.0085,
    "leakage": 0.0097,
    "propose saliency": 0.029,
    "propose random-crop": 0.009,
    "select": 1.0e-6,
    "synthesise": 0.21,
}
CORE_STAGES = frozenset(CORE_SECONDS)
CORE_SOURCE = {
    "select": "{seconds:g} s a candidate ranked by margin; rules that compare features take longer",
    "synthesise": "{seconds:g} s an image of 720 x 576 made of four patches",
}
CORE_SOURCE_OF_IMAGES = "{seconds:g} s an image of 720 x 576"


@dataclass(frozen=True)
class Rate:
    """Says how fast a stage is.

    Attributes:
        low: seconds of an item at best.
        high: seconds of an item at worst; `low` where it was measured.
        source: where that comes from.
    """

    low: float
    high: float
    source: str


def counted_rate(flops: float) -> Rate:
    """Estimate the rate of an item from its number of operations.

    The rates are those of ViT-B masked autoencoders.
    """
    anchor = mae_training_flops(ANCHOR)
    return Rate(flops / anchor / FAST[1], flops / anchor / SLOW[1], COUNTED)


def sam_rate() -> Rate:
    """Return the rate at which SAM ViT-H finds the masks of an image."""
    return Rate(*SAM_SECONDS, SAM_SOURCE)


def core_rate(stage: str) -> Rate:
    """Return the rate of a stage of `CORE_STAGES`.

    Such a stage needs no accelerator.
    """
    seconds = CORE_SECONDS[stage]
    source = CORE_SOURCE.get(stage, CORE_SOURCE_OF_IMAGES)
    return Rate(seconds, seconds, source.format(seconds=seconds))


def measured_rates(folder: str | Path) -> dict[str, Rate]:
    """Measure seconds of an item of each stage in a pipeline's folder.

    Of a stage with several runs it is the sum of their seconds over that of their items, of
    training the median over runs. Fine-tuning counts with its evaluation, as its manifest does.

    Args:
        folder: of a pipeline on the same accelerator with the same models, also one on few images.
    """
    out = Path(folder)
    found: dict[str, Rate] = {}
    for name in (INDEX, LEAKAGE):
        found |= _rate(name, _finished(out, name), "images")
    found |= _rate("select", _finished(out, SELECTIONS), "candidates")
    made = [one for one in _finished(out, SYNTHESISED) if one.counts.get("patches")]
    found |= _rate("synthesise", made, "images")
    for name, kind, count in ((PROPOSALS, "propose", "images"), (SCORES, "score", "rows")):
        for place in sorted((out / name).glob("*")):
            found |= _rate(f"{kind} {place.name}", _finished(out, f"{name}/{place.name}"), count)
    trained = {"probe": [out / PROBE / RUN]}
    for objective in ("mae", "simclr"):
        runs = sorted((out / PRETRAINED / objective).glob(f"*/*/{RUN}"))
        trained[f"pretrain {objective}"] = runs
    for stage, runs in trained.items():
        speeds = sorted(rate for rate in map(images_per_second, runs) if rate)
        if speeds:
            seconds = 1 / speeds[len(speeds) // 2]
            found[stage] = Rate(seconds, seconds, "")
    tuned: dict[str, list[Manifest]] = {}
    for one in _finished(out, FINETUNED):
        stage = f"finetune {one.parameters.get('head')}-{one.parameters.get('mode')}"
        tuned.setdefault(stage, []).append(one)
    for stage, manifests in tuned.items():
        found |= _rate(stage, manifests, "steps")
    return {name: Rate(rate.low, rate.high, f"measured in {out}") for name, rate in found.items()}


def _rate(stage: str, manifests: Iterable[Manifest], count: str) -> dict[str, Rate]:
    """Compute the rate of a stage from its manifests.

    There is none where it was not measured.
    """
    items, seconds = 0.0, 0.0
    for one in manifests:
        factor = one.parameters.get("masks", 1)
        if one.stage == "finetune":
            factor = one.parameters.get("batch_size", 0)
        items += one.counts.get(count, 0) * factor
        seconds += one.seconds
    if not items or seconds <= 0:
        return {}
    return {stage: Rate(seconds / items, seconds / items, "")}


def _finished(out: Path, part: str) -> list[Manifest]:
    """Read the manifests of the finished stages in a part of a pipeline's folder."""
    return [read_manifest(one) for one in stages_in(out, part) if (one / MANIFEST).is_file()]


# Numbers of images of MedDEL's benchmark (arXiv:2401.17542) and of OptiDEL's pre-training set.
REFERENCE_IMAGES = (88_282, 2_857_772)
# While they are unknown, ratios of a name count as nearly 1. No other ratio has these values.
BELOW = math.nextafter(1.0, 0.0)
MOST: Mapping[str, float] = MappingProxyType(
    dict(zip(RATIO_NAMES, (BELOW, math.nextafter(BELOW, 0.0)), strict=True))
)
HOUR = 3600.0


@dataclass(frozen=True)
class Estimate:
    """Holds the cost of a stage.

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
    """Estimate hours of each stage of a pipeline on `images` images.

    Training and scoring are hours of one accelerator: counted operations at the published rates of
    ViT-B masked autoencoders. Index, leakage check, the proposers saliency and random-crop,
    selection and synthesis are hours of one x86 core. The runs at ratios of a name count as at 1,
    which is an upper bound. Fine-tuning is counted for the size of
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
    """Print the estimates for several numbers of images as a table.

    See `estimate_cost`.
    """
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
    for name in filter(config.has_ratio, RATIO_NAMES):
        matched = config.protocol == "matched"
        what = "runs of matched steps take as long at any" if matched else "an upper bound"
        lines.append(f"The ratio {name!r}, not known yet, counts as 1: {what}.")
    return "\n".join(lines)


def _work(
    config: PipelineConfig, images: int, sam_patches: int
) -> list[tuple[str, float, str, Rate]]:
    """List the stages with their work.

    Of each it gives the number of items, what these are, and the default rate.
    """
    train = config.mae.train
    assert isinstance(train.model, MAEConfig)
    trained = matched_steps(train, images) * train.batch_size
    probes = (config.probe.weights is None) + 2 * config.probe.halves * _half(train)
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
    """Count every set once.

    A set counts with what it is chosen from, and with the images made of patches.
    """
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
    """Make a row for each head and mode.

    Its cost is the mean cost of a crop.
    """
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
        model = model_of(options, encoder, classes)
        stage, own = f"finetune {head}-{mode}", count * options.steps * options.batch_size
        crops[stage] += own
        flops[stage] += own * finetuning_flops(model, options.trained_blocks)
    return [
        (stage, float(own), "trained crops", counted_rate(flops[stage] / own))
        for stage, own in crops.items()
        if own
    ]


def _classes(config: PipelineConfig) -> list[int]:
    """Count the classes of each set whose folder is there.

    Published layouts have two.
    """
    if config.data_is_shipped:
        return [len(TISSUES)]
    return [
        len(class_names(Path(folder))) if layout == PAIR else 2
        for layout, folder in config.layouts()
    ]


def _half(train: TrainConfig) -> float:
    """Return the steps of a run on half of the images over those on all."""
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
