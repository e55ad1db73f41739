"""Defines the command that applies a fine-tuned model to images."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

from hardset.checks import check_integer, check_range
from hardset.cli import Json, Option, Progress, more_help, wanted
from pretrain_jax.data.listing import COLLECTIONS
from pretrain_jax.data.options import Pages, set_reading


@more_help(lambda: "layouts: " + ", ".join(COLLECTIONS))
def predict(
    images: str,
    *,
    model: Annotated[Path, Option(metavar="RUN")],
    out: Annotated[Path, Option(metavar="DIR")],
    overlays: bool = True,
    probabilities: bool = False,
    frame_stride: int = 1,
    skip_at_most: float = 0.01,
    batch_size: int = 16,
    workers: int = 2,
    max_megapixels: float | None = None,
    pages: Pages | None = None,
    bits: int | None = None,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Predict masks of images by a fine-tuned model.

    DIR gets masks/ (8-bit PNG files of the images' sizes; values are the numbers of the classes,
    255 is never among them), coco.json (the regions, run-length encoded), areas.csv (pixels and
    share of each class), overlays/ and overlays.png (the classes in colour).

    The same command again goes on where it was interrupted.

    Args:
        images: folder, image list, tar or Parquet file or folder of them, folder that datasets
            saved, video, image, or LAYOUT:FOLDER with one of the layouts below.
        model: folder of a finished stage finetune.
        out: the stage's folder.
        overlays: draw each image with its classes, and not only the sheet of some.
        probabilities: write those of all classes, too: .npy files of float16 (height, width,
            classes).
        frame_stride: every how many frames of a video are taken.
        skip_at_most: share of the images that may be unreadable.
        batch_size: images of a device program.
        workers: threads that decode and write images.
        max_megapixels: of the largest image that is decoded, default 100.
        pages: whether "all" pictures of a file with several (pages, slices, frames of an animation)
            are images, or the "first" only; default all.
        bits: that 16-bit images use where their file does not say, 10 to 16.

    Examples:
        python -m pretrain_jax predict frames/ --model out/kvasir-seg --out out/masks
        python -m pretrain_jax predict video.mp4 --model out/kvasir-seg --out out/video \\
          --frame-stride 25 --probabilities
    """
    check_integer("--frame-stride", frame_stride, 1, 2**31)
    check_range("--skip-at-most", skip_at_most, 0.0, 1.0)
    check_integer("--batch-size", batch_size, 1, 1 << 20)
    check_integer("--workers", workers, 1, 4096)
    set_reading(max_megapixels=max_megapixels, pages=pages, bits=bits)
    from hardset.folder import read_manifest

    read_manifest(model, ("finetune", "finetune-folds"))  # before seconds of imports
    from pretrain_jax.segmentation import predict

    manifest = predict(
        images,
        model,
        out,
        overlays=overlays,
        probabilities=probabilities,
        frame_stride=frame_stride,
        skip_at_most=skip_at_most,
        batch_size=batch_size,
        workers=workers,
        progress=wanted(progress),
    )
    if as_json:
        print(json.dumps(dataclasses.asdict(manifest) | {"folder": str(out)}, indent=1))
        return 0
    for note in manifest.notes:
        print(f"warning: {note}", file=sys.stderr)
    counts = manifest.counts
    shares = {
        name.removeprefix("pixels_"): pixels
        for name, pixels in counts.items()
        if name.startswith("pixels_")
    }
    print(f"{out}: masks of {counts['predicted']} of {counts['images']} images")
    total = sum(shares.values())
    for name, pixels in shares.items():
        print(f"  {name:<22}{pixels / total:.2%} of the pixels")
    print(f"  {'areas':<22}{out / 'areas.csv'}")
    print(f"  {'pictures':<22}{out / 'overlays.png'}")
    return 0
