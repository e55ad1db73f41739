"""A run's folder made of a checkpoint file: published weights where a run is asked for."""

import dataclasses
from pathlib import Path

from hardset.datafile import versions
from pretrain_jax.train.checkpoint import Checkpoints
from pretrain_jax.train.config import TrainConfig, config_to_json
from pretrain_jax.train.folder import CHECKPOINTS
from pretrain_jax.train.initial import with_weights
from pretrain_jax.train.objectives import make_objective
from pretrain_jax.train.restored import NO_OPTIMIZER, NO_SCHEDULE
from pretrain_jax.train.sharding import make_mesh
from pretrain_jax.train.step import Step

__all__ = ["import_weights"]


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
