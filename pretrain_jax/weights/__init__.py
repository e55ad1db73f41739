"""Reads and writes weights of other libraries by key tables.

No code of a file ever runs.
"""

from pretrain_jax.weights.mapping import (
    Entry,
    KeyReport,
    Layout,
    Named,
    check_state,
    export_state,
    fused,
    load_into,
    named_as,
    patch_embedding,
    same,
    transposed,
)
from pretrain_jax.weights.reader import read_state, write_safetensors
from pretrain_jax.weights.torch_file import WeightsError

__all__ = [
    "Entry",
    "KeyReport",
    "Layout",
    "Named",
    "WeightsError",
    "check_state",
    "export_state",
    "fused",
    "load_into",
    "named_as",
    "patch_embedding",
    "read_state",
    "same",
    "transposed",
    "write_safetensors",
]
