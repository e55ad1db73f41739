"""How fast stages are: measured in a pipeline's folder, published, or measured here on one core."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.pipeline.pretraining import images_per_second
from pretrain_jax.pipeline.probing import RUN
from pretrain_jax.stages import Manifest, read_manifest
from pretrain_jax.stages.manifest import MANIFEST
from pretrain_jax.train.flops import mae_training_flops

__all__ = ["CORE_STAGES", "Rate", "core_rate", "counted_rate", "measured_rates", "sam_rate"]

# MAE ViT-B/16 at 224 px, 75% masked: images trained in a second, published or reported.
ANCHOR = MAEConfig()
SLOW = ("A6000, 313 images/s", 313.0)
FAST = ("A100, 1,980 images/s", 1980.0)
# SAM ViT-H automatic masks, seconds of an image in the reference code.
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
    """How fast a stage is.

    Attributes:
        low: seconds of an item at best.
        high: seconds of an item at worst; `low` where it was measured.
        source: where that comes from.
    """

    low: float
    high: float
    source: str


def counted_rate(flops: float) -> Rate:
    """An item of so many operations, at the rates of ViT-B masked autoencoders."""
    anchor = mae_training_flops(ANCHOR)
    return Rate(flops / anchor / FAST[1], flops / anchor / SLOW[1], COUNTED)


def sam_rate() -> Rate:
    """Masks of an image by SAM ViT-H."""
    return Rate(*SAM_SECONDS, SAM_SOURCE)


def core_rate(stage: str) -> Rate:
    """An item of a stage of `CORE_STAGES`, which needs no accelerator."""
    seconds = CORE_SECONDS[stage]
    source = CORE_SOURCE.get(stage, CORE_SOURCE_OF_IMAGES)
    return Rate(seconds, seconds, source.format(seconds=seconds))


def measured_rates(folder: str | Path) -> dict[str, Rate]:
    """Seconds of an item of each stage, from what lies in a pipeline's folder.

    Of a stage with several runs it is the sum of their seconds over that of their items, of
    training the median over runs. Fine-tuning counts with its evaluation, as its manifest does.

    Args:
        folder: of a pipeline on the same accelerator with the same models, also one on few images.
    """
    out = Path(folder)
    found: dict[str, Rate] = {}
    for name, count in (("index", "images"), ("leakage", "images")):
        found |= _rate(name, _finished([out / name]), count)
    found |= _rate("select", _finished(_below(out / "selections", 2)), "candidates")
    made = [one for one in _finished(_below(out / "synthesised", 2)) if one.counts.get("patches")]
    found |= _rate("synthesise", made, "images")
    for name, kind, count in (("proposals", "propose", "images"), ("scores", "score", "rows")):
        for place in sorted((out / name).glob("*")):
            found |= _rate(f"{kind} {place.name}", _finished([place, *_below(place, 1)]), count)
    trained = {"probe": [out / "probe" / RUN]}
    for objective in ("mae", "simclr"):
        runs = sorted((out / "pretrained" / objective).glob(f"*/*/{RUN}"))
        trained[f"pretrain {objective}"] = runs
    for stage, runs in trained.items():
        speeds = sorted(rate for rate in map(images_per_second, runs) if rate)
        if speeds:
            seconds = 1 / speeds[len(speeds) // 2]
            found[stage] = Rate(seconds, seconds, f"measured in {out}")
    tuned: dict[str, list[Manifest]] = {}
    for one in _finished(_below(out / "finetuned", 5)):
        stage = f"finetune {one.parameters.get('head')}-{one.parameters.get('mode')}"
        tuned.setdefault(stage, []).append(one)
    for stage, manifests in tuned.items():
        found |= _rate(stage, manifests, "steps")
    return {name: _named(rate, out) for name, rate in found.items()}


def _rate(stage: str, manifests: Iterable[Manifest], count: str) -> dict[str, Rate]:
    """The rate of a stage by its name; nothing where it was not measured."""
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


def _named(rate: Rate, out: Path) -> Rate:
    return Rate(rate.low, rate.high, f"measured in {out}")


def _below(folder: Path, most: int) -> list[Path]:
    """Folders of stages at most so many levels below one."""
    levels = ("/".join(["*"] * depth) for depth in range(1, most + 1))
    return sorted(one.parent for level in levels for one in folder.glob(f"{level}/{MANIFEST}"))


def _finished(folders: Iterable[Path]) -> list[Manifest]:
    return [read_manifest(one) for one in folders if (one / MANIFEST).is_file()]
