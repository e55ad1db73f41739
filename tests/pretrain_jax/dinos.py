"""Sets the arrays of a DINO model of known configuration, strictly, under transformers' names."""

from collections.abc import Mapping

from numpy.typing import NDArray

from pretrain_jax.models.dinov2 import DINOv2, dinov2_keys, dinov2_table
from pretrain_jax.models.dinov3 import DINOv3, dinov3_keys, dinov3_table
from pretrain_jax.weights import Layout, named_as


def load_dino(model: DINOv2 | DINOv3, state: Mapping[str, NDArray]) -> tuple[str, ...]:
    """Set the model's arrays, and return sentences on what was stripped or left out."""
    if isinstance(model, DINOv2):
        table, rename = dinov2_table(model.config), dinov2_keys
    else:
        table, rename = dinov3_table(model.config), dinov3_keys
    keys = [key for entry in table for key in entry.keys]
    found = named_as(state, {"transformers": Layout(keys, rename)})
    found.load_into(model, table)
    return found.notes
