"""Our DINOv2 against Dinov2Model and Dinov2WithRegistersModel of transformers."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.dinov2 import (
    DINOV2_PRESETS,
    DINOv2,
    DINOv2Config,
    dinov2_keys,
    dinov2_table,
)
from pretrain_jax.weights import check_state, export_state, read_state
from tests.parity.dino import distances
from tests.parity.tensors import arrays, randomise
from tests.pretrain_jax.dinos import load_dino

# Width, blocks, heads and gated MLP in the config.json of facebook/dinov2-{small,base,large,giant}.
PUBLISHED = {
    "small": (384, 12, 6, False),
    "base": (768, 12, 12, False),
    "large": (1024, 24, 16, False),
    "giant": (1536, 40, 24, True),
}


def oracle(config: DINOv2Config) -> torch.nn.Module:
    """The model of transformers with that configuration."""
    entries = {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "mlp_ratio": int(config.mlp_ratio),
        "layer_norm_eps": config.layer_norm_eps,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "use_swiglu_ffn": config.swiglu,
        "attn_implementation": "sdpa",
    }
    if not config.registers:
        return transformers.Dinov2Model(transformers.Dinov2Config(**entries))
    entries["num_register_tokens"] = config.registers
    return transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**entries))


def draw_config(rng: np.random.Generator, *, swiglu: bool, registers: int) -> DINOv2Config:
    """A small configuration in double precision."""
    patch, side, heads = (int(rng.choice(c)) for c in ([2, 3, 7], [3, 4, 5], [2, 3]))
    return DINOv2Config(
        image_size=patch * side,
        patch_size=patch,
        channels=int(rng.choice([1, 3])),
        width=heads * int(rng.choice([9, 12, 16])),
        depth=2,
        heads=heads,
        mlp_ratio=float(rng.integers(2, 5)),
        swiglu=swiglu,
        registers=registers,
        layer_norm_eps=float(rng.choice([1e-6, 1e-3])),
        dtype="float64",
        param_dtype="float64",
    )


# Where positions are interpolated, transformers rounds them to float32, and we do not: a relative
# rounding error of 2^-24 = 6e-8 that two blocks amplify.
@pytest.mark.parametrize(
    ("swiglu", "registers", "resized", "tolerance", "slope_tolerance"),
    [
        (False, 0, (0, 0), 1e-12, 1e-8),
        (True, 4, (0, 0), 1e-12, 1e-8),
        (True, 0, (3, -1), 1e-5, 1e-5),
        (False, 4, (-2, 2), 1e-5, 1e-5),
    ],
)
def test_outputs_and_gradients(
    swiglu: bool,
    registers: int,
    resized: tuple[int, int],
    tolerance: float,
    slope_tolerance: float,
    parity_seed: int,
) -> None:
    """All sizes' parts, the mask token, the table's grid and others; loss = weighted sum."""
    case = [parity_seed, int(swiglu), registers, resized[0] != 0]
    rng = np.random.default_rng(case)
    config = draw_config(rng, swiglu=swiglu, registers=registers)
    theirs = oracle(config).double()
    randomise(theirs, parity_seed)
    grid = tuple(config.side + change for change in resized)
    images = rng.normal(size=(2, *(config.patch_size * n for n in grid), config.channels))
    masked = rng.random((2, grid[0] * grid[1])) < 0.3
    masked[0, 0] = True
    error, errors = distances(
        lambda: DINOv2(config, rngs=nnx.Rngs(0)),
        load_dino,
        dinov2_table(config),
        dinov2_keys,
        theirs,
        images,
        masked,
    )
    print(f"{case}: outputs {error:.1e}, gradients {max(errors.values()):.1e}")
    assert error < tolerance
    assert max(errors.values()) < slope_tolerance, errors


@pytest.mark.parametrize(("registers", "antialias"), [(0, False), (4, True)])
@pytest.mark.parametrize("grid", [(9, 5), (3, 4), (7, 2)])
def test_positions_as_in_torch(registers: int, antialias: bool, grid: tuple[int, int]) -> None:
    """Larger, smaller and mixed grids in double precision, against torch's interpolation."""
    config = DINOv2Config(
        image_size=10, patch_size=2, width=6, depth=1, heads=1, registers=registers,
        dtype="float64", param_dtype="float64",
    )  # fmt: skip
    with jax.enable_x64(True):
        model = DINOv2(config, rngs=nnx.Rngs(0))
        table = np.random.default_rng(0).normal(size=(26, 6))
        model.positions[...] = jax.numpy.asarray(table)
        resized = np.asarray(model.positions_on(grid))
    patches = torch.tensor(table[1:].reshape(1, 5, 5, 6).transpose(0, 3, 1, 2))
    expected = torch.nn.functional.interpolate(
        patches, size=grid, mode="bicubic", align_corners=False, antialias=antialias
    )
    np.testing.assert_array_equal(resized[0], table[0])
    np.testing.assert_allclose(resized[1:], expected[0].flatten(1).T.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("size", PUBLISHED)
def test_presets_are_the_published_sizes(size: str, registers: int) -> None:
    """Sizes of the published files, and names and shapes of one block of each."""
    name = f"dinov2_{size}{'_registers' if registers else ''}"
    config = DINOV2_PRESETS[name]
    width, depth, heads, swiglu = PUBLISHED[size]
    published = DINOv2Config(
        image_size=518, patch_size=14, channels=3, width=width, depth=depth, heads=heads,
        mlp_ratio=4.0, swiglu=swiglu, registers=registers,
    )  # fmt: skip
    assert config == published
    shallow = dataclasses.replace(config, depth=1)
    with torch.device("meta"):
        theirs = oracle(shallow).state_dict()
    # One value stands for each array.
    state = {key: np.broadcast_to(np.float32(0), value.shape) for key, value in theirs.items()}
    model = nnx.eval_shape(lambda: DINOv2(shallow, rngs=nnx.Rngs(0)))
    assert not check_state(model, dinov2_keys(state), dinov2_table(shallow))


@pytest.mark.parametrize(("swiglu", "registers"), [(True, 0), (False, 4)])
def test_files_both_ways(tmp_path: Path, swiglu: bool, registers: int) -> None:
    """What transformers saves is read, and what we export has the same names and bits."""
    rng = np.random.default_rng(3)
    config = draw_config(rng, swiglu=swiglu, registers=registers)
    theirs = oracle(config).double()
    randomise(theirs, 1)
    theirs.save_pretrained(tmp_path)
    state: dict[str, NDArray] = dict(read_state(tmp_path / "model.safetensors"))
    with jax.enable_x64(True):
        model = nnx.eval_shape(lambda: DINOv2(config, rngs=nnx.Rngs(0)))
        assert load_dino(model, state) == ()
        exported = export_state(model, dinov2_table(config))
    assert exported.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(exported[key], value)


def test_classifier_is_stripped() -> None:
    """A classifier's encoder is taken without its prefix, and its head is left out."""
    config = DINOv2Config(image_size=6, patch_size=2, width=8, depth=1, heads=2)
    theirs = transformers.Dinov2ForImageClassification(
        transformers.Dinov2Config(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=6,
            patch_size=2,
            num_labels=2,
        )
    )
    model = DINOv2(config, rngs=nnx.Rngs(0))
    prefix, head = load_dino(model, arrays(iter(theirs.state_dict().items())))
    assert "dinov2." in prefix
    assert "classifier.weight" in head
    embedding = theirs.dinov2.embeddings.position_embeddings.detach().numpy()[0]
    np.testing.assert_array_equal(model.positions[...], embedding)
