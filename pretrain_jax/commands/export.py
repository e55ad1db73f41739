"""Defines the command that writes a trained model for transformers."""

import sys
from pathlib import Path
from typing import Annotated

from hardset.cli import Option


def export(
    model: Annotated[Path, Option(metavar="RUN")],
    *,
    out: Annotated[Path, Option(metavar="FOLDER")],
) -> int:
    """Write a trained model in the layout of transformers.

    FOLDER gets model.safetensors, config.json and preprocessor_config.json (size, mean and
    standard deviation of images), which from_pretrained of transformers reads, and so do --weights
    and --init here.

    A masked autoencoder becomes a ViTMAEForPreTraining, the encoder of SimCLR a ViTModel. A
    fine-tuned head dpt on a ViT becomes a DPTForSemanticSegmentation; of other fine-tuned models
    the encoder is written, and a line says so.

    Args:
        model: a folder of stage pretrain or finetune, a run or one of its checkpoints.
        out: the stage's folder.

    Examples:
        python -m pretrain_jax export runs/demo --out runs/demo-transformers
        python -m pretrain_jax export out/kvasir-seg --out out/kvasir-seg-transformers
    """
    if not model.is_dir():
        raise ValueError(f"{model} does not exist or is no folder; give a run or a stage's folder")
    from pretrain_jax.exporting import export

    manifest = export(model, out)
    for note in manifest.notes:
        print(f"warning: {note}", file=sys.stderr)
    architecture, arrays = manifest.parameters["architecture"], manifest.counts["arrays"]
    print(f"{out}: {arrays} arrays of a {architecture}")
    return 0
