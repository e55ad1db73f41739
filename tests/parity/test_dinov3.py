"""Our DINOv3 against DINOv3ViTModel of transformers."""

import dataclasses
import math
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from pretrain_jax.models.dinov3 import (
    DINOV3_PRESETS,
    DINOv3,
    DINOv3Config,
    dinov3_keys,
    dinov3_table,
)
from pretrain_jax.weights import check_state, export_state, read_state
from tests.parity.dino import distances
from tests.parity.tensors import randomise
from tests.pretrain_jax.dinos import load_dino

# Width, blocks, heads, hidden width, gated MLP and biases of queries and values, as transformers'
# conversion script has them for facebook/dinov3-vit{s16,s16plus,b16,l16,h16plus,7b16}.
PUBLISHED = {
    "small": (384, 12, 6, 1536, False, True),
    "small_plus": (384, 12, 6, 1536, True, True),
    "base": (768, 12, 12, 3072, False, True),
    "large": (1024, 24, 16, 4096, False, True),
    "huge_plus": (1280, 32, 20, 5120, True, True),
    "7b": (4096, 40, 32, 8192, True, False),
}


class DoubleRope(torch.nn.Module):
    """The angles of transformers in double precision: its own are rounded to float32."""

    def __init__(self, config: DINOv3Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, patch by patch, from complex numbers of one patch at a time."""
        size, side = self.config.width // self.config.heads, self.config.patch_size
        rows, columns = (n // side for n in pixels.shape[2:])
        turns = []
        for row in range(rows):
            for column in range(columns):
                y, x = 2 * (row + 0.5) / rows - 1, 2 * (column + 0.5) / columns - 1
                waves = [self.config.period ** (-4 * k / size) for k in range(size // 4)]
                turns.append([2 * math.pi * place * wave for place in (y, x) for wave in waves] * 2)
        angles = torch.tensor(turns, dtype=torch.float64)
        return angles.cos(), angles.sin()


def oracle(config: DINOv3Config) -> transformers.DINOv3ViTModel:
    """The model of transformers with that configuration, without its jitter of positions."""
    entries = transformers.DINOv3ViTConfig(
        patch_size=config.patch_size,
        num_channels=config.channels,
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=config.hidden_width,
        use_gated_mlp=config.swiglu,
        hidden_act="silu" if config.swiglu else "gelu",
        query_bias=config.qkv_bias,
        value_bias=config.qkv_bias,
        num_register_tokens=config.registers,
        rope_theta=config.period,
        layer_norm_eps=config.layer_norm_eps,
        attn_implementation="sdpa",
    )
    return transformers.DINOv3ViTModel(entries).eval()


def draw_config(rng: np.random.Generator, *, swiglu: bool, qkv_bias: bool) -> DINOv3Config:
    """A small configuration in double precision."""
    heads = int(rng.choice([2, 3]))
    return DINOv3Config(
        patch_size=int(rng.choice([2, 3, 5])),
        channels=int(rng.choice([1, 3])),
        width=heads * int(rng.choice([8, 12, 16])),
        depth=2,
        heads=heads,
        hidden_width=int(rng.integers(20, 60)),
        swiglu=swiglu,
        qkv_bias=qkv_bias,
        registers=int(rng.integers(1, 5)),
        period=float(rng.choice([50.0, 100.0])),
        layer_norm_eps=float(rng.choice([1e-5, 1e-3])),
        dtype="float64",
        param_dtype="float64",
    )


# With its own angles transformers rounds cosines and sines to float32, 6e-8, of angles that are
# rounded themselves, up to 2 pi; two blocks amplify that.
@pytest.mark.parametrize(
    ("swiglu", "qkv_bias", "double", "tolerance", "slope_tolerance"),
    [
        (False, True, True, 1e-12, 1e-8),
        (True, False, True, 1e-12, 1e-8),
        (True, True, False, 1e-5, 1e-5),
    ],
)
def test_outputs_and_gradients(
    swiglu: bool,
    qkv_bias: bool,
    double: bool,
    tolerance: float,
    slope_tolerance: float,
    parity_seed: int,
) -> None:
    """Gated and plain, with biases and without, on oblong grids, with masked patches."""
    case = [parity_seed, int(swiglu), int(qkv_bias), int(double)]
    rng = np.random.default_rng(case)
    config = draw_config(rng, swiglu=swiglu, qkv_bias=qkv_bias)
    theirs = oracle(config).double()
    randomise(theirs, parity_seed)
    if double:
        theirs.rope_embeddings = DoubleRope(config)
    grid = tuple(int(n) for n in rng.permutation([2, 3, 4, 5])[:2])
    images = rng.normal(size=(2, *(config.patch_size * n for n in grid), config.channels))
    masked = rng.random((2, grid[0] * grid[1])) < 0.3
    masked[0, 0] = True
    error, errors = distances(
        lambda: DINOv3(config, rngs=nnx.Rngs(0)),
        load_dino,
        dinov3_table(config),
        dinov3_keys,
        theirs,
        images,
        masked,
    )
    print(f"{case}: outputs {error:.1e}, gradients {max(errors.values()):.1e}")
    assert error < tolerance
    assert max(errors.values()) < slope_tolerance, errors


@pytest.mark.parametrize("size", PUBLISHED)
def test_presets_are_the_published_sizes(size: str) -> None:
    """Sizes of the published files, and names and shapes of one block of each."""
    config = DINOV3_PRESETS[f"dinov3_{size}"]
    width, depth, heads, hidden, swiglu, qkv_bias = PUBLISHED[size]
    assert config == DINOv3Config(
        patch_size=16, channels=3, width=width, depth=depth, heads=heads, hidden_width=hidden,
        swiglu=swiglu, qkv_bias=qkv_bias, registers=4,
    )  # fmt: skip
    shallow = dataclasses.replace(config, depth=1)
    with torch.device("meta"):
        theirs = oracle(shallow).state_dict()
    # One value stands for each array.
    state = {key: np.broadcast_to(np.float16(0), value.shape) for key, value in theirs.items()}
    model = nnx.eval_shape(lambda: DINOv3(shallow, rngs=nnx.Rngs(0)))
    assert not check_state(model, dinov3_keys(state), dinov3_table(shallow))


@pytest.mark.parametrize("swiglu", [False, True])
def test_files_both_ways(tmp_path: Path, swiglu: bool) -> None:
    """What transformers saves is read, and what we export has the same names and bits."""
    config = draw_config(np.random.default_rng(3), swiglu=swiglu, qkv_bias=True)
    theirs = oracle(config).double()
    randomise(theirs, 1)
    theirs.save_pretrained(tmp_path)
    state = dict(read_state(tmp_path / "model.safetensors"))
    with jax.enable_x64(True):
        model = nnx.eval_shape(lambda: DINOv3(config, rngs=nnx.Rngs(0)))
        assert load_dino(model, state) == ()
        exported = export_state(model, dinov3_table(config))
    assert exported.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(exported[key], value)
