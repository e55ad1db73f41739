"""What `pretrain_jax.models.dpt` offers: each name is imported when it is used."""

from .config import DPTConfig
from .modeling import DPT
from .params import dpt_keys, dpt_table

__all__ = [
    "DPT",
    "DPTConfig",
    "dpt_keys",
    "dpt_table",
]
