"""Maps DINOv3's encoder to the arrays of transformers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from pretrain_jax.models.dinov3.config import DINOv3Config
from pretrain_jax.models.dinov3.modeling import DINOv3
from pretrain_jax.models.vit.params import affine, normalisation
from pretrain_jax.weights import Entry, Layout, fused, named_as, patch_embedding, same
from pretrain_jax.weights.sizes import Sizes, check_known, heads_of

HEAD_SIZES = MappingProxyType({4096: 128})  # of the size 7B


def dinov3_table(config: DINOv3Config) -> list[Entry]:
    """Return the key table of DINOv3ViTModel.

    The names are those of published files.
    """
    patches = "embeddings.patch_embeddings"
    table = [
        same("class_token", "embeddings.cls_token", leading=2),
        same("mask_token", "embeddings.mask_token", leading=2),
        same("registers", "embeddings.register_tokens", leading=1),
        patch_embedding("embed.kernel", f"{patches}.weight", config.patch_size, config.channels),
        same("embed.bias", f"{patches}.bias"),
        *normalisation("norm", "norm"),
    ]
    for block in range(config.depth):
        ours, theirs = f"blocks.{block}", f"layer.{block}"
        query, key, value, out = (f"{theirs}.attention.{part}_proj" for part in "qkvo")
        table.append(fused(f"{ours}.kernel", [f"{part}.weight" for part in (query, key, value)]))
        if config.qkv_bias:
            table.append(fused(f"{ours}.bias", [f"{query}.bias", f"{value}.bias"]))
        table += affine(f"{ours}.out", out)
        inputs = ("gate_proj", "up_proj") if config.swiglu else ("up_proj",)
        for kind, name in (("kernel", "weight"), ("bias", "bias")):
            keys = [f"{theirs}.mlp.{part}.{name}" for part in inputs]
            table.append(fused(f"{ours}.fc1.{kind}", keys))
        table += affine(f"{ours}.fc2", f"{theirs}.mlp.down_proj")
        for half in (1, 2):
            table += normalisation(f"{ours}.norm{half}", f"{theirs}.norm{half}")
            table.append(same(f"{ours}.scale{half}", f"{theirs}.layer_scale{half}.lambda1"))
    return table


def dinov3_keys(state: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Rename a state to the names of published files.

    Version 5 of transformers has a prefix before the blocks.
    """
    return {key.replace("model.layer.", "layer."): value for key, value in state.items()}


def dinov3_config(
    state: Mapping[str, NDArray], known: Mapping[str, Any]
) -> tuple[DINOv3Config, tuple[str, ...]]:
    """Read the configuration off the names and shapes of a state.

    Args:
        state: under the names of `dinov3_table`.
        known: entries of transformers' config.json, as far as there are any.

    Returns:
        The configuration, and sentences on what was assumed.

    Raises:
        WeightsError: an array that tells a size is missing, or `known` contradicts the arrays.
    """
    gated = any(".mlp.gate_proj." in key for key in state)
    sizes = Sizes(state, dinov3_table(DINOv3Config(depth=1, swiglu=gated)))
    width, channels, patch = sizes.patches()
    heads, notes = heads_of(width, known, HEAD_SIZES)
    config = DINOv3Config(
        patch_size=patch,
        channels=channels,
        width=width,
        depth=sizes.depth(),
        heads=heads,
        hidden_width=sizes.shape("blocks.0.fc2.kernel", 2)[1],
        swiglu=gated,
        qkv_bias=sizes.has("blocks.0.bias"),
        registers=sizes.shape("registers", 3)[1],
        period=known.get("rope_theta", 100.0),
        layer_norm_eps=known.get("layer_norm_eps", 1e-5),
        dtype=sizes.dtype(),
        param_dtype=sizes.dtype(),
    )
    check_known(
        known,
        {
            "hidden_size": width,
            "num_hidden_layers": config.depth,
            "intermediate_size": config.hidden_width,
            "patch_size": patch,
            "num_channels": channels,
            "use_gated_mlp": gated,
            "num_register_tokens": config.registers,
            "query_bias": config.qkv_bias,
            "value_bias": config.qkv_bias,
            "key_bias": False,
            "hidden_act": "silu" if gated else "gelu",
        },
    )
    return config, notes


def load_dinov3(model: DINOv3, state: Mapping[str, NDArray]) -> tuple[str, ...]:
    """Set an encoder's parameters from a state of transformers, strictly.

    A prefix of all names is stripped, and a classifier's head is not taken.

    Args:
        model: changed in place; untouched where an error is raised.
        state: name -> array, of a file (`read_state`) or of a model's `state_dict`.

    Returns:
        Sentences on what was stripped or left out.

    Raises:
        WeightsError: missing, unexpected or misshapen keys, and which prefix to strip where that
            would help.
    """
    table = dinov3_table(model.config)
    keys = [key for entry in table for key in entry.keys]
    found = named_as(state, {"transformers": Layout(keys, dinov3_keys)})
    found.load_into(model, table)
    return found.notes
