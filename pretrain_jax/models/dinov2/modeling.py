"""Defines the encoder of DINOv2, which turns images of any size into tokens."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.dinov2.config import DINOv2Config
from pretrain_jax.models.vit.config import DType, dtype_of
from pretrain_jax.models.vit.modeling import (
    Linear,
    attention,
    cubic_matrix,
    gelu,
    layer_norm,
    patchify,
    unstacked,
)

Array = jax.Array


class DINOv2Output(NamedTuple):
    """Holds an encoder's tokens after the final norm.

    Attributes:
        class_token: shape (batch, width).
        registers: shape (batch, registers, width).
        patches: row by row, shape (batch, rows * columns, width).
    """

    class_token: Array
    registers: Array
    patches: Array


class EncoderConfig(Protocol):
    """Says what the parts that encoders share need to know."""

    @property
    def patch_size(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def hidden_width(self) -> int: ...
    @property
    def swiglu(self) -> bool: ...
    @property
    def registers(self) -> int: ...
    @property
    def layer_norm_eps(self) -> float: ...
    @property
    def layer_scale(self) -> float: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def param_dtype(self) -> DType: ...


class ScaledBlock(nnx.Module):
    """Holds a pre-norm block but for its queries, keys and values.

    Learned factors scale what each half adds (LayerScale, arXiv:2103.17239).

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs) -> None:
        dtypes = (config.dtype, config.param_dtype)
        width, hidden, eps = config.width, config.hidden_width, config.layer_norm_eps
        scale = jnp.full(width, config.layer_scale, dtype_of(config.param_dtype))
        self.heads, self.swiglu = config.heads, config.swiglu
        self.norm1 = layer_norm(width, eps, dtypes, rngs)
        self.out = Linear(width, width, dtypes, rngs=rngs)
        self.scale1 = nnx.Param(scale)
        self.norm2 = layer_norm(width, eps, dtypes, rngs)
        self.fc1 = Linear(width, hidden * (1 + config.swiglu), dtypes, rngs=rngs)
        self.fc2 = Linear(hidden, width, dtypes, rngs=rngs)
        self.scale2 = nnx.Param(scale)

    def split(self, qkv: Array) -> tuple[Array, Array, Array]:
        """Return queries, keys and values of all heads.

        Args:
            qkv: side by side, shape (batch, tokens, 3 * width).

        Returns:
            Three arrays of shape (batch, tokens, heads, width / heads).
        """
        return unstacked(qkv.reshape(*qkv.shape[:2], 3, self.heads, -1))

    def finish(self, tokens: Array, mixed: Array) -> Array:
        """Return the tokens after the block.

        Args:
            tokens: before the block, shape (batch, tokens, width).
            mixed: the attention's result, shape (batch, tokens, heads, width / heads).
        """
        added = self.out(mixed.reshape(tokens.shape))
        tokens = tokens + added * self.scale1[...].astype(tokens.dtype)
        hidden = self.fc1(self.norm2(tokens))
        if self.swiglu:
            gate, value = jnp.split(hidden, 2, axis=-1)
            hidden = jax.nn.silu(gate) * value
        else:
            hidden = gelu(hidden)
        return tokens + self.fc2(hidden) * self.scale2[...].astype(tokens.dtype)


class DINOv2Block(ScaledBlock):
    """Applies a block of DINOv2 to tokens.

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: DINOv2Config, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, rngs=rngs)
        dtypes = (config.dtype, config.param_dtype)
        self.qkv = Linear(config.width, 3 * config.width, dtypes, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        """Return the tokens after the block.

        They keep the shape (batch, tokens, width).
        """
        return self.finish(tokens, attention(*self.split(self.qkv(self.norm1(tokens)))))


class TokenEncoder(nnx.Module):
    """Holds what turns images into tokens, and the final norm.

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs) -> None:
        dtypes = (config.dtype, config.param_dtype)
        width, param_dtype = config.width, dtype_of(config.param_dtype)
        self.dtype = dtype_of(config.dtype)
        self.patch_size, self.channels = config.patch_size, config.channels
        self.embed = Linear(config.patch_size**2 * config.channels, width, dtypes, rngs=rngs)
        self.class_token = drawn((width,), param_dtype, rngs)
        self.mask_token = nnx.Param(jnp.zeros(width, param_dtype))
        if config.registers:
            self.registers = drawn((config.registers, width), param_dtype, rngs)
        self.norm = layer_norm(width, config.layer_norm_eps, dtypes, rngs)

    def first(self) -> Array:
        """Return class token and registers without positions, shape (1 + registers, width)."""
        tokens = self.class_token[...][None].astype(self.dtype)
        if not hasattr(self, "registers"):
            return tokens
        return jnp.concatenate([tokens, self.registers[...].astype(self.dtype)])

    def patches(self, images: Array, masked: Array | None) -> Array:
        """Embed the images' patches, and put the mask token where they are masked.

        Args:
            images: shape (batch, height, width, channels).
            masked: shape (batch, rows * columns), or None.

        Returns:
            Shape (batch, rows * columns, width).

        Raises:
            ValueError: images or a mask of another shape.
        """
        self.grid(images)
        patches = self.embed(patchify(images.astype(self.dtype), self.patch_size))
        if masked is None:
            return patches
        if jnp.shape(masked) != patches.shape[:2]:
            raise ValueError(
                f"masked has the shape {jnp.shape(masked)}, the images have (batch, patches) = "
                f"{patches.shape[:2]}"
            )
        return jnp.where(
            jnp.asarray(masked)[..., None], self.mask_token[...].astype(self.dtype), patches
        )

    def joined(self, first: Array, patches: Array) -> Array:
        """Return the tokens of each image, `first` before its patches."""
        first = jnp.broadcast_to(first, (len(patches), *first.shape))
        return jnp.concatenate([first, patches], axis=1)

    def states(self, images: Array, masked: Array | None = None) -> list[Array]:
        """Return the tokens after each block."""
        raise NotImplementedError

    def hidden_states(self, images: Array, blocks: Sequence[int] | None = None) -> list[Array]:
        """Return tokens after some blocks, before the final norm.

        Args:
            images: normalised, shape (batch, height, width, channels).
            blocks: indices of the blocks counted from 0, all where None.

        Returns:
            One array (batch, 1 + registers + rows * columns, width) a block.
        """
        states = self.states(images)
        return states if blocks is None else [states[block] for block in blocks]

    def output(self, tokens: Array) -> DINOv2Output:
        """Normalise the last block's tokens, and tell them apart."""
        tokens, count = self.norm(tokens), len(self.first())
        return DINOv2Output(tokens[:, 0], tokens[:, 1:count], tokens[:, count:])

    def grid(self, images: Array) -> tuple[int, int]:
        """Return rows and columns of the images' patches.

        Raises:
            ValueError: images of another shape.
        """
        side, channels, shape = self.patch_size, self.channels, tuple(images.shape)
        if (
            len(shape) != 4
            or shape[3] != channels
            or not all(n and n % side == 0 for n in shape[1:3])
        ):
            raise ValueError(
                f"images have the shape {shape}, the model takes (batch, height, width, "
                f"{channels}) with height and width divisible by patch_size = {side}"
            )
        return shape[1] // side, shape[2] // side


def drawn(shape: tuple[int, ...], dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Param:
    """Draw a parameter from a normal distribution of deviation 0.02, cut off at 0.04."""
    return nnx.Param(0.02 * jax.random.truncated_normal(rngs.params(), -2, 2, shape, dtype))


class DINOv2(TokenEncoder):
    """Implements DINOv2's encoder of a configuration.

    Sources: arXiv:2304.07193, arXiv:2309.16588.

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: DINOv2Config, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, rngs=rngs)
        self.config = config
        positions = (1 + config.side**2, config.width)
        self.positions = drawn(positions, dtype_of(config.param_dtype), rngs)
        self.blocks = nnx.List(DINOv2Block(config, rngs=rngs) for _ in range(config.depth))

    def __call__(self, images: Array, masked: Array | None = None) -> DINOv2Output:
        """Encode images.

        Args:
            images: normalised, shape (batch, height, width, channels); the patch size divides
                height and width, which need not be those of the configuration.
            masked: True where the mask token replaces a patch, shape (batch, rows * columns);
                nowhere if None.

        Raises:
            ValueError: images or a mask of another shape.
        """
        return self.output(self.states(images, masked)[-1])

    def states(self, images: Array, masked: Array | None = None) -> list[Array]:
        """Return the tokens after each block, see `__call__`."""
        table = self.positions_on(self.grid(images)).astype(self.dtype)
        # Registers have no position.
        first = self.first().at[0].add(table[0])
        tokens = self.joined(first, self.patches(images, masked) + table[1:])
        states = []
        for block in self.blocks:
            tokens = block(tokens)
            states.append(tokens)
        return states

    def with_image_size(self, image_size: int) -> "DINOv2":
        """Return the same model for images of another size.

        Its positions are interpolated as in `positions_on`.
        """
        config = dataclasses.replace(self.config, image_size=image_size)
        graph, _ = nnx.split(nnx.eval_shape(lambda: DINOv2(config, rngs=nnx.Rngs(0))))
        model: DINOv2 = nnx.merge(graph, nnx.state(self))
        model.positions = nnx.Param(self.positions_on(config.grid))
        return model

    def positions_on(self, grid: tuple[int, int]) -> Array:
        """Interpolate the table of positions to a grid as the published models do.

        Without registers it is bicubic with a = -3/4, and edges are repeated. With registers it
        is bicubic with a = -1/2, widened where the grid shrinks (antialiasing), and weights of
        places outside are dropped. At the table's own grid nothing changes.

        Args:
            grid: rows and columns of patches.

        Returns:
            Shape (1 + rows * columns, width); the first row is the class token's.
        """
        config, table = self.config, self.positions[...]
        own = (config.side, config.side)
        if grid == own:
            return table
        wide = table.astype(jnp.promote_types(table.dtype, jnp.float32))
        patches = wide[1:].reshape(*own, config.width)
        if config.registers:
            resized = jax.image.resize(patches, (*grid, config.width), "cubic", antialias=True)
        else:
            down, across = (
                jnp.asarray(cubic_matrix(config.side, size), wide.dtype) for size in grid
            )
            resized = jnp.einsum("ir,jc,rcw->ijw", down, across, patches, precision="highest")
        return jnp.concatenate([wide[:1], resized.reshape(-1, config.width)]).astype(table.dtype)
