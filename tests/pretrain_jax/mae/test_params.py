"""Checkpoints of the official layout and of transformers: strict both ways, back bit for bit."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.mae.params import MAE_LAYOUTS, mae_table, transformers_config
from pretrain_jax.models.vit import ViT, ViTConfig
from pretrain_jax.models.vit.params import vit_table
from pretrain_jax.weights import (
    WeightsError,
    check_state,
    export_state,
    load_into,
    read_state,
    write_safetensors,
)

ENCODER = ViTConfig(image_size=12, patch_size=4, channels=2, width=8, depth=1, heads=2)
CONFIG = MAEConfig(ENCODER, decoder_width=12, decoder_depth=1, decoder_heads=3)


def block(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a block in the official checkpoints."""
    affine = {
        "norm1": (width,),
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "norm2": (width,),
        "mlp.fc1": (4 * width, width),
        "mlp.fc2": (width, 4 * width),
    }
    weights = {f"{name}.{layer}.weight": shape for layer, shape in affine.items()}
    return weights | {f"{name}.{layer}.bias": shape[:1] for layer, shape in affine.items()}


# mae_pretrain_vit_*.pth, with the sizes of the configuration above.
ENCODER_KEYS = {
    "cls_token": (1, 1, 8),
    "pos_embed": (1, 10, 8),
    "patch_embed.proj.weight": (8, 2, 4, 4),
    "patch_embed.proj.bias": (8,),
    **block("blocks.0", 8),
    "norm.weight": (8,),
    "norm.bias": (8,),
}
# mae_visualize_vit_*.pth has the decoder too.
DECODER_KEYS = {
    "mask_token": (1, 1, 12),
    "decoder_pos_embed": (1, 10, 12),
    "decoder_embed.weight": (12, 8),
    "decoder_embed.bias": (12,),
    **block("decoder_blocks.0", 12),
    "decoder_norm.weight": (12,),
    "decoder_norm.bias": (12,),
    "decoder_pred.weight": (32, 12),
    "decoder_pred.bias": (32,),
}


def draw(keys: dict[str, tuple[int, ...]]) -> dict[str, NDArray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in keys.items()}


def abstract(config: MAEConfig | ViTConfig) -> nnx.Module:
    """A model without arrays."""
    if isinstance(config, MAEConfig):
        return nnx.eval_shape(lambda: MAE(config, rngs=nnx.Rngs(0)))
    return nnx.eval_shape(lambda: ViT(config, rngs=nnx.Rngs(0)))


def assert_same(ours: dict[str, NDArray], expected: dict[str, NDArray]) -> None:
    assert set(ours) == set(expected)
    for name, array in expected.items():
        assert ours[name].tobytes() == array.tobytes(), name
        assert ours[name].shape == array.shape


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (CONFIG, ENCODER_KEYS | DECODER_KEYS),
        (ENCODER, ENCODER_KEYS),
        (
            dataclasses.replace(ENCODER, pool="cls", classes=5),
            ENCODER_KEYS | {"head.weight": (5, 8), "head.bias": (5,)},
        ),
        (
            dataclasses.replace(ENCODER, pool="mean", classes=5),
            {
                k.replace("norm.", "fc_norm.") if k[:5] == "norm." else k: s
                for k, s in ENCODER_KEYS.items()
            }
            | {"head.weight": (5, 8), "head.bias": (5,)},
        ),
    ],
    ids=["full", "encoder", "finetuned-cls", "finetuned-mean"],
)
def test_official_layouts_round_trip(
    tmp_path: Path, config: MAEConfig | ViTConfig, keys: dict[str, tuple[int, ...]]
) -> None:
    state = draw(keys)
    model = abstract(config)
    table = (
        mae_table(config, "official")
        if isinstance(config, MAEConfig)
        else vit_table(config, "official")
    )
    assert not load_into(model, state, table)
    exported = export_state(model, table)
    assert_same(exported, state)
    write_safetensors(tmp_path / "a.safetensors", exported)
    assert_same(read_state(tmp_path / "a.safetensors"), state)


@pytest.mark.parametrize("layout", MAE_LAYOUTS)
def test_tables_name_every_variable_once(layout: str) -> None:
    paths = [entry.path for entry in mae_table(CONFIG, layout)]
    variables = [
        ".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(abstract(CONFIG)))
    ]
    assert sorted(paths) == sorted(variables)


def test_the_patch_projection_is_the_convolution() -> None:
    """A patch at random: sum over channel, row and column of weight times pixel."""
    state = draw(ENCODER_KEYS)
    model = abstract(ENCODER)
    load_into(model, state, vit_table(ENCODER, "official"))
    image = np.random.default_rng(1).normal(size=(1, 12, 12, 2)).astype(np.float32)
    patch = image[0, 4:8, 8:12]
    expected = np.einsum("ocij,ijc->o", state["patch_embed.proj.weight"], patch)
    embedded = model.embed(jnp.asarray(patch.reshape(1, -1)))[0]
    np.testing.assert_allclose(embedded, expected + state["patch_embed.proj.bias"], rtol=1e-5)


def test_every_key_that_does_not_fit_is_listed() -> None:
    state = draw(ENCODER_KEYS | DECODER_KEYS)
    del state["norm.bias"], state["mask_token"]
    state["head.weight"] = state["rope"] = np.zeros(3, np.float32)
    state["cls_token"] = np.zeros((1, 1, 9), np.float32)
    state["norm.weight"] = np.zeros(8, np.int64)
    model = nnx.jit(lambda: MAE(CONFIG, rngs=nnx.Rngs(0)))()
    before = jax.tree.map(np.asarray, nnx.state(model))
    with pytest.raises(WeightsError) as error:
        load_into(model, state, mae_table(CONFIG, "official"))
    for part in (
        "2 missing keys: norm.bias, mask_token",
        "2 unexpected keys: head.weight, rope",
        "2 keys of another shape or type: cls_token (shape (1, 1, 9), does not give (8,)",
        "norm.weight (type int64, a floating-point one is needed)",
    ):
        assert part in str(error.value)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(nnx.state(model)), strict=True):
        np.testing.assert_array_equal(old, new)
    # Shapes and types are errors in any case.
    with pytest.raises(WeightsError, match="2 keys of another shape"):
        load_into(model, state, mae_table(CONFIG, "official"), strict=False)


def test_part_of_a_checkpoint_when_asked_for() -> None:
    """The encoder of a full checkpoint; a full model from an encoder keeps its decoder."""
    full = draw(ENCODER_KEYS | DECODER_KEYS)
    encoder = abstract(ENCODER)
    table = vit_table(ENCODER, "official")
    with pytest.raises(WeightsError, match=f"{len(DECODER_KEYS)} unexpected keys: mask_token"):
        load_into(encoder, full, table)
    report = load_into(encoder, full, table, strict=False)
    assert report.unexpected == tuple(DECODER_KEYS)
    assert_same(export_state(encoder, table), draw(ENCODER_KEYS))
    lacking = check_state(abstract(CONFIG), draw(ENCODER_KEYS), mae_table(CONFIG, "official"))
    assert sorted(lacking.missing) == sorted(DECODER_KEYS)


def test_half_precision_checkpoints_become_the_models_type() -> None:
    halves = {k: v.astype(ml_dtypes.bfloat16) for k, v in draw(ENCODER_KEYS).items()}
    model = abstract(ENCODER)
    load_into(model, halves, vit_table(ENCODER, "official"))
    assert model.norm.scale.dtype == jnp.float32
    np.testing.assert_array_equal(model.norm.scale[...], halves["norm.weight"].astype(np.float32))


def test_what_a_layout_has_no_place_for() -> None:
    with pytest.raises(ValueError, match="layout = 'timm' is not one of official, transformers"):
        mae_table(CONFIG, "timm")
    with pytest.raises(ValueError, match="needs class_token = True"):
        vit_table(dataclasses.replace(ENCODER, pool="mean"), "transformers")
    wide = dataclasses.replace(CONFIG, encoder=dataclasses.replace(ENCODER, image_size=(12, 16)))
    with pytest.raises(ValueError, match="square images only"):
        transformers_config(wide)
