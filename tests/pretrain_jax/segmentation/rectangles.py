"""Ten small pictures of bright rectangles and a run on them that takes seconds."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.segmentation import (
    FinetuneConfig,
    SegmentationSet,
    read_pair,
)

ENCODER = ViTConfig(image_size=16, patch_size=4, width=16, depth=1, heads=2)
DEEP = dataclasses.replace(ENCODER, width=8, depth=4)
CONFIG = FinetuneConfig(
    head="linear",
    mode="scratch",
    encoder=ENCODER,
    steps=30,
    batch_size=4,
    learning_rate=1e-2,
    warmup_steps=3,
    checkpoint_every=8,
    test_share=0.3,
    bootstrap_draws=2000,
)


def write_set(root: Path, cases: int = 10) -> SegmentationSet:
    """Bright rectangles on dark noise, which a patch's mean tells apart."""
    for number in range(cases):
        rng = np.random.default_rng(number)
        truth = np.zeros((20, 24), np.uint8)
        top, left = rng.integers(0, 10, 2)
        truth[top : top + 10, left : left + 12] = 1
        pixels = rng.integers(0, 90, (20, 24, 3)) + 150 * truth[:, :, None]
        for folder, picture in (("images", pixels.astype(np.uint8)), ("masks", truth)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / folder / f"{number}.png")
    return read_pair(root)
