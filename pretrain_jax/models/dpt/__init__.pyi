"""What `pretrain_jax.models.dpt` offers: each name is imported when it is used."""

from .modeling import DPT as DPT
from .modeling import DPTConfig as DPTConfig

__all__ = [
    "DPT",
    "DPTConfig",
]
