"""Maps Segment Anything to the arrays of its published checkpoints and of transformers."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice
from pretrain_jax.models.sam.config import SAMConfig
from pretrain_jax.models.vit.params import affine, normalisation
from pretrain_jax.weights import Entry, WeightsError, patch_embedding, same
from pretrain_jax.weights.mapping import convolution, transposed_convolution
from pretrain_jax.weights.sizes import Sizes, check_known

SAM_LAYOUTS = ("official", "transformers")

# Our names and the published ones, for what the two layouts merely call by other names.
OFFICIAL: Mapping[str, str] = MappingProxyType(
    {
        "encoder": "image_encoder",
        "blocks": "blocks",
        "norm": "norm",
        "patch": "patch_embed.proj",
        "neck1": "neck.0",
        "neck_norm1": "neck.1",
        "neck2": "neck.2",
        "neck_norm2": "neck.3",
        "frequencies": "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "meanings": "point_embeddings",
        "mask.down1": "mask_downscaling.0",
        "mask.norm1": "mask_downscaling.1",
        "mask.down2": "mask_downscaling.3",
        "mask.norm2": "mask_downscaling.4",
        "mask.out": "mask_downscaling.6",
        "final_norm": "transformer.norm_final_attn",
        "upscale1": "output_upscaling.0",
        "upscale_norm": "output_upscaling.1",
        "upscale2": "output_upscaling.3",
    }
)
TRANSFORMERS: Mapping[str, str] = MappingProxyType(
    {
        "encoder": "vision_encoder",
        "blocks": "layers",
        "norm": "layer_norm",
        "patch": "patch_embed.projection",
        "neck1": "neck.conv1",
        "neck_norm1": "neck.layer_norm1",
        "neck2": "neck.conv2",
        "neck_norm2": "neck.layer_norm2",
        "frequencies": "shared_image_embedding.positional_embedding",
        "meanings": "point_embed",
        "mask.down1": "mask_embed.conv1",
        "mask.norm1": "mask_embed.layer_norm1",
        "mask.down2": "mask_embed.conv2",
        "mask.norm2": "mask_embed.layer_norm2",
        "mask.out": "mask_embed.conv3",
        "final_norm": "transformer.layer_norm_final_attn",
        "upscale1": "upscale_conv1",
        "upscale_norm": "upscale_layer_norm",
        "upscale2": "upscale_conv2",
    }
)
# transformers saves the frequencies once or, in older files, a second time under this name.
COPY = "prompt_encoder.shared_embedding.positional_embedding"


def sam_table(config: SAMConfig, layout: str) -> list[Entry]:
    """Return the key table of a Segment Anything model.

    Args:
        config: the model's configuration.
        layout: "official" (the published sam_vit_{b,l,h} checkpoints) or "transformers"
            (SamModel).

    Raises:
        ValueError: an unknown layout.
    """
    check_choice("layout", layout, SAM_LAYOUTS)
    names = OFFICIAL if layout == "official" else TRANSFORMERS
    return [*_encoder(config, names), *_prompt(names, config), *_decoder(config, names)]


def sam_encoder_table(config: SAMConfig, layout: str) -> list[Entry]:
    """Return the key table of the image encoder alone, see `sam_table`."""
    check_choice("layout", layout, SAM_LAYOUTS)
    entries = _encoder(config, OFFICIAL if layout == "official" else TRANSFORMERS)
    return [dataclasses.replace(one, path=one.path.removeprefix("encoder.")) for one in entries]


def sam_encoder_keys(state: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return the state of an official encoder that was saved alone under its full names."""
    prefix = f"{OFFICIAL['encoder']}."
    alone = not any(key.startswith(prefix) for key in state)
    return {f"{prefix}{key}" if alone else key: value for key, value in state.items()}


def sam_encoder_config(
    state: Mapping[str, NDArray], layout: str, known: Mapping[str, Any]
) -> tuple[SAMConfig, tuple[str, ...]]:
    """Read the configuration of an image encoder off the names and shapes of a state.

    Args:
        state: under the names of `sam_encoder_table`.
        layout: see `sam_table`.
        known: entries of transformers' config.json, as far as there are any.

    Returns:
        The configuration, in which what concerns prompts and masks means nothing, and sentences
        on what was assumed: none, as the relative positions tell heads and windows.

    Raises:
        WeightsError: an array that tells a size is missing, or `known` contradicts the arrays.
    """
    known = known.get("vision_config", known)
    if not isinstance(known, Mapping):
        raise WeightsError("config.json beside it has a vision_config that is no object")
    sizes = Sizes(state, sam_encoder_table(SAMConfig(depth=1, global_blocks=(0,)), layout))
    width, channels, patch = sizes.patches("patch.kernel")
    _, side, columns, _ = sizes.shape("positions", 4)
    if side != columns:
        raise WeightsError(f"{sizes.keys['positions'][0]} is no square of positions")
    depth = sizes.depth()
    _, head = sizes.shape("blocks.0.attention.rows", 2)
    if width % head:
        raise WeightsError(f"tokens have {width} numbers, attention heads {head}, which is no part")
    first = sizes.keys["blocks.0.attention.rows"][0]
    spans = {}
    for block in range(depth):
        rows = state.get(first.replace(".0.", f".{block}.", 1))
        spans[block] = side if rows is None or rows.ndim != 2 else (len(rows) + 1) // 2
    whole = tuple(block for block, span in spans.items() if span == side)
    windows = {span for span in spans.values() if span != side}
    config = SAMConfig(
        image_size=patch * side,
        patch_size=patch,
        channels=channels,
        width=width,
        depth=depth,
        heads=width // head,
        mlp_ratio=sizes.shape("blocks.0.mlp.first.kernel", 2)[0] / width,
        window_size=min(windows, default=known.get("window_size", 14)),
        global_blocks=whole,
        prompt_width=sizes.shape("neck1.kernel", 4)[0],
        decoder_heads=1,
        layer_norm_eps=known.get("layer_norm_eps", 1e-6),
        dtype=sizes.dtype(),
        param_dtype=sizes.dtype(),
    )
    found = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": config.heads,
        "patch_size": patch,
        "image_size": config.image_size,
        "num_channels": channels,
        "output_channels": config.prompt_width,
        "hidden_act": "gelu",
    }
    if windows:
        found |= {"window_size": config.window_size, "global_attn_indexes": list(whole)}
    check_known(known, found)
    return config, ()


def sam_keys(state: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return the state without a copy of the frequencies.

    transformers may have saved this copy.

    Raises:
        WeightsError: the copy differs from the original.
    """
    state = dict(state)
    original = TRANSFORMERS["frequencies"]
    if COPY in state:
        copy = state.pop(COPY)
        if not np.array_equal(state.setdefault(original, copy), copy):
            raise WeightsError(f"{COPY} and {original} differ; the model has one array for both")
    return state


def _encoder(config: SAMConfig, names: Mapping[str, str]) -> list[Entry]:
    prefix, norm = names["encoder"], names["norm"]
    patch = f"{prefix}.{names['patch']}"
    table = [
        same("encoder.positions", f"{prefix}.pos_embed", leading=1),
        patch_embedding(
            "encoder.patch.kernel", f"{patch}.weight", config.patch_size, config.channels
        ),
        same("encoder.patch.bias", f"{patch}.bias"),
    ]
    for block in range(config.depth):
        ours, theirs = f"encoder.blocks.{block}", f"{prefix}.{names['blocks']}.{block}"
        table += normalisation(f"{ours}.norm1", f"{theirs}.{norm}1")
        table += affine(f"{ours}.attention.qkv", f"{theirs}.attn.qkv")
        table += affine(f"{ours}.attention.out", f"{theirs}.attn.proj")
        table.append(same(f"{ours}.attention.rows", f"{theirs}.attn.rel_pos_h"))
        table.append(same(f"{ours}.attention.columns", f"{theirs}.attn.rel_pos_w"))
        table += normalisation(f"{ours}.norm2", f"{theirs}.{norm}2")
        table += affine(f"{ours}.mlp.first", f"{theirs}.mlp.lin1")
        table += affine(f"{ours}.mlp.second", f"{theirs}.mlp.lin2")
    neck1, neck2 = (f"{prefix}.{names[part]}.weight" for part in ("neck1", "neck2"))
    return [
        *table,
        patch_embedding("encoder.neck1.kernel", neck1, 1, config.width),
        *normalisation("encoder.neck_norm1", f"{prefix}.{names['neck_norm1']}"),
        convolution("encoder.neck2.kernel", neck2),
        *normalisation("encoder.neck_norm2", f"{prefix}.{names['neck_norm2']}"),
    ]


def _prompt(names: Mapping[str, str], config: SAMConfig) -> list[Entry]:
    prefix = "prompt_encoder"
    table = [
        same("prompt.frequencies", names["frequencies"]),
        same("prompt.no_point", f"{prefix}.not_a_point_embed.weight", leading=1),
        same("prompt.no_mask", f"{prefix}.no_mask_embed.weight", leading=1),
    ]
    for meaning in range(4):
        key = f"{prefix}.{names['meanings']}.{meaning}.weight"
        table.append(same(f"prompt.meanings.{meaning}", key, leading=1))
    wide = config.mask_prompt_channels
    for part, size, channels in (("down1", 2, 1), ("down2", 2, wide // 4), ("out", 1, wide)):
        ours, theirs = f"prompt.mask.{part}", f"{prefix}.{names[f'mask.{part}']}"
        table.append(patch_embedding(f"{ours}.kernel", f"{theirs}.weight", size, channels))
        table.append(same(f"{ours}.bias", f"{theirs}.bias"))
    for part in ("norm1", "norm2"):
        table += normalisation(f"prompt.mask.{part}", f"{prefix}.{names[f'mask.{part}']}")
    return table


def _decoder(config: SAMConfig, names: Mapping[str, str]) -> list[Entry]:
    prefix, norm = "mask_decoder", names["norm"]
    table = [
        same("decoder.iou_token", f"{prefix}.iou_token.weight"),
        same("decoder.mask_tokens", f"{prefix}.mask_tokens.weight"),
    ]
    for block in range(config.decoder_depth):
        ours, theirs = f"decoder.blocks.{block}", f"{prefix}.transformer.layers.{block}"
        table += _attention(f"{ours}.self_attention", f"{theirs}.self_attn")
        table += _attention(f"{ours}.token_to_image", f"{theirs}.cross_attn_token_to_image")
        table += _attention(f"{ours}.image_to_token", f"{theirs}.cross_attn_image_to_token")
        table += affine(f"{ours}.mlp.first", f"{theirs}.mlp.lin1")
        table += affine(f"{ours}.mlp.second", f"{theirs}.mlp.lin2")
        for place in range(1, 5):
            table += normalisation(f"{ours}.norm{place}", f"{theirs}.{norm}{place}")
    table += _attention(
        "decoder.final_attention", f"{prefix}.transformer.final_attn_token_to_image"
    )
    for part in ("final_norm", "upscale_norm"):
        table += normalisation(f"decoder.{part}", f"{prefix}.{names[part]}")
    for part in ("upscale1", "upscale2"):
        key = f"{prefix}.{names[part]}"
        table.append(transposed_convolution(f"decoder.{part}.kernel", f"{key}.weight"))
        table.append(same(f"decoder.{part}.bias", f"{key}.bias"))
    for mask in range(config.multimask_outputs + 1):
        key = f"{prefix}.output_hypernetworks_mlps.{mask}"
        table += _head(f"decoder.hypernetworks.{mask}", key, 3, names)
    return table + _head(
        "decoder.iou_head", f"{prefix}.iou_prediction_head", config.iou_head_depth, names
    )


def _attention(path: str, key: str) -> list[Entry]:
    parts = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
    return [
        entry
        for ours, theirs in parts.items()
        for entry in affine(f"{path}.{ours}", f"{key}.{theirs}")
    ]


def _head(path: str, key: str, depth: int, names: Mapping[str, str]) -> list[Entry]:
    """Return the entries of a `ReLUHead`.

    transformers names its first and last layer apart.
    """
    layers = [f"layers.{layer}" for layer in range(depth)]
    if names is TRANSFORMERS:
        layers = ["proj_in", *layers[: depth - 2], "proj_out"]
    return [
        entry
        for layer, theirs in enumerate(layers)
        for entry in affine(f"{path}.layers.{layer}", f"{key}.{theirs}")
    ]
