"""Pre-norm transformer blocks with fused projections and exact GELU."""

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.vit.config import DType, dtype_of
from pretrain_jax.models.vit.ops import affine, gelu, unstacked

__all__ = ["Block", "Linear", "attention", "layer_norm", "run_blocks"]

Array = jax.Array


class Linear(nnx.Module):
    """Affine map of a token.

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
        """Shape (..., inputs) -> (..., outputs)."""
        arrays = tokens, self.kernel[...], self.bias[...]
        return affine(*(array.astype(self.dtype) for array in arrays))


def layer_norm(
    width: int, eps: float, dtypes: tuple[DType, DType], rngs: nnx.Rngs
) -> nnx.LayerNorm:
    """Layer normalisation with the variance of centred values (no cancellation)."""
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
    """softmax(Q K^T / sqrt(d)) V for each head (arXiv:1706.03762); softmax in float32 or wider.

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
    """x + attention(norm(x)), then x + MLP(norm(x)), the MLP with one hidden layer of GELUs."""

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
        """Tokens after the block, shape (batch, tokens, width) as before."""
        batch, count, width = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).reshape(batch, count, 3, self.heads, -1)
        mixed = attention(*unstacked(qkv))
        tokens = tokens + self.out(mixed.reshape(batch, count, width))
        hidden = gelu(self.fc1(self.norm2(tokens)))
        return tokens + self.fc2(hidden)


def run_blocks(blocks: nnx.List[Block], tokens: Array, *, remat: bool) -> list[Array]:
    """Tokens after each block; `remat` recomputes them in the backward pass."""
    states = []
    for block in blocks:
        apply = nnx.remat(Block.__call__) if remat else Block.__call__
        tokens = apply(block, tokens)
        states.append(tokens)
    return states
