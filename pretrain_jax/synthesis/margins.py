"""Margins: how badly a masked autoencoder reconstructs what is hidden from it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.mae import MAE, MAEConfig, masking_noise
from pretrain_jax.stages.manifest import MANIFEST, digest, read_manifest
from pretrain_jax.train.config import config_to_json
from pretrain_jax.train.objectives import make_objective, normalise
from pretrain_jax.train.restored import TrainedModel, load_model

__all__ = ["ProbeModel", "Space", "example_ids", "load_probe", "make_scorer"]

Space = Literal["target", "pixel"]
RUN = "run"
# Pixels (batch, H, W, C) uint8 and example ids (batch,) -> margins (batch, masks), and features
# (batch, width) or None.
Scorer = Callable[[NDArray[np.uint8], NDArray[np.int64]], tuple[NDArray, NDArray | None]]


@dataclass(frozen=True)
class ProbeModel:
    """A trained masked autoencoder and what it is known by.

    Attributes:
        trained: the model.
        digest: of the manifest of the stage `probe`; without one, of the weights.
        folder: of that stage, or of the run.
        name: of the run within the stage, which may hold several.
    """

    trained: TrainedModel
    digest: str
    folder: Path
    name: str = RUN

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that the model takes."""
        return self.trained.config.model.encoder.size

    @property
    def channels(self) -> int:
        """Channels that the model takes."""
        return self.trained.config.model.encoder.channels


def load_probe(folder: str | Path) -> ProbeModel:
    """The masked autoencoder of a run.

    Args:
        folder: of stage `probe`, of its run, or of any run of `pretrain_jax.train`.

    Raises:
        ValueError: no run, no checkpoint that is whole, or a model without a decoder.
    """
    path = Path(folder)
    run = path / RUN if (path / RUN).is_dir() else path
    if not run.is_dir():
        raise ValueError(
            f"probe {folder} does not exist; train one with python -m pretrain_jax probe, or name "
            "the folder of a run of python -m pretrain_jax run"
        )
    trained = load_model(run)
    if not isinstance(trained.model, MAE):
        raise ValueError(
            f"probe {folder} is a model without a decoder; margins are the errors of a masked "
            "autoencoder"
        )
    stage = next((one for one in (run, run.parent) if (one / MANIFEST).is_file()), None)
    if stage is not None and (manifest := read_manifest(stage)).stage == "probe":
        return ProbeModel(trained, digest(manifest), stage, run.name)
    return ProbeModel(trained, _weights_digest(trained), run)


def make_scorer(
    probe: ProbeModel, masks: int, seed: int, space: Space, *, features: bool = False
) -> Scorer:
    """The compiled function that scores a batch; every call must have the same batch size.

    Mask k of an example depends on the seed, k and the example's id alone.

    Args:
        probe: the model.
        masks: how many masks.
        seed: of the masks.
        space: "target": mean squared error over the hidden patches in the space of the training
            target (arXiv:2111.06377); "pixel": the same over pixels whose largest value is 1.
        features: whether to give features, too: the mean of the patch tokens of the whole image.
    """
    trained = probe.trained
    graph, state = nnx.split(trained.model)
    config: Any = trained.config.model
    program = _program(graph, config, trained.mean, trained.std, space, features)
    base = jax.random.key(seed)
    keys = jax.vmap(lambda k: jax.random.fold_in(base, k))(jnp.arange(masks))

    def run(pixels: NDArray[np.uint8], ids: NDArray[np.int64]) -> tuple[NDArray, NDArray | None]:
        return jax.tree.map(np.asarray, program(state, keys, pixels, example_ids(ids)))

    return run


@lru_cache(8)
def _program(
    graph: Any,
    config: MAEConfig,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    space: Space,
    with_features: bool,
) -> Callable[..., tuple[jax.Array, Any]]:
    """The compiled program, shared by all probes of one architecture and normalisation."""
    objective = make_objective(config, "float32", mean, std)
    patches = config.encoder.patches
    # Visible patches are as given: only hidden ones add to the error of an image.
    hidden = 1 - config.visible / patches

    @jax.jit
    def score(
        state: Any, keys: jax.Array, pixels: jax.Array, ids: jax.Array
    ) -> tuple[jax.Array, Any]:
        model: Any = nnx.merge(graph, state)
        images = normalise(pixels, mean, std, jnp.float32)

        def margin(key: jax.Array) -> jax.Array:
            noise = masking_noise(key, ids, patches)
            if space == "target":
                return model(images, noise).per_example_loss
            error = (model.reconstruct(images, noise) - images) * jnp.asarray(std, jnp.float32)
            return jnp.square(error).mean(axis=(1, 2, 3)) / hidden

        features = objective.features(model, pixels) if with_features else None
        return jax.lax.map(margin, keys).T, features

    return score


def example_ids(ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """The 31 lowest bits of 63-bit ids, what JAX's random keys take without 64-bit mode."""
    return (ids & 0x7FFFFFFF).astype(np.int32)


def _weights_digest(trained: TrainedModel) -> str:
    found = hashlib.sha256()
    record = {
        "model": config_to_json(trained.config)["model"],
        "mean": trained.mean,
        "std": trained.std,
    }
    found.update(json.dumps(record, sort_keys=True, default=str).encode())
    for leaf in jax.tree.leaves(nnx.state(trained.model)):
        array = np.ascontiguousarray(leaf)
        found.update(f"{array.shape}{array.dtype}".encode())
        found.update(array.tobytes())
    return found.hexdigest()
