"""Maps DINOv3's encoder to the arrays of transformers, of Meta's own files and of timm."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice
from pretrain_jax.models.dinov2.params import absent, patches_and_norm
from pretrain_jax.models.dinov3.config import DINOv3Config
from pretrain_jax.models.vit.params import affine, normalisation
from pretrain_jax.weights import Entry, WeightsError, fused, same, transposed
from pretrain_jax.weights.sizes import Sizes, check_known, heads_of

DINOV3_LAYOUTS = ("transformers", "official", "timm")
HEAD_SIZES = MappingProxyType({4096: 128})  # of the size 7B
PERIODS = "rope_embed.periods"  # in Meta's files; angles are no parameters here
ROUNDING = 0.02  # of periods in half precision


def dinov3_table(config: DINOv3Config, layout: str = "transformers") -> list[Entry]:
    """Return the key table of a DINOv3 encoder.

    Args:
        config: the model's configuration.
        layout: "transformers" (the files of DINOv3ViTModel), "official" (those of
            facebookresearch/dinov3) or "timm" (`vit_*_patch16_dinov3[_qkvb]`, which has no mask
            token).

    Raises:
        ValueError: an unknown layout.
    """
    check_choice("layout", layout, DINOV3_LAYOUTS)
    return _transformers(config) if layout == "transformers" else _fused(config, layout == "timm")


def _fused(config: DINOv3Config, timm: bool) -> list[Entry]:
    table = [
        same("class_token", "cls_token", leading=2),
        absent("mask_token", config.width) if timm else same("mask_token", "mask_token", leading=1),
        same("registers", "reg_token" if timm else "storage_tokens", leading=1),
        *patches_and_norm(config, "patch_embed.proj"),
    ]
    gated = ("fc1_g", "fc1_x", "fc2") if timm else ("w1", "w2", "w3")
    *inputs, last = gated if config.swiglu else ("fc1", "fc2")
    for block in range(config.depth):
        ours = theirs = f"blocks.{block}"
        table.append(transposed(f"{ours}.kernel", f"{theirs}.attn.qkv.weight"))
        if config.qkv_bias and timm:
            table.append(fused(f"{ours}.bias", [f"{theirs}.attn.{part}_bias" for part in "qv"]))
        elif config.qkv_bias:
            table.append(_without_keys(f"{ours}.bias", f"{theirs}.attn.qkv.bias"))
        table += affine(f"{ours}.out", f"{theirs}.attn.proj")
        for kind, name in (("kernel", "weight"), ("bias", "bias")):
            keys = [f"{theirs}.mlp.{part}.{name}" for part in inputs]
            table.append(fused(f"{ours}.fc1.{kind}", keys))
        table += affine(f"{ours}.fc2", f"{theirs}.mlp.{last}")
        for half in (1, 2):
            scale = f"gamma_{half}" if timm else f"ls{half}.gamma"
            table += normalisation(f"{ours}.norm{half}", f"{theirs}.norm{half}")
            table.append(same(f"{ours}.scale{half}", f"{theirs}.{scale}"))
    return table


def _without_keys(path: str, key: str) -> Entry:
    """Return the entry of biases of which the middle third, of the keys, is 0."""

    def load(arrays: Sequence[NDArray]) -> NDArray:
        query, _, value = np.split(arrays[0], 3)
        return np.concatenate([query, value])

    def save(value: NDArray) -> list[NDArray]:
        queries, values = np.split(value, 2)
        return [np.concatenate([queries, np.zeros_like(queries), values])]

    return Entry(path, (key,), load, save)


def _transformers(config: DINOv3Config) -> list[Entry]:
    table = [
        same("class_token", "embeddings.cls_token", leading=2),
        same("mask_token", "embeddings.mask_token", leading=2),
        same("registers", "embeddings.register_tokens", leading=1),
        *patches_and_norm(config, "embeddings.patch_embeddings"),
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


def transformers_dinov3_config(config: DINOv3Config) -> dict[str, Any]:
    """Return the config.json of transformers' DINOv3ViTModel."""
    return {
        "architectures": ["DINOv3ViTModel"],
        "model_type": "dinov3_vit",
        "hidden_size": config.width,
        "intermediate_size": config.hidden_width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "use_gated_mlp": config.swiglu,
        "hidden_act": "silu" if config.swiglu else "gelu",
        "layer_norm_eps": config.layer_norm_eps,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "num_register_tokens": config.registers,
        "rope_theta": config.period,
        "query_bias": config.qkv_bias,
        "key_bias": False,
        "value_bias": config.qkv_bias,
        "proj_bias": True,
        "mlp_bias": True,
        "dtype": config.param_dtype,
    }


def dinov3_config(
    state: Mapping[str, NDArray], layout: str, known: Mapping[str, Any]
) -> tuple[DINOv3Config, tuple[str, ...]]:
    """Read the configuration off the names and shapes of a state.

    Args:
        state: under the names of `dinov3_table`.
        layout: see `dinov3_table`.
        known: entries of transformers' config.json, as far as there are any.

    Returns:
        The configuration, and sentences on what was assumed.

    Raises:
        WeightsError: an array that tells a size is missing, biases of keys are not 0, or `known`
            contradicts the arrays.
    """
    gated = any(name in key for key in state for name in (".mlp.gate_", ".mlp.w1.", ".mlp.fc1_g."))
    sizes = Sizes(state, dinov3_table(DINOv3Config(depth=1, swiglu=gated), layout))
    width, channels, patch = sizes.patches()
    period = 100.0
    if PERIODS in state:
        size, period = _told_by_periods(state[PERIODS])
        known = {"num_attention_heads": width // size, **known}
    heads, notes = heads_of(width, known, HEAD_SIZES)
    config = DINOv3Config(
        image_size=max(224 // patch, 1) * patch,
        patch_size=patch,
        channels=channels,
        width=width,
        depth=sizes.depth(),
        heads=heads,
        hidden_width=sizes.shape("blocks.0.fc2.kernel", 2)[1],
        swiglu=gated,
        qkv_bias=sizes.has("blocks.0.bias"),
        registers=sizes.shape("registers", 3)[1],
        period=known.get("rope_theta", period),
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
    if layout == "official":
        _check_keys(state)
    return config, notes


def _told_by_periods(periods: NDArray) -> tuple[int, float]:
    """Return numbers of a head and `period`, see `DINOv3Config`, by the periods of its angles.

    Raises:
        WeightsError: they are not powers of `period`, the first of them 1.
    """
    values, count = periods.astype(np.float64).ravel(), periods.size
    period = values[-1] ** (count / (count - 1)) if count > 1 and values[-1] > 0 else 100.0
    if not np.allclose(values, period ** (np.arange(count) / max(count, 1)), rtol=ROUNDING):
        raise WeightsError(f"{PERIODS} are not the powers of one number, as in DINOv3")
    return 4 * max(count, 1), 100.0 if abs(period / 100 - 1) < ROUNDING else period


def _check_keys(state: Mapping[str, NDArray]) -> None:
    """Check that biases of keys are 0, as DINOv3 has none."""
    for key, bias in state.items():
        fused_bias = key.endswith(".attn.qkv.bias") and bias.ndim == 1
        if fused_bias and np.any(np.array_split(bias, 3)[1]):
            raise WeightsError(f"{key} is not 0 for keys, which have no bias in DINOv3")


def official_keys(state: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Apply the masks of Meta's files, which set the biases of keys to 0.

    A mask of another kind is left, where no name of the table is.
    """
    kept = dict(state)
    for key in [key for key in state if key.endswith(".attn.qkv.bias_mask")]:
        bias, mask = state.get(key.removesuffix("_mask")), state[key]
        if bias is None or bias.shape != mask.shape:
            continue
        if np.array_equal(mask, np.repeat([1, 0, 1], -(-mask.size // 3))):
            kept[key.removesuffix("_mask")] = bias * mask.astype(bias.dtype)
            del kept[key]
    return kept
