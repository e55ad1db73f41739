"""What `pretrain_jax` offers: each name is imported when it is used."""

from .train.checkpoint import CheckpointError
from .train.config import ClusterOptions, DataOptions, OptimizerOptions, TrainConfig
from .train.loop import NonFiniteLossError, TrainResult
from .train.presets import PRESETS, preset
from .train.restored import TrainedModel, load_model

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
]
