"""Decodes masks of prompts for Segment Anything.

Prompts become tokens, and tokens and image attend to each other.

Everything here is written for one prompt on one image; `jax.vmap` adds the axes. What the prompts
of an image share (all that the first block computes from the image alone) is then computed once.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.sam.config import SAMConfig
from pretrain_jax.models.sam.encoder import MLP, ReLUHead, UpscaleTwice
from pretrain_jax.models.vit import patchify
from pretrain_jax.models.vit.config import dtype_of
from pretrain_jax.models.vit.modeling import Linear, gelu, layer_norm

# What a point says: nothing (padding), this is not the object, this is, a corner of its box.
NO_POINT, BACKGROUND, FOREGROUND, BOX_START, BOX_END = -1, 0, 1, 2, 3


# This epsilon is the same in every published variant.
MASK_EPS = 1e-6
# The published code and transformers both use PyTorch's default here.
FINAL_EPS = 1e-5
UPSCALE_EPS = 1e-6


class Constant(nnx.Variable):
    """Holds a number of the checkpoint that is not trained."""


class MaskPrompt(nnx.Module):
    """Turns a mask's logits into features on the grid of patches.

    It has three convolutions.

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
        """Map logits (B, 4G, 4G) to features (B, G, G, prompt_width)."""
        grid = self.grid_size
        halved = patchify(masks[..., None].astype(self.dtype), 2)
        x = gelu(self.norm1(self.down1(halved)))
        halved = patchify(x.reshape(-1, 2 * grid, 2 * grid, x.shape[-1]), 2)
        x = self.out(gelu(self.norm2(self.down2(halved))))
        return x.reshape(-1, grid, grid, x.shape[-1])


class PromptEncoder(nnx.Module):
    """Turns prompts into features.

    They are random Fourier features of positions plus a learned vector for what a point means.

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
        """Return Fourier features of positions (x, y) in [0, 1].

        From (..., 2) they come to (..., prompt_width).
        """
        phase = 2 * jnp.pi * ((2 * unit - 1) @ self.frequencies[...].astype(self.dtype))
        return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)

    def grid(self) -> jax.Array:
        """Return features of the patches' centres, (G, G, prompt_width)."""
        centres = (jnp.arange(self.grid_size, dtype=self.dtype) + 0.5) / self.grid_size
        x, y = jnp.meshgrid(centres, centres, indexing="xy")
        return self.positions(jnp.stack([x, y], axis=-1))

    def sparse(self, points: jax.Array, labels: jax.Array) -> jax.Array:
        """Return the embeddings of labelled points.

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
        """Return the features of a mask prompt, (B, 4G, 4G).

        Without one they are the vector that stands for none.
        """
        return self.no_mask[...].astype(self.dtype) if masks is None else self.mask(masks)


class Attention(nnx.Module):
    """Applies multi-head attention.

    Its inner features may be fewer than those of its input.

    Args:
        config: widths and types.
        inner: features of queries, keys and values, all heads together.
        rngs: initial weights.
    """

    def __init__(self, config: SAMConfig, inner: int, *, rngs: nnx.Rngs) -> None:
        self.heads = config.decoder_heads
        self.query = Linear(config.prompt_width, inner, config.dtypes, rngs=rngs)
        self.key = Linear(config.prompt_width, inner, config.dtypes, rngs=rngs)
        self.value = Linear(config.prompt_width, inner, config.dtypes, rngs=rngs)
        self.out = Linear(inner, config.prompt_width, config.dtypes, rngs=rngs)

    def __call__(self, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        """Map (T, D), (N, D) and (N, D) to (T, D)."""
        q, k, v = (
            self._by_head(layer(x))
            for layer, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        scores = jnp.einsum("thd,nhd->htn", q * q.shape[-1] ** -0.5, k)
        mixed = jnp.einsum("htn,nhd->thd", jax.nn.softmax(scores, axis=-1), v)
        return self.out(mixed.reshape(len(query), -1))

    def from_few(self, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        """Attend from few queries to many keys, at less cost.

        The answer is that of `__call__`.

        (q W_q)(k W_k)^T = (q W_q W_k^T) k^T and w (v W_v) = (w v) W_v: with fewer queries times
        heads than inner features the right-hand sides cost less and store less.
        """
        if len(query) * self.heads >= self.key.kernel.shape[1]:
            return self(query, key, value)
        q = self._by_head(self.query(query))
        q = q * q.shape[-1] ** -0.5
        # The key's bias adds the same to all scores of a query: softmax drops it.
        lifted = jnp.einsum("thd,Dhd->htD", q, self._kernel(self.key))
        weights = jax.nn.softmax(jnp.einsum("htD,nD->htn", lifted, key), axis=-1)
        gathered = jnp.einsum("htn,nD->htD", weights, value)
        mixed = jnp.einsum("htD,Dhd->thd", gathered, self._kernel(self.value))
        return self.out(mixed.reshape(len(query), -1) + self._bias(self.value))

    def to_few(self, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        """Attend from many queries to few keys, at less cost.

        The identities are those of `from_few`.
        """
        if len(key) * self.heads >= self.query.kernel.shape[1]:
            return self(query, key, value)
        k, v = self._by_head(self.key(key)), self._by_head(self.value(value))
        k = k * k.shape[-1] ** -0.5
        lifted = jnp.einsum("thd,Dhd->htD", k, self._kernel(self.query))
        shift = jnp.einsum("thd,hd->ht", k, self._bias(self.query).reshape(self.heads, -1))
        scores = jnp.einsum("htD,nD->htn", lifted, query) + shift[..., None]
        out = self._cast(self.out.kernel[...]).reshape(self.heads, -1, query.shape[-1])
        mapped = jnp.einsum("thd,hdD->htD", v, out)
        weights = jax.nn.softmax(scores, axis=1)
        return jnp.einsum("htn,htD->nD", weights, mapped) + self._bias(self.out)

    def _by_head(self, x: jax.Array) -> jax.Array:
        return x.reshape(len(x), self.heads, -1)

    def _kernel(self, layer: Linear) -> jax.Array:
        kernel = self._cast(layer.kernel[...])
        return kernel.reshape(len(kernel), self.heads, -1)

    def _bias(self, layer: Linear) -> jax.Array:
        return self._cast(layer.bias[...])

    def _cast(self, x: jax.Array) -> jax.Array:
        return x.astype(self.query.dtype)


class TwoWayBlock(nnx.Module):
    """Lets tokens and image attend to each other.

    Tokens attend to themselves and to the image, then the image attends to the tokens.

    Args:
        config: widths, epsilon and types.
        first: whether this is the first block, whose self-attention sees no positions.
        rngs: initial weights.
    """

    def __init__(self, config: SAMConfig, first: bool, *, rngs: nnx.Rngs) -> None:
        width = config.prompt_width
        inner = width // config.attention_downsample
        self.first = first
        self.self_attention = Attention(config, width, rngs=rngs)
        self.norm1 = layer_norm(width, config.two_way_eps, config.dtypes, rngs)
        self.token_to_image = Attention(config, inner, rngs=rngs)
        self.norm2 = layer_norm(width, config.two_way_eps, config.dtypes, rngs)
        self.mlp = MLP(width, config.decoder_mlp_width, jax.nn.relu, config.dtypes, rngs)
        self.norm3 = layer_norm(width, config.two_way_eps, config.dtypes, rngs)
        self.image_to_token = Attention(config, inner, rngs=rngs)
        self.norm4 = layer_norm(width, config.two_way_eps, config.dtypes, rngs)

    def __call__(
        self, tokens: jax.Array, image: jax.Array, prompts: jax.Array, positions: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the tokens (T, D) and the image (N, D) of the next block.

        Prompts and positions stay as at first.
        """
        if self.first:
            tokens = self.norm1(self.self_attention(tokens, tokens, tokens))
        else:
            placed = tokens + prompts
            tokens = self.norm1(tokens + self.self_attention(placed, placed, tokens))
        tokens = self.norm2(
            tokens + self.token_to_image.from_few(tokens + prompts, image + positions, image)
        )
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(
            image + self.image_to_token.to_few(image + positions, tokens + prompts, tokens)
        )
        return tokens, image


class MaskDecoder(nnx.Module):
    """Predicts masks and their IoU from image embedding and prompt.

    Args:
        config: the model's shapes.
        rngs: initial weights.
    """

    def __init__(self, config: SAMConfig, *, rngs: nnx.Rngs) -> None:
        self.dtype, param_dtype = map(dtype_of, config.dtypes)
        width, masks = config.prompt_width, config.multimask_outputs + 1
        draw = nnx.initializers.normal(1.0)
        self.grid_size = config.grid_size
        # The token that becomes the predicted IoU, then one for every mask.
        self.iou_token = nnx.Param(draw(rngs.params(), (1, width), param_dtype))
        self.mask_tokens = nnx.Param(draw(rngs.params(), (masks, width), param_dtype))
        self.blocks = nnx.List(
            TwoWayBlock(config, block == 0, rngs=rngs) for block in range(config.decoder_depth)
        )
        inner = width // config.attention_downsample
        self.final_attention = Attention(config, inner, rngs=rngs)
        self.final_norm = layer_norm(width, FINAL_EPS, config.dtypes, rngs)
        self.upscale1 = UpscaleTwice(width, width // 4, config.dtypes, rngs)
        self.upscale_norm = layer_norm(width // 4, UPSCALE_EPS, config.dtypes, rngs)
        self.upscale2 = UpscaleTwice(width // 4, width // 8, config.dtypes, rngs)
        widths = (width, width, width, width // 8)
        self.hypernetworks = nnx.List(ReLUHead(widths, config.dtypes, rngs) for _ in range(masks))
        hidden = (config.iou_head_width,) * (config.iou_head_depth - 1)
        self.iou_head = ReLUHead((width, *hidden, masks), config.dtypes, rngs)

    def attend(
        self, image: jax.Array, positions: jax.Array, prompts: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Apply the two-way attention.

        Args:
            image: (G, G, D) embedding of the image plus that of the mask prompt.
            positions: (G, G, D) features of the patches' positions.
            prompts: (N, D) embeddings of the points.

        Returns:
            Output tokens (masks + 1, D), the IoU's first, and image (G * G, D).
        """
        own = [self.iou_token[...].astype(self.dtype), self.mask_tokens[...].astype(self.dtype)]
        prompts = jnp.concatenate([*own, prompts])
        image = image.reshape(-1, image.shape[-1])
        positions = positions.reshape(image.shape)
        tokens = prompts
        for block in self.blocks:
            tokens, image = block(tokens, image, prompts, positions)
        mixed = self.final_attention.from_few(tokens + prompts, image + positions, image)
        return self.final_norm(tokens + mixed)[: len(self.hypernetworks) + 1], image

    def iou(self, tokens: jax.Array, multimask: bool) -> jax.Array:
        """Return the predicted IoU of each mask, (M,).

        It is computed from the output tokens.
        """
        return self.iou_head(tokens[0])[_chosen(multimask)]

    def masks(self, tokens: jax.Array, image: jax.Array, multimask: bool) -> jax.Array:
        """Return the logits of the masks, (M, 4G, 4G).

        They are computed from the output tokens and the image of `attend`.
        """
        pixels = gelu(self.upscale_norm(self.upscale1(image)))
        pixels = gelu(self.upscale2(pixels))
        chosen = _chosen(multimask)
        heads = list(self.hypernetworks)[chosen]
        rows = tokens[1:][chosen]
        weights = jnp.stack([head(row) for head, row in zip(heads, rows, strict=True)])
        # Pixels are (patch, quarter, quarter of a quarter): interleave them only now.
        logits = jnp.einsum("md,nabd->mnab", weights, pixels)
        grid = self.grid_size
        split = logits.reshape(len(heads), grid, grid, 2, 2, 2, 2)
        return split.transpose(0, 1, 3, 5, 2, 4, 6).reshape(len(heads), 4 * grid, 4 * grid)


def _chosen(multimask: bool) -> slice:
    """Choose the masks that answer a prompt.

    A clear prompt is answered by the first mask, an ambiguous one by the others.
    """
    return slice(1, None) if multimask else slice(0, 1)
