"""Segment Anything's parts against brute force, published sizes, key tables."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pretrain_jax.models.sam import SAM, SAM_LAYOUTS, SAM_PRESETS, SAMConfig, sam_keys, sam_table
from pretrain_jax.models.sam.decoder import Attention
from pretrain_jax.models.sam.encoder import RelativeAttention, UpscaleTwice, _join, _split
from pretrain_jax.weights import WeightsError, export_state, load_into
from tests.pretrain_jax.sam.models import SMALL, random_model

pytestmark = pytest.mark.usefixtures("lightly_compiled")

DOUBLE = ("float64", "float64")


@pytest.fixture(scope="module")
def model() -> SAM:
    return random_model(SMALL, 0)


@pytest.mark.parametrize(
    ("preset", "millions"), [("sam_vit_b", 93.7), ("sam_vit_l", 312.3), ("sam_vit_h", 641.1)]
)
def test_published_sizes(preset: str, millions: float) -> None:
    """Numbers of parameters of the published checkpoints, in millions."""
    config = SAM_PRESETS[preset]
    abstract = nnx.eval_shape(lambda: SAM(config, rngs=nnx.Rngs(0)))
    leaves = jax.tree.leaves(nnx.state(abstract))
    assert sum(leaf.size for leaf in leaves) / 1e6 == pytest.approx(millions, abs=0.05)


def test_cheaper_attention_is_attention() -> None:
    """Few queries or few keys: other orders of the same products."""
    config = SAMConfig(prompt_width=64, decoder_heads=2, dtype="float64", param_dtype="float64")
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(5, 64)), rng.normal(size=(40, 64))
    values = rng.normal(size=(5, 64)), rng.normal(size=(40, 64))
    with jax.enable_x64(True):
        attention = Attention(config, 32, rngs=nnx.Rngs(0))
        for layer in (attention.query, attention.key, attention.value, attention.out):
            layer.bias[...] = jnp.asarray(rng.normal(size=layer.bias.shape))
        pairs = [
            (attention.from_few(few, many, values[1]), attention(few, many, values[1])),
            (attention.to_few(many, few, values[0]), attention(many, few, values[0])),
            # As many queries times heads as inner features: no detour.
            (attention.from_few(many, few, values[0]), attention(many, few, values[0])),
        ]
    for cheap, plain in pairs:
        np.testing.assert_allclose(cheap, plain, rtol=1e-12, atol=1e-12)


def test_relative_attention_by_loops() -> None:
    """q.k / sqrt(d) + q.R_h[row(q) - row(k)] + q.R_w[column(q) - column(k)], one pair a time."""
    config = SAMConfig(width=6, heads=2, dtype="float64", param_dtype="float64")
    rng = np.random.default_rng(1)
    size, features = 3, 3
    x = rng.normal(size=(size, size, 6))
    with jax.enable_x64(True):
        attention = RelativeAttention(config, size, rngs=nnx.Rngs(0))
        attention.rows[...] = jnp.asarray(rng.normal(size=(5, features)))
        attention.columns[...] = jnp.asarray(rng.normal(size=(5, features)))
        qkv = np.asarray(attention.qkv(x)).reshape(size, size, 3, 2, features)
        ours = np.asarray(attention(jnp.asarray(x)))
        rows, columns = np.asarray(attention.rows[...]), np.asarray(attention.columns[...])
        mixed = np.zeros((size, size, 2, features))
        places = list(itertools.product(range(size), range(size)))
        for (y, c), head in itertools.product(places, range(2)):
            query = qkv[y, c, 0, head]
            scores = np.array(
                [
                    query @ qkv[v, w, 1, head] / np.sqrt(features)
                    + query @ rows[y - v + size - 1]
                    + query @ columns[c - w + size - 1]
                    for v, w in places
                ]
            )
            weights = np.exp(scores) / np.exp(scores).sum()
            for weight, (v, w) in zip(weights, places, strict=True):
                mixed[y, c, head] += weight * qkv[v, w, 2, head]
        expected = attention.out(jnp.asarray(mixed.reshape(size, size, 6)))
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("grid", "window"), [(6, 3), (7, 3), (4, 5)])
def test_windows(grid: int, window: int) -> None:
    """Windows that divide the grid, that do not, one larger than it."""
    x = np.random.default_rng(2).normal(size=(2, grid, grid, 3)).astype(np.float32)
    windows = np.asarray(_split(jnp.asarray(x), window))
    count = -(-grid // window)
    assert windows.shape == (2, count, count, window, window, 3)
    for row, column in itertools.product(range(count), range(count)):
        part = x[:, row * window : (row + 1) * window, column * window : (column + 1) * window]
        inside = windows[:, row, column, : part.shape[1], : part.shape[2]]
        np.testing.assert_array_equal(inside, part)
        assert np.count_nonzero(windows[:, row, column]) == np.count_nonzero(part)
    np.testing.assert_array_equal(_join(jnp.asarray(windows), grid), x)


def test_upscaling() -> None:
    """Transposed convolution, kernel 2, stride 2: a pixel writes a square of its own."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 4, 5))
    with jax.enable_x64(True):
        layer = UpscaleTwice(5, 2, DOUBLE, nnx.Rngs(0))
        layer.bias[...] = jnp.asarray(rng.normal(size=2))
        ours = np.asarray(layer(jnp.asarray(x)))
        kernel, bias = np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
    for y, c, row, column in itertools.product(range(3), range(4), range(2), range(2)):
        expected = x[y, c] @ kernel[:, row, column] + bias
        np.testing.assert_allclose(ours[y, c, 2 * row + column], expected, rtol=1e-12)


@pytest.mark.parametrize("layout", SAM_LAYOUTS)
def test_tables_round_trip(model: SAM, layout: str) -> None:
    table = sam_table(SMALL, layout)
    paths = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model))}
    assert {entry.path for entry in table} == paths
    keys = [key for entry in table for key in entry.keys]
    assert len(set(keys)) == len(keys)
    state = export_state(model, table)
    other = random_model(SMALL, 1)
    load_into(other, state, table)
    for one, two in zip(
        jax.tree.leaves(nnx.state(model)), jax.tree.leaves(nnx.state(other)), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    state["stranger"] = np.zeros(3, np.float32)
    del state[keys[0]]
    with pytest.raises(WeightsError, match=rf"1 missing keys: {keys[0]}; 1 unexpected.*stranger"):
        load_into(other, state, table)


def test_official_layout() -> None:
    """Names and shapes that the published ViT-B checkpoint has."""
    config = SAM_PRESETS["sam_vit_b"]
    keys = {key for entry in sam_table(config, "official") for key in entry.keys}
    # Kirillov et al.'s sam_vit_b_01ec64.pth holds 314 arrays.
    assert len(keys) == 314
    assert keys >= {
        "image_encoder.pos_embed",
        "image_encoder.patch_embed.proj.weight",
        "image_encoder.blocks.11.attn.rel_pos_h",
        "image_encoder.neck.3.bias",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "prompt_encoder.point_embeddings.3.weight",
        "prompt_encoder.mask_downscaling.6.weight",
        "mask_decoder.transformer.layers.1.cross_attn_image_to_token.out_proj.bias",
        "mask_decoder.transformer.norm_final_attn.weight",
        "mask_decoder.output_upscaling.3.weight",
        "mask_decoder.output_hypernetworks_mlps.3.layers.2.bias",
        "mask_decoder.iou_prediction_head.layers.0.weight",
    }


def test_copies_of_the_frequencies() -> None:
    original = "shared_image_embedding.positional_embedding"
    copy = "prompt_encoder.shared_embedding.positional_embedding"
    one, two = np.ones((2, 4)), np.zeros((2, 4))
    assert set(sam_keys({original: one, copy: one})) == {original}
    assert set(sam_keys({copy: one})) == {original}
    with pytest.raises(WeightsError, match="differ"):
        sam_keys({original: one, copy: two})


def test_other_image_size(model: SAM) -> None:
    """Linear relative positions by np.interp; windows stay; there and back at equal size."""
    larger = model.with_image_size(96)
    assert larger.config.grid_size == 24
    whole, window = (larger.encoder.blocks[block].attention for block in (1, 0))
    table = np.asarray(model.encoder.blocks[1].attention.rows[...])
    place = np.clip((np.arange(47) + 0.5) * 31 / 47 - 0.5, 0, 30)
    for column in range(table.shape[1]):
        expected = np.interp(place, np.arange(31), table[:, column])
        np.testing.assert_allclose(whole.rows[...][:, column], expected, atol=1e-6)
    np.testing.assert_array_equal(window.rows[...], model.encoder.blocks[0].attention.rows[...])
    assert larger.encoder.positions.shape == (24, 24, 16)
    leaves = [jax.tree.leaves(nnx.state(m)) for m in (model, model.with_image_size(64))]
    for one, two in zip(*leaves, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)
    shape = jax.eval_shape(larger.encode, jax.ShapeDtypeStruct((1, 96, 96, 3), jnp.float32))
    assert shape.shape == (1, 24, 24, 32)
    with pytest.raises(ValueError, match="image_size = 97 is not a multiple of 4"):
        model.with_image_size(97)


def test_tree_mode(model: SAM) -> None:
    """No variable occurs twice: the model is a tree as well as a graph."""
    graph, state = nnx.split(model, graph=False)
    merged = nnx.merge(graph, state)
    grid = jax.tree.map(np.asarray, (model.prompt.grid(), merged.prompt.grid()))
    np.testing.assert_array_equal(*grid)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 1000}, "image_size = 1000 is not a multiple of 16"),
        ({"width": 100}, "width = 100 is not a multiple of 12"),
        ({"prompt_width": 100}, "prompt_width = 100 is not a multiple of 16"),
        ({"decoder_heads": 7}, "decoder_heads = 7 does not divide the 128 features"),
        ({"global_blocks": (12,)}, r"global_blocks = 12 is outside the valid range \[0, 11\]"),
        ({"layer_norm": "new"}, "layer_norm = 'new' is not 'official' or 'hf'"),
        ({"dtype": "int8"}, "dtype = 'int8' is not one of"),
        ({"depth": 2.5}, "depth = 2.5 is not a whole number"),
    ],
)
def test_bad_configurations(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAMConfig(**fields)


def test_bad_arguments(model: SAM) -> None:
    with pytest.raises(ValueError, match=r"\(1, 60, 64, 3\), the model takes \(any, 64, 64, 3\)"):
        model.encode(jnp.zeros((1, 60, 64, 3)))
    with pytest.raises(ValueError, match="a prompt needs one of them"):
        model.prompts()
    with pytest.raises(ValueError, match="points and labels come together"):
        model.prompts(points=jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="layout = 'torch' is not one of official, transformers"):
        sam_table(SMALL, "torch")
