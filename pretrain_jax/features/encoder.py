"""Opens pre-trained encoders, of runs and of published weights."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from hardset.checks import check_choice, check_integer
from pretrain_jax.models.dinov2 import DINOv2
from pretrain_jax.models.dinov3 import DINOv3
from pretrain_jax.models.recognition import recognise
from pretrain_jax.models.sam import ImageEncoder
from pretrain_jax.models.vit import ViT
from pretrain_jax.train.config import IMAGENET_MEAN, IMAGENET_STD
from pretrain_jax.train.weights import holds_run, load_model, run_of
from pretrain_jax.weights import WeightsError
from pretrain_jax.weights.published import Published, read_published

Array = jax.Array

KINDS = ("mae", "vit", "dinov2", "dinov3", "sam", "simclr")
# Mean and standard deviation of published weights: those of ImageNet, and a half for
# google/vit-* and timm's augreg (transformers' ViTImageProcessor, IMAGENET_INCEPTION_MEAN in timm).
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
STATISTICS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = MappingProxyType(
    {"vit": HALF} | dict.fromkeys(("mae", "dinov2", "dinov3", "sam"), (IMAGENET_MEAN, IMAGENET_STD))
)
USUAL_SIDE = 224  # pixels, at which DINOv2 and DINOv3 are evaluated
LARGEST_SIDE = 1 << 14


class Features(NamedTuple):
    """Holds the features of a batch, after the last norm.

    Attributes:
        token: the class token, shape (batch, width). Of a model without one it is the mean of the
            patches; of one that was trained on the mean of the patches, the norm of that mean.
        patches: shape (batch, rows, columns, width), without registers.
    """

    token: Array
    patches: Array


@dataclass(frozen=True, eq=False)
class Encoder:
    """Holds a pre-trained encoder of images that is ready to be used.

    Attributes:
        model: with its parameters.
        kind: "mae", "vit", "dinov2", "dinov3", "sam" or "simclr".
        image_size: side of the square images that it takes by default, a multiple of `patch_size`.
        patch_size: side of a patch, pixels.
        channels: of an image.
        width: length of a feature vector.
        mean: of each channel, where the largest pixel is 1; images are (x - mean) / std.
        std: of each channel.
        notes: sentences on what was stripped, left out, interpolated or assumed.
        sha256: of the configuration and the arrays.
    """

    model: nnx.Module
    kind: str
    image_size: int
    patch_size: int
    channels: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: tuple[str, ...]
    sha256: str

    def features(self, images: Array) -> Features:
        """Return the features of images.

        It can be traced. A program of the whole encoder takes the model as an argument, so that
        its arrays are no constants: `nnx.jit(features)(encoder.model, images)`.

        Args:
            images: normalised, shape (batch, image_size, image_size, channels).
        """
        return features(self.model, images)


def features(model: nnx.Module, images: Array) -> Features:
    """Return the features of images by an encoder's model.

    Args:
        model: a ViT, DINOv2, DINOv3 or SAM's image encoder, of which the features are its neck's
            output: what SAM's decoder sees, and calls the image's embedding.
        images: normalised, shape (batch, height, width, channels).

    Raises:
        ValueError: images of a shape that the model does not take.
    """
    if isinstance(model, ViT):
        config = model.config
        tokens = model.hidden_states(images)[-1]
        patches, normed = tokens[:, int(config.class_token) :], model.norm(tokens)
        if config.pool == "mean":
            token = model.norm(patches.mean(axis=1))
        else:
            token = normed[:, 0] if config.class_token else normed.mean(axis=1)
        patches, grid = normed[:, int(config.class_token) :], config.grid
    elif isinstance(model, DINOv2 | DINOv3):
        output = model(images)
        token, patches, grid = output.class_token, output.patches, model.grid(images)
    elif isinstance(model, ImageEncoder):
        patches = model(images)
        _, rows, columns, _ = patches.shape
        token, grid = patches.mean(axis=(1, 2)), (rows, columns)
    else:
        raise TypeError(f"{type(model).__name__} is no encoder of images")
    return Features(token, patches.reshape(len(patches), *grid, -1))


def open_encoder(
    source: str | Path, *, model: str = "auto", image_size: int | None = None
) -> Encoder:
    """Open a pre-trained encoder.

    Args:
        source: a run, a checkpoint or a stage of pre-training; a file of published weights (.pth,
            .pt, .bin, .safetensors); or a folder in the layout of transformers (config.json,
            model.safetensors or its shards, preprocessor_config.json).
        model: its kind, one of KINDS; "auto" tells it from names and shapes.
        image_size: side of the images; None keeps the encoder's. Positions are interpolated where
            it is another one, and `notes` says so.

    Raises:
        ValueError: there is nothing there, it is damaged, of an unknown kind, or its arrays are
            not those of the kind; an image size that is no multiple of the patch size.
    """
    check_choice("model", model, ("auto", *KINDS))
    path = Path(source)
    if not path.exists():
        raise WeightsError(f"{path} does not exist")
    found, side = _trained(path, model) if holds_run(path) else _published(path, model)
    if image_size is not None:
        check_integer("image_size", image_size, found.patch_size, LARGEST_SIDE)
        if image_size % found.patch_size:
            raise ValueError(
                f"image_size = {image_size} is not divisible by the encoder's patch_size = "
                f"{found.patch_size}"
            )
        side = image_size
    return found if side == found.image_size else _at_size(found, side)


def _trained(path: Path, wanted: str) -> tuple[Encoder, int]:
    """Return the encoder of a pre-training, and the side of its images."""
    trained = load_model(run_of(path))
    kind = type(trained.config.model).__name__.removesuffix("Config").lower()
    if wanted not in ("auto", kind):
        raise WeightsError(f"{path} is a pre-training of {kind}, and model = {wanted!r}")
    whole: Any = trained.model
    found = _opened(whole.encoder, kind, (trained.mean, trained.std), ())
    return found, found.image_size


def _published(path: Path, wanted: str) -> tuple[Encoder, int]:
    """Return the encoder of a file or folder, and the usual side of its images."""
    published = read_published(path)
    try:
        found = recognise(published, wanted)
        model: Any = found.model
        statistics = published.statistics(model.config.channels)
    except ValueError as error:
        raise WeightsError(f"{published.path}: {error}") from None
    notes = list(found.notes)
    if statistics is None:
        statistics = _assumed(found.kind, model.config.channels)
        notes.append(
            f"mean {_shown(statistics[0])} and standard deviation {_shown(statistics[1])} of "
            "pixels are assumed, as published for most weights of this kind: no "
            "preprocessor_config.json beside it says them"
        )
    return _opened(model, found.kind, statistics, tuple(notes)), _usual_side(model, published)


def _assumed(kind: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = STATISTICS[kind]
    if channels == len(mean):
        return mean, std
    return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels


def _shown(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _usual_side(model: Any, published: Published) -> int:
    """Return the side of images at which a published model is used.

    That of DINOv2 and DINOv3 is not the one of their positions.
    """
    side: int = model.config.size[0]
    if not isinstance(model, DINOv2 | DINOv3):
        return side
    told, patch = published.side(), model.config.patch_size
    if told is not None and told % patch == 0:
        return told
    usual = max(USUAL_SIDE // patch, 1) * patch
    return min(usual, side) if isinstance(model, DINOv2) else usual


def _opened(
    model: Any,
    kind: str,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    notes: tuple[str, ...],
) -> Encoder:
    config = model.config
    return Encoder(
        model=model,
        kind=kind,
        image_size=config.size[0],
        patch_size=config.patch_size,
        channels=config.channels,
        width=config.prompt_width if isinstance(model, ImageEncoder) else config.width,
        mean=statistics[0],
        std=statistics[1],
        notes=notes,
        sha256=digest_of(model),
    )


def digest_of(model: Any) -> str:
    """Return the sha256 of a model's configuration and arrays."""
    found = hashlib.sha256(repr(model.config).encode())
    for path, leaf in nnx.to_flat_state(nnx.state(model)):
        found.update(".".join(map(str, path)).encode())
        found.update(np.ascontiguousarray(leaf[...]).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _at_size(encoder: Encoder, side: int) -> Encoder:
    """Return the encoder for images of another size."""
    old, new = (size // encoder.patch_size for size in (encoder.image_size, side))
    notes = encoder.notes
    if not isinstance(encoder.model, DINOv3):  # its positions are angles
        notes += (f"positions of {old} x {old} patches are interpolated to {new} x {new}",)
    whole: Any = encoder.model
    model = whole.with_image_size(side)
    return dataclasses.replace(
        encoder, model=model, image_size=side, notes=notes, sha256=digest_of(model)
    )
