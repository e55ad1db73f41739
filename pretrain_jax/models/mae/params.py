"""Maps masked autoencoders to the arrays of other libraries."""

import dataclasses
from typing import Any

from pretrain_jax.models.mae.config import MAEConfig
from pretrain_jax.models.vit.params import (
    VIT_LAYOUTS,
    affine,
    normalisation,
    official_blocks,
    transformers_blocks,
    transformers_vit_config,
    vit_table,
)
from pretrain_jax.weights import Entry, same

MAE_LAYOUTS = VIT_LAYOUTS


def mae_table(config: MAEConfig, layout: str) -> list[Entry]:
    """Return the key table of a masked autoencoder with its decoder.

    Args:
        config: the model's configuration.
        layout: "official" (the MAE code: pre-training and visualisation checkpoints) or
            "transformers" (ViTMAEForPreTraining).

    Raises:
        ValueError: an unknown layout, or one that has no place for the configuration.
    """
    encoder = [
        dataclasses.replace(entry, path=f"encoder.{entry.path}")
        for entry in vit_table(config.encoder, layout)
    ]
    prefix = "" if layout == "official" else "decoder."
    if layout == "official":
        blocks = official_blocks("decoder_blocks", "decoder_blocks", config.decoder_depth)
    else:
        blocks = transformers_blocks(
            "decoder_blocks", "decoder.decoder_layers", config.decoder_depth
        )
    return [
        *encoder,
        same("mask_token", f"{prefix}mask_token", leading=2),
        same("decoder_positions", f"{prefix}decoder_pos_embed", leading=1),
        *affine("decoder_embed", f"{prefix}decoder_embed"),
        *blocks,
        *normalisation("decoder_norm", f"{prefix}decoder_norm"),
        *affine("predict", f"{prefix}decoder_pred"),
    ]


def transformers_config(config: MAEConfig) -> dict[str, Any]:
    """Return the config.json of transformers' ViTMAEForPreTraining."""
    encoder = config.encoder
    return {
        "architectures": ["ViTMAEForPreTraining"],
        "model_type": "vit_mae",
        **transformers_vit_config(encoder),
        "dtype": encoder.param_dtype,
        "decoder_hidden_size": config.decoder_width,
        "decoder_num_hidden_layers": config.decoder_depth,
        "decoder_num_attention_heads": config.decoder_heads,
        "decoder_intermediate_size": round(encoder.mlp_ratio * config.decoder_width),
        "mask_ratio": config.mask_ratio,
        "norm_pix_loss": config.norm_pixel_loss,
    }
