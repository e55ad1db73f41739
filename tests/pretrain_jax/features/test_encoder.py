"""Encoders of runs, and one sentence for everything that is none."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax import DataOptions, TrainConfig
from pretrain_jax.features import features, open_encoder
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.mae.params import mae_table
from pretrain_jax.models.recognition import NAMINGS
from pretrain_jax.models.simclr import SimCLR, SimCLRConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.train.starting import import_weights
from pretrain_jax.weights import WeightsError, export_state, write_safetensors

WIDTH, HIDDEN, PATCH, SIDE = 64, 32, 4, 12
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
State = dict[str, NDArray]


def block(number: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a block in timm's files."""
    shapes = {
        "norm1.weight": (WIDTH,),
        "attn.qkv.weight": (3 * WIDTH, WIDTH),
        "attn.proj.weight": (WIDTH, WIDTH),
        "norm2.weight": (WIDTH,),
        "mlp.fc1.weight": (HIDDEN, WIDTH),
        "mlp.fc2.weight": (WIDTH, HIDDEN),
    }
    biases = {name.replace("weight", "bias"): shape[:1] for name, shape in shapes.items()}
    return {f"blocks.{number}.{name}": shape for name, shape in (shapes | biases).items()}


SHAPES: dict[str, tuple[int, ...]] = {
    "cls_token": (1, 1, WIDTH),
    "pos_embed": (1, 1 + (SIDE // PATCH) ** 2, WIDTH),
    "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
    "patch_embed.proj.bias": (WIDTH,),
    "norm.weight": (WIDTH,),
    "norm.bias": (WIDTH,),
    **block(0),
    **block(1),
}


def drawn(shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> State:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def folder_of(path: Path, state: State, **files: object) -> Path:
    """A folder with the arrays and JSON files, for example config={...}."""
    path.mkdir(exist_ok=True)
    write_safetensors(path / "model.safetensors", state)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / f"{name}.json").write_text(text)
    return path


def refusal(path: Path, **options: Any) -> str:
    """The sentence that refuses a file, one line that names it."""
    with pytest.raises(ValueError) as caught:
        open_encoder(path, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 1200
    return text


def test_sizes_are_read_off_names_and_shapes(tmp_path: Path) -> None:
    encoder = open_encoder(folder_of(tmp_path / "a", drawn()))
    model: Any = encoder.model
    config = model.config
    assert (encoder.kind, encoder.image_size, encoder.patch_size) == ("vit", SIDE, PATCH)
    assert (encoder.width, encoder.channels) == (WIDTH, 3)
    assert (config.depth, config.heads, config.hidden_width) == (2, 1, HIDDEN)
    assert any("1 attention heads are assumed, 64 numbers each" in note for note in encoder.notes)
    told = folder_of(tmp_path / "b", drawn(), config={"num_attention_heads": 4})
    other: Any = open_encoder(told).model
    assert other.config.heads == 4
    assert not any("heads are assumed" in note for note in open_encoder(told).notes)


def test_arrays_tell_encoders_apart(tmp_path: Path) -> None:
    """The digest is that of the arrays: the same in any file, another where one number is."""
    state = drawn()
    first = open_encoder(folder_of(tmp_path / "a", state)).sha256
    wrapped = {f"module.{name}": array for name, array in state.items()}
    assert open_encoder(folder_of(tmp_path / "b", wrapped)).sha256 == first
    state["norm.bias"] = state["norm.bias"] + np.float32(1e-6)
    assert open_encoder(folder_of(tmp_path / "c", state)).sha256 != first


def test_mae_has_fixed_positions_or_a_decoder(tmp_path: Path) -> None:
    """Of plain names these two say that it is a masked autoencoder, with ImageNet's mean."""
    state = drawn()
    decoder = {"decoder_embed.weight": np.zeros((8, WIDTH), np.float32)}
    found = open_encoder(folder_of(tmp_path / "a", state | decoder))
    assert found.kind == "mae" and found.mean == (0.485, 0.456, 0.406)
    assert any(
        note == "not taken, as it is no part of the encoder: decoder_embed.weight"
        for note in found.notes
    )
    # sin and cos of column, then of row, by the definition in the MAE code.
    table = np.zeros((1, 10, WIDTH))
    for place in range(9):
        row, column = divmod(place, 3)
        for k in range(16):
            omega = 10000 ** (-k / 16)
            numbers = [f(x * omega) for x in (column, row) for f in (math.sin, math.cos)]
            table[0, 1 + place, k::16] = numbers
    found = open_encoder(folder_of(tmp_path / "b", state | {"pos_embed": table.astype(np.float16)}))
    assert found.kind == "mae"


def test_several_files_of_weights(tmp_path: Path) -> None:
    """The user names one; what trainers leave beside weights does not count."""
    folder = folder_of(tmp_path / "a", drawn())
    (folder / "optimizer.pt").write_bytes(b"")
    (folder / "training_args.bin").write_bytes(b"")
    open_encoder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    text = refusal(folder)
    assert "holds 2 files of weights, model.safetensors, pytorch_model.bin: name the one" in text
    open_encoder(folder / "model.safetensors")
    (tmp_path / "empty").mkdir()
    assert "holds no weights: a file ending in .safetensors, .bin" in refusal(tmp_path / "empty")
    assert "does not exist" in refusal(tmp_path / "missing")


def sharded(folder: Path, state: State, count: int = 3) -> dict[str, str]:
    """Shards as transformers names them, and which array is in which."""
    folder.mkdir()
    where = {
        name: f"model-{1 + number % count:05d}-of-{count:05d}.safetensors"
        for number, name in enumerate(state)
    }
    for shard in set(where.values()):
        part = {name: array for name, array in state.items() if where[name] == shard}
        write_safetensors(folder / shard, part)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return where


def test_shards(tmp_path: Path) -> None:
    """All of them are read, and each must have what the list says."""
    state = drawn()
    whole = open_encoder(folder_of(tmp_path / "whole", state))
    folder = tmp_path / "sharded"
    where = sharded(folder, state)
    assert open_encoder(folder).sha256 == whole.sha256
    index = folder / "model.safetensors.index.json"
    assert open_encoder(index).sha256 == whole.sha256

    def listed(weight_map: object) -> str:
        index.write_text(json.dumps({"weight_map": weight_map}))
        return refusal(folder)

    outside = where | {"norm.bias": "../whole/model.safetensors"}
    assert "names the shard ../whole/model.safetensors, which is no file beside it" in listed(
        outside
    )
    assert "do not fit each other: ghost are not in the shard" in listed(
        where | {"ghost": where["norm.bias"]}
    )
    fewer = {name: shard for name, shard in where.items() if name != "norm.bias"}
    assert "norm.bias are in the shard alone" in listed(fewer)
    assert "has no weight_map" in listed([])
    index.write_text(json.dumps({"weight_map": where}))
    (folder / where["norm.bias"]).unlink()
    assert where["norm.bias"] in refusal(folder) and "no such file" in refusal(folder)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"hidden_size": 32}, "hidden_size = 32 where the arrays need 64"),
        ({"num_hidden_layers": 3}, "num_hidden_layers = 3 where the arrays need 2"),
        ({"patch_size": 16}, "patch_size = 16 where the arrays need 4"),
        ({"image_size": 224}, "image_size = 224 where the arrays need 12"),
        ({"hidden_act": "gelu_new"}, "hidden_act = gelu_new where the arrays need gelu"),
        ({"num_attention_heads": 5}, "must be divisible by 4 and by heads = 5"),
        ({"model_type": "dinov2"}, "model_type = dinov2, and its arrays are those of vit"),
        ("[]", "config.json holds no JSON object"),
        ("{", "config.json is no JSON"),
        ("[" * 100_000, "config.json is no JSON"),
    ],
)
def test_a_config_that_contradicts_the_arrays(
    tmp_path: Path, config: object, sentence: str
) -> None:
    assert sentence in refusal(folder_of(tmp_path / "a", drawn(), config=config))


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"image_mean": [0.5], "image_std": [0.5]}, "3 numbers each are needed"),
        ({"image_mean": [0, 0, 0], "image_std": [1, 0, 1]}, "the latter above 0"),
        ({"image_mean": "x", "image_std": [1, 1, 1]}, "image_mean = x"),
        ({"rescale_factor": 1 / 127.5}, "only 1/255 is known"),
    ],
)
def test_preprocessing_that_is_not_known(
    tmp_path: Path, entries: dict[str, Any], sentence: str
) -> None:
    folder = folder_of(tmp_path / "a", drawn(), preprocessor_config=entries)
    assert sentence in refusal(folder)


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    """Unknown kinds, missing and unexpected arrays, and which prefix to strip."""
    resnet = {f"layer{n}.conv1.weight": np.zeros((3, 3), np.float32) for n in range(9)}
    text = refusal(folder_of(tmp_path / "resnet", resnet))
    assert "holds no encoder that is known (mae, vit, dinov2, dinov3, sam)" in text
    assert "layer0.conv1.weight" in text and "and 6 more" in text
    state = drawn()
    vit = folder_of(tmp_path / "vit", state)
    for kind in ("sam", "simclr"):
        assert f"holds no {kind} that is known" in refusal(vit, model=kind)
    assert "model = 'resnet' is not one of auto, mae, vit" in refusal(vit, model="resnet")
    assert "storage_tokens is missing" in refusal(vit, model="dinov3")
    # Of another kind whose names are like it, what is missing is listed.
    text = refusal(vit, model="dinov2")
    assert "missing keys" in text and "blocks.0.ls1.gamma" in text
    less = {name: array for name, array in state.items() if name != "blocks.1.norm2.bias"}
    text = refusal(folder_of(tmp_path / "less", less | {"rope": np.zeros(3, np.float32)}))
    assert "1 missing keys: blocks.1.norm2.bias; 1 unexpected keys: rope" in text
    student = {f"student.{name}": array for name, array in state.items()}
    text = refusal(folder_of(tmp_path / "both", student | {"loss.centre": np.zeros(3)}))
    assert "names fit without the prefix student., which 30 of the 31 have" in text
    head = state | {"head.weight": np.zeros((5, WIDTH), np.float32)}
    found = open_encoder(folder_of(tmp_path / "head", head))
    assert "not taken, as the model has no classifier: head.weight" in found.notes


def test_heads_that_nothing_tells(tmp_path: Path) -> None:
    shapes = {
        name: tuple(48 if n == WIDTH else 144 if n == 3 * WIDTH else n for n in shape)
        for name, shape in SHAPES.items()
    }
    text = refusal(folder_of(tmp_path / "a", drawn(shapes)))
    assert "put a config.json with num_attention_heads beside it" in text
    open_encoder(folder_of(tmp_path / "a", drawn(shapes), config={"num_attention_heads": 3}))


@pytest.mark.parametrize("size", [0, -12, 14, 32768])
def test_image_sizes(tmp_path: Path, size: int) -> None:
    folder = folder_of(tmp_path / "a", drawn())
    assert f"image_size = {size}" in refusal(folder, image_size=size)


def test_arrays_of_any_shape_give_a_sentence(tmp_path: Path) -> None:
    """In every naming of every kind: each array in turn has another shape or type."""
    for naming in NAMINGS:
        fields = {"width": WIDTH, "heads": 1, "image_size": SIDE, "patch_size": PATCH}
        if naming.kind == "sam":
            fields |= {"prompt_width": 32}
        tiny = dataclasses.replace(naming.smallest, **fields)
        model = nnx.jit(lambda naming=naming, tiny=tiny: naming.build(tiny, rngs=nnx.Rngs(0)))()
        state = export_state(model, naming.table(tiny))
        path = tmp_path / "a.safetensors"
        write_safetensors(path, state)
        assert open_encoder(path).kind in (naming.kind, "mae")
        for number, (name, array) in enumerate(state.items()):
            others = (
                np.zeros((), np.float32),
                np.zeros(0, np.float32),
                np.zeros((1, *array.shape), np.float32),
                array.reshape(-1)[:7],
                array.astype(np.int32),
            )
            write_safetensors(path, state | {name: others[number % len(others)]})
            assert str(path) in refusal(path)


def test_an_empty_array_is_called_so(tmp_path: Path) -> None:
    """It has as many axes as are needed, so that their number is not what is wrong."""
    empty = np.zeros((WIDTH, 3, 0, 0), np.float32)
    text = refusal(folder_of(tmp_path / "a", drawn() | {"patch_embed.proj.weight": empty}))
    assert "patch_embed.proj.weight has the shape (64, 3, 0, 0): it is empty" in text


def test_config_entries_of_any_type_give_a_sentence(tmp_path: Path) -> None:
    names = ("num_attention_heads", "layer_norm_eps", "hidden_size", "model_type", "pretrained_cfg")
    folder = folder_of(tmp_path / "a", drawn())
    for name in names:
        for value in (None, [], {}, "x", -1, 1e308, True, [[1]], 0):
            (folder / "config.json").write_text(json.dumps({name: value}))
            try:
                open_encoder(folder)
            except WeightsError as error:
                assert str(folder) in str(error)


def test_a_run_has_its_own_statistics(tmp_path: Path) -> None:
    """Its checkpoint, its run and a stage with the run in it open as the same encoder."""
    encoder = ViTConfig(image_size=SIDE, patch_size=PATCH, width=WIDTH, depth=2, heads=2)
    config = TrainConfig(model=MAEConfig(encoder, 16, 1, 2), data=DataOptions(mean=MEAN, std=STD))
    model = nnx.jit(lambda: MAE(config.model, rngs=nnx.Rngs(4)))()
    file = tmp_path / "mae.safetensors"
    write_safetensors(file, export_state(model, mae_table(config.model, "official")))
    stage = tmp_path / "stage"
    import_weights(file, config, stage / "run")
    found = open_encoder(stage / "run")
    assert (found.kind, found.mean, found.std) == ("mae", MEAN, STD)
    assert found.notes == ()
    for other in (stage, stage / "run" / "checkpoints", stage / "run" / "checkpoints" / "0"):
        assert open_encoder(other).sha256 == found.sha256
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 3)), jnp.float32)
    tokens = model.encode(images)
    seen = found.features(images)
    np.testing.assert_allclose(seen.token, tokens[:, 0], atol=1e-5)
    np.testing.assert_allclose(seen.patches.reshape(2, 9, WIDTH), tokens[:, 1:], atol=1e-5)
    assert "is a pre-training of mae" in refusal(stage, model="dinov2")
    larger = open_encoder(stage, image_size=20)
    assert larger.notes == ("positions of 3 x 3 patches are interpolated to 5 x 5",)
    assert larger.features(jnp.zeros((1, 20, 20, 3))).patches.shape == (1, 5, 5, WIDTH)


def test_simclr_gives_the_token_that_it_was_trained_on() -> None:
    """The norm of the patches' mean, which the projector of SimCLR sees."""
    encoder = ViTConfig(SIDE, PATCH, width=WIDTH, depth=1, heads=2, pool="mean")
    model = SimCLR(SimCLRConfig(encoder, 16, 8), rngs=nnx.Rngs(0))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 3)), jnp.float32)
    np.testing.assert_allclose(
        features(model.encoder, images).token, model.encode(images), rtol=1e-5, atol=1e-6
    )


def test_classifiers_on_the_mean_of_the_patches(tmp_path: Path) -> None:
    """Fine-tuned MAE and timm's models without a class token, in half precision."""
    state = {
        name.replace("norm.", "fc_norm.") if name.startswith("norm.") else name: array
        for name, array in drawn().items()
    }
    state |= {"head.weight": np.zeros((5, WIDTH), np.float32)}
    encoder = open_encoder(folder_of(tmp_path / "a", state))
    model: Any = encoder.model
    assert (model.config.pool, model.config.class_token) == ("mean", True)
    np.testing.assert_array_equal(model.norm.scale[...], state["fc_norm.weight"])
    half = {name: array.astype(ml_dtypes.bfloat16) for name, array in state.items()}
    del half["cls_token"]
    half["pos_embed"] = half["pos_embed"][:, 1:]
    encoder = open_encoder(folder_of(tmp_path / "b", half))
    model = encoder.model
    assert (model.config.class_token, encoder.image_size) == (False, SIDE)
    assert model.positions.dtype == jnp.float32
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 3)), jnp.float32)
    found = encoder.features(images)
    assert found.token.shape == (2, WIDTH) and found.patches.shape == (2, 3, 3, WIDTH)
