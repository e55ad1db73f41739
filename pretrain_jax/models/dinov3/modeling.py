"""Defines the encoder of DINOv3, whose positions rotate queries and keys."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.dinov2.modeling import DINOv2Output, ScaledBlock, TokenEncoder
from pretrain_jax.models.dinov3.config import DINOv3Config
from pretrain_jax.models.vit.config import dtype_of
from pretrain_jax.models.vit.modeling import affine, attention

Array = jax.Array


def rotary_angles(grid: tuple[int, int], size: int, period: float) -> NDArray[np.float64]:
    """Return the angles by which positions rotate queries and keys.

    A patch's centre (y, x) lies in [-1, 1]^2, whatever the grid. The angles are 2 pi y f_k, then
    2 pi x f_k, with f_k = period^(-4 k / size) (arXiv:2508.10104, arXiv:2104.09864).

    Args:
        grid: rows and columns of patches.
        size: length of a head's queries, divisible by 4.
        period: see `DINOv3Config`.

    Returns:
        Shape (rows * columns, size / 2); patches go row by row.
    """
    centres = [(2 * np.arange(count) + 1) / count - 1 for count in grid]
    places = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, 2, 1)
    frequencies = period ** (-4 * np.arange(size // 4) / size)
    return (2 * math.pi * places * frequencies).reshape(len(places), -1)


def rotate(vectors: Array, angles: Array) -> Array:
    """Rotate pairs of entries, one from each half of a vector.

    Args:
        vectors: shape (batch, tokens, heads, size).
        angles: shape (tokens, size / 2).

    Returns:
        The shape of `vectors`.
    """
    cos, sin = (wave(angles)[:, None].astype(vectors.dtype) for wave in (jnp.cos, jnp.sin))
    left, right = jnp.split(vectors, 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


class RotaryBlock(ScaledBlock):
    """Applies a block of DINOv3 to tokens.

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: DINOv3Config, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, rngs=rngs)
        width, dtype = config.width, dtype_of(config.param_dtype)
        init = nnx.initializers.xavier_uniform()
        self.kernel = nnx.Param(init(rngs.params(), (width, 3 * width), dtype))
        if config.qkv_bias:
            self.bias = nnx.Param(jnp.zeros(2 * width, dtype))

    def __call__(self, tokens: Array, angles: Array) -> Array:
        """Return the tokens after the block.

        Args:
            tokens: shape (batch, tokens, width).
            angles: by which each token's queries and keys are rotated, shape (tokens,
                width / heads / 2).

        Returns:
            The shape of `tokens`.
        """
        width, dtype = tokens.shape[-1], tokens.dtype
        bias = jnp.zeros(3 * width, dtype)
        if hasattr(self, "bias"):
            of_queries, of_values = jnp.split(self.bias[...].astype(dtype), 2)
            bias = jnp.concatenate([of_queries, bias[:width], of_values])
        qkv = affine(self.norm1(tokens), self.kernel[...].astype(dtype), bias)
        query, key, value = self.split(qkv)
        mixed = attention(rotate(query, angles), rotate(key, angles), value)
        return self.finish(tokens, mixed)


class DINOv3(TokenEncoder):
    """Implements DINOv3's encoder of a configuration.

    Source: arXiv:2508.10104. The random shifts and scales of positions in its training are left
    out.

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: DINOv3Config, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, rngs=rngs)
        self.config = config
        self.blocks = nnx.List(RotaryBlock(config, rngs=rngs) for _ in range(config.depth))

    def __call__(self, images: Array, masked: Array | None = None) -> DINOv2Output:
        """Encode images.

        Args:
            images: normalised, shape (batch, height, width, channels); the patch size divides
                height and width.
            masked: True where the mask token replaces a patch, shape (batch, rows * columns);
                nowhere if None.

        Raises:
            ValueError: images or a mask of another shape.
        """
        return self.output(self.states(images, masked)[-1])

    def states(self, images: Array, masked: Array | None = None) -> list[Array]:
        """Return the tokens after each block, see `__call__`."""
        config, first = self.config, self.first()
        angles = rotary_angles(self.grid(images), config.width // config.heads, config.period)
        # Class token and registers have no place: they are not rotated.
        angles = np.concatenate([np.zeros((len(first), angles.shape[1])), angles])
        tokens = self.joined(first, self.patches(images, masked))
        wide = jnp.asarray(angles, jnp.promote_types(self.dtype, jnp.float32))
        states = []
        for block in self.blocks:
            tokens = block(tokens, wide)
            states.append(tokens)
        return states

    def with_image_size(self, image_size: int) -> "DINOv3":
        """Return the same model for heads on images of another size."""
        config = dataclasses.replace(self.config, image_size=image_size)
        graph, _ = nnx.split(nnx.eval_shape(lambda: DINOv3(config, rngs=nnx.Rngs(0))))
        model: DINOv3 = nnx.merge(graph, nnx.state(self))
        return model
