"""Maps DINOv2's encoder to the arrays of transformers."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.models.dinov2.config import DINOv2Config
from pretrain_jax.models.dinov2.modeling import DINOv2
from pretrain_jax.models.vit.params import ATTENTION, affine, normalisation
from pretrain_jax.weights import (
    Entry,
    Layout,
    fused,
    named_as,
    patch_embedding,
    same,
)

GATE, UP = "mlp.gate_proj.", "mlp.up_proj."


def dinov2_table(config: DINOv2Config) -> list[Entry]:
    """Return the key table of Dinov2Model and Dinov2WithRegistersModel.

    The names are those of published files.
    """
    embeddings = "embeddings"
    patches = f"{embeddings}.patch_embeddings.projection"
    table = [
        same("class_token", f"{embeddings}.cls_token", leading=2),
        same("mask_token", f"{embeddings}.mask_token", leading=1),
        same("positions", f"{embeddings}.position_embeddings", leading=1),
        patch_embedding("embed.kernel", f"{patches}.weight", config.patch_size, config.channels),
        same("embed.bias", f"{patches}.bias"),
        *normalisation("norm", "layernorm"),
    ]
    if config.registers:
        table.append(same("registers", f"{embeddings}.register_tokens", leading=1))
    mlp = ("weights_in", "weights_out") if config.swiglu else ("fc1", "fc2")
    for block in range(config.depth):
        ours, theirs = f"blocks.{block}", f"encoder.layer.{block}"
        parts = [f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")]
        table.append(fused(f"{ours}.qkv.kernel", [f"{part}.weight" for part in parts]))
        table.append(fused(f"{ours}.qkv.bias", [f"{part}.bias" for part in parts]))
        table += affine(f"{ours}.out", f"{theirs}.attention.output.dense")
        for half in (1, 2):
            table += normalisation(f"{ours}.norm{half}", f"{theirs}.norm{half}")
            table.append(same(f"{ours}.scale{half}", f"{theirs}.layer_scale{half}.lambda1"))
            table += affine(f"{ours}.fc{half}", f"{theirs}.mlp.{mlp[half - 1]}")
    return table


def dinov2_keys(state: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Rename a state to the names of published files.

    Version 5 of transformers keeps other names in memory, and a gated layer in two halves.
    """
    renamed = {}
    for key, value in state.items():
        name = key.replace("mlp.down_proj.", "mlp.weights_out.")
        for old, new in ATTENTION:
            name = name.replace(old, new)
        renamed[name] = value
    for gate in [key for key in renamed if GATE in key]:
        up = gate.replace(GATE, UP)
        if up in renamed:
            halves = [renamed.pop(gate), renamed.pop(up)]
            renamed[gate.replace(GATE, "mlp.weights_in.")] = np.concatenate(halves)
    return renamed


def load_dinov2(model: DINOv2, state: Mapping[str, NDArray]) -> tuple[str, ...]:
    """Set an encoder's parameters from a state of transformers, strictly.

    A prefix of all names (`dinov2.`) is stripped, and a classifier's head is not taken.

    Args:
        model: changed in place; untouched where an error is raised.
        state: name -> array, of a file (`read_state`) or of a model's `state_dict`.

    Returns:
        Sentences on what was stripped or left out.

    Raises:
        WeightsError: missing, unexpected or misshapen keys, and which prefix to strip where that
            would help.
    """
    table = dinov2_table(model.config)
    keys = [key for entry in table for key in entry.keys]
    found = named_as(state, {"transformers": Layout(keys, dinov2_keys)})
    found.load_into(model, table)
    return found.notes
