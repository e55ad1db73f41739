"""Counts floating-point operations of a training step.

It also says what a device could do at most.

It counts matrix products only, with two operations for a multiplication and an addition. Softmax,
norms and elementwise work are left out, as is usual for the model FLOPs utilisation
(arXiv:2204.02311).
"""

from collections.abc import Mapping
from types import MappingProxyType

import jax

from pretrain_jax.models.encoders import Architecture
from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.models.vit import ViTConfig

# Dense bfloat16 peaks in FLOP/s from the vendors' data sheets, by a part of JAX's device kind.
PEAKS: Mapping[str, float] = MappingProxyType(
    {
        "H200": 989e12,
        "H100 PCIe": 756e12,
        "H100": 989e12,
        "A100": 312e12,
        "A6000": 155e12,
        "L40": 181e12,
        "V100": 125e12,
        "TPU v4": 275e12,
        "TPU v5 lite": 197e12,
        "TPU v5p": 459e12,
        "TPU v6 lite": 918e12,
    }
)
# Forward and backward pass over the forward pass alone.
TRAINING_FACTOR = 3


def block_flops(tokens: int, width: int, hidden: int, *, gated: bool = False) -> int:
    """Count the FLOPs of one transformer block on one sequence.

    They are those of query, key, value, output; attention; MLP, which has three matrices where it
    is gated.
    """
    projections = 2 * tokens * width * (4 * width + (3 if gated else 2) * hidden)
    attention = 2 * 2 * tokens * tokens * width
    return projections + attention


def vit_forward_flops(config: Architecture, patches: int | None = None) -> int:
    """Return FLOPs of the encoder for one image.

    Args:
        config: sizes.
        patches: number of patches that it sees; None sees all.
    """
    seen = config.patches if patches is None else patches
    embed = 2 * seen * config.patch_values * config.width
    return embed + config.depth * encoder_block_flops(config, seen)


def encoder_block_flops(config: Architecture, patches: int) -> int:
    """Return FLOPs of one block of the encoder for one image.

    Args:
        config: sizes.
        patches: number of patches that it sees.
    """
    gated = not isinstance(config, ViTConfig) and config.swiglu
    tokens = config.leading + patches
    return block_flops(tokens, config.width, config.hidden_width, gated=gated)


def mae_forward_flops(config: MAEConfig) -> int:
    """Return FLOPs of a masked autoencoder for one image, forward only.

    Only visible patches are embedded. ViT-B/16 at 224 pixels with 75% masked: 19.4e9.
    """
    encoder, width = config.encoder, config.decoder_width
    tokens = 1 + encoder.patches
    hidden = round(encoder.mlp_ratio * width)
    decoder = config.decoder_depth * block_flops(tokens, width, hidden)
    ends = 2 * (1 + config.visible) * encoder.width * width
    ends += 2 * encoder.patches * width * encoder.patch_values
    return vit_forward_flops(encoder, config.visible) + decoder + ends


def mae_training_flops(config: MAEConfig) -> int:
    """Return FLOPs of one trained image.

    They are the forward pass, and twice that backward.
    """
    return TRAINING_FACTOR * mae_forward_flops(config)


def simclr_training_flops(config: SimCLRConfig) -> int:
    """Return FLOPs of one trained image.

    Two views go through encoder and projector.
    """
    hidden = config.projector_hidden
    projector = 2 * hidden * (config.encoder.width + config.projector_width)
    return 2 * TRAINING_FACTOR * (vit_forward_flops(config.encoder) + projector)


def peak_flops(device: jax.Device) -> float | None:
    """Return the device's bfloat16 peak in FLOP/s.

    It is None where the device is not in the table (CPUs).
    """
    for part, peak in PEAKS.items():
        if part.lower() in device.device_kind.lower():
            return peak
    return None
