"""What `pretrain_jax.models.dpt` offers: each name is imported when it is used."""

from .modeling import DPT as DPT
from .modeling import DPTConfig as DPTConfig
from .params import dpt_keys as dpt_keys
from .params import dpt_table as dpt_table

__all__ = [
    "DPT",
    "DPTConfig",
    "dpt_keys",
    "dpt_table",
]
