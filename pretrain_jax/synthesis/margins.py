"""Measures margins.

A margin says how badly a masked autoencoder reconstructs what is hidden from it.
"""

import hashlib
import itertools
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from hardset.folder import MANIFEST, digest, read_manifest, remedy
from hardset.listing import check_sealed
from hardset.seal import BLANK_SEAL, SealError, seal_file
from pretrain_jax.data import UnreadableImageError
from pretrain_jax.data.skipping import reason_line
from pretrain_jax.models.mae import MAE, MAEConfig, masking_noise
from pretrain_jax.places import RUN
from pretrain_jax.synthesis.parts import Part, Pixels, cut, read_image
from pretrain_jax.synthesis.tables import Logged
from pretrain_jax.train.config import config_to_json
from pretrain_jax.train.objectives import make_objective, normalise
from pretrain_jax.train.weights import TrainedModel, load_model

FEATURES = "features.npy"
# Bytes that follow the rows in a shard: their width (8) and the seal.
END = 8 + len(BLANK_SEAL)


class FeatureWriter:
    """Appends rows of float32 to a shard's file.

    The file is there only after a `with` block's end.

    Args:
        folder: of the stage.
        shard: 0 ... shards - 1.
        shards: of the table.
    """

    def __init__(self, folder: Path, shard: int, shards: int) -> None:
        self._path = _part(folder, shard, shards)
        self._temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        self._width = 0

    def __enter__(self) -> "FeatureWriter":
        self._file = self._temporary.open("wb")
        return self

    def add(self, rows: NDArray[np.floating]) -> None:
        """Append rows, (n, width)."""
        self._width = rows.shape[1]
        self._file.write(np.ascontiguousarray(rows, np.float32).tobytes())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.write(np.array([self._width], np.int64).tobytes())
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            seal_file(self._temporary)
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink()


def join_features(folder: Path, shards: int) -> None:
    """Join the features of all shards in one file.

    It is `features.npy`, shape (n, width). The shards are deleted.

    Two processes that finish a stage at the same time may both do it.
    """
    target = folder / FEATURES
    paths = [_part(folder, shard, shards) for shard in range(shards)]
    try:
        counts = [_shape(path) for path in paths]
        width = max(width for _, width in counts)
        temporary = folder / f".{FEATURES}.{os.getpid()}"
        joined = np.lib.format.open_memmap(
            temporary, "w+", np.float32, (sum(rows for rows, _ in counts), width)
        )
        start = 0
        for path, (rows, own) in zip(paths, counts, strict=True):
            if rows:
                joined[start : start + rows] = np.memmap(path, np.float32, "r", 0, (rows, own))
            start += rows
        joined.flush()
        seal_file(temporary)
        temporary.replace(target)
    except FileNotFoundError:
        if not target.is_file():
            raise
    for path in paths:
        path.unlink(missing_ok=True)


def read_features(folder: str | Path) -> NDArray[np.float32]:
    """Read the features of a score stage.

    They are memory-mapped, of shape (n, width).

    Raises:
        ValueError: the stage has none, or they are damaged.
    """
    path = Path(folder) / FEATURES
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no {FEATURES}; scores of whole images have features, those of patches "
            "with python -m pretrain_jax score RUN --of NAME --features"
        )
    try:
        check_sealed(path)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except SealError as error:
        raise ValueError(f"{error}; {remedy(path)}") from None
    except (EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}; {remedy(path)}") from None


def missing_features(folder: Path, shards: int) -> list[int]:
    """Find the shards whose features are lost before they were joined."""
    if (folder / FEATURES).is_file():
        return []
    return [one for one in range(shards) if not _part(folder, one, shards).is_file()]


def _shape(path: Path) -> tuple[int, int]:
    """Read rows and width of a shard.

    Its seal is checked.
    """
    try:
        check_sealed(path)
    except SealError as error:
        raise ValueError(f"{error}; {remedy(path)}") from None
    with path.open("rb") as file:
        file.seek(-END, os.SEEK_END)
        values = file.tell() // 4
        width = int(np.frombuffer(file.read(8), np.int64)[0])
    return (values // width if width else 0), width


def _part(folder: Path, shard: int, shards: int) -> Path:
    # The name is hidden, for the file is no output.
    return folder / f".features-{shard:05d}-of-{shards:05d}"


AHEAD = 32  # images


class DecodedBatch(NamedTuple):
    """Holds patches at the model's size.

    Rows beyond those of `rows` are zero.

    Attributes:
        pixels: (batch size, H, W, C).
        keys: (batch size,) ids of the masks.
        rows: (n,) ids in the table, n <= batch size.
    """

    pixels: Pixels
    keys: NDArray[np.int64]
    rows: NDArray[np.int64]


def decoded_batches(
    parts: Iterator[Part],
    root: Path,
    size: tuple[int, int],
    channels: int,
    batch_size: int,
    pool: Executor,
    logged: Logged,
) -> Iterator[DecodedBatch]:
    """Decode parts into batches of one size.

    Unreadable images are left out and noted.

    Args:
        parts: those of one image follow each other.
        root: of the images' names.
        size: height and width of the result.
        channels: 1 or 3.
        batch_size: rows of every batch.
        pool: decodes.
        logged: gets the count `unreadable` and the reasons.
    """
    pixels = np.zeros((batch_size, *size, channels), np.uint8)
    held: list[Part] = []
    for group, found in _ahead(parts, root, size, channels, pool):
        if isinstance(found, str):
            logged.skip(found)
            continue
        for part, own in zip(group, found, strict=True):
            pixels[len(held)] = own
            held.append(part)
            if len(held) == batch_size:
                yield _batch(pixels, held)
                pixels, held = np.zeros_like(pixels), []
    if held:
        yield _batch(pixels, held)


def _batch(pixels: Pixels, parts: list[Part]) -> DecodedBatch:
    keys = np.zeros(len(pixels), np.int64)
    keys[: len(parts)] = [part.key for part in parts]
    return DecodedBatch(pixels, keys, np.array([part.row for part in parts], np.int64))


def _ahead(
    parts: Iterator[Part], root: Path, size: tuple[int, int], channels: int, pool: Executor
) -> Iterator[tuple[list[Part], list[Pixels] | str]]:
    """Decode one image's patches after another.

    A text says why an image cannot be read.
    """
    waiting: deque[tuple[list[Part], Future[list[Pixels] | str]]] = deque()
    for _, members in itertools.groupby(parts, key=lambda part: part.image):
        group = list(members)
        waiting.append((group, pool.submit(_cut_all, group, root, size, channels)))
        if len(waiting) > AHEAD:
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


def _cut_all(
    group: list[Part], root: Path, size: tuple[int, int], channels: int
) -> list[Pixels] | str:
    try:
        pixels = read_image(root, group[0].name, group[0].frame, channels)
    except UnreadableImageError as error:
        return reason_line(error.reason, str(error).replace(f"{root}{os.sep}", ""))
    return [cut(pixels, part.box, size) for part in group]


Space = Literal["target", "pixel"]
# Such a function maps pixels (batch, H, W, C) uint8 and example ids (batch,) to margins (batch,
# masks), and features (batch, width) or None.
Scorer = Callable[[NDArray[np.uint8], NDArray[np.int64]], tuple[NDArray, NDArray | None]]


@dataclass(frozen=True)
class ProbeModel:
    """Holds a trained masked autoencoder and what it is known by.

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
        """Return the height and width that the model takes."""
        return self.trained.config.model.encoder.size

    @property
    def channels(self) -> int:
        """Return the number of channels that the model takes."""
        return self.trained.config.model.encoder.channels


def load_probe(folder: str | Path) -> ProbeModel:
    """Load the masked autoencoder of a run.

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
    """Compile the function that scores a batch.

    Every call must have the same batch size.

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
    """Compile the program that all probes of one architecture and normalisation share."""
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
    """Take the 31 lowest bits of 63-bit ids.

    JAX's random keys take no more.
    """
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
