from .config import DPTConfig as DPTConfig
from .modeling import DPT as DPT
from .params import (
    dpt_keys as dpt_keys,
)
from .params import (
    dpt_table as dpt_table,
)

__all__ = [
    "DPT",
    "DPTConfig",
    "dpt_keys",
    "dpt_table",
]
