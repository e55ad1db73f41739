"""Loads trained models from the checkpoints of runs."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import optax
from flax import nnx

from hardset.folder import remedy
from pretrain_jax.models.vit.config import DType
from pretrain_jax.places import RUN
from pretrain_jax.train.checkpoint import CheckpointError, read_meta, read_weights
from pretrain_jax.train.config import TrainConfig, config_from_json
from pretrain_jax.train.folder import CHECKPOINTS
from pretrain_jax.train.objectives import make_objective
from pretrain_jax.train.step import Step, make_mesh

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


def holds_run(folder: Path) -> bool:
    """Say whether a folder is of pre-training.

    It is a stage, a run, its checkpoints or one of them.
    """
    return folder.is_dir() and (
        (folder / RUN).is_dir()
        or (folder / CHECKPOINTS).is_dir()
        or (folder / "meta").exists()
        or any(one.is_dir() and one.name.isdigit() for one in folder.iterdir())
    )


def run_of(folder: Path) -> Path:
    """Return the run of a stage's folder, or any other folder itself."""
    return folder / RUN if (folder / RUN).is_dir() else folder


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
                f"{CHECKPOINTS}/STEP folders, or of a fine-tuned model what `export` makes of it"
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
