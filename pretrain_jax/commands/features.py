"""Defines the commands that use pre-trained encoders, `embed` and `keep`."""

from pathlib import Path
from typing import Annotated

from hardset.cli import Choice, Json, Option, Progress, more_help, wanted
from pretrain_jax.commands.stages import report_stage
from pretrain_jax.data.listing import COLLECTIONS
from pretrain_jax.features.fitting import FITS
from pretrain_jax.features.options import Precision, Tokens, check_embedding

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
    out: Annotated[Path, Option(metavar="FOLDER")],
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Compute the features of images by a pre-trained encoder.

    OUT is a folder of Parquet files with the columns id, frame, group, label and features. The
    commands select, score and recommend of `selection` read the folder as it is. Where it was
    interrupted, the same command goes on.

    Args:
        source: folder, image list, video, or LAYOUT:FOLDER with one of the layouts below.
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
        progress=wanted(progress),
    )
    report_stage(out, manifest, as_json=as_json)
    return 0
