"""DINOv3's encoder: rotations by hand, what it refuses, and how strictly weights are read."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.dinov3 import DINOv3, DINOv3Config
from pretrain_jax.models.dinov3.modeling import rotary_angles, rotate
from pretrain_jax.weights import WeightsError
from tests.pretrain_jax.dinos import load_dino

CONFIG = DINOv3Config(patch_size=2, channels=1, width=8, depth=1, heads=2, hidden_width=12)


def file_of_transformers() -> dict[str, NDArray]:
    """The arrays of DINOv3ViTModel in the sizes above, as its files name them."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, 8),
        "embeddings.mask_token": (1, 1, 8),
        "embeddings.register_tokens": (1, 4, 8),
        "embeddings.patch_embeddings.weight": (8, 1, 2, 2),
        "embeddings.patch_embeddings.bias": (8,),
        "norm.weight": (8,),
        "norm.bias": (8,),
        **{f"layer.0.attention.{part}_proj.weight": (8, 8) for part in "qkvo"},
        **{f"layer.0.attention.{part}_proj.bias": (8,) for part in "qvo"},
        **{f"layer.0.norm{n}.{kind}": (8,) for n in (1, 2) for kind in ("weight", "bias")},
        **{f"layer.0.layer_scale{n}.lambda1": (8,) for n in (1, 2)},
        "layer.0.mlp.up_proj.weight": (12, 8),
        "layer.0.mlp.up_proj.bias": (12,),
        "layer.0.mlp.down_proj.weight": (8, 12),
        "layer.0.mlp.down_proj.bias": (8,),
    }
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


def test_angles_by_hand() -> None:
    """Two rows and one column: y = -1/2 and 1/2, x = 0; frequencies 1 and 1/10."""
    angles = rotary_angles((2, 1), 8, 100.0)
    expected = np.pi * np.array([[-1, -0.1, 0, 0], [1, 0.1, 0, 0]])
    np.testing.assert_allclose(angles, expected, rtol=0, atol=1e-15)


def test_rotation_is_that_of_complex_numbers() -> None:
    """Entry i and entry i + size / 2 are one complex number, turned by the angle."""
    rng = np.random.default_rng(0)
    vectors, angles = rng.normal(size=(1, 3, 2, 8)), rng.normal(size=(3, 4))
    turned = np.asarray(rotate(jnp.asarray(vectors), jnp.asarray(angles)))
    numbers = (vectors[..., :4] + 1j * vectors[..., 4:]) * np.exp(1j * angles)[:, None]
    expected = np.concatenate([numbers.real, numbers.imag], axis=-1)
    np.testing.assert_allclose(turned, expected, rtol=0, atol=1e-5)  # float32


def test_weights_are_read_strictly() -> None:
    """All arrays are taken; what is missing or unexpected is named, and so is a prefix."""
    state = file_of_transformers()
    model = nnx.eval_shape(lambda: DINOv3(CONFIG, rngs=nnx.Rngs(0)))
    assert load_dino(model, state) == ()
    (note,) = load_dino(model, {f"backbone.{key}": value for key, value in state.items()})
    assert note == "the prefix backbone. of its names is stripped"
    output = model(jnp.ones((2, 6, 4, 1)))
    assert (output.class_token.shape, output.registers.shape) == ((2, 8), (2, 4, 8))
    assert output.patches.shape == (2, 6, 8)
    with pytest.raises(WeightsError, match=r"1 missing keys: norm\.bias"):
        load_dino(model, {key: value for key, value in state.items() if key != "norm.bias"})
    key_bias = {"layer.0.attention.k_proj.bias": np.zeros(8, np.float32)}
    with pytest.raises(WeightsError, match=r"1 unexpected keys: layer\.0\.attention\.k_proj\.bias"):
        load_dino(model, state | key_bias)
    part = {f"teacher.{key}": value for key, value in state.items()}
    with pytest.raises(WeightsError, match=r"names fit without the prefix teacher\."):
        load_dino(model, part | {"student.weight": np.zeros(3, np.float32)})


@pytest.mark.parametrize(
    ("field", "value"), [("width", 12), ("registers", 0), ("heads", 0), ("period", 0.5)]
)
def test_bad_fields_are_named(field: str, value: object) -> None:
    """A configuration says which of its fields is wrong."""
    fields: dict[str, Any] = {"patch_size": 2, "width": 8, "heads": 2}
    with pytest.raises(ValueError, match=field):
        DINOv3Config(**fields | {field: value})
