"""What `pretrain_jax.train` offers: each name is imported when it is used."""

from .loop import NonFiniteLossError, TrainResult, train

__all__ = [
    "NonFiniteLossError",
    "TrainResult",
    "train",
]
