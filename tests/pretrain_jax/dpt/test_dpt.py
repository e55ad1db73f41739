"""DPT against a second derivation in NumPy and SciPy, and against four known porting bugs."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import correlate

from pretrain_jax.models.dpt import DPT, DPTConfig
from pretrain_jax.models.dpt.params import dpt_table
from pretrain_jax.models.vit import VIT_PRESETS, ViT, ViTConfig
from pretrain_jax.weights import export_state, load_into

ENCODER = ViTConfig(
    image_size=(6, 10),
    patch_size=2,
    channels=1,
    width=8,
    depth=5,
    heads=2,
    layer_norm_eps=1e-6,
    dtype="float64",
    param_dtype="float64",
)
CONFIG = DPTConfig(ENCODER, classes=3, hooks=(0, 1, 3, 4), widths=(2, 3, 4, 5), fusion_width=6)
# Bugs that ports of DPT are known to have had.
Bug = Literal["activation last", "arguments swapped", "no 1x1 after fusion", "shallow first"]
BUGS: tuple[Bug, ...] = (
    "activation last",
    "arguments swapped",
    "no 1x1 after fusion",
    "shallow first",
)


def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """One quickly compiled program: cheaper than compiling each operation, and run only once."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    compiled = jax.jit(function).lower(*arguments).compile(compiler_options=options)
    return jax.tree.map(np.asarray, compiled(*arguments))


def random_dpt(config: DPTConfig, seed: int) -> DPT:
    """A model whose parameters and statistics are all drawn."""
    rng = np.random.default_rng(seed)
    model = nnx.eval_shape(lambda: DPT(config, rngs=nnx.Rngs(0)))
    drawn = []
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        value = 0.4 * rng.normal(size=variable.shape)
        if path[-1] in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, variable.shape)
        drawn.append((path, variable.replace(jnp.asarray(value, variable.dtype))))
    nnx.update(model, nnx.from_flat_state(drawn))
    return model


def conv(x: NDArray, weight: NDArray, bias: NDArray | None, stride: int = 1) -> NDArray:
    """Convolution of (C, H, W) with torch's (outputs, inputs, rows, columns), by SciPy."""
    edge = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge)))
    maps = [correlate(padded, kernel, "valid")[0] for kernel in weight]
    out = np.stack(maps)[:, ::stride, ::stride]
    return out if bias is None else out + bias[:, None, None]


def spread(x: NDArray, weight: NDArray, bias: NDArray) -> NDArray:
    """Transposed convolution whose stride is its kernel's size: Kronecker products."""
    maps = [sum(np.kron(x[i], weight[i, o]) for i in range(len(x))) for o in range(weight.shape[1])]
    return np.stack(maps) + bias[:, None, None]


def sample(x: NDArray, rows: NDArray, columns: NDArray) -> NDArray:
    """Bilinear interpolation of (C, H, W) at these rows and columns, by SciPy."""
    where = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([ndimage.map_coordinates(m, where, order=1, mode="nearest") for m in x])


def doubled(x: NDArray) -> NDArray:
    """Twice the resolution, corners on corners."""
    return sample(x, *(np.linspace(0, n - 1, 2 * n) for n in x.shape[1:]))


def fitted(x: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Another resolution, half-pixel centres."""
    pairs = zip(x.shape[1:], shape[1:], strict=True)
    return sample(x, *((np.arange(new) + 0.5) * old / new - 0.5 for old, new in pairs))


def reference(
    state: dict[str, NDArray], tokens: list[NDArray], config: DPTConfig, bug: Bug | None = None
) -> NDArray:
    """Logits (classes, s rows, s columns) of one image from transformers' names."""
    rows, columns = config.encoder.grid

    def weights(name: str) -> tuple[NDArray, NDArray]:
        return state[f"{name}.weight"], state[f"{name}.bias"]

    maps = []
    for stage, part in enumerate(tokens):
        neck = "neck.reassemble_stage"
        patches = part[1:]
        if config.readout == "project":
            weight, bias = weights(f"{neck}.readout_projects.{stage}.0")
            both = np.concatenate([patches, np.tile(part[:1], (len(patches), 1))], axis=1)
            hidden = both @ weight.T + bias
            patches = np.asarray(jax.nn.gelu(hidden, approximate=False))
        elif config.readout == "add":
            patches = patches + part[:1]
        x = patches.T.reshape(-1, rows, columns)
        x = conv(x, *weights(f"{neck}.layers.{stage}.projection"))
        if stage < 2:
            x = spread(x, *weights(f"{neck}.layers.{stage}.resize"))
        elif stage == 3:
            x = conv(x, *weights(f"{neck}.layers.{stage}.resize"), stride=2)
        maps.append(conv(x, state[f"neck.convs.{stage}.weight"], None))

    def unit(name: str, x: NDArray) -> NDArray:
        first, second = (weights(f"{name}.convolution{part}") for part in (1, 2))
        if bug == "activation last":
            return x + np.maximum(conv(np.maximum(conv(x, *first), 0), *second), 0)
        return x + conv(np.maximum(conv(np.maximum(x, 0), *first), 0), *second)

    def fusion(layer: int, deeper: NDArray, stage: NDArray | None) -> NDArray:
        name = f"neck.fusion_stage.layers.{layer}"
        if stage is not None:
            stage = fitted(stage, deeper.shape) if stage.shape != deeper.shape else stage
            if bug == "arguments swapped":
                deeper, stage = stage, deeper
            deeper = deeper + unit(f"{name}.residual_layer1", stage)
        out = doubled(unit(f"{name}.residual_layer2", deeper))
        return out if bug == "no 1x1 after fusion" else conv(out, *weights(f"{name}.projection"))

    order = maps if bug == "shallow first" else maps[::-1]
    x = fusion(0, order[0], None)
    for layer, stage in enumerate(order[1:], 1):
        x = fusion(layer, x, stage)
    x = conv(x, state["head.head.0.weight"], None)
    mean, var = state["head.head.1.running_mean"], state["head.head.1.running_var"]
    scale, shift = weights("head.head.1")
    x = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
    x = np.maximum(x * scale[:, None, None] + shift[:, None, None], 0)
    x = conv(x, *weights("head.head.4"))
    for _ in range(config.head_doublings):
        x = doubled(x)
    return x


@pytest.mark.parametrize(("readout", "doublings"), [("project", 1), ("add", 2), ("ignore", 0)])
def test_against_reference(readout: Literal["project", "add", "ignore"], doublings: int) -> None:
    """An odd grid of patches that is no square; each bug would show."""
    config = dataclasses.replace(CONFIG, readout=readout, head_doublings=doublings)
    rng = np.random.default_rng(1)
    tokens = [rng.normal(size=(2, 1 + 15, 8)) for _ in config.hooks]
    with jax.enable_x64(True):
        model = random_dpt(config, 0)
        logits = run(model.decode, tokens)
        state = export_state(model, dpt_table(config))
        for image in range(2):
            ours, parts = logits[image].transpose(2, 0, 1), [part[image] for part in tokens]
            expected = reference(state, parts, config)
            np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10)
        spreads = {bug: reference(state, parts, config, bug) for bug in BUGS}
    assert ours.shape[1] >= 2**doublings * 8 * 3
    for bug, wrong in spreads.items():
        same_shape = wrong.shape == ours.shape
        assert not same_shape or np.abs(wrong - ours).max() > 0.01 * np.abs(ours).max(), bug


def test_hooks_and_shared_encoder() -> None:
    """The tokens come from the hooked blocks, of the encoder that was given."""
    images = np.random.default_rng(2).normal(size=(1, 6, 10, 1))
    with jax.enable_x64(True):
        model = random_dpt(CONFIG, 3)
        encoder: ViT = model.encoder

        def both(images: jax.Array) -> tuple[jax.Array, jax.Array]:
            states = encoder.hidden_states(images)
            return model(images), model.decode([states[hook] for hook in CONFIG.hooks])

        ours, expected = run(both, images)

        def share() -> int:
            assert DPT(CONFIG, rngs=nnx.Rngs(0), encoder=encoder).encoder is encoder
            return 0

        jax.eval_shape(share)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="the encoder's configuration"):
        DPT(
            dataclasses.replace(CONFIG, encoder=VIT_PRESETS["vit_tiny"]),
            rngs=nnx.Rngs(0),
            encoder=encoder,
        )


def test_training_mode() -> None:
    """Dropout follows its key; batch norm takes and remembers the batch's statistics."""
    config = dataclasses.replace(CONFIG, dropout=0.5)
    rng = np.random.default_rng(4)
    with jax.enable_x64(True):
        model = random_dpt(config, 5)
        tokens = [rng.normal(size=(2, 16, 8)) for _ in config.hooks]
        graph, state = nnx.split(model)

        def trained(tokens: list[jax.Array], key: jax.Array) -> tuple[jax.Array, jax.Array]:
            copy = nnx.merge(graph, jax.tree.map(lambda value: value, state))
            logits = copy.decode(tokens, key=key, training=True)
            return logits, copy.head.norm.mean[...]

        keys = jnp.stack([jax.random.key(seed) for seed in (0, 0, 1)])
        logits, means = run(jax.vmap(trained, in_axes=(None, 0)), tokens, keys)
        before = np.asarray(model.head.norm.mean[...])
    np.testing.assert_array_equal(logits[0], logits[1])
    assert np.abs(logits[0] - logits[2]).max() > 0
    assert np.abs(means[0] - before).max() > 0


def test_table_round_trip() -> None:
    with jax.enable_x64(True):
        model, other = random_dpt(CONFIG, 6), random_dpt(CONFIG, 7)
        state = export_state(model, dpt_table(CONFIG))
        load_into(other, state, dpt_table(CONFIG))
        again = export_state(other, dpt_table(CONFIG))
    assert state.keys() == again.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(again[key], value)


@pytest.mark.parametrize(
    ("depth", "hooks"), [(12, (2, 5, 8, 11)), (24, (5, 11, 17, 23)), (4, (0, 1, 2, 3))]
)
def test_hooks_of_depths(depth: int, hooks: tuple[int, ...]) -> None:
    """The paper's hooks of ViT-Base; quarters of the depth elsewhere."""
    encoder = dataclasses.replace(VIT_PRESETS["vit_base"], depth=depth)
    assert DPTConfig.on(encoder).hooks == hooks


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hooks": (2, 5, 8)}, r"hooks = \(2, 5, 8\) has not 4 entries"),
        ({"hooks": (2, 5, 8, 12)}, r"hooks = 12 is outside the valid range \[0, 11\]"),
        ({"hooks": (2, 8, 5, 11)}, "do not go from shallow to deep"),
        ({"classes": 0}, "classes = 0 is outside"),
        ({"dropout": 1.0}, "dropout = 1 is outside"),
        ({"head_doublings": 5}, r"head_doublings = 5 is outside the valid range \[0, 4\]"),
        ({"readout": "mean"}, "readout = 'mean' is not one of"),
        ({"encoder": ViTConfig(pool="cls")}, "has pool = None and no classes"),
        ({"encoder": ViTConfig(class_token=False)}, "readout = 'project' needs .* a class token"),
    ],
)
def test_bad_configurations(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DPTConfig(**fields)
