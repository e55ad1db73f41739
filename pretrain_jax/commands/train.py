"""Defines the commands that train a model or look at one."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from hardset.checks import check_integer
from hardset.cli import Json, Option, Preset, Progress, more_help, wanted
from hardset.datafile import check_output_file
from hardset.folder import MANIFEST
from pretrain_jax.data.options import Pages, set_reading
from pretrain_jax.data.skipping import left_out
from pretrain_jax.pipeline.config import Protocol
from pretrain_jax.segmentation.config import FINETUNE_PRESETS, FinetuneConfig
from pretrain_jax.segmentation.layouts import PUBLISHED
from pretrain_jax.synthesis.source import check_outside
from pretrain_jax.train.config import PRESETS, TrainConfig

if TYPE_CHECKING:
    from pretrain_jax.train import TrainResult

# Notes of fine-tuning that contain one of these texts are printed at once.
WARNED = ("seem to show", "none of the ", "image(s) hold", "image(s) hardly", "weights to start")


def run(
    config: Annotated[TrainConfig, Preset(PRESETS)],
    *,
    max_megapixels: float | None = None,
    pages: Pages | None = None,
    bits: int | None = None,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Train a preset.

    The same command again goes on after an interruption.

    Args:
        config: the run.
        max_megapixels: of the largest image that is decoded, default 100.
        pages: whether "all" pictures of a file with several (pages, slices, frames of an animation)
            are images, or the "first" only; default all.
        bits: that 16-bit images use where their file does not say, 10 to 16.

    Examples:
        python -m pretrain_jax run demo --out runs/demo
        python -m pretrain_jax run mae_vit_tiny_cpu --data.path images/ --steps 500 --out runs/tiny
        python -m pretrain_jax run mae_vit_base_reference --data.path images/ --data.workers 8
    """
    config.check()  # before seconds of imports
    set_reading(max_megapixels=max_megapixels, pages=pages, bits=bits)
    from pretrain_jax.train import train

    result = train(config, progress=wanted(progress))
    print(json.dumps(_record(result), indent=1) if as_json else _summary(result))
    return 0


def _record(result: "TrainResult") -> dict[str, Any]:
    return {
        "folder": str(result.folder),
        "steps": result.steps,
        "resumed_from": result.resumed_from,
        "loss": result.losses[-1] if result.losses else None,
        "validation": [{"step": step, "loss": loss} for step, loss in result.validation],
        "probes": result.probes,
        "skipped": result.skipped,
        "picture": None if result.picture is None else str(result.picture),
    }


def _summary(result: "TrainResult") -> str:
    if not result.validation:
        return f"{result.folder}: all {result.steps} steps were done before"
    lines = [f"{result.folder}: {result.steps} steps done"]
    lines += [
        f"  validation loss at step {step:>7}  {loss:.4f}" for step, loss in result.validation
    ]
    lines += [
        f"  {name.replace('_', ' ')} accuracy  {value:.4f}" for name, value in result.probes.items()
    ]
    if result.picture is not None:
        lines.append(f"  reconstructions  {result.picture}")
    if result.skipped:
        lines.append(f"  {left_out(result.skipped.values())}")
    return "\n".join(lines)


def reconstruct(
    checkpoint: Path,
    images: Annotated[tuple[str, ...], Option(metavar="IMAGE ...")],
    *,
    out: Annotated[Path, Option(metavar="FILE.png")],
    seed: int = 0,
) -> int:
    """Show what a trained masked autoencoder makes of masked images.

    The picture has a row for each image: original, what the encoder sees, reconstruction.

    Args:
        checkpoint: a run's folder or one step's.
        images: files of images.
        out: the picture, which is never replaced.
        seed: of the masks.

    Examples:
        python -m pretrain_jax reconstruct runs/demo image.png --out reconstructed.png
        python -m pretrain_jax reconstruct runs/demo/checkpoints/200 a.jpg b.jpg --out ab.png
    """
    check_integer("--seed", seed, 0, 2**32 - 1)
    if out.exists():
        raise ValueError(f"{out} exists and is not replaced; choose another --out")
    check_output_file(out)
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out} does not end in .png, the format that is written")
    import jax
    import jax.numpy as jnp
    import numpy as np

    from pretrain_jax.data import Crop, read_pixels
    from pretrain_jax.models.mae import MAE, masking_noise
    from pretrain_jax.pictures import picture, reconstruct, write_png
    from pretrain_jax.train.objectives import normalise
    from pretrain_jax.train.weights import load_model

    trained = load_model(checkpoint)
    if not isinstance(trained.model, MAE):
        raise ValueError(
            f"checkpoint {checkpoint} is of a model without a decoder; only masked autoencoders "
            "reconstruct"
        )
    config = trained.config
    encoder = config.model.encoder
    crop = Crop(encoder.size[0], kind="centre")
    rng = np.random.default_rng(0)  # a central crop draws nothing
    pixels = np.stack(
        [
            crop(read_pixels(one, channels=encoder.channels, bits=config.data.bits), rng, one)
            for one in images
        ]
    )
    shown = normalise(jnp.asarray(pixels), trained.mean, trained.std, jnp.float32)
    noise = masking_noise(jax.random.key(seed), jnp.arange(len(pixels)), encoder.patches)
    found = reconstruct(trained.model, shown, noise, trained.mean, trained.std)
    write_png(out, picture(found), replace=False)
    loss = float(trained.model(shown, noise).loss)
    print(f"{out}: {len(pixels)} image(s) by the model of step {trained.step}, loss {loss:.4f}")
    return 0


def pretrain(
    data: str,
    config: Annotated[TrainConfig, Preset(PRESETS)],
    *,
    protocol: Protocol = "matched",
    full_images: int | None = None,
    probe: Path | None = None,
    max_megapixels: float | None = None,
    pages: Pages | None = None,
    bits: int | None = None,
    progress: Progress = False,
) -> int:
    """Train a model on one data set, from scratch or from weights (--init).

    All data sets get equal steps, or equal epochs.

    Presets are those of the command run; --out is the stage's folder.

    Args:
        data: a folder of stage synthesise, or any source of images.
        config: the run.
        protocol: "matched" gives the optimiser steps of the full set, "paper" the epochs.
        full_images: number of images of the full set, for "matched" with --epochs; a folder of
            stage synthesise knows it.
        probe: folder of stage probe, whose mean and standard deviation are taken.
        max_megapixels: of the largest image that is decoded, default 100.
        pages: whether "all" pictures of a file with several (pages, slices, frames of an animation)
            are images, or the "first" only; default all.
        bits: that 16-bit images use where their file does not say, 10 to 16.

    Examples:
        python -m pretrain_jax pretrain out/synthesised/optidel-10 mae_vit_base_reference \\
          --out out/pretrained/mae/optidel-10/seed-0
        python -m pretrain_jax pretrain chosen.txt mae_vit_base_reference \\
          --full-images 88282 --out out/chosen
        python -m pretrain_jax pretrain out/synthesised/optidel-10 simclr_vit_base \\
          --protocol paper --out out/simclr
        python -m pretrain_jax pretrain images/ mae_vit_base_reference --full-images 20000 \\
          --init dinov2-base/ --model.encoder.patch-size 14 --out out/from-dinov2
    """
    dataclasses.replace(config, data=dataclasses.replace(config.data, path=data)).check()
    if (Path(data) / MANIFEST).is_file() and (pages, bits) != (None, None):
        raise ValueError(
            f"--pages and --bits are not taken for {data}: the images of a stage are read as its "
            "index was made"
        )
    set_reading(max_megapixels=max_megapixels, pages=pages, bits=bits)
    from pretrain_jax.pipeline import pretrain

    counts = pretrain(
        data,
        config.out,
        config=config,
        seed=config.seed,
        protocol=protocol,
        full_images=full_images,
        probe=probe,
        progress=wanted(progress),
    ).counts
    print(
        f"{config.out}: {counts['steps']} steps on {counts['images']} images, loss "
        f"{counts['loss']:.4f}, validation loss {counts['validation_loss']:.4f}"
    )
    return 0


@more_help(
    lambda: (
        "layouts: folder (images/, masks/, optionally classes.txt and cases.csv), "
        + ", ".join(PUBLISHED)
    )
)
def finetune(
    data: str,
    config: Annotated[FinetuneConfig, Preset(FINETUNE_PRESETS)],
    *,
    out: Path,
    init: Annotated[str | None, Option(metavar="FILE|RUN")] = None,
    model: Literal["auto", "mae", "vit", "dinov2", "dinov3", "simclr"] = "auto",
    layout: str = "folder",
    folds: int | None = None,
    ignore_split: bool = False,
    pretraining: str | None = None,
    max_megapixels: float | None = None,
    pages: Pages | None = None,
    bits: int | None = None,
    seed: int = 0,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Train a segmentation model from a pre-trained one, and score it.

    The scores are those on the test images.

    The same command again goes on where it was interrupted.

    Args:
        data: folder of a segmentation set.
        config: how it is trained.
        out: the stage's folder.
        init: weights to start from: a stage of pre-training, a run or a checkpoint, a file of
            published weights (.pth, .safetensors, ...) or a folder of transformers; none from
            scratch.
        model: kind of their encoder, where names and shapes do not tell it.
        layout: of the data.
        folds: cross-validate by groups with that many models, each tested on another fold; OUT
            gets a folder of each.
        ignore_split: let folds divide a set that has a published split.
        pretraining: images for pre-training, among which no test case may be: a folder,
            LAYOUT:FOLDER, a list or a video.
        max_megapixels: of the largest image or mask that is read; default 100.
        pages: whether "all" pictures of a file with several are images for pre-training, or the
            "first" only, as of images with masks; default all.
        bits: that 16-bit images use where their file does not say, 10 to 16.
        seed: of all random choices.

    Examples:
        python -m pretrain_jax finetune Kvasir-SEG reference --layout kvasir-seg \\
          --init out/pretrained/mae/optidel-5/seed-0 --pretraining images/ --out out/kvasir-seg
        python -m pretrain_jax finetune Kvasir-SEG reference --layout kvasir-seg \\
          --mode scratch --out out/from-scratch
        python -m pretrain_jax finetune slices reference --head linear --mode last --blocks 2 \\
          --init dinov2_vits14_reg4_pretrain.pth --image-size 448 --out out/dinov2
        python -m pretrain_jax finetune slices demo --head linear --mode frozen \\
          --init runs/demo --out out/linear
    """
    set_reading(max_megapixels=max_megapixels, pages=pages, bits=bits)
    for taken in (data, pretraining):
        if taken is not None:
            check_outside(taken, str(out))
    config.check()
    from hardset.folder import output
    from pretrain_jax.segmentation import cross_validate, finetune, frames_of, read_segmentation
    from pretrain_jax.segmentation.finetuning import RESULT_NAME

    dataset = read_segmentation(data, layout)
    if ignore_split and folds is None:
        raise ValueError("--ignore-split has a meaning with --folds only; leave it out")
    options: dict[str, Any] = {
        "config": config,
        "model": model,
        "seed": seed,
        "pretraining": None if pretraining is None else frames_of(pretraining),
        "progress": wanted(progress),
    }
    if folds is None:
        manifest = finetune(init, dataset, out, **options)
    else:
        options |= {"folds": folds, "ignore_split": ignore_split}
        manifest = cross_validate(init, dataset, out, **options)
    for note in manifest.notes:
        if any(one in note for one in WARNED):
            print(f"warning: {note}", file=sys.stderr)
    record = json.loads(output(out, manifest, RESULT_NAME).read_text(encoding="utf-8"))
    print(json.dumps(record, indent=1) if as_json else _scores(out, record))
    return 0


def _scores(folder: Path, record: dict[str, Any]) -> str:
    from pretrain_jax.segmentation.finetuning import OVERLAYS_NAME

    lines = [f"{folder}: {record['head']} {record['mode']}, {len(record['cases'])} test cases"]
    rows = {"mIoU": "miou", "Dice": "dice", "boundary F": "boundary_f"}
    lines += [f"  {title:<22}{_shown(record[key])}" for title, key in rows.items()]
    lines += [
        f"  {f'IoU of {name}':<22}{_shown(scores['iou'])}"
        for name, scores in record["per_class"].items()
    ]
    lines += [
        f"  {f'mIoU of {name}':<22}{_shown(scores['miou'])}"
        for name, scores in record["baselines"].items()
    ]
    note = record.get("interval_note")
    lines += [f"  {note}"] if note else []
    if folds := record.get("folds"):
        lines += [f"  {'mIoU of ' + one['folder']:<22}{one['miou']:.4f}" for one in folds]
        folder /= "fold-*"
    return "\n".join([*lines, f"  {'pictures':<22}{folder / OVERLAYS_NAME}"])


def _shown(score: dict[str, float | None]) -> str:
    if score["value"] is None:
        return "not defined"
    ends = "" if score["low"] is None else f"  [{score['low']:.4f}, {score['high']:.4f}]"
    return f"{score['value']:.4f}{ends}"
