"""Starts masked autoencoders from the weights of runs and of published encoders."""

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from numpy.typing import NDArray

from hardset.datafile import versions
from pretrain_jax.models.dinov2 import DINOv2
from pretrain_jax.models.dinov3 import DINOv3
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.mae.params import MAE_LAYOUTS, mae_table
from pretrain_jax.models.recognition import recognise
from pretrain_jax.models.sam import ImageEncoder
from pretrain_jax.models.vit import ViT, ViTConfig, resize_positions
from pretrain_jax.models.vit.params import transformers_keys
from pretrain_jax.train.checkpoint import Checkpoints
from pretrain_jax.train.config import TrainConfig, config_to_json
from pretrain_jax.train.folder import CHECKPOINTS
from pretrain_jax.train.logging import say
from pretrain_jax.train.objectives import make_objective
from pretrain_jax.train.step import Step, TrainState, make_mesh
from pretrain_jax.train.weights import NO_OPTIMIZER, NO_SCHEDULE, holds_run, load_model, run_of
from pretrain_jax.weights import Layout, WeightsError, load_into, named_as, same
from pretrain_jax.weights.published import Published, read_published

# Fields of an encoder that decide which arrays it has, beside the size of the images.
SIZES = ("patch_size", "channels", "width", "depth", "heads", "hidden_width", "class_token")


def with_weights(state: TrainState, step: Step, source: str) -> TrainState:
    """Return the initial state with a masked autoencoder's weights from `source`.

    Positions are interpolated where the images have another size there, and a line on stderr says
    so.

    Args:
        state: before the first step.
        step: what made it.
        source: a stage of pre-training, a run or one of its checkpoints; or a file (.pth,
            .safetensors, ...) or folder of published weights, see `recognise`: of MAE, of a plain
            ViT, of DINOv2 without registers, or of SAM's image encoder. One that holds an encoder
            alone leaves the decoder as it was drawn.

    Raises:
        ValueError: missing, damaged, or of another model, with the fields or keys that differ.
    """

    def change(model: nnx.Module) -> None:
        if not isinstance(model, MAE):
            raise ValueError(f"init = {source}: only masked autoencoders start from weights")
        try:
            notes = (_from_run if holds_run(Path(source)) else _from_published)(model, source)
        except WeightsError as error:
            told = str(error).removeprefix(f"{source}: ")
            raise WeightsError(f"init = {source}: {told}") from None
        for note in notes:
            say(f"{source}: {note}")

    return step.changed(state, change)


def _from_run(model: MAE, source: str) -> tuple[str, ...]:
    trained = load_model(run_of(Path(source))).model
    if not isinstance(trained, MAE):
        raise ValueError(f"init = {source} is no masked autoencoder")
    _check_same(_shape(model.config), _shape(trained.config))
    return _take(model, trained)


def _from_published(model: MAE, source: str) -> tuple[str, ...]:
    published = read_published(Path(source))
    if "num_attention_heads" not in published.config:
        heads = {"num_attention_heads": model.config.encoder.heads}
        published = dataclasses.replace(published, config={**published.config, **heads})
    found = recognise(published, "auto")
    encoder: Any = found.model
    if found.decoder:
        return _whole(model, published, encoder.config)
    values, notes = plain_vit(encoder)
    ours, theirs = model.config.encoder, encoder.config
    _check_same(_sizes(ours), _sizes(theirs))
    grid = theirs.grid
    values["positions"] = resize_positions(values["positions"], grid, ours.grid)
    load_into(model.encoder, values, [same(name, name) for name in values])
    notes = (*found.notes, *notes, *_resized(grid, ours.grid), *_other_norms(ours, theirs))
    if ours.positions == "sincos" and found.kind != "mae":
        notes += (
            "its positions were learned, and are not trained here: give --model.encoder.positions "
            "learned to train them",
        )
    return notes


def _whole(model: MAE, published: Published, encoder: ViTConfig) -> tuple[str, ...]:
    """Take the arrays of a masked autoencoder with its decoder."""
    ours = model.config.encoder
    size = encoder.size if ours.patch_size == encoder.patch_size else ours.size
    like = dataclasses.replace(model.config, encoder=dataclasses.replace(ours, image_size=size))
    layouts = {}
    for name in MAE_LAYOUTS:
        with suppress(ValueError):  # a layout that has no place for the configuration
            keys = [key for entry in mae_table(like, name) for key in entry.keys]
            layouts[name] = Layout(keys, transformers_keys if name == "transformers" else dict)
    found = named_as(published.state, layouts)
    whole = nnx.eval_shape(lambda: MAE(like, rngs=nnx.Rngs(0)))
    found.load_into(whole, mae_table(like, found.layout))
    return (*found.notes, *_take(model, whole), *_other_norms(ours, encoder))


def _take(model: MAE, trained: MAE) -> tuple[str, ...]:
    """Give a model the parameters of another one, and return what there is to say."""
    ours, theirs = model.config.encoder, trained.config.encoder
    resized = trained if ours.size == theirs.size else trained.with_image_size(ours.image_size)
    nnx.update(model, nnx.state(resized))
    return _resized(theirs.grid, ours.grid)


def plain_vit(
    encoder: ViT | DINOv2 | DINOv3 | ImageEncoder,
) -> tuple[dict[str, NDArray], tuple[str, ...]]:
    """Return an encoder's arrays as those of a plain ViT.

    Args:
        encoder: a ViT; a DINOv2 without registers, whose LayerScale is multiplied into the
            projections before it, so that the function is the same; or SAM's image encoder,
            without its relative positions and windows.

    Returns:
        Variable of a `ViT` -> array, and sentences on what is not the same.

    Raises:
        WeightsError: an encoder that is no plain ViT.
    """
    arrays = {
        ".".join(map(str, path)): np.asarray(variable[...])
        for path, variable in nnx.to_flat_state(nnx.state(encoder))
    }
    if isinstance(encoder, ViT):
        return arrays, ()
    if isinstance(encoder, ImageEncoder):
        return _without_windows(arrays, encoder)
    if isinstance(encoder, DINOv3):
        raise WeightsError(
            "DINOv3 has registers, and positions that rotate queries and keys, which a masked "
            "autoencoder's encoder has not; of DINO's encoders it starts from DINOv2 without "
            "registers"
        )
    config = encoder.config
    if config.registers or config.swiglu:
        what = f"{config.registers} registers" if config.registers else "a gated MLP"
        raise WeightsError(
            f"this DINOv2 has {what}, which a masked autoencoder's encoder has not; it starts from "
            "the sizes S, B and L without registers"
        )
    for block in range(config.depth):
        for half, layer in ((1, "out"), (2, "fc2")):
            scale = arrays.pop(f"blocks.{block}.scale{half}")
            for part in ("kernel", "bias"):
                name = f"blocks.{block}.{layer}.{part}"
                arrays[name] = arrays[name] * scale
    del arrays["mask_token"]
    return arrays, ()


def _without_windows(
    arrays: dict[str, NDArray], encoder: ImageEncoder
) -> tuple[dict[str, NDArray], tuple[str, ...]]:
    names = {
        "attention.qkv": "qkv",
        "attention.out": "out",
        "mlp.first": "fc1",
        "mlp.second": "fc2",
    }
    positions = arrays["positions"].reshape(-1, encoder.config.width)
    values = {"positions": np.pad(positions, ((1, 0), (0, 0)))}
    for name, array in arrays.items():
        if name.startswith("patch."):
            values[name.replace("patch.", "embed.")] = array
        elif name.startswith("blocks.") and not name.endswith((".rows", ".columns")):
            for old, new in names.items():
                name = name.replace(f".{old}.", f".{new}.")
            values[name] = array
    return values, (
        "SAM's relative positions, windows and neck are left out, and class token and last norm, "
        "which it has not, are as drawn: the function is not the same",
    )


def _resized(old: tuple[int, int], new: tuple[int, int]) -> tuple[str, ...]:
    if old == new:
        return ()
    return (f"positions of {old[0]} x {old[1]} patches are interpolated to {new[0]} x {new[1]}",)


def _other_norms(ours: ViTConfig, theirs: Any) -> tuple[str, ...]:
    """Say where layer norms add another number to variances."""
    if ours.layer_norm_eps == theirs.layer_norm_eps:
        return ()
    return (
        f"its layer norms add {theirs.layer_norm_eps:g} to variances, and here it is "
        f"{ours.layer_norm_eps:g}: for the same function give --model.encoder.layer-norm-eps "
        f"{theirs.layer_norm_eps:g}",
    )


def _check_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    differing = [
        f"{name} = {ours[name]!r} here and {theirs[name]!r} there"
        for name in ours
        if ours[name] != theirs[name]
    ]
    if differing:
        raise WeightsError(f"it is of another model: {'; '.join(differing)}")


def _sizes(config: Any) -> dict[str, Any]:
    # SAM has no class token, and leaves the one that was drawn.
    return {name: getattr(config, name, True) for name in SIZES}


def _shape(config: MAEConfig) -> dict[str, Any]:
    """Return fields that decide which arrays a model has, beside `image_size`."""
    names = ("decoder_width", "decoder_depth", "decoder_heads")
    shape = _sizes(config.encoder) | {name: getattr(config, name) for name in names}
    return shape | {"positions": config.encoder.positions}


def import_weights(source: str | Path, config: TrainConfig, out: str | Path) -> None:
    """Write a checkpoint of step 0 with the weights of a file, for `load_model`.

    Args:
        source: a file or folder of published weights, see `with_weights`.
        config: gives model, mean and standard deviation.
        out: the run's folder, new or empty.

    Raises:
        ValueError: missing, damaged or of another model; no mean and standard deviation.
    """
    mean, std = config.data.mean, config.data.std
    if mean is None or std is None:
        raise ValueError(
            f"checkpoint {source} does not tell how its images were normalised; give data.mean "
            "and data.std"
        )
    if not Path(source).exists():
        raise ValueError(f"checkpoint {source} does not exist")
    step = Step(
        objective=make_objective(config.model, "float32", mean, std),
        optimizer=NO_OPTIMIZER,
        schedule=NO_SCHEDULE,
        mesh=make_mesh(1),
    )
    state = with_weights(step.initial_state(), step, str(source))
    optimizer = dataclasses.replace(config.optimizer, ema_decay=None)
    meta = {
        "config": config_to_json(dataclasses.replace(config, optimizer=optimizer)),
        "mean": mean,
        "std": std,
        "dtype": "float32",
        "loader": {},
        "versions": versions(),
    }
    Checkpoints(Path(out) / CHECKPOINTS).save(state, meta)
