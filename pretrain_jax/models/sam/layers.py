"""Layers that the parts of a Segment Anything model share."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.vit.blocks import Linear
from pretrain_jax.models.vit.config import DType, dtype_of

__all__ = ["MLP", "ReLUHead", "UpscaleTwice"]


class MLP(nnx.Module):
    """Two affine maps with an activation between them.

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
        """(..., features) -> (..., features)."""
        return self.second(self.activation(self.first(x)))


class ReLUHead(nnx.Module):
    """Affine maps with ReLU between them: the IoU head and the masks' hypernetworks.

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
        """(..., widths[0]) -> (..., widths[-1])."""
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)


class UpscaleTwice(nnx.Module):
    """Transposed convolution of kernel 2 and stride 2, without the final interleaving of pixels.

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
        """(..., inputs) -> (..., 4, outputs), the four in the order of rows."""
        kernel = self.kernel[...].astype(self.dtype)
        inputs, outputs = kernel.shape[0], kernel.shape[-1]
        flat = x.astype(self.dtype) @ kernel.reshape(inputs, 4 * outputs)
        return flat.reshape(*x.shape[:-1], 4, outputs) + self.bias[...].astype(self.dtype)
