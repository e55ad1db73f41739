"""Counted operations of a crop that a segmentation model is trained on."""

from pretrain_jax.models.dpt.config import DPTConfig
from pretrain_jax.segmentation.heads import ModelConfig, ProbeConfig
from pretrain_jax.train.flops import TRAINING_FACTOR, vit_forward_flops

__all__ = ["finetuning_flops", "head_flops"]


def finetuning_flops(model: ModelConfig, *, frozen: bool) -> int:
    """FLOPs of one trained crop: of a frozen encoder the forward pass alone.

    Args:
        model: encoder and head.
        frozen: whether only the head is trained.
    """
    passes = 1 if frozen else TRAINING_FACTOR
    return passes * vit_forward_flops(model.encoder) + TRAINING_FACTOR * head_flops(model)


def head_flops(model: ModelConfig) -> int:
    """FLOPs of the head for one image, forward only: matrix products and convolutions."""
    if isinstance(model, ProbeConfig):
        hidden, ends = model.hidden, (model.encoder.width, model.classes)
        weights = hidden * sum(ends) if hidden else ends[0] * ends[1]
        return 2 * model.encoder.patches * weights
    return _dpt(model)


def _dpt(config: DPTConfig) -> int:
    width, encoder = config.fusion_width, config.encoder
    rows, columns = encoder.grid
    halved = -(-rows // 2), -(-columns // 2)
    total = 0
    # Reassembled maps: readout, projection, change of resolution, convolution to the fused width.
    readout = 2 * encoder.width if config.readout == "project" else 0
    sizes = [(factor * rows, factor * columns) for factor in (4, 2, 1)] + [halved]
    for own, factor, (height, across) in zip(config.widths, (4, 2, 1, 0), sizes, strict=True):
        total += 2 * encoder.patches * encoder.width * (readout + own)
        if factor > 1:
            total += 2 * encoder.patches * own * own * factor**2
        pixels = height * across
        total += 2 * pixels * 9 * own * (width + (own if factor == 0 else 0))
    # Fused maps, deepest first: two convolutions a residual unit, doubling, one by one projection.
    height, across = halved
    for units in (1, 2, 2, 2):
        total += units * 2 * 2 * height * across * 9 * width**2 + _doubling(height, across, width)
        height, across = 2 * height, 2 * across
        total += 2 * height * across * width**2
    total += 2 * height * across * width * (9 * width + config.classes)
    for _ in range(config.head_doublings):
        total += _doubling(height, across, config.classes)
        height, across = 2 * height, 2 * across
    return total


def _doubling(height: int, across: int, features: int) -> int:
    """A product with a (2 height, height) matrix, then one with a (2 across, across) matrix."""
    return 2 * features * (2 * height * height * across + 2 * height * 2 * across * across)
