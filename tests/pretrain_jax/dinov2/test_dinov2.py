"""DINOv2's encoder: what it refuses, and how strictly weights are read."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.dinov2 import DINOv2, DINOv2Config
from pretrain_jax.weights import WeightsError
from tests.pretrain_jax.dinos import load_dino

CONFIG = DINOv2Config(
    image_size=6, patch_size=2, channels=1, width=8, depth=1, heads=2, registers=4
)


def file_of_transformers(*, prefix: str = "") -> dict[str, NDArray]:
    """The arrays of Dinov2WithRegistersModel in the sizes above, as its files name them."""
    block = "encoder.layer.0"
    square = [f"{block}.attention.{p}" for p in ("attention.query", "attention.key")]
    square += [f"{block}.attention.{p}" for p in ("attention.value", "output.dense")]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, 8),
        "embeddings.mask_token": (1, 8),
        "embeddings.register_tokens": (1, 4, 8),
        "embeddings.position_embeddings": (1, 10, 8),
        "embeddings.patch_embeddings.projection.weight": (8, 1, 2, 2),
        "embeddings.patch_embeddings.projection.bias": (8,),
        "layernorm.weight": (8,),
        "layernorm.bias": (8,),
        **{f"{layer}.weight": (8, 8) for layer in square},
        **{f"{layer}.bias": (8,) for layer in square},
        **{f"{block}.norm{n}.{kind}": (8,) for n in (1, 2) for kind in ("weight", "bias")},
        **{f"{block}.layer_scale{n}.lambda1": (8,) for n in (1, 2)},
        f"{block}.mlp.fc1.weight": (32, 8),
        f"{block}.mlp.fc1.bias": (32,),
        f"{block}.mlp.fc2.weight": (8, 32),
        f"{block}.mlp.fc2.bias": (8,),
    }
    rng = np.random.default_rng(0)
    return {f"{prefix}{k}": rng.normal(size=v).astype(np.float32) for k, v in shapes.items()}


@pytest.fixture(scope="module")
def model() -> DINOv2:
    """A model whose parameters stand as they were drawn."""
    return DINOv2(CONFIG, rngs=nnx.Rngs(0))


def test_every_array_is_taken() -> None:
    """Nothing stays abstract after an import, and a common prefix is stripped and told."""
    model = nnx.eval_shape(lambda: DINOv2(CONFIG, rngs=nnx.Rngs(0)))
    (note,) = load_dino(model, file_of_transformers(prefix="dinov2."))
    assert note == "the prefix dinov2. of its names is stripped"
    flat = nnx.to_flat_state(nnx.state(model))
    assert all(np.isfinite(np.asarray(variable[...])).all() for _, variable in flat)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layernorm.bias": None}, "1 missing keys: layernorm.bias"),
        ({"extra.weight": np.zeros(3, np.float32)}, "1 unexpected keys: extra.weight"),
        ({"embeddings.cls_token": np.zeros((1, 8), np.float32)}, r"shape \(1, 8\)"),
        ({"embeddings.mask_token": np.zeros((1, 8), int)}, "type int64"),
    ],
)
def test_what_does_not_fit_is_named(
    model: DINOv2, changes: dict[str, NDArray | None], message: str
) -> None:
    """A key that is missing, unexpected or of another shape or type; the model stays."""
    state: dict[str, Any] = file_of_transformers() | changes
    before = np.asarray(model.norm.scale[...])
    with pytest.raises(WeightsError, match=message):
        load_dino(model, {key: value for key, value in state.items() if value is not None})
    np.testing.assert_array_equal(model.norm.scale[...], before)


def test_prefix_of_a_part_is_told(model: DINOv2) -> None:
    """A file with more than the encoder in it: the sentence says what to strip."""
    state = file_of_transformers(prefix="teacher.backbone.")
    with pytest.raises(
        WeightsError, match=r"26 of the 26 names fit without the prefix teacher\.backbone\."
    ):
        load_dino(model, state | {"student.weight": np.zeros(3, np.float32)})


def test_registers_that_the_model_lacks_are_unexpected() -> None:
    """Weights with registers do not slip into a model without."""
    plain = DINOv2Config(image_size=6, patch_size=2, channels=1, width=8, depth=1, heads=2)
    with pytest.raises(WeightsError, match=r"1 unexpected keys: embeddings\.register_tokens"):
        load_dino(DINOv2(plain, rngs=nnx.Rngs(0)), file_of_transformers())


def test_halves_of_a_gated_layer() -> None:
    """A half without the other is missing, and does not break the import."""
    gated = DINOv2Config(
        image_size=6, patch_size=2, channels=1, width=8, depth=1, heads=2, registers=4, swiglu=True
    )
    assert gated.hidden_width == 24  # 2/3 of 32 is 21.3, the next multiple of 8 is 24
    mlp = "encoder.layer.0.mlp"
    state = {k: v for k, v in file_of_transformers().items() if "mlp" not in k} | {
        f"{mlp}.gate_proj.weight": np.zeros((24, 8), np.float32),
        f"{mlp}.gate_proj.bias": np.zeros(24, np.float32),
        f"{mlp}.up_proj.bias": np.zeros(24, np.float32),
        f"{mlp}.down_proj.weight": np.zeros((8, 24), np.float32),
        f"{mlp}.down_proj.bias": np.zeros(8, np.float32),
    }
    expected = rf"missing keys: {mlp}\.weights_in\.weight; .*unexpected keys: {mlp}\.gate_proj"
    with pytest.raises(WeightsError, match=expected):
        load_dino(DINOv2(gated, rngs=nnx.Rngs(0)), state)


@pytest.mark.parametrize("shape", [(1, 7, 6, 1), (1, 6, 6, 3), (6, 6, 1), (1, 0, 6, 1)])
def test_images_of_other_shapes_are_refused(model: DINOv2, shape: tuple[int, ...]) -> None:
    """A side that is no multiple of the patch, other channels, no batch, nothing."""
    with pytest.raises(ValueError, match="divisible by patch_size = 2"):
        model(jnp.zeros(shape))


def test_mask_of_another_shape_is_refused(model: DINOv2) -> None:
    """A mask of the pixels is none of the patches."""
    with pytest.raises(ValueError, match=r"masked has the shape \(1, 36\)"):
        model(jnp.zeros((1, 6, 6, 1)), jnp.zeros((1, 36), bool))


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 9), ("image_size", 7), ("registers", -1), ("heads", 0), ("dtype", "int8")],
)
def test_bad_fields_are_named(field: str, value: object) -> None:
    """A configuration says which of its fields is wrong."""
    fields: dict[str, Any] = {"image_size": 6, "patch_size": 2, "width": 8, "heads": 2}
    with pytest.raises(ValueError, match=field):
        DINOv2Config(**fields | {field: value})
