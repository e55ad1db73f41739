"""Loads encoders to start from, and keeps fine-tuned models.

These models give masks of any images.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from numpy.typing import NDArray

from hardset.checks import check_integer
from hardset.folder import MANIFEST, Manifest, digest, read_manifest
from hardset.listing import file_record
from pretrain_jax.data.options import CONTENT
from pretrain_jax.features import open_encoder
from pretrain_jax.models.encoders import (
    AnyEncoder,
    Architecture,
    encoder_from_json,
    tokens_alone,
)
from pretrain_jax.segmentation.config import FinetuneConfig
from pretrain_jax.segmentation.dataset import whole_image
from pretrain_jax.segmentation.heads import model_of
from pretrain_jax.segmentation.objective import SegmentationObjective
from pretrain_jax.train.step import (
    PROGRAMS,
    abstract_model,
    global_batch,
    make_mesh,
    replicated,
)
from pretrain_jax.weights import read_state, write_safetensors

# The file of a fine-tuned model, and the number of images that a program on the device takes.
WEIGHTS_NAME = "model.safetensors"
BATCH = 16
# How the folders of folds begin.
FOLD = "fold-"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Origin:
    """Says what a model was pre-trained on.

    Attributes:
        objective: "mae", "simclr" or another kind of published weights, or "none".
        method: that chose the data, "scratch" without pre-training, "" where unknown.
        ratio: share of the data, None where unknown.
        storage_ratio: share of the pixels, None where unknown.
        seed: of the pre-training, None where unknown.
        init: name of the file or folder of the weights, None from scratch.
        init_sha256: of the file; of a folder that of the encoder's arrays. None from scratch.
    """

    objective: str
    method: str
    ratio: float | None
    storage_ratio: float | None
    seed: int | None
    init: str | None = None
    init_sha256: str | None = None


SCRATCH = Origin("none", "scratch", 0.0, 0.0, None)


@dataclass(frozen=True)
class TrainedEncoder:
    """Holds a trained encoder without pooling.

    Attributes:
        encoder: with its weights.
        mean: of each channel, where the largest pixel value is 1.
        std: of each channel.
        objective: that trained it, or its kind where the weights are published ones.
        sha256: of its arrays.
        notes: sentences on what was stripped, left out, interpolated or assumed.
    """

    encoder: AnyEncoder
    mean: tuple[float, ...]
    std: tuple[float, ...]
    objective: str
    sha256: str
    notes: tuple[str, ...] = ()


def origin_of(source: Path, trained: TrainedEncoder) -> tuple[Origin, str]:
    """Read what the manifest of a stage's folder says.

    Its digest comes with it. Without a manifest little is known.

    Args:
        source: the folder of the stage, or of a run, or a file or folder of published weights.
        trained: what `load_encoder` found there.
    """
    told = file_record(source)["sha256"] if source.is_file() else trained.sha256
    origin = Origin(trained.objective, "", None, None, None, source.resolve().name, told)
    if not (source / MANIFEST).is_file():
        return origin, trained.sha256
    manifest = read_manifest(source)
    known = manifest.parameters
    found = dataclasses.replace(
        origin,
        objective=known.get("objective", trained.objective),
        method=known.get("method", ""),
        ratio=known.get("ratio"),
        storage_ratio=manifest.counts.get("storage_ratio"),
        seed=manifest.seed,
    )
    return found, digest(manifest)


def load_encoder(source: Path, image_size: int | None, model: str = "auto") -> TrainedEncoder:
    """Return a pre-trained encoder, for images of a size.

    Args:
        source: see `pretrain_jax.features.open_encoder`.
        image_size: side of the images; None keeps the encoder's, otherwise its positions are
            interpolated.
        model: its kind; "auto" tells it from names and shapes.

    Raises:
        ValueError: there is none, or it is of a kind that heads do not stand on (SAM), or
            `image_size` does not fit the patches.
    """
    opened = open_encoder(source, model=model, image_size=image_size)
    encoder: Any = opened.model
    if not isinstance(encoder, AnyEncoder):
        raise ValueError(
            f"{source} is an encoder of the kind {opened.kind}; fine-tuning takes a ViT, DINOv2 or "
            "DINOv3"
        )
    if encoder.config.size != (opened.image_size,) * 2:
        encoder = encoder.with_image_size(opened.image_size)
    plain = tokens_alone(encoder.config)
    found = hashlib.sha256(repr(plain).encode())
    for leaf in jax.tree.leaves(nnx.state(encoder)):
        found.update(np.asarray(leaf).tobytes())
    encoder.config = plain
    return TrainedEncoder(
        encoder, opened.mean, opened.std, opened.kind, found.hexdigest(), opened.notes
    )


@dataclass(frozen=True, eq=False)
class TrainedSegmenter:
    """Gives each pixel of an image a class by a trained model.

    Attributes:
        classes: names; the number of a class in a mask is its place here.
        objective: that it was trained with.
        params: what training changed.
        constants: what it did not, statistics of the channels and of batch norm.
        mesh: of the devices among which a batch is divided; None takes one.
    """

    classes: tuple[str, ...]
    objective: SegmentationObjective
    params: Any
    constants: Any
    mesh: Mesh | None = None

    def on_all_devices(self) -> "TrainedSegmenter":
        """Return the model with a copy on every device of this process."""
        mesh = make_mesh()
        if mesh.size == 1:
            return self
        copies = jax.device_put((self.params, self.constants), replicated(mesh))
        return dataclasses.replace(self, params=copies[0], constants=copies[1], mesh=mesh)

    @property
    def encoder(self) -> Architecture:
        """Return size and channels of the images that the model takes.

        Other images are brought to the size.
        """
        return self.objective.model.encoder

    def predict(self, images: Sequence[Bytes], *, batch_size: int = BATCH) -> list[Bytes]:
        """Predict the class of each pixel.

        The model sees the whole image at its size, and logits are interpolated back.

        Args:
            images: each of shape (height, width, channels), any height and width.
            batch_size: images of a device program; with several devices a multiple of their number
                is taken.

        Returns:
            Of each image a mask of its own height and width.

        Raises:
            ValueError: an image of another shape or type than uint8.
        """
        logits = self.logits(images, batch_size=batch_size)
        return [
            labels_at(each, pixels.shape[:2]) for each, pixels in zip(logits, images, strict=True)
        ]

    def logits(self, images: Sequence[Bytes], *, batch_size: int = BATCH) -> NDArray[np.float32]:
        """Return logits at the head's resolution.

        Their shape is (images, h, w, classes). See `predict`.
        """
        check_integer("batch_size", batch_size, 1, 1 << 20)
        size, channels = self.encoder.size[0], self.encoder.channels
        for number, pixels in enumerate(images):
            self._check(number, pixels)
        if self.mesh is not None:
            batch_size += -batch_size % self.mesh.size
        found = []
        for first in range(0, len(images), batch_size):
            part = images[first : first + batch_size]
            # One program for all batches: the last one is filled up with black.
            batch = np.zeros((batch_size, size, size, channels), np.uint8)
            for row, pixels in enumerate(part):
                batch[row] = whole_image(pixels, size)
            given = batch if self.mesh is None else global_batch(batch, self.mesh)
            logits = _predictor(self.objective)(self.params, self.constants, given)
            found.append(np.asarray(logits, np.float32)[: len(part)])
        if not found:
            raise ValueError("images is empty; predictions need one image or more")
        return np.concatenate(found)

    def _check(self, number: int, pixels: Bytes) -> None:
        shape, kind = np.shape(pixels), getattr(pixels, "dtype", None)
        channels = self.encoder.channels
        if len(shape) != 3 or 0 in shape or shape[2] != channels or kind != np.uint8:
            raise ValueError(
                f"images[{number}] has shape {shape} and type {kind}; the model takes (height, "
                f"width, {channels}) of uint8"
            )


@lru_cache(PROGRAMS)
def _predictor(objective: SegmentationObjective) -> Any:
    """Return the compiled function of logits.

    It maps (params, constants, pixels) to logits (batch, h, w, classes).
    """
    graph = abstract_model(objective)[0]

    def predict(params: Any, constants: Any, pixels: jax.Array) -> jax.Array:
        model: Any = nnx.merge(graph, params, constants)
        logits: jax.Array = model(pixels)
        return logits

    return jax.jit(predict)


def labels_at(logits: NDArray[np.floating], shape: tuple[int, ...]) -> Bytes:
    """Return the most probable class of each pixel at another resolution.

    Logits are interpolated. Of equal ones the first class is taken.

    Args:
        logits: (h, w, classes).
        shape: height and width of the result; antialiased where that is smaller.
    """
    planes = _planes_at(logits, shape)
    best = next(planes)
    labels = np.zeros(shape, np.uint8)
    for label, plane in enumerate(planes, 1):  # at most two of the planes are held
        higher = plane > best
        labels[higher] = label
        best = np.where(higher, plane, best)
    return labels


def probabilities_at(logits: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the probability of each class in each pixel at another resolution.

    It is the softmax of the logits that `labels_at` compares, of the shape (*shape, classes).
    """
    found = np.stack(list(_planes_at(logits, shape)), axis=-1)
    found = np.exp(found - found.max(axis=-1, keepdims=True))
    return found / found.sum(axis=-1, keepdims=True)


def _planes_at(
    logits: NDArray[np.floating], shape: tuple[int, ...]
) -> Iterator[NDArray[np.float32]]:
    """Interpolate the logits of one class after another."""
    from PIL import Image

    for plane in np.moveaxis(np.asarray(logits, np.float32), -1, 0):
        if plane.shape == shape:
            yield plane
        else:
            size = (shape[1], shape[0])
            picture = Image.fromarray(np.ascontiguousarray(plane))
            yield np.asarray(picture.resize(size, Image.Resampling.BILINEAR))


def save_segmenter(path: Path, segmenter: TrainedSegmenter) -> None:
    """Write weights and statistics as one safetensors file, atomically."""
    leaves = _named(segmenter.params, segmenter.constants)
    write_safetensors(path, {name: np.asarray(leaf) for name, leaf in leaves.items()})


def load_segmenter(folder: str | Path) -> TrainedSegmenter:
    """Load the model that a finished fine-tuning left.

    Args:
        folder: of the stage `finetune`.

    Raises:
        ValueError: no finished fine-tuning, no weights beside it, or weights of another model;
            names the file.
    """
    if (Path(folder) / f"{FOLD}0").is_dir():
        raise ValueError(
            f"{folder} holds the models of several folds; name one of them, such as "
            f"{Path(folder) / f'{FOLD}0'}"
        )
    manifest = read_manifest(folder, "finetune")
    path = Path(folder) / WEIGHTS_NAME
    if not path.is_file():
        raise ValueError(f"{path} does not exist: fine-tune again in another folder")
    classes, objective = _trained_with(manifest)
    _, *like = abstract_model(objective)
    shapes = _named(*like)
    arrays = read_state(path)
    for name in sorted({*shapes, *arrays}):
        wanted = tuple(shapes[name].shape) if name in shapes else None
        given = tuple(arrays[name].shape) if name in arrays else None
        if wanted != given:
            raise ValueError(
                f"{path} does not fit the manifest beside it: {name} has the shape {given}, and "
                f"{wanted} is expected"
            )
    leaves = [jnp.array(arrays[name], leaf.dtype) for name, leaf in shapes.items()]
    params, constants = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return TrainedSegmenter(classes, objective, params, constants)


def _trained_with(manifest: Manifest) -> tuple[tuple[str, ...], SegmentationObjective]:
    """Return class names and objective of a finished fine-tuning."""
    known = dict(manifest.parameters)
    classes = tuple(known.pop("classes"))
    encoder = encoder_from_json(known.pop("encoder"))
    for name in ("dataset", "fold", "folds", *CONTENT):  # what the images were, and which of them
        known.pop(name, None)
    try:
        config = FinetuneConfig(**_tuples(known))
    except TypeError as error:
        raise ValueError(f"the fine-tuning is one of another version: {error}") from None
    model = model_of(config, encoder, len(classes))
    return classes, SegmentationObjective(model, config.trained_blocks)


def _named(params: Any, constants: Any) -> dict[str, Any]:
    """Name the leaves by where they stand in the model.

    They keep their order.
    """
    named = {}
    for part, tree in (("params", params), ("constants", constants)):
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            first, _, rest = jax.tree_util.keystr(path, simple=True, separator="/").partition("/")
            named[f"{part}/{rest}" if first == "model" else f"statistics/{first}"] = leaf
    return named


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn the lists of JSON into the tuples of the configurations."""
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
