"""Pre-training of vision transformers on images: MAE and SimCLR, on one device or many."""

from pretrain_jax.train.checkpoint import CheckpointError
from pretrain_jax.train.config import (
    ClusterOptions,
    DataOptions,
    OptimizerOptions,
    TrainConfig,
)
from pretrain_jax.train.loop import NonFiniteLossError, TrainResult, train
from pretrain_jax.train.presets import PRESETS, preset
from pretrain_jax.train.restored import TrainedModel, load_model

__all__ = [
    "PRESETS",
    "CheckpointError",
    "ClusterOptions",
    "DataOptions",
    "NonFiniteLossError",
    "OptimizerOptions",
    "TrainConfig",
    "TrainResult",
    "TrainedModel",
    "load_model",
    "preset",
    "train",
]
