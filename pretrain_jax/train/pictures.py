"""Pictures of reconstructions: rows of original, what the encoder sees, and what comes out."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardset.datafile import write_bytes_atomic
from pretrain_jax.models.mae import MAE
from pretrain_jax.models.vit import patchify, unpatchify

__all__ = ["Reconstruction", "picture", "reconstruct", "write_png"]

GAP = 2
WHITE = 255
GREY = 0.5


class Reconstruction(NamedTuple):
    """Images on the scale where the largest pixel value is 1, shape (n, H, W, C).

    Attributes:
        original: the images.
        masked: grey where the encoder sees nothing.
        restored: the model's patches where it sees nothing, the visible ones as given.
    """

    original: ArrayLike
    masked: ArrayLike
    restored: ArrayLike


def reconstruct(
    model: MAE, images: jax.Array, noise: jax.Array, mean: Sequence[float], std: Sequence[float]
) -> Reconstruction:
    """Mask and reconstruct images; see `MAE.reconstruct` on standardised patches.

    Args:
        model: the masked autoencoder.
        images: normalised, shape (n, H, W, C).
        noise: see `masking_noise`, shape (n, patches).
        mean: of each channel, where the largest pixel value is 1.
        std: of each channel.
    """
    encoder = model.config.encoder
    scale, offset = jnp.asarray(std, images.dtype), jnp.asarray(mean, images.dtype)
    original = images * scale + offset
    hidden = model(images, noise).mask[:, :, None] > 0
    shown = jnp.where(hidden, GREY, patchify(original, encoder.patch_size))
    return Reconstruction(
        original=original,
        masked=unpatchify(shown, encoder.patch_size, encoder.grid),
        restored=model.reconstruct(images, noise) * scale + offset,
    )


def picture(found: Reconstruction) -> NDArray[np.uint8]:
    """A row for each image: original, what the encoder sees, reconstruction; (H, W, 3)."""
    columns = [_framed(_to_bytes(np.asarray(part, np.float64))) for part in found]
    return np.concatenate([np.concatenate(list(column)) for column in columns], axis=1)


def _to_bytes(images: NDArray[Any]) -> NDArray[np.uint8]:
    shown = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    return np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown


def _framed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(images, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=WHITE)


def write_png(path: Path, pixels: NDArray[np.uint8], *, replace: bool = True) -> None:
    """Write a PNG file atomically; its folder is created; `replace` as in `atomic_file`."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, buffer.getvalue(), replace=replace)
