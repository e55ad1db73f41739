"""SAM's prompt encoder: points, boxes and masks as embeddings."""

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.sam.config import SAMConfig
from pretrain_jax.models.vit import patchify
from pretrain_jax.models.vit.blocks import Linear, layer_norm
from pretrain_jax.models.vit.config import dtype_of
from pretrain_jax.models.vit.ops import gelu

__all__ = ["BACKGROUND", "BOX_END", "BOX_START", "FOREGROUND", "NO_POINT", "PromptEncoder"]

# What a point says: nothing (padding), this is not the object, this is, a corner of its box.
NO_POINT, BACKGROUND, FOREGROUND, BOX_START, BOX_END = -1, 0, 1, 2, 3


# The same in every published variant.
MASK_EPS = 1e-6


class Constant(nnx.Variable):
    """A number of the checkpoint that is not trained."""


class MaskPrompt(nnx.Module):
    """Three convolutions that turn a mask's logits into features on the grid of patches.

    Args:
        config: the model's shapes.
        rngs: initial weights.
    """

    def __init__(self, config: SAMConfig, *, rngs: nnx.Rngs) -> None:
        wide = config.mask_prompt_channels
        self.grid_size = config.grid_size
        self.dtype = dtype_of(config.dtype)
        self.down1 = Linear(4, wide // 4, config.dtypes, rngs=rngs)
        self.norm1 = layer_norm(wide // 4, MASK_EPS, config.dtypes, rngs)
        self.down2 = Linear(wide, wide, config.dtypes, rngs=rngs)
        self.norm2 = layer_norm(wide, MASK_EPS, config.dtypes, rngs)
        self.out = Linear(wide, config.prompt_width, config.dtypes, rngs=rngs)

    def __call__(self, masks: jax.Array) -> jax.Array:
        """(B, 4G, 4G) logits -> (B, G, G, prompt_width)."""
        grid = self.grid_size
        halved = patchify(masks[..., None].astype(self.dtype), 2)
        x = gelu(self.norm1(self.down1(halved)))
        halved = patchify(x.reshape(-1, 2 * grid, 2 * grid, x.shape[-1]), 2)
        x = self.out(gelu(self.norm2(self.down2(halved))))
        return x.reshape(-1, grid, grid, x.shape[-1])


class PromptEncoder(nnx.Module):
    """Random Fourier features of positions plus a learned vector for what a point means.

    Positions follow Tancik et al. 2020, arXiv:2006.10739, as Kirillov et al. 2023 use them.

    Args:
        config: the model's shapes.
        rngs: initial weights and the frequencies.
    """

    def __init__(self, config: SAMConfig, *, rngs: nnx.Rngs) -> None:
        self.dtype, param_dtype = map(dtype_of, config.dtypes)
        self.image_size = config.image_size
        self.grid_size = config.grid_size
        draw = nnx.initializers.normal(1.0)
        width = config.prompt_width
        self.frequencies = Constant(draw(rngs.params(), (2, width // 2), param_dtype))
        self.no_point = nnx.Param(draw(rngs.params(), (width,), param_dtype))
        self.meanings = nnx.List(
            nnx.Param(draw(rngs.params(), (width,), param_dtype))
            for _ in (BACKGROUND, FOREGROUND, BOX_START, BOX_END)
        )
        self.no_mask = nnx.Param(draw(rngs.params(), (width,), param_dtype))
        self.mask = MaskPrompt(config, rngs=rngs)

    def positions(self, unit: jax.Array) -> jax.Array:
        """Fourier features of positions (x, y) in [0, 1]: (..., 2) -> (..., prompt_width)."""
        phase = 2 * jnp.pi * ((2 * unit - 1) @ self.frequencies[...].astype(self.dtype))
        return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)

    def grid(self) -> jax.Array:
        """Features of the patches' centres, (G, G, prompt_width)."""
        centres = (jnp.arange(self.grid_size, dtype=self.dtype) + 0.5) / self.grid_size
        x, y = jnp.meshgrid(centres, centres, indexing="xy")
        return self.positions(jnp.stack([x, y], axis=-1))

    def sparse(self, points: jax.Array, labels: jax.Array) -> jax.Array:
        """Embeddings of labelled points.

        Args:
            points: (..., N, 2) pixels (x, y) of the model's input; whole numbers are pixels.
            labels: (..., N) integers, `FOREGROUND`, `BACKGROUND`, `BOX_START` (upper left),
                `BOX_END` (lower right) or `NO_POINT`.

        Returns:
            (..., N, prompt_width).
        """
        # A pixel's centre lies half a pixel right of and below its index.
        unit = (points.astype(self.dtype) + 0.5) / self.image_size
        meanings = jnp.stack([meaning[...] for meaning in self.meanings])
        meaning = meanings.astype(self.dtype)[jnp.maximum(labels, 0)]
        nothing = self.no_point[...].astype(self.dtype)
        return jnp.where((labels == NO_POINT)[..., None], nothing, self.positions(unit) + meaning)

    def dense(self, masks: jax.Array | None) -> jax.Array:
        """Features of a mask prompt (B, 4G, 4G), or the vector that stands for none."""
        return self.no_mask[...].astype(self.dtype) if masks is None else self.mask(masks)
