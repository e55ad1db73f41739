"""Features of image files: ours, and those of transformers' preprocessing and model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from pretrain_jax.features import embed
from pretrain_jax.synthesis.tables import Table

SIDE, PATCH = 28, 14
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "image_size": SIDE}
SIZES |= {"patch_size": PATCH}
# By kind: its model, and the processor of its published weights, which works by Pillow as ours.
# Sources: preprocessor_config.json of facebook/dinov2-small and google/vit-base-patch16-224.
KINDS: dict[str, tuple[Any, Any]] = {
    "dinov2": (
        lambda: transformers.Dinov2Model(transformers.Dinov2Config(**SIZES, mlp_ratio=2)),
        lambda: transformers.BitImageProcessorPil(
            size={"shortest_edge": SIDE * 256 // 224},
            crop_size={"height": SIDE, "width": SIDE},
            resample=3,
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
        ),
    ),
    "vit": (
        lambda: transformers.ViTModel(transformers.ViTConfig(**SIZES, intermediate_size=96)),
        lambda: transformers.ViTImageProcessorPil(
            size={"height": SIDE, "width": SIDE},
            resample=2,
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.5, 0.5, 0.5],
        ),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_files(kind: str, tmp_path: Path) -> None:
    make, process = KINDS[kind]
    torch.manual_seed(0)
    model, processor = make().eval(), process()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    rng = np.random.default_rng(0)
    pictures = []
    for number, (height, width) in enumerate(((40, 60), (80, 31), (28, 28), (33, 90))):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3)).astype(np.uint8))
        pictures.append(coarse.resize((width, height), Image.Resampling.BICUBIC))
        (tmp_path / "images").mkdir(exist_ok=True)
        pictures[-1].save(tmp_path / "images" / f"{number}.png")
    with torch.no_grad():
        pixels = processor(pictures, return_tensors="pt")["pixel_values"]
        tokens = model(pixels).last_hidden_state.numpy()
    expected = np.concatenate([tokens[:, 0], tokens[:, 1:].mean(axis=1)], axis=1)

    out = tmp_path / "features.parquet"
    options: dict[str, Any] = {"tokens": "both", "dtype": "float32", "batch_size": 4}
    embed(tmp_path / "images", out, weights=tmp_path / "model", **options)
    found = next(Table(out).batches(["features"]))["features"]
    # A pixel may differ by one of 255 levels: Pillow sums the same weights, rounded elsewhere.
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())
