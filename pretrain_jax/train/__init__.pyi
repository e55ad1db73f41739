"""What `pretrain_jax.train` offers: each name is imported when it is used."""

from .loop import NonFiniteLossError as NonFiniteLossError
from .loop import TrainResult as TrainResult
from .loop import train as train

__all__ = [
    "NonFiniteLossError",
    "TrainResult",
    "train",
]
