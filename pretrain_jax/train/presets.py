"""Named runs."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from hardset.checks import check_choice
from pretrain_jax.models.mae import MAE_PRESETS, MAEConfig
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.train.config import SHIPPED_IMAGES, DataOptions, OptimizerOptions, TrainConfig

__all__ = ["PRESETS", "preset"]

# ImageNet's statistics, which the published checkpoints were trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Pre-training of OptiDEL: MAE-ViT-Base/16, 224 px, mask 75%, batch 16, 100 epochs, AdamW, cosine.
# Its text has no learning rate: peak 1.5e-4 from MedDEL (arXiv:2401.17542); betas, decay, warmup
# and normalised pixels from MAE (arXiv:2111.06377).
_REFERENCE = TrainConfig(
    model=MAE_PRESETS["mae_vit_base"],
    data=DataOptions(mean=IMAGENET_MEAN, std=IMAGENET_STD),
    optimizer=OptimizerOptions(
        learning_rate=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05, warmup_share=0.05
    ),
    out="runs/mae_vit_base_reference",
    batch_size=16,
    epochs=100.0,
    checkpoint_every=1000,
    validate_every=1000,
)

# The smallest of the usual sizes on 64-pixel images: minutes to hours on a few cores.
_TINY_CPU = TrainConfig(
    model=MAEConfig(ViTConfig(image_size=64, patch_size=8, width=192, heads=3), 96, 2, 3),
    data=DataOptions(workers=1),
    optimizer=OptimizerOptions(learning_rate=1e-3),
    out="runs/mae_vit_tiny_cpu",
    batch_size=64,
    steps=2000,
    checkpoint_every=200,
    validate_every=200,
)

# Minutes on two cores. Plain pixels: its pictures owe nothing to the hidden patches' moments.
_DEMO = TrainConfig(
    model=MAEConfig(
        ViTConfig(image_size=64, patch_size=8, width=128, depth=4, heads=4),
        decoder_width=64,
        decoder_depth=2,
        decoder_heads=2,
        norm_pixel_loss=False,
    ),
    data=DataOptions(path=SHIPPED_IMAGES, validation_images=128, workers=0),
    optimizer=OptimizerOptions(learning_rate=2e-3, warmup_share=0.1),
    out="runs/demo",
    batch_size=64,
    steps=500,
    checkpoint_every=100,
    validate_every=100,
    probe_every=500,
)

# AdamW as in MoCo v3's vision transformers (arXiv:2104.02057); views are cropped on the device.
_SIMCLR_ADAMW = OptimizerOptions(
    learning_rate=None,
    base_learning_rate=1.5e-4,
    betas=(0.9, 0.999),
    weight_decay=0.1,
    warmup_share=0.1,
)
_SIMCLR_BASE = TrainConfig(
    model=SimCLRConfig.preset("vit_base"),
    data=DataOptions(crop="centre", mean=IMAGENET_MEAN, std=IMAGENET_STD),
    optimizer=_SIMCLR_ADAMW,
    out="runs/simclr_vit_base",
    batch_size=1024,
    epochs=100.0,
    checkpoint_every=500,
    validate_every=500,
)
_SIMCLR_TINY_CPU = TrainConfig(
    model=SimCLRConfig(
        ViTConfig(image_size=64, patch_size=8, width=192, heads=3, depth=6, pool="mean"), 512, 64
    ),
    data=DataOptions(crop="centre", workers=1),
    optimizer=dataclasses.replace(_SIMCLR_ADAMW, base_learning_rate=1e-3),
    out="runs/simclr_vit_tiny_cpu",
    batch_size=256,
    accumulation=4,
    steps=1000,
    checkpoint_every=100,
    validate_every=100,
)

PRESETS: Mapping[str, TrainConfig] = MappingProxyType(
    {
        "mae_vit_base_reference": _REFERENCE,
        "mae_vit_tiny_cpu": _TINY_CPU,
        "simclr_vit_base": _SIMCLR_BASE,
        "simclr_vit_tiny_cpu": _SIMCLR_TINY_CPU,
        "demo": _DEMO,
    }
)


def preset(name: str) -> TrainConfig:
    """The named run; set `data.path` (and what else differs) with `dataclasses.replace`.

    Raises:
        ValueError: an unknown name.
    """
    check_choice("preset", name, PRESETS)
    return PRESETS[name]
