"""What `pretrain_jax` offers: each name is imported when it is used."""

from .train.checkpoint import CheckpointError as CheckpointError
from .train.config import PRESETS as PRESETS
from .train.config import ClusterOptions as ClusterOptions
from .train.config import DataOptions as DataOptions
from .train.config import OptimizerOptions as OptimizerOptions
from .train.config import TrainConfig as TrainConfig
from .train.loop import NonFiniteLossError as NonFiniteLossError
from .train.loop import TrainResult as TrainResult
from .train.weights import TrainedModel as TrainedModel
from .train.weights import load_model as load_model

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
]
