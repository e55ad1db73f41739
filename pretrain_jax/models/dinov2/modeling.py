"""Defines the encoder of DINOv2, which turns images of any size into tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.dinov2.config import DINOv2Config
from pretrain_jax.models.vit.config import dtype_of
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


class ScaledBlock(nnx.Module):
    """Implements a pre-norm block, each half of which is scaled by learned factors.

    Source: arXiv:2103.17239 (LayerScale).

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: DINOv2Config, *, rngs: nnx.Rngs) -> None:
        dtypes = (config.dtype, config.param_dtype)
        width, hidden, eps = config.width, config.hidden_width, config.layer_norm_eps
        scale = jnp.full(width, config.layer_scale, dtype_of(config.param_dtype))
        self.heads, self.swiglu = config.heads, config.swiglu
        self.norm1 = layer_norm(width, eps, dtypes, rngs)
        self.qkv = Linear(width, 3 * width, dtypes, rngs=rngs)
        self.out = Linear(width, width, dtypes, rngs=rngs)
        self.scale1 = nnx.Param(scale)
        self.norm2 = layer_norm(width, eps, dtypes, rngs)
        self.fc1 = Linear(width, hidden * (1 + config.swiglu), dtypes, rngs=rngs)
        self.fc2 = Linear(hidden, width, dtypes, rngs=rngs)
        self.scale2 = nnx.Param(scale)

    def __call__(self, tokens: Array) -> Array:
        """Return the tokens after the block.

        They keep the shape (batch, tokens, width).
        """
        batch, count, width = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).reshape(batch, count, 3, self.heads, -1)
        mixed = self.out(attention(*unstacked(qkv)).reshape(batch, count, width))
        tokens = tokens + mixed * self.scale1[...].astype(tokens.dtype)
        hidden = self.fc1(self.norm2(tokens))
        if self.swiglu:
            gate, value = jnp.split(hidden, 2, axis=-1)
            hidden = jax.nn.silu(gate) * value
        else:
            hidden = gelu(hidden)
        return tokens + self.fc2(hidden) * self.scale2[...].astype(tokens.dtype)


class DINOv2(nnx.Module):
    """Implements DINOv2's encoder of a configuration.

    Sources: arXiv:2304.07193, arXiv:2309.16588.

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: DINOv2Config, *, rngs: nnx.Rngs) -> None:
        self.config = config
        dtypes = (config.dtype, config.param_dtype)
        dtype = dtype_of(config.param_dtype)

        def drawn(*shape: int) -> nnx.Param:
            return nnx.Param(0.02 * jax.random.truncated_normal(rngs.params(), -2, 2, shape, dtype))

        self.embed = Linear(config.patch_size**2 * config.channels, config.width, dtypes, rngs=rngs)
        self.class_token = drawn(config.width)
        self.positions = drawn(1 + config.side**2, config.width)
        self.mask_token = nnx.Param(jnp.zeros(config.width, dtype))
        if config.registers:
            self.registers = drawn(config.registers, config.width)
        self.blocks = nnx.List(ScaledBlock(config, rngs=rngs) for _ in range(config.depth))
        self.norm = layer_norm(config.width, config.layer_norm_eps, dtypes, rngs)

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
        tokens = self.tokens(images, masked)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        first = 1 + self.config.registers
        return DINOv2Output(tokens[:, 0], tokens[:, 1:first], tokens[:, first:])

    def tokens(self, images: Array, masked: Array | None = None) -> Array:
        """Return class token, registers and patches before the first block.

        The registers have no position.

        Args:
            images: as in a call.
            masked: as in a call.

        Returns:
            Shape (batch, 1 + registers + rows * columns, width).
        """
        config, dtype = self.config, dtype_of(self.config.dtype)
        grid = self._grid(images)
        table = self.positions_on(grid).astype(dtype)
        patches = self.embed(patchify(images.astype(dtype), config.patch_size))
        if masked is not None:
            if jnp.shape(masked) != patches.shape[:2]:
                raise ValueError(
                    f"masked has the shape {jnp.shape(masked)}, the images have (batch, patches) "
                    f"= {patches.shape[:2]}"
                )
            mask_token = self.mask_token[...].astype(dtype)
            patches = jnp.where(jnp.asarray(masked)[..., None], mask_token, patches)
        first = (self.class_token[...].astype(dtype) + table[0])[None]
        if config.registers:
            first = jnp.concatenate([first, self.registers[...].astype(dtype)])
        first = jnp.broadcast_to(first, (len(patches), *first.shape))
        return jnp.concatenate([first, patches + table[1:]], axis=1)

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

    def _grid(self, images: Array) -> tuple[int, int]:
        """Return rows and columns of the images' patches."""
        side, channels = self.config.patch_size, self.config.channels
        shape = tuple(images.shape)
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
