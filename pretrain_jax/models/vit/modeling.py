"""Defines the vision transformer, which encodes images.

It has patches, positions, blocks, a pooled token and classes.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.vit.config import DType, ViTConfig, dtype_of

# Cubic convolution with a = -3/4, the kernel image libraries call bicubic.
CUBIC = -0.75
Array = jax.Array
Model = TypeVar("Model", bound=nnx.Module)


def sincos_positions(
    grid: tuple[int, int], width: int, *, class_token: bool
) -> NDArray[np.float64]:
    """Return the fixed position embeddings of MAE.

    They are sin and cos of column and row times omega_k (arXiv:2111.06377).

    omega_k = 10000^(-4 k / width); the four quarters of a vector are sin(column omega),
    cos(column omega), sin(row omega), cos(row omega). MoCo v3 interleaves differently: its
    tables are not interchangeable with these.

    Args:
        grid: rows and columns of patches.
        width: length of a token, divisible by 4.
        class_token: whether a row of zeros, the class token's position, comes first.

    Returns:
        The table, shape (rows * columns + class_token, width); patches go row by row.
    """
    omega = 10000.0 ** (-np.arange(width // 4) / (width // 4))
    rows, columns = np.meshgrid(*map(np.arange, grid), indexing="ij")
    angles = [np.outer(place.ravel(), omega) for place in (columns, rows)]
    table = np.concatenate([wave(a) for a in angles for wave in (np.sin, np.cos)], axis=1)
    return np.concatenate([np.zeros((int(class_token), width)), table])


def resize_positions(table: NDArray, grid: tuple[int, int], new_grid: tuple[int, int]) -> NDArray:
    """Interpolate a table of positions to another grid.

    The interpolation is bicubic (a = -3/4, half-pixel centres, edges repeated).

    Args:
        table: embeddings, shape (extra + rows * columns, width); the extra rows (class token)
            are kept as they are.
        grid: rows and columns of `table`.
        new_grid: rows and columns of the result.

    Returns:
        The table of the new grid, in the type of `table`.
    """
    if grid == new_grid:
        return table
    extra = table.shape[0] - grid[0] * grid[1]
    patches = table[extra:].astype(np.float64).reshape(*grid, table.shape[1])
    down, across = (cubic_matrix(*sizes) for sizes in zip(grid, new_grid, strict=True))
    resized = np.einsum("ir,jc,rcw->ijw", down, across, patches, optimize=True)
    resized = resized.reshape(-1, table.shape[1]).astype(table.dtype)
    return np.concatenate([table[:extra], resized])


def cubic_matrix(old: int, new: int) -> NDArray[np.float64]:
    """Return the matrix of one-dimensional cubic convolution.

    It has a = -3/4, half-pixel centres and repeated edges.

    Args:
        old: number of samples that there are.
        new: number of samples that it makes of them.

    Returns:
        Shape (new, old).
    """
    place = (np.arange(new) + 0.5) * old / new - 0.5
    base = np.floor(place).astype(int)
    matrix = np.zeros((new, old))
    for offset in range(-1, 3):
        x = np.abs(place - (base + offset))
        near = (CUBIC + 2) * x**3 - (CUBIC + 3) * x**2 + 1
        far = CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
        index = np.clip(base + offset, 0, old - 1)
        np.add.at(matrix, (np.arange(new), index), np.where(x <= 1, near, far))
    return matrix


@jax.custom_vjp
def affine(inputs: Array, kernel: Array, bias: Array) -> Array:
    """Compute inputs @ kernel + bias.

    Args:
        inputs: shape (..., n).
        kernel: shape (n, m).
        bias: shape (m,).

    Returns:
        Shape (..., m).
    """
    return inputs @ kernel + bias


def _affine_forward(inputs: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return inputs @ kernel + bias, (inputs, kernel)


def _affine_backward(kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array, Array]:
    inputs, kernel = kept
    rows, columns = inputs.reshape(-1, inputs.shape[-1]), slope.reshape(-1, slope.shape[-1])
    by_kernel = jax.lax.dot_general(rows, columns, (((0,), (0,)), ((), ())))
    return slope @ kernel.T, by_kernel, columns.sum(axis=0)


affine.defvjp(_affine_forward, _affine_backward)


@jax.custom_vjp
def gelu(x: Array) -> Array:
    """Compute the exact GELU.

    It is x Phi(x), Phi the normal distribution function (arXiv:1606.08415), not its tanh surrogate.
    """
    return x * _normal_cdf(x)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    return gelu(x), x


def _gelu_backward(x: Array, slope: Array) -> tuple[Array]:
    density = jnp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return (slope * (_normal_cdf(x) + x * density),)


gelu.defvjp(_gelu_forward, _gelu_backward)


@jax.custom_vjp
def unstacked(qkv: Array) -> tuple[Array, Array, Array]:
    """Return the three slices along axis 2.

    Args:
        qkv: shape (batch, tokens, 3, heads, d).

    Returns:
        Queries, keys and values, each of shape (batch, tokens, heads, d).
    """
    return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]


def _unstacked_forward(qkv: Array) -> tuple[tuple[Array, Array, Array], None]:
    return unstacked(qkv), None


def _unstacked_backward(_: None, slopes: tuple[Array, Array, Array]) -> tuple[Array]:
    return (jnp.stack(slopes, axis=2),)


unstacked.defvjp(_unstacked_forward, _unstacked_backward)


class Linear(nnx.Module):
    """Applies an affine map to tokens.

    Args:
        inputs: length of a token.
        outputs: length of the result.
        dtypes: type of the product, type of the parameters.
        rngs: the kernel starts uniform as in Glorot and Bengio 2010, the bias at 0.
    """

    def __init__(
        self, inputs: int, outputs: int, dtypes: tuple[DType, DType], *, rngs: nnx.Rngs
    ) -> None:
        dtype, param_dtype = map(dtype_of, dtypes)
        init = nnx.initializers.xavier_uniform()
        self.dtype = dtype
        self.kernel = nnx.Param(init(rngs.params(), (inputs, outputs), param_dtype))
        self.bias = nnx.Param(jnp.zeros(outputs, param_dtype))

    def __call__(self, tokens: Array) -> Array:
        """Map (..., inputs) to (..., outputs)."""
        arrays = tokens, self.kernel[...], self.bias[...]
        return affine(*(array.astype(self.dtype) for array in arrays))


def layer_norm(
    width: int, eps: float, dtypes: tuple[DType, DType], rngs: nnx.Rngs
) -> nnx.LayerNorm:
    """Normalise a layer without cancellation.

    The variance is that of centred values.
    """
    dtype, param_dtype = map(dtype_of, dtypes)
    return nnx.LayerNorm(
        width,
        epsilon=eps,
        dtype=dtype,
        param_dtype=param_dtype,
        use_fast_variance=False,
        rngs=rngs,
    )


def attention(query: Array, key: Array, value: Array) -> Array:
    """Compute multi-head attention.

    It is softmax(Q K^T / sqrt(d)) V for each head (arXiv:1706.03762). The softmax runs in float32
    or wider.

    Args:
        query: shape (batch, queries, heads, d).
        key: shape (batch, tokens, heads, d).
        value: shape (batch, tokens, heads, d).

    Returns:
        Shape (batch, queries, heads, d).
    """
    scale = query.shape[-1] ** -0.5
    logits = jnp.einsum("bqhd,bkhd->bhqk", query * scale, key)
    weights = jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)


class Block(nnx.Module):
    """Applies a transformer block to tokens.

    It is x + attention(norm(x)), then x + MLP(norm(x)). The MLP has one hidden layer of GELUs.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        eps: float,
        dtypes: tuple[DType, DType],
        rngs: nnx.Rngs,
    ) -> None:
        self.heads = heads
        self.norm1 = layer_norm(width, eps, dtypes, rngs)
        self.qkv = Linear(width, 3 * width, dtypes, rngs=rngs)
        self.out = Linear(width, width, dtypes, rngs=rngs)
        self.norm2 = layer_norm(width, eps, dtypes, rngs)
        self.fc1 = Linear(width, hidden, dtypes, rngs=rngs)
        self.fc2 = Linear(hidden, width, dtypes, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        """Return the tokens after the block.

        They keep the shape (batch, tokens, width).
        """
        batch, count, width = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).reshape(batch, count, 3, self.heads, -1)
        mixed = attention(*unstacked(qkv))
        tokens = tokens + self.out(mixed.reshape(batch, count, width))
        hidden = gelu(self.fc1(self.norm2(tokens)))
        return tokens + self.fc2(hidden)


def run_blocks(blocks: nnx.List[Block], tokens: Array, *, remat: bool) -> list[Array]:
    """Return the tokens after each block.

    With `remat` they are recomputed in the backward pass.
    """
    states = []
    for block in blocks:
        apply = nnx.remat(Block.__call__) if remat else Block.__call__
        tokens = apply(block, tokens)
        states.append(tokens)
    return states


class FixedPositions(nnx.Variable):
    """Holds position embeddings that no optimiser changes."""


def patchify(images: Array, patch_size: int) -> Array:
    """Cut images into patches, row by row.

    The values of a patch go by row, then column, then channel.

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
    """Return the images of `patchify`'s patches.

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
    """Raise ValueError unless the images have the configured shape."""
    expected = (*config.size, config.channels)
    if images.ndim != 4 or images.shape[1:] != expected:
        raise ValueError(
            f"images have the shape {tuple(images.shape)}, the model takes (batch, height, width, "
            f"channels) = (any, {', '.join(map(str, expected))})"
        )


def position_table(config: ViTConfig, width: int, rngs: nnx.Rngs) -> nnx.Variable:
    """Return the positions of a model with that token width.

    They are fixed, or parameters.
    """
    dtype = dtype_of(config.param_dtype)
    if config.positions == "sincos":
        table = sincos_positions(config.grid, width, class_token=config.class_token)
        return FixedPositions(jnp.asarray(table, dtype))
    shape = (config.patches + config.class_token, width)
    return nnx.Param(0.02 * jax.random.truncated_normal(rngs.params(), -2, 2, shape, dtype))


class ViT(nnx.Module):
    """Implements the vision transformer of a configuration.

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
        """Return what `config.pool` and `config.classes` ask for.

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
        """Return tokens after some blocks, before the final norm.

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
        """Return embedded patches with their positions after the class token.

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
        """Return the same model for images of another size.

        Its positions are interpolated (bicubic).

        Args:
            image_size: side, or height and width, in pixels.

        Returns:
            A new model.
        """
        config = dataclasses.replace(self.config, image_size=image_size)
        new = nnx.eval_shape(lambda: ViT(config, rngs=nnx.Rngs(0)))
        return resized(self, new, self.config.grid, config.grid)


def resized(model: Model, new: Model, grid: tuple[int, int], new_grid: tuple[int, int]) -> Model:
    """Return the model `new` with the values of `model`.

    Tables called positions are interpolated to the new grid.
    """
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
