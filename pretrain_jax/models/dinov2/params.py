"""Maps DINOv2's encoder to the arrays of transformers, of Meta's own files and of timm."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice
from pretrain_jax.models.dinov2.config import DINOv2Config
from pretrain_jax.models.dinov2.modeling import EncoderConfig
from pretrain_jax.models.vit.params import ATTENTION, affine, normalisation
from pretrain_jax.weights import (
    Entry,
    fused,
    patch_embedding,
    same,
)
from pretrain_jax.weights.sizes import Sizes, check_known, heads_of

DINOV2_LAYOUTS = ("transformers", "official", "timm")
GATE, UP = "mlp.gate_proj.", "mlp.up_proj."


def dinov2_table(config: DINOv2Config, layout: str = "transformers") -> list[Entry]:
    """Return the key table of a DINOv2 encoder.

    Args:
        config: the model's configuration.
        layout: "transformers" (the files of Dinov2Model and Dinov2WithRegistersModel), "official"
            (those of facebookresearch/dinov2) or "timm" (`vit_*_patch14[_reg4]_dinov2`, which has
            no mask token, and with registers no position of the class token).

    Raises:
        ValueError: an unknown layout.
    """
    check_choice("layout", layout, DINOV2_LAYOUTS)
    if layout == "transformers":
        return _transformers(config)
    timm = layout == "timm"
    table = [
        same("class_token", "cls_token", leading=2),
        absent("mask_token", config.width) if timm else same("mask_token", "mask_token", leading=1),
        (_patch_positions if timm and config.registers else same)(
            "positions", "pos_embed", leading=1
        ),
        *patches_and_norm(config, "patch_embed.proj"),
    ]
    if config.registers:
        table.append(same("registers", "reg_token" if timm else "register_tokens", leading=1))
    mlp = ("w12", "w3") if config.swiglu and not timm else ("fc1", "fc2")
    for block in range(config.depth):
        ours = theirs = f"blocks.{block}"
        table += affine(f"{ours}.qkv", f"{theirs}.attn.qkv")
        table += affine(f"{ours}.out", f"{theirs}.attn.proj")
        for half in (1, 2):
            table += normalisation(f"{ours}.norm{half}", f"{theirs}.norm{half}")
            table.append(same(f"{ours}.scale{half}", f"{theirs}.ls{half}.gamma"))
            table += affine(f"{ours}.fc{half}", f"{theirs}.mlp.{mlp[half - 1]}")
    return table


def patches_and_norm(config: EncoderConfig, patches: str, norm: str = "norm") -> list[Entry]:
    """Return the entries of the patch projection and the final norm."""
    return [
        patch_embedding("embed.kernel", f"{patches}.weight", config.patch_size, config.channels),
        same("embed.bias", f"{patches}.bias"),
        *normalisation("norm", norm),
    ]


def absent(path: str, width: int) -> Entry:
    """Return the entry of a variable that a layout has not, which is 0."""
    return Entry(path, (), lambda arrays: np.zeros(width, np.float32), lambda value: [])


def _patch_positions(path: str, key: str, *, leading: int) -> Entry:
    """Return the entry of positions that lack the class token's.

    It was added to that token.
    """
    patches = same(path, key, leading=leading)
    return Entry(
        path,
        (key,),
        lambda arrays: np.pad(patches.load(arrays), ((1, 0), (0, 0))),
        lambda value: patches.save(value[1:]),
    )


def _transformers(config: DINOv2Config) -> list[Entry]:
    embeddings = "embeddings"
    table = [
        same("class_token", f"{embeddings}.cls_token", leading=2),
        same("mask_token", f"{embeddings}.mask_token", leading=1),
        same("positions", f"{embeddings}.position_embeddings", leading=1),
        *patches_and_norm(config, f"{embeddings}.patch_embeddings.projection", "layernorm"),
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


def transformers_dinov2_config(config: DINOv2Config) -> dict[str, Any]:
    """Return the config.json of transformers' Dinov2Model or Dinov2WithRegistersModel."""
    ratio = config.mlp_ratio
    registers = config.registers
    return {
        "architectures": ["Dinov2WithRegistersModel" if registers else "Dinov2Model"],
        "model_type": "dinov2_with_registers" if registers else "dinov2",
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "mlp_ratio": int(ratio) if ratio == int(ratio) else ratio,
        "use_swiglu_ffn": config.swiglu,
        "hidden_act": "gelu",
        "layer_norm_eps": config.layer_norm_eps,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "qkv_bias": True,
        **({"num_register_tokens": registers} if registers else {}),
        "dtype": config.param_dtype,
    }


def dinov2_config(
    state: Mapping[str, NDArray], layout: str, known: Mapping[str, Any]
) -> tuple[DINOv2Config, tuple[str, ...]]:
    """Read the configuration off the names and shapes of a state.

    Args:
        state: under the names of `dinov2_table`.
        layout: see `dinov2_table`.
        known: entries of transformers' config.json, as far as there are any.

    Returns:
        The configuration, and sentences on what was assumed.

    Raises:
        WeightsError: an array that tells a size is missing, or `known` contradicts the arrays.
    """
    gated = any(".mlp.weights_in." in key or ".mlp.w12." in key for key in state)
    one = DINOv2Config(depth=1, registers=1, swiglu=gated)
    sizes = Sizes(state, dinov2_table(one, layout))
    width, channels, patch = sizes.patches()
    hidden = sizes.shape("blocks.0.fc2.kernel", 2)[1]
    gated = gated or sizes.shape("blocks.0.fc1.kernel", 2)[0] == 2 * hidden
    registers = sizes.shape("registers", 3)[1] if sizes.has("registers") else 0
    heads, notes = heads_of(width, known)
    config = DINOv2Config(
        image_size=patch * sizes.side(0 if layout == "timm" and registers else 1),
        patch_size=patch,
        channels=channels,
        width=width,
        depth=sizes.depth(),
        heads=heads,
        mlp_ratio=(1.5 if gated else 1.0) * hidden / width,
        swiglu=gated,
        registers=registers,
        layer_norm_eps=known.get("layer_norm_eps", 1e-6),
        dtype=sizes.dtype(),
        param_dtype=sizes.dtype(),
    )
    check_known(
        known,
        {
            "hidden_size": width,
            "num_hidden_layers": config.depth,
            "patch_size": patch,
            "num_channels": channels,
            "image_size": config.image_size,
            "use_swiglu_ffn": gated,
            "num_register_tokens": registers,
            "hidden_act": "gelu",
        },
    )
    return config, notes
