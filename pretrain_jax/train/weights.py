"""Loads trained models from the checkpoints of runs, and starts runs from other files."""

import dataclasses
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import optax
from flax import nnx

from hardset.datafile import versions
from hardset.folder import remedy
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.mae.params import MAE_LAYOUTS, mae_table
from pretrain_jax.models.vit.config import DType
from pretrain_jax.models.vit.params import transformers_keys, vit_table
from pretrain_jax.train.checkpoint import CheckpointError, Checkpoints, read_meta, read_weights
from pretrain_jax.train.config import TrainConfig, config_from_json, config_to_json
from pretrain_jax.train.folder import CHECKPOINTS
from pretrain_jax.train.logging import say
from pretrain_jax.train.objectives import make_objective
from pretrain_jax.train.step import Step, TrainState, make_mesh
from pretrain_jax.weights import Layout, WeightsError, named_as, read_state

# Loaded models are not trained; the same two functions let equal models share what was traced.
NO_OPTIMIZER, NO_SCHEDULE = optax.identity(), optax.constant_schedule(0.0)


@dataclass(frozen=True)
class TrainedModel:
    """Holds a model of a checkpoint, and what its input must look like.

    Attributes:
        model: the NNX module, with float32 (or float64) computation.
        config: of the run that trained it.
        mean: of each channel, where the largest pixel value is 1; images are (x - mean) / std.
        std: of each channel.
        step: after which it was saved.
    """

    model: nnx.Module
    config: TrainConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    step: int


def load_model(checkpoint: str | Path, *, average: bool = True) -> TrainedModel:
    """Return the model of a checkpoint.

    Args:
        checkpoint: a run's folder (its newest whole checkpoint), or the folder of one step.
        average: whether to take the moving average of the parameters where there is one.

    Raises:
        CheckpointError: there is none, or none that is whole; names the folder.
    """
    path = Path(checkpoint)
    if not path.is_dir():
        raise CheckpointError(f"checkpoint {path} does not exist or is no folder")
    steps = path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path
    found = sorted((one for one in steps.iterdir() if one.name.isdigit()), key=_step_of)
    if not found:
        if not (path / "meta").exists():
            raise CheckpointError(
                f"{path} holds no checkpoint; give a run's folder or one of its "
                f"{CHECKPOINTS}/STEP folders"
            )
        try:
            return _load(path, average)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {remedy(path)}") from None
    for one in reversed(found):
        try:
            return _load(one, average)
        except CheckpointError as error:
            if one == found[0]:
                raise CheckpointError(f"{error}; {remedy(one)}") from None
            print(f"warning: {error}: refused, trying the one before it", file=sys.stderr)
    raise AssertionError("unreachable")


def _step_of(path: Path) -> int:
    return int(path.name)


def _load(folder: Path, average: bool) -> TrainedModel:
    meta = read_meta(folder)
    config = config_from_json(meta["config"])
    mean, std = tuple(meta["mean"]), tuple(meta["std"])
    dtype: DType = "float64" if meta["dtype"] == "float64" else "float32"
    step = Step(
        objective=make_objective(config.model, dtype, mean, std),
        optimizer=NO_OPTIMIZER,
        schedule=NO_SCHEDULE,
        mesh=make_mesh(1),
        ema_decay=config.optimizer.ema_decay,
    )
    like = step.abstract_state()
    averaged = average and like.ema is not None
    arrays, _ = read_weights(folder, like, average=averaged)
    params = (
        _filled(like.ema, "ema", arrays) if averaged else _filled(like.params, "params", arrays)
    )
    model = nnx.merge(step.graph(), params, _filled(like.constants, "constants", arrays))
    return TrainedModel(model, config, mean, std, int(meta["step"]))


def _filled(like: Any, name: str, arrays: dict[str, jax.Array]) -> Any:
    """Return the tree `like` with arrays by the names that checkpoints have."""
    paths, tree = jax.tree_util.tree_flatten_with_path(like)
    names = [
        "/".join((name, jax.tree_util.keystr(path, simple=True, separator="/")))
        for path, _ in paths
    ]
    return jax.tree.unflatten(tree, [arrays[each] for each in names])


def with_weights(state: TrainState, step: Step, source: str) -> TrainState:
    """Return the initial state with a masked autoencoder's weights from `source`.

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

    def change(model: nnx.Module) -> None:
        if not isinstance(model, MAE):
            raise ValueError(f"init = {source}: only masked autoencoders start from weights")
        if Path(source).is_dir():
            _from_run(model, source)
        else:
            _from_file(model, source)

    return step.changed(state, change)


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
            found.load_into(model, mae_table(model.config, found.layout))
        else:
            found.load_into(model.encoder, vit_table(model.config.encoder, found.layout))
    except WeightsError as error:
        raise WeightsError(f"init = {source}: {error}") from None


def _shape(config: MAEConfig) -> dict[str, Any]:
    """Return fields that decide which arrays a model has."""
    fields = dataclasses.asdict(config)
    encoder = fields.pop("encoder")
    free = ("mask_ratio", "norm_pixel_loss", "dtype", "param_dtype", "remat", "layer_norm_eps")
    return {name: value for name, value in (encoder | fields).items() if name not in free}


def import_weights(source: str | Path, config: TrainConfig, out: str | Path) -> None:
    """Write a checkpoint of step 0 with the weights of a file, for `load_model`.

    Args:
        source: a checkpoint file (.pth, .safetensors) in the layout of the MAE code or of
            transformers, strictly matched.
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
    if not Path(source).is_file():
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
