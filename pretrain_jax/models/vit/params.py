"""Maps vision transformers to the arrays of the official MAE code and of transformers."""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice
from pretrain_jax.models.vit.config import ViTConfig
from pretrain_jax.models.vit.modeling import sincos_positions
from pretrain_jax.weights import Entry, fused, patch_embedding, same, transposed
from pretrain_jax.weights.sizes import Sizes, check_known, heads_of

VIT_LAYOUTS = ("official", "transformers")
# Numbers of an attention head where there are not 64: H, g and G of arXiv:2106.04560.
HEAD_SIZES = MappingProxyType({1280: 80, 1408: 88, 1664: 104})
# Added to variances where no config.json says it, as in timm's and transformers' models.
PUBLISHED_EPS = MappingProxyType({"official": 1e-6, "transformers": 1e-12})
ROUNDING = 1e-3
# Entries of config.json that no array tells.
UNTOLD = frozenset({"num_attention_heads", "layer_norm_eps"}) | frozenset(
    {"hidden_dropout_prob", "attention_probs_dropout_prob"}
)
# Names of version 5 of transformers in memory -> names in its files.
ATTENTION = (
    ("attention.q_proj.", "attention.attention.query."),
    ("attention.k_proj.", "attention.attention.key."),
    ("attention.v_proj.", "attention.attention.value."),
    ("attention.o_proj.", "attention.output.dense."),
)
# File names of transformers 4 (and of version 5 for the decoder) -> names of the table below.
RENAMED = (
    ("decoder.decoder_encoder.layer.", "decoder.decoder_layers."),
    *ATTENTION,
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
    ("vit.layers.", "vit.encoder.layer."),
)


def vit_table(config: ViTConfig, layout: str) -> list[Entry]:
    """Return the key table of a vision transformer.

    Args:
        config: the model's configuration.
        layout: "official" (the MAE code: encoder of pre-training, fine-tuned classifiers) or
            "transformers" (ViTForImageClassification, the encoder of ViTMAEForPreTraining).

    Raises:
        ValueError: an unknown layout, or one that has no place for the configuration.
    """
    check_choice("layout", layout, VIT_LAYOUTS)
    return _official(config) if layout == "official" else _transformers(config)


def affine(path: str, key: str) -> list[Entry]:
    """Return entries of a linear layer."""
    return [transposed(f"{path}.kernel", f"{key}.weight"), same(f"{path}.bias", f"{key}.bias")]


def normalisation(path: str, key: str) -> list[Entry]:
    """Return entries of a layer normalisation."""
    return [same(f"{path}.scale", f"{key}.weight"), same(f"{path}.bias", f"{key}.bias")]


def official_blocks(path: str, key: str, depth: int) -> list[Entry]:
    """Return entries of blocks as timm names them, with a fused projection."""
    table: list[Entry] = []
    for block in range(depth):
        ours, theirs = f"{path}.{block}", f"{key}.{block}"
        table += normalisation(f"{ours}.norm1", f"{theirs}.norm1")
        table += affine(f"{ours}.qkv", f"{theirs}.attn.qkv")
        table += affine(f"{ours}.out", f"{theirs}.attn.proj")
        table += normalisation(f"{ours}.norm2", f"{theirs}.norm2")
        table += affine(f"{ours}.fc1", f"{theirs}.mlp.fc1")
        table += affine(f"{ours}.fc2", f"{theirs}.mlp.fc2")
    return table


def transformers_blocks(path: str, key: str, depth: int) -> list[Entry]:
    """Return entries of blocks as transformers names them, with three projections."""
    table: list[Entry] = []
    for block in range(depth):
        ours, theirs = f"{path}.{block}", f"{key}.{block}"
        parts = [f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")]
        table += normalisation(f"{ours}.norm1", f"{theirs}.layernorm_before")
        table.append(fused(f"{ours}.qkv.kernel", [f"{part}.weight" for part in parts]))
        table.append(fused(f"{ours}.qkv.bias", [f"{part}.bias" for part in parts]))
        table += affine(f"{ours}.out", f"{theirs}.attention.output.dense")
        table += normalisation(f"{ours}.norm2", f"{theirs}.layernorm_after")
        table += affine(f"{ours}.fc1", f"{theirs}.intermediate.dense")
        table += affine(f"{ours}.fc2", f"{theirs}.output.dense")
    return table


def transformers_keys(state: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Rename a state to the names that the tables use.

    Whichever version of transformers wrote it, the names are the same.

    Version 5 keeps other names in memory than in files, and models without a head drop the
    prefix "vit.".
    """
    bare = not any(key.startswith("vit.") for key in state)
    renamed = {}
    for key, value in state.items():
        name = f"vit.{key}" if bare else key
        for old, new in RENAMED:
            name = name.replace(old, new)
        renamed[name] = value
    return renamed


def transformers_vit_config(config: ViTConfig) -> dict[str, Any]:
    """Return the entries of transformers' config.json that describe the encoder."""
    height, width = config.size
    if height != width:
        raise ValueError(f"image_size = {config.size}: transformers has square images only")
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden_width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": config.layer_norm_eps,
        "image_size": height,
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "qkv_bias": True,
    }


def vit_config(
    state: Mapping[str, NDArray], layout: str, known: Mapping[str, Any]
) -> tuple[ViTConfig, tuple[str, ...]]:
    """Read the configuration of an encoder off the names and shapes of a state.

    Args:
        state: under the names of `vit_table`.
        layout: see `vit_table`.
        known: entries of transformers' config.json, as far as there are any.

    Returns:
        The configuration, and sentences on what was assumed. Positions are "sincos" where they
        are MAE's fixed ones.

    Raises:
        WeightsError: an array that tells a size is missing, or `known` contradicts the arrays.
    """
    sizes = Sizes(state, vit_table(ViTConfig(depth=1), layout))
    width, channels, patch = sizes.patches()
    heads, notes = heads_of(width, known, HEAD_SIZES)
    # Without a class token the table of positions has none, either.
    extra = sizes.has("class_token") or not _square(sizes.shape("positions", 3)[1])
    side = sizes.side(int(extra))
    config = ViTConfig(
        image_size=patch * side,
        patch_size=patch,
        channels=channels,
        width=width,
        depth=sizes.depth(),
        heads=heads,
        mlp_ratio=sizes.shape("blocks.0.fc1.kernel", 2)[0] / width,
        layer_norm_eps=known.get("layer_norm_eps", PUBLISHED_EPS[layout]),
        class_token=extra,
        pool="mean" if layout == "official" and "fc_norm.weight" in state else None,
        positions="learned",
        dtype=sizes.dtype(),
        param_dtype=sizes.dtype(),
    )
    if _fixed(config, state[sizes.keys["positions"][0]]):
        config = dataclasses.replace(config, positions="sincos")
    entries = transformers_vit_config(config)
    found = {name: entries[name] for name in entries.keys() - UNTOLD}
    check_known(known, found)
    return config, notes


def _square(count: int) -> bool:
    return math.isqrt(count) ** 2 == count


def _fixed(config: ViTConfig, table: NDArray) -> bool:
    """Say whether positions are MAE's, but for the rounding of half precision."""
    wanted = sincos_positions(config.grid, config.width, class_token=config.class_token)
    return table[0].shape == wanted.shape and bool(
        np.allclose(table[0].astype(np.float64), wanted, rtol=0, atol=ROUNDING)
    )


def _official(config: ViTConfig) -> list[Entry]:
    norm = "fc_norm" if config.pool == "mean" else "norm"
    return [
        *_embedding(config, ("cls_token", "pos_embed", "patch_embed.proj")),
        *official_blocks("blocks", "blocks", config.depth),
        *normalisation("norm", norm),
        *(affine("head", "head") if config.classes else []),
    ]


def _transformers(config: ViTConfig) -> list[Entry]:
    if config.pool == "mean" or not config.class_token:
        raise ValueError(
            "the layout of transformers needs class_token = True, pool = 'cls' or None"
        )
    names = ("cls_token", "position_embeddings", "patch_embeddings.projection")
    return [
        *_embedding(config, tuple(f"vit.embeddings.{name}" for name in names)),
        *transformers_blocks("blocks", "vit.encoder.layer", config.depth),
        *normalisation("norm", "vit.layernorm"),
        *(affine("head", "classifier") if config.classes else []),
    ]


def _embedding(config: ViTConfig, names: tuple[str, ...]) -> list[Entry]:
    token, positions, projection = names
    return [
        *([same("class_token", token, leading=2)] if config.class_token else []),
        same("positions", positions, leading=1),
        patch_embedding("embed.kernel", f"{projection}.weight", config.patch_size, config.channels),
        same("embed.bias", f"{projection}.bias"),
    ]
