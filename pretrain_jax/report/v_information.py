"""Estimates the V-information of a set.

It is what a masked autoencoder explains of hidden patches.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from hardset.checks import check_integer
from hardset.folder import input_folder, read_manifest
from pretrain_jax.data import ImageSet, find_images, read_pixels
from pretrain_jax.data.options import adopt_reading
from pretrain_jax.models.mae import MAE, MAEConfig, masking_noise, standardise_patches
from pretrain_jax.models.vit import patchify
from pretrain_jax.places import DATA_LIST, HALF_LISTS, HALVES, RUN
from pretrain_jax.synthesis import Images
from pretrain_jax.synthesis.parts import cut
from pretrain_jax.synthesis.selecting import SELECTION
from pretrain_jax.synthesis.synthesising import SOURCES
from pretrain_jax.synthesis.tables import Table
from pretrain_jax.train.objectives import normalise
from pretrain_jax.train.weights import TrainedModel, load_model
from theory import VInformationEstimate, gaussian_v_information

Pixels = NDArray[np.uint8]
BATCH = 64
NO_HALVES = "no probes of disjoint halves"


@dataclass(frozen=True, eq=False)
class SetInformation:
    """Holds the V-information of hidden patches given visible ones.

    V are Gaussians of unit variance.

    Attributes:
        images: how many were evaluated.
        size: predicted values of an image under one mask.
        estimate: of a whole image, in nats; over `size`, of one value.
        seen: why the model may have been trained on what it predicts; "" where it was not.
    """

    images: int
    size: int
    estimate: VInformationEstimate
    seen: str = ""

    def per_value(self, part: str) -> tuple[float, float]:
        """Divide a part of the estimate by the number of predicted values.

        Its standard error is divided too.
        """
        value, stderr = getattr(self.estimate, part), getattr(self.estimate, f"{part}_stderr")
        return float(value) / self.size, float(stderr) / self.size


@dataclass(frozen=True)
class Halves:
    """Holds two models that were trained on disjoint halves of the images.

    The images are those that a set was made from.

    Attributes:
        models: of equal shape; the first was trained on half 0.
        of_cells: rows of the set -> the half, 0 or 1, that holds the source of each cell of those
            images, shape (rows, cells); a square number of cells, row by row.
    """

    models: tuple[TrainedModel, TrainedModel]
    of_cells: Callable[[NDArray[np.int64]], NDArray[np.int8]]


def set_information(
    trained: TrainedModel | Halves,
    source: str | Path,
    *,
    sample: int = 256,
    masks: int = 4,
    seed: int = 0,
) -> SetInformation:
    """Estimate how much visible patches tell about the hidden ones.

    The patches are those of a set's images.

    I_V = H_V(Y|empty) - H_V(Y|X), X the visible patches, Y the hidden ones' targets.

    H_V(Y|X) is half the squared error of the model, H_V(Y|empty) half that of the constant that
    suits the set best, the mean of the other images' targets at each place; both plus
    log(2 pi)/2 a value (Xu et al. 2020, arXiv:2002.10689). Masks and frames of a video count as
    one independent unit.

    The expectation is over data that no predictor was fitted to. With `Halves` every hidden patch
    is therefore predicted by the model that was not trained on the image it comes from. One model
    is taken as it is: whether it knows the set is the caller's to say.

    Args:
        trained: masked autoencoders; the space is that of their training target.
        source: of the images, see `find_images`; each is brought to the model's size.
        sample: most images that are evaluated, evenly spaced in the source's order.
        masks: masks of each image.
        seed: of the masks.

    Raises:
        ValueError: no masked autoencoder, an argument out of range, fewer than two images; cells
            whose edges cut through the model's patches.
    """
    check_integer("sample", sample, 2, 1 << 20)
    check_integer("masks", masks, 1, 1 << 10)
    models = trained.models if isinstance(trained, Halves) else (trained,)
    model = models[0].model
    if not isinstance(model, MAE):
        raise ValueError("V-information needs a masked autoencoder; the model has no decoder")
    images = find_images(source)
    if len(images) < 2:
        raise ValueError(f"{source} holds {len(images)} image; a standard error needs two")
    count = min(sample, len(images))
    rows = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
    encoder = model.config.encoder
    known = (model.config, models[0].mean, models[0].std)
    parts = [nnx.split(one.model) for one in models]
    # Each patch is predicted by the model that does not know it.
    chosen = np.zeros((count, encoder.patches), np.int8)
    if isinstance(trained, Halves):
        chosen = 1 - _of_patches(trained.of_cells(rows), encoder.grid)
    pixels = _pixels(images.take(rows), model)
    total = np.zeros((encoder.patches, encoder.patch_values))
    for first, part in _batches(pixels):
        targets = _targets(*known, part)[: count - first]
        total += np.asarray(targets, np.float64).sum(axis=0)
    # Without the image itself: y - mean of the others = n/(n - 1) (y - mean of all).
    centre, scale = jnp.asarray(total / count, jnp.float32), count / (count - 1)
    given, empty = np.zeros((masks, count)), np.zeros((masks, count))
    for mask, key in enumerate(jax.random.split(jax.random.key(seed), masks)):
        for first, part in _batches(pixels):
            numbers = first + jnp.arange(BATCH)
            own = slice(first, min(first + BATCH, count))
            for which, (graph, state) in enumerate(parts):
                counted = np.zeros((BATCH, encoder.patches), np.float32)
                counted[: own.stop - first] = chosen[own] == which
                found = _errors(*known, graph, state, part, numbers, key, centre, counted)
                given[mask, own] += np.asarray(found[0])[: own.stop - first]
                empty[mask, own] += np.asarray(found[1])[: own.stop - first]
    size = (encoder.patches - model.config.visible) * encoder.patch_values
    estimate = gaussian_v_information(
        given.ravel(),
        scale**2 * empty.ravel(),
        size,
        clusters=np.tile(images.file_index[rows], masks),
    )
    return SetInformation(count, size, estimate)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _targets(
    config: MAEConfig, mean: tuple[float, ...], std: tuple[float, ...], pixels: jax.Array
) -> jax.Array:
    """Compute the targets of all patches of a batch.

    Their shape is (batch, patches, values).
    """
    patches = patchify(normalise(pixels, mean, std, jnp.float32), config.encoder.patch_size)
    return standardise_patches(patches) if config.norm_pixel_loss else patches


# One compiled program serves all sets.
@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _errors(
    config: MAEConfig,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    graph: nnx.GraphDef,
    state: nnx.State,
    pixels: jax.Array,
    numbers: jax.Array,
    key: jax.Array,
    centre: jax.Array,
    counted: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Sum squared errors over hidden patches, image by image.

    They are those of the model and of `centre`.

    `counted` (batch, patches) is 0 where a patch is left out, else 1.
    """
    noise = masking_noise(key, numbers, config.encoder.patches)
    found = nnx.merge(graph, state)(normalise(pixels, mean, std, jnp.float32), noise)
    wanted, hidden = _targets(config, mean, std, pixels), (found.mask * counted)[:, :, None]
    given = (hidden * (found.prediction - wanted) ** 2).sum(axis=(1, 2))
    return given, (hidden * (wanted - centre) ** 2).sum(axis=(1, 2))


def _of_patches(cells: NDArray[np.int8], grid: tuple[int, int]) -> NDArray[np.int8]:
    """Give each patch of the grid what its cell has.

    From (n, cells) it comes to (n, patches).
    """
    side = math.isqrt(cells.shape[1])
    if grid[0] % side or grid[1] % side:
        raise ValueError(
            f"{side} x {side} cells cut through the patches of a grid of {grid[0]} x {grid[1]}"
        )
    squares = cells.reshape(-1, side, side)
    spread = squares.repeat(grid[0] // side, axis=1).repeat(grid[1] // side, axis=2)
    return spread.reshape(len(cells), -1)


def _pixels(images: ImageSet, model: MAE) -> Pixels:
    """Read all images at the model's size, eight bits a channel."""
    encoder = model.config.encoder
    found = []
    for index in range(len(images)):
        path, frame = images.locate(index)
        pixels = read_pixels(path, frame, channels=encoder.channels).astype(np.uint8)
        found.append(cut(pixels, (0, 0, *pixels.shape[:2]), encoder.size))
    return np.stack(found)


def _batches(pixels: Pixels) -> Iterator[tuple[int, Pixels]]:
    """Cut images into batches, with their first rows.

    Black images fill up the last batch.
    """
    for first in range(0, len(pixels), BATCH):
        part = pixels[first : first + BATCH]
        yield first, np.pad(part, ((0, BATCH - len(part)), (0, 0), (0, 0), (0, 0)))


def information_of_sets(
    sets: Mapping[str, Path], probe: Path, *, sample: int, seed: int
) -> dict[str, SetInformation | str]:
    """Estimate each set by the probes of the halves.

    Without them it takes the probe of all images.

    A set that has no estimate, such as one of a single image, has a sentence that says why.

    Args:
        sets: folders of stages `synthesise` by name.
        probe: folder of the stage `probe`.
        sample: see `set_information`.
        seed: see `set_information`.

    Raises:
        ValueError: weights are not there any more.
    """
    lists = [probe / name for name in HALF_LISTS]
    halves = all(path.is_file() for path in lists)
    models = [load_model(probe / name) for name in (HALVES if halves else (RUN,))]
    whole = None if halves else models[0]
    found: dict[str, SetInformation | str] = {}
    for name, made in sets.items():
        adopt_reading(read_manifest(made, "synthesise").parameters)
        seen = NO_HALVES
        if halves:
            try:
                known = Halves((models[0], models[1]), half_of_cells(made, lists))
                found[name] = set_information(known, made / DATA_LIST, sample=sample, seed=seed)
                continue
            except ValueError as error:
                seen = str(error)
        whole = load_model(probe / RUN) if whole is None else whole
        try:
            plain = set_information(whole, made / DATA_LIST, sample=sample, seed=seed)
        except ValueError as error:
            found[name] = str(error)
            continue
        found[name] = dataclasses.replace(plain, seen=seen)
    return found


def half_of_cells(
    made: Path, lists: Sequence[Path]
) -> Callable[[NDArray[np.int64]], NDArray[np.int8]]:
    """Make the function of `Halves` that tells from which half cells are.

    Args:
        made: folder of a stage `synthesise`.
        lists: the files of each half, relative to the list's folder.
    """
    manifest = read_manifest(made, "synthesise")
    images = Images(input_folder(made, manifest, "index"))
    selection = input_folder(made, manifest, "selection")
    if read_manifest(selection, "select").parameters["kind"] == "patch":
        table, cells = Table(made, SOURCES), int(manifest.parameters["patches"])
    else:
        table, cells = Table(selection, SELECTION), 1

    def of_cells(rows: NDArray[np.int64]) -> NDArray[np.int8]:
        parts = (rows[:, None] * cells + np.arange(cells)).ravel()
        numbers = table.take(parts, ["image"])["image"]
        names = images.table.take(numbers, ["name"])["name"]
        files = [os.path.normpath(images.root / str(name)) for name in names]
        first, second = (_listed(path, set(files)) for path in lists)
        if first & second or set(files) - first - second:
            raise ValueError("some of its images are not in exactly one half of the probes")
        return np.array([file in second for file in files], np.int8).reshape(len(rows), cells)

    return of_cells


def _listed(path: Path, wanted: Collection[str]) -> set[str]:
    """Find the wanted files that a list names."""
    here = path.parent.resolve()
    with path.open(encoding="utf-8") as lines:
        files = (os.path.normpath(here / line.rstrip("\n")) for line in lines)
        return {file for file in files if file in wanted}
