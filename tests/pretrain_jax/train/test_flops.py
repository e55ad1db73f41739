"""Counted operations against the literature and against the compiler's own count."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from pretrain_jax.models.mae import MAE, MAE_PRESETS, MAEConfig
from pretrain_jax.models.vit import VIT_PRESETS, ViTConfig
from pretrain_jax.train.flops import mae_forward_flops, peak_flops, vit_forward_flops


def test_published_counts() -> None:
    """ViT-B/16 and ViT-L/16 at 224 pixels: 17.6 and 61.6 GMACs (x 2), arXiv:2106.10270's models."""
    assert vit_forward_flops(VIT_PRESETS["vit_base"]) / 2e9 == pytest.approx(17.6, rel=0.01)
    assert vit_forward_flops(VIT_PRESETS["vit_large"]) / 2e9 == pytest.approx(61.6, rel=0.01)
    assert mae_forward_flops(MAE_PRESETS["mae_vit_base"]) == pytest.approx(19.6e9, rel=0.02)


def test_the_compilers_count() -> None:
    """XLA counts elementwise work too: a little more, less the wider the tokens."""
    config = MAEConfig(
        ViTConfig(image_size=32, patch_size=4, width=256, depth=2, heads=4), 128, 1, 4
    )
    model = nnx.eval_shape(lambda: MAE(config, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)

    def loss(state: nnx.State, images: jax.Array, noise: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(images, noise).loss

    images, noise = jnp.zeros((2, 32, 32, 3)), jnp.zeros((2, 64))
    lowered = jax.jit(loss).lower(state, images, noise)
    counted = lowered.cost_analysis()["flops"] / 2
    assert 1.0 < counted / mae_forward_flops(config) < 1.15


def test_a_cpu_has_no_peak() -> None:
    assert peak_flops(jax.devices("cpu")[0]) is None
