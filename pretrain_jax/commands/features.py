"""Defines the commands that use pre-trained encoders, `embed` and `keep`."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

from hardset.cli import Choice, Json, Option, Progress, more_help, wanted
from pretrain_jax.commands.stages import report_stage
from pretrain_jax.data.listing import COLLECTIONS
from pretrain_jax.data.options import Pages
from pretrain_jax.features.fitting import FITS
from pretrain_jax.features.options import (
    METHODS,
    Precision,
    Tokens,
    check_embedding,
    check_keeping,
    features_folder,
)

MODELS = ("auto", *FITS)


@more_help(lambda: f"layouts of SOURCE: {', '.join(COLLECTIONS)}")
def embed(
    source: str,
    *,
    weights: Annotated[Path, Option(metavar="FILE|RUN")],
    model: Annotated[str, Choice(MODELS)] = "auto",
    image_size: int | None = None,
    tokens: Tokens = "class",
    dtype: Precision = "float16",
    frame_stride: int = 1,
    batch_size: int = 32,
    workers: int | None = None,
    skip_at_most: float = 0.0,
    max_megapixels: float | None = None,
    pages: Pages | None = None,
    bits: int | None = None,
    out: Annotated[Path, Option(metavar="FOLDER")],
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Compute the features of images by a pre-trained encoder.

    OUT is a folder of Parquet files with the columns id, frame, group, label and features. The
    commands select, score and recommend of `selection` read the folder as it is. Where it was
    interrupted, the same command goes on.

    Args:
        source: folder, image list, tar or Parquet file or folder of them, folder that datasets
            saved, video, or LAYOUT:FOLDER with one of the layouts below.
        weights: file of weights, folder of transformers, or run of pre-training.
        model: kind of the encoder; auto recognises it.
        image_size: side of the images in pixels, default the encoder's own.
        tokens: class token, mean of the patches, or both, one after the other.
        dtype: of the stored numbers.
        frame_stride: of videos.
        batch_size: images at once, on all devices together.
        workers: threads that decode images, default one for each processor.
        skip_at_most: share of the images that may be unreadable.
        max_megapixels: of the largest image that is decoded, default 100.
        pages: whether "all" pictures of a file with several (pages, slices, frames of an animation)
            are images, or the "first" only; default all.
        bits: that 16-bit images use where their file does not say, 10 to 16.
        out: the stage's folder, such as features.parquet.

    Examples:
        python -m pretrain_jax embed images/ --weights dinov2_vits14_pretrain.pth \\
          --out features.parquet
        python -m pretrain_jax embed images.txt --weights runs/mae --tokens both \\
          --skip-at-most 0.01 --out features.parquet
        python -m selection select k-center --features features.parquet --budget 0.1
    """
    check_embedding(tokens, dtype, frame_stride, batch_size, workers, skip_at_most, image_size)
    from pretrain_jax.features import embed

    manifest = embed(
        source,
        out,
        weights=weights,
        model=model,
        image_size=image_size,
        tokens=tokens,
        dtype=dtype,
        frame_stride=frame_stride,
        batch_size=batch_size,
        workers=workers,
        skip_at_most=skip_at_most,
        max_megapixels=max_megapixels,
        pages=pages,
        bits=bits,
        progress=wanted(progress),
    )
    report_stage(out, manifest, as_json=as_json)
    return 0


@more_help(lambda: f"methods: {', '.join(METHODS)}\nlayouts of SOURCE: {', '.join(COLLECTIONS)}")
def keep(
    source: str,
    *,
    weights: Annotated[Path, Option(metavar="FILE|RUN")],
    method: Annotated[str, Option(metavar="METHOD[:option=value,...]")],
    budget: str,
    given: Annotated[str | None, Option(metavar="LIST")] = None,
    per_group: int | None = None,
    near: float | None = None,
    out: Annotated[Path, Option(metavar="FILE")],
    features: Annotated[Path | None, Option(metavar="FOLDER")] = None,
    model: Annotated[str, Choice(MODELS)] = "auto",
    image_size: int | None = None,
    tokens: Tokens = "class",
    dtype: Precision = "float16",
    frame_stride: int = 1,
    batch_size: int = 32,
    workers: int | None = None,
    skip_at_most: float = 0.0,
    max_megapixels: float | None = None,
    pages: Pages | None = None,
    bits: int | None = None,
    seed: int = 0,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Keep the images that a method picks by their features.

    OUT is an image list with classes and groups, which every command takes as its images. Beside it
    lie a contact sheet of what is kept and left out, and a table by group: OUT's name with .png and
    .csv. The features are kept as `embed` writes them, and a later call takes them as they are.

    Args:
        source: folder, image list, tar or Parquet file or folder of them, folder that datasets
            saved, video, or LAYOUT:FOLDER with one of the layouts below.
        weights: file of weights, folder of transformers, or run of pre-training.
        method: one of `selection` that needs features alone, see below.
        budget: a count, or a fraction such as 0.1.
        given: images that are labelled already, a list or a folder; they are not kept again.
        per_group: keep at most this many images of a group, given ones with them.
        near: first leave out what has a larger cosine with an earlier one of its group.
        out: the list to write, .txt; never replaces another file.
        features: folder of the features, default features.parquet beside OUT.
        model: kind of the encoder; auto recognises it.
        image_size: side of the images in pixels, default the encoder's own.
        tokens: class token, mean of the patches, or both, one after the other.
        dtype: of the stored numbers.
        frame_stride: of videos.
        batch_size: images at once, on all devices together.
        workers: threads that decode images, default one for each processor.
        skip_at_most: share of the images that may be unreadable.
        max_megapixels: of the largest image that is decoded, default 100.
        pages: whether "all" pictures of a file with several (pages, slices, frames of an animation)
            are images, or the "first" only; default all.
        bits: that 16-bit images use where their file does not say, 10 to 16.
        seed: of all random choices.

    Examples:
        python -m pretrain_jax keep images/ --weights dinov2_vits14_pretrain.pth \\
          --method k-center --budget 0.1 --out kept.txt
        python -m pretrain_jax keep images.txt --weights runs/mae --method facility-location \\
          --budget 500 --given labelled.txt --out next.txt
        python -m pretrain_jax keep videos.txt --weights dinov2_vits14_pretrain.pth \\
          --method k-center --budget 0.1 --per-group 20 --near 0.98 --out few.txt
        python -m pretrain_jax run mae_vit_tiny_cpu --data.path kept.txt
    """
    check_embedding(tokens, dtype, frame_stride, batch_size, workers, skip_at_most, image_size)
    folder = features_folder(out, features)
    check_keeping(out, folder, method, budget, seed, per_group, near)
    from pretrain_jax.features import keep

    found = keep(
        source,
        out,
        weights=weights,
        method=method,
        budget=budget,
        given=given,
        per_group=per_group,
        near=near,
        features=folder,
        seed=seed,
        model=model,
        image_size=image_size,
        tokens=tokens,
        dtype=dtype,
        frame_stride=frame_stride,
        batch_size=batch_size,
        workers=workers,
        skip_at_most=skip_at_most,
        max_megapixels=max_megapixels,
        pages=pages,
        bits=bits,
        progress=wanted(progress),
    )
    if as_json:
        print(json.dumps(dataclasses.asdict(found), indent=1))
        return 0
    print(f"{found.out}: {found.kept} of {found.images} images kept by {method}")
    if found.groups:
        print(f"  {'groups':<14}{found.groups_kept} of {found.groups}")
    if found.given:
        print(f"  {'given':<14}{found.given}")
    if near is not None:
        print(f"  {'left out':<14}{found.near_duplicates} near-duplicates, before any is picked")
    print(f"  {'contact sheet':<14}{out.with_suffix('.png')}")
    print(f"  {'by group':<14}{out.with_suffix('.csv')}")
    print(f"  {'features':<14}{found.features}")
    print("".join(f"  note: {note}\n" for note in found.notes), end="")
    return 0
