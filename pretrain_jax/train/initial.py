"""Weights that a run starts from: another run's, or a published checkpoint's."""

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.mae.params import MAE_LAYOUTS, mae_table
from pretrain_jax.models.vit.params import transformers_keys, vit_table
from pretrain_jax.train.logging import say
from pretrain_jax.train.restored import load_model
from pretrain_jax.train.step import Step, TrainState
from pretrain_jax.weights import Layout, WeightsError, load_into, named_as, read_state

__all__ = ["with_weights"]


def with_weights(state: TrainState, step: Step, source: str) -> TrainState:
    """The initial state with a masked autoencoder's weights from `source`.

    Args:
        state: before the first step.
        step: what made it.
        source: a run's folder or one of its checkpoints; or a file (.pth, .safetensors, ...) in
            the layout of the MAE code or of transformers, strictly matched but for a prefix of
            all names and a classifier's head, see `named_as`; one that holds the encoder alone
            leaves the decoder as it was drawn.

    Raises:
        ValueError: missing, damaged, or of another model, with the fields or keys that differ.
    """
    model = nnx.merge(step.graph(), state.params, state.constants)
    if not isinstance(model, MAE):
        raise ValueError(f"init = {source}: only masked autoencoders start from weights")
    if Path(source).is_dir():
        _from_run(model, source)
    else:
        _from_file(model, source)
    _, params, constants = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]

    def place(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jax.device_put(a, b.sharding), new, old)

    params = place(params, state.params)
    return state._replace(
        params=params,
        constants=place(constants, state.constants),
        # A copy: a donated buffer may appear only once.
        ema=None if state.ema is None else jax.tree.map(jnp.copy, params),
    )


def _from_run(model: MAE, source: str) -> None:
    trained = load_model(source)
    if not isinstance(trained.model, MAE):
        raise ValueError(f"init = {source} is no masked autoencoder")
    ours, theirs = _shape(model.config), _shape(trained.model.config)
    if ours != theirs:
        differing = [
            f"{name} = {ours[name]!r} here and {theirs[name]!r} there"
            for name in ours
            if ours[name] != theirs[name]
        ]
        raise ValueError(f"init = {source} is of another model: {'; '.join(differing)}")
    nnx.update(model, nnx.state(trained.model))


def _from_file(model: MAE, source: str) -> None:
    layouts = {}
    for name in MAE_LAYOUTS:
        with suppress(ValueError):  # a layout that has no place for the configuration
            keys = [key for entry in mae_table(model.config, name) for key in entry.keys]
            theirs = name == "transformers"
            layouts[name] = Layout(keys, transformers_keys) if theirs else Layout(keys)
    found = named_as(read_state(source), layouts)
    for note in found.notes:
        say(f"{source}: {note}")
    try:
        if any("decoder" in key for key in found.state):
            load_into(model, found.state, mae_table(model.config, found.layout))
        else:
            table = vit_table(model.config.encoder, found.layout)
            load_into(model.encoder, found.state, table)
    except WeightsError as error:
        hint = f"; {found.hint}" if found.hint else ""
        raise WeightsError(f"init = {source}: {error}{hint}") from None


def _shape(config: MAEConfig) -> dict[str, Any]:
    """Fields that decide which arrays a model has."""
    fields = dataclasses.asdict(config)
    encoder = fields.pop("encoder")
    free = ("mask_ratio", "norm_pixel_loss", "dtype", "param_dtype", "remat", "layer_norm_eps")
    return {name: value for name, value in (encoder | fields).items() if name not in free}
