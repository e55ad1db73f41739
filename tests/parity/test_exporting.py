"""What transformers makes of exported models, and the way back."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from pretrain_jax.features import open_encoder
from pretrain_jax.models.dinov2 import DINOv2, DINOv2Config
from pretrain_jax.models.dinov3 import DINOv3, DINOv3Config
from pretrain_jax.models.dpt import DPT, DPTConfig
from pretrain_jax.models.exporting import exported
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.vit import ViT, ViTConfig
from pretrain_jax.weights.published import write_published
from tests.parity.tensors import relative

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
SIZES: dict[str, Any] = {
    "image_size": 12,
    "patch_size": 4,
    "width": 24,
    "depth": 4,
    "heads": 3,
    "param_dtype": "float64",
    "dtype": "float64",
}
VIT = ViTConfig(**SIZES, mlp_ratio=2.0)


def varied(model: Any, seed: int) -> Any:
    """Every parameter with noise, so that none is inert; fixed positions stay."""
    rng = np.random.default_rng(seed)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    noisy = jax.tree.map(lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape), params)
    return nnx.merge(graph, noisy, rest)


def saved(model: Any, folder: Path, auto: Any, **options: Any) -> Any:
    """The model of transformers that reads our folder, in the type that it says."""
    write_published(folder, exported(model, MEAN, STD, ("polyp", "wall")))
    theirs, report = auto.from_pretrained(
        folder, output_loading_info=True, dtype="auto", attn_implementation="sdpa", **options
    )
    assert not any(report.values()), report
    assert next(theirs.parameters()).dtype == torch.float64
    return theirs.eval()


def drawn_images(channels: int = 3) -> tuple[np.ndarray, torch.Tensor]:
    images = np.random.default_rng(5).normal(size=(2, 12, 12, channels))
    return images, torch.tensor(images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("kind", ["mae", "vit", "dinov2", "registers"])
def test_encoders_both_ways(tmp_path: Path, kind: str, parity_seed: int) -> None:
    """transformers' tokens in double precision, and the arrays bit for bit when opened again."""
    options: dict[str, Any] = {}
    with jax.enable_x64(True):
        rngs = nnx.Rngs(parity_seed)
        if kind == "mae":
            model = MAE(MAEConfig(VIT, 16, 1, 2, mask_ratio=0.5), rngs=rngs)
        elif kind == "vit":
            model = ViT(VIT, rngs=rngs)
            options = {"add_pooling_layer": False}
        else:
            more = {"registers": 2, "swiglu": True} if kind == "registers" else {}
            model = DINOv2(DINOv2Config(**SIZES, **more), rngs=rngs)
        model = varied(model, parity_seed)
        autos = {
            "mae": transformers.ViTMAEForPreTraining,
            "vit": transformers.ViTModel,
            "dinov2": transformers.Dinov2Model,
            "registers": transformers.Dinov2WithRegistersModel,
        }
        theirs = saved(model, tmp_path, autos[kind], **options)
        images, pixels = drawn_images()
        opened = open_encoder(tmp_path, image_size=12)
        assert (opened.mean, opened.std, opened.image_size) == (MEAN, STD, 12)
        own = model.encoder if isinstance(model, MAE) else model
        for ours, back in zip(
            jax.tree.leaves(nnx.state(own)), jax.tree.leaves(nnx.state(opened.model)), strict=True
        ):
            np.testing.assert_array_equal(ours, back)
        if kind == "mae":
            noise = np.random.default_rng(1).random((2, 9))
            with torch.no_grad():
                expected = theirs(pixels, noise=torch.tensor(noise)).logits
            assert relative(model(images, noise).prediction, expected) < 1e-12
            return
        with torch.no_grad():
            tokens = theirs(pixels).last_hidden_state
        found = opened.features(images)
        assert relative(found.token, tokens[:, 0]) < 1e-12
        assert relative(found.patches.reshape(2, 9, -1), tokens[:, -9:]) < 1e-12


def test_dinov3_is_read_by_transformers(tmp_path: Path, parity_seed: int) -> None:
    """Its angles are single precision there, which four blocks amplify."""
    fields = SIZES | {"hidden_width": 40, "registers": 2, "swiglu": True}
    with jax.enable_x64(True):
        model = varied(DINOv3(DINOv3Config(**fields), rngs=nnx.Rngs(0)), parity_seed)
        theirs = saved(model, tmp_path, transformers.DINOv3ViTModel)
        images, pixels = drawn_images()
        with torch.no_grad():
            tokens = theirs(pixels).last_hidden_state
        assert relative(model(images).class_token, tokens[:, 0]) < 1e-5


def test_a_segmenter_is_read_by_transformers(tmp_path: Path, parity_seed: int) -> None:
    """Logits of DPT, and the names of its classes."""
    config = DPTConfig.on(VIT, classes=2, widths=(4, 5, 6, 7), fusion_width=8)
    with jax.enable_x64(True):
        model = varied(DPT(config, rngs=nnx.Rngs(0)), parity_seed)
        theirs = saved(model, tmp_path, transformers.DPTForSemanticSegmentation)
        images, pixels = drawn_images()
        with torch.no_grad():
            logits = theirs(pixels).logits
        assert relative(model(images).transpose(0, 3, 1, 2), logits) < 1e-12
    assert theirs.config.id2label == {0: "polyp", 1: "wall"}


def test_images_are_prepared_as_here(tmp_path: Path) -> None:
    """transformers' image processor makes what the encoder takes: size, scale, mean, deviation."""
    with jax.enable_x64(True):
        model = ViT(VIT, rngs=nnx.Rngs(0))
        write_published(tmp_path, exported(model, MEAN, STD))
    processor = transformers.ViTImageProcessorPil.from_pretrained(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    (found,) = processor(pixels, return_tensors="np")["pixel_values"]
    expected = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(found.transpose(1, 2, 0), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (DPTConfig.on(VIT, head_doublings=0), "doubles its logits once"),
        (DPTConfig.on(DINOv2Config(**SIZES)), "stands on a plain ViT with a class token"),
    ],
)
def test_segmenters_without_a_place(config: DPTConfig, sentence: str) -> None:
    with jax.enable_x64(True), pytest.raises(ValueError, match=sentence):
        exported(DPT(config, rngs=nnx.Rngs(0)), MEAN, STD)
