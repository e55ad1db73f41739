"""Encodes images for Segment Anything.

Attention is windowed, with decomposed relative positions.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pretrain_jax.models.sam.config import SAMConfig
from pretrain_jax.models.sam.geometry import bilinear
from pretrain_jax.models.vit import patchify, resize_positions
from pretrain_jax.models.vit.config import DType, dtype_of
from pretrain_jax.models.vit.modeling import Linear, gelu, layer_norm


class MLP(nnx.Module):
    """Applies two affine maps with an activation between them.

    Args:
        features: features of input and output.
        hidden: features between the maps.
        activation: applied to the hidden features.
        dtypes: types of the computation and of the parameters.
        rngs: initial weights.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        activation: Callable[[jax.Array], jax.Array],
        dtypes: tuple[DType, DType],
        rngs: nnx.Rngs,
    ) -> None:
        self.first = Linear(features, hidden, dtypes, rngs=rngs)
        self.second = Linear(hidden, features, dtypes, rngs=rngs)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (..., features) to (..., features)."""
        return self.second(self.activation(self.first(x)))


class ReLUHead(nnx.Module):
    """Applies affine maps with ReLU between them.

    The IoU head and the masks' hypernetworks are such maps.

    Args:
        widths: features of the input, after each hidden layer and of the output.
        dtypes: types of the computation and of the parameters.
        rngs: initial weights.
    """

    def __init__(
        self, widths: tuple[int, ...], dtypes: tuple[DType, DType], rngs: nnx.Rngs
    ) -> None:
        pairs = itertools.pairwise(widths)
        self.layers = nnx.List(Linear(*pair, dtypes, rngs=rngs) for pair in pairs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (..., widths[0]) to (..., widths[-1])."""
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)


class UpscaleTwice(nnx.Module):
    """Upscales by a transposed convolution of kernel 2 and stride 2.

    The final interleaving of pixels is left out.

    The four pixels that a pixel becomes stay side by side in an axis of their own: what follows
    in the decoder acts on pixels one by one, so one interleaving at its end is enough.

    Args:
        inputs: features before.
        outputs: features after.
        dtypes: types of the computation and of the parameters.
        rngs: initial weights.
    """

    def __init__(
        self, inputs: int, outputs: int, dtypes: tuple[DType, DType], rngs: nnx.Rngs
    ) -> None:
        self.dtype, param_dtype = map(dtype_of, dtypes)
        init = nnx.initializers.lecun_normal(in_axis=0, out_axis=-1)
        self.kernel = nnx.Param(init(rngs.params(), (inputs, 2, 2, outputs), param_dtype))
        self.bias = nnx.Param(jnp.zeros(outputs, param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (..., inputs) to (..., 4, outputs).

        The four stand in the order of rows.
        """
        kernel = self.kernel[...].astype(self.dtype)
        inputs, outputs = kernel.shape[0], kernel.shape[-1]
        flat = x.astype(self.dtype) @ kernel.reshape(inputs, 4 * outputs)
        return flat.reshape(*x.shape[:-1], 4, outputs) + self.bias[...].astype(self.dtype)


class RelativeAttention(nnx.Module):
    """Applies self-attention to a square of tokens.

    Its relative positions are decomposed.

    Scores are q.k / sqrt(d) + q.R_h[row(q) - row(k)] + q.R_w[column(q) - column(k)] (Li et al.
    2022, arXiv:2112.01526, as in Kirillov et al. 2023).

    Args:
        config: widths and types.
        size: side of the square in tokens.
        rngs: initial weights.
    """

    def __init__(self, config: SAMConfig, size: int, *, rngs: nnx.Rngs) -> None:
        self.dtype, param_dtype = map(dtype_of, config.dtypes)
        self.heads = config.heads
        self.qkv = Linear(config.width, 3 * config.width, config.dtypes, rngs=rngs)
        self.out = Linear(config.width, config.width, config.dtypes, rngs=rngs)
        offsets = (2 * size - 1, config.width // config.heads)
        self.rows = nnx.Param(jnp.zeros(offsets, param_dtype))
        self.columns = nnx.Param(jnp.zeros(offsets, param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (..., size, size, width) to the same shape."""
        *batch, size, _, width = x.shape
        features = width // self.heads
        qkv = self.qkv(x).reshape(*batch, size, size, 3, self.heads, features)
        query, key, value = jnp.moveaxis(qkv, -3, 0)
        # offsets[i, k] = i - k, counted from the most negative.
        offsets = jnp.arange(size)[:, None] - jnp.arange(size)[None, :] + size - 1
        rows = self.rows[...].astype(self.dtype)[offsets]
        columns = self.columns[...].astype(self.dtype)[offsets]
        by_row = jnp.einsum("...yxhd,ykd->...hyxk", query, rows)
        by_column = jnp.einsum("...yxhd,xkd->...hyxk", query, columns)
        scores = jnp.einsum("...yxhd,...klhd->...hyxkl", query * features**-0.5, key)
        scores = scores + by_row[..., :, None] + by_column[..., None, :]
        flat = scores.reshape(*scores.shape[:-2], size * size)
        weights = jax.nn.softmax(flat, axis=-1).reshape(scores.shape)
        mixed = jnp.einsum("...hyxkl,...klhd->...yxhd", weights, value)
        return self.out(mixed.reshape(x.shape))


class Block(nnx.Module):
    """Applies a pre-norm transformer block to tokens.

    Its attention runs in windows or over the whole image.

    Args:
        config: widths, epsilon and types.
        window: side of a window in tokens, None for the whole image.
        rngs: initial weights.
    """

    def __init__(self, config: SAMConfig, window: int | None, *, rngs: nnx.Rngs) -> None:
        self.window = window
        self.norm1 = layer_norm(config.width, config.layer_norm_eps, config.dtypes, rngs)
        self.attention = RelativeAttention(config, window or config.grid_size, rngs=rngs)
        self.norm2 = layer_norm(config.width, config.layer_norm_eps, config.dtypes, rngs)
        self.mlp = MLP(config.width, config.hidden_width, gelu, config.dtypes, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (B, G, G, width) to the same shape."""
        normed = self.norm1(x)
        if self.window is None:
            x = x + self.attention(normed)
        else:
            windows = _split(normed, self.window)
            x = x + _join(self.attention(windows), x.shape[1])
        return x + self.mlp(self.norm2(x))


class ImageEncoder(nnx.Module):
    """Encodes images as embeddings on a grid of patches.

    An embedding has `prompt_width` features.

    Args:
        config: the model's shapes.
        rngs: initial weights; positions start at zero.
    """

    def __init__(self, config: SAMConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.dtype, param_dtype = map(dtype_of, config.dtypes)
        grid, out = config.grid_size, config.prompt_width
        self.patch_size = config.patch_size
        values = config.channels * config.patch_size**2
        self.patch = Linear(values, config.width, config.dtypes, rngs=rngs)
        self.positions = nnx.Param(jnp.zeros((grid, grid, config.width), param_dtype))
        windows = [
            None if block in config.global_blocks else config.window_size
            for block in range(config.depth)
        ]
        self.blocks = nnx.List(Block(config, window, rngs=rngs) for window in windows)
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": param_dtype}
        self.neck1 = nnx.Linear(config.width, out, use_bias=False, **types, rngs=rngs)
        self.neck_norm1 = layer_norm(out, config.layer_norm_eps, config.dtypes, rngs)
        self.neck2 = nnx.Conv(out, out, (3, 3), use_bias=False, **types, rngs=rngs)
        self.neck_norm2 = layer_norm(out, config.layer_norm_eps, config.dtypes, rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map normalised images to embeddings.

        From (B, S, S, C) they come to (B, G, G, prompt_width).
        """
        tokens = self.patch(patchify(images.astype(self.dtype), self.patch_size))
        positions = self.positions[...].astype(self.dtype)
        tokens = tokens.reshape(-1, *positions.shape) + positions
        for block in self.blocks:
            tokens = block(tokens)
        out = self.neck_norm1(self.neck1(tokens))
        return self.neck_norm2(self.neck2(out))

    def with_image_size(self, image_size: int) -> "ImageEncoder":
        """Return the same encoder for images of another size.

        Positions are interpolated (bicubic), and so are the relative positions of the blocks
        that attend to the whole image (linear, as the published code does).

        Args:
            image_size: side in pixels, a multiple of the patch size.

        Returns:
            A new encoder.
        """
        config = dataclasses.replace(self.config, image_size=image_size)
        old, new = self.config.grid_size, config.grid_size
        moved = []
        for path, variable in nnx.to_flat_state(nnx.state(self)):
            value = np.asarray(variable[...])
            if path[-1] == "positions":
                table = value.reshape(old * old, -1)
                value = resize_positions(table, (old, old), (new, new)).reshape(new, new, -1)
            elif path[-1] in ("rows", "columns") and path[1] in config.global_blocks:
                value = bilinear(2 * old - 1, 2 * new - 1) @ value
            moved.append((path, variable.replace(jnp.asarray(value, variable.dtype))))
        abstract = nnx.eval_shape(lambda: ImageEncoder(config, rngs=nnx.Rngs(0)))
        return nnx.merge(nnx.split(abstract)[0], nnx.from_flat_state(moved))


def _split(x: jax.Array, window: int) -> jax.Array:
    """Split a map into windows.

    From (B, G, G, D) it comes to (B, n, n, window, window, D), padded with zeros at the lower
    right.
    """
    batch, grid, _, width = x.shape
    count = -(-grid // window)
    pad = (0, count * window - grid)
    padded = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
    return jnp.moveaxis(padded.reshape(batch, count, window, count, window, width), 3, 2)


def _join(windows: jax.Array, grid: int) -> jax.Array:
    """Undo `_split`."""
    batch, count, _, window, _, width = windows.shape
    side = count * window
    return jnp.moveaxis(windows, 2, 3).reshape(batch, side, side, width)[:, :grid, :grid]
