"""Vision transformer: patches -> tokens -> blocks -> norm -> pooled token -> classes."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pretrain_jax.models.vit.blocks import Block, Linear, layer_norm, run_blocks
from pretrain_jax.models.vit.config import ViTConfig, dtype_of
from pretrain_jax.models.vit.positions import resize_positions, sincos_positions

__all__ = ["FixedPositions", "ViT", "patchify", "unpatchify"]

Array = jax.Array
Model = TypeVar("Model", bound=nnx.Module)


class FixedPositions(nnx.Variable):
    """Position embeddings that no optimiser changes."""


def patchify(images: Array, patch_size: int) -> Array:
    """Cut images into patches, row by row; a patch's values go row, column, channel.

    Args:
        images: shape (batch, height, width, channels).
        patch_size: side of a patch in pixels; divides both sides.

    Returns:
        Shape (batch, patches, patch_size**2 * channels).
    """
    batch, height, width, channels = images.shape
    rows, columns = height // patch_size, width // patch_size
    cut = images.reshape(batch, rows, patch_size, columns, patch_size, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)


def unpatchify(patches: Array, patch_size: int, grid: tuple[int, int]) -> Array:
    """The images of `patchify`'s patches.

    Args:
        patches: shape (batch, rows * columns, patch_size**2 * channels).
        patch_size: side of a patch, pixels.
        grid: rows and columns of patches.

    Returns:
        Shape (batch, height, width, channels).
    """
    rows, columns = grid
    cut = patches.reshape(
        -1, rows, columns, patch_size, patch_size, patches.shape[-1] // patch_size**2
    )
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(
        -1, rows * patch_size, columns * patch_size, cut.shape[-1]
    )


def check_images(images: Array, config: ViTConfig) -> None:
    """ValueError unless the images' shape is the configuration's."""
    expected = (*config.size, config.channels)
    if images.ndim != 4 or images.shape[1:] != expected:
        raise ValueError(
            f"images have the shape {tuple(images.shape)}, the model takes (batch, height, width, "
            f"channels) = (any, {', '.join(map(str, expected))})"
        )


def position_table(config: ViTConfig, width: int, rngs: nnx.Rngs) -> nnx.Variable:
    """The positions of a model with that token width: fixed, or parameters."""
    dtype = dtype_of(config.param_dtype)
    if config.positions == "sincos":
        table = sincos_positions(config.grid, width, class_token=config.class_token)
        return FixedPositions(jnp.asarray(table, dtype))
    shape = (config.patches + config.class_token, width)
    return nnx.Param(0.02 * jax.random.truncated_normal(rngs.params(), -2, 2, shape, dtype))


class ViT(nnx.Module):
    """The vision transformer of a configuration.

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        dtypes = (config.dtype, config.param_dtype)
        dtype = dtype_of(config.param_dtype)
        self.embed = Linear(config.patch_values, config.width, dtypes, rngs=rngs)
        self.positions = position_table(config, config.width, rngs)
        if config.class_token:
            self.class_token = nnx.Param(
                0.02 * jax.random.normal(rngs.params(), (config.width,), dtype)
            )
        self.blocks = nnx.List(
            Block(
                config.width,
                config.heads,
                config.hidden_width,
                config.layer_norm_eps,
                dtypes,
                rngs,
            )
            for _ in range(config.depth)
        )
        self.norm = layer_norm(config.width, config.layer_norm_eps, dtypes, rngs)
        if config.classes:
            self.head = Linear(config.width, config.classes, dtypes, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        """What `config.pool` and `config.classes` ask for.

        Args:
            images: normalised, shape (batch, height, width, channels).

        Returns:
            Logits (batch, classes) with a classifier, else the pooled token (batch, width), or
            all tokens (batch, class_token + patches, width) where `pool` is None.
        """
        tokens = self.hidden_states(images)[-1]
        pool = self.config.pool
        if pool == "mean":
            tokens = tokens[:, int(self.config.class_token) :].mean(axis=1)
        elif pool == "cls":
            tokens = tokens[:, 0]
        tokens = self.norm(tokens)
        return self.head(tokens) if self.config.classes else tokens

    def hidden_states(self, images: Array, blocks: Sequence[int] | None = None) -> list[Array]:
        """Tokens after some blocks, before the final norm.

        Args:
            images: normalised, shape (batch, height, width, channels).
            blocks: indices of the blocks counted from 0, all where None.

        Returns:
            One array (batch, class_token + patches, width) a block.
        """
        check_images(images, self.config)
        patches = patchify(images.astype(dtype_of(self.config.dtype)), self.config.patch_size)
        states = run_blocks(self.blocks, self.tokens(patches), remat=self.config.remat)
        return states if blocks is None else [states[block] for block in blocks]

    def tokens(self, patches: Array, places: Array | None = None) -> Array:
        """Embedded patches with their positions after the class token.

        Args:
            patches: shape (batch, patches, values).
            places: which place of the grid each patch comes from, shape (batch, patches); all
                places in order where None.

        Returns:
            Shape (batch, class_token + patches, width).
        """
        extra = int(self.config.class_token)
        table = self.positions[...].astype(dtype_of(self.config.dtype))
        embedded = self.embed(patches)
        embedded = embedded + (table[extra:] if places is None else table[extra:][places])
        if not extra:
            return embedded
        first = self.class_token[...].astype(embedded.dtype) + table[0]
        first = jnp.broadcast_to(first, (embedded.shape[0], 1, first.shape[-1]))
        return jnp.concatenate([first, embedded], axis=1)

    def with_image_size(self, image_size: int | tuple[int, int]) -> "ViT":
        """The same model for images of another size, its positions interpolated (bicubic).

        Args:
            image_size: side, or height and width, in pixels.

        Returns:
            A new model.
        """
        config = dataclasses.replace(self.config, image_size=image_size)
        new = nnx.eval_shape(lambda: ViT(config, rngs=nnx.Rngs(0)))
        return resized(self, new, self.config.grid, config.grid)


def resized(model: Model, new: Model, grid: tuple[int, int], new_grid: tuple[int, int]) -> Model:
    """`new` with the values of `model`, tables called positions interpolated to the new grid."""
    graph, _ = nnx.split(new)
    values = nnx.to_flat_state(nnx.state(model))
    moved = [
        (
            path,
            variable.replace(
                jnp.asarray(resize_positions(np.asarray(variable[...]), grid, new_grid))
            ),
        )
        if str(path[-1]).endswith("positions")
        else (path, variable)
        for path, variable in values
    ]
    return nnx.merge(graph, nnx.from_flat_state(moved))
