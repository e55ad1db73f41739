"""Dense prediction transformer (arXiv:2103.13413): a segmentation head on a ViT."""

from pretrain_jax.models.dpt.config import DPTConfig
from pretrain_jax.models.dpt.modeling import DPT
from pretrain_jax.models.dpt.params import dpt_keys, dpt_table

__all__ = ["DPT", "DPTConfig", "dpt_keys", "dpt_table"]
