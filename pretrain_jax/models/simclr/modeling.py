"""SimCLR: an encoder, a projector, and the loss between two views of each image."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.simclr.augmentations import random_views
from pretrain_jax.models.simclr.config import SimCLRConfig
from pretrain_jax.models.vit import ViT
from pretrain_jax.models.vit.modeling import Linear

Array = jax.Array

# SimCLR loses several points of accuracy below this batch size (its figure 9).
FEW = 256
TINY = 1e-20  # square of a length that counts as zero


def nt_xent(first: Array, second: Array, temperature: float, axis_name: str | None = None) -> Array:
    """Cross-entropy of telling an example's other view among all views of all other examples.

    With unit vectors z and similarities s_ij = z_i . z_j / temperature, a view's loss is
    -log(exp(s_ij) / sum_{k != i} exp(s_ik)), j its partner (arXiv:2002.05709, equation 1).

    Args:
        first: projections of the examples' first views, shape (batch, d).
        second: of their second views, in the same order.
        temperature: positive.
        axis_name: mapped axis (shard_map, pmap, vmap) over whose devices the batch is divided:
            the negatives come from all of them. Where arrays are global (jax.jit), none is needed.

    Returns:
        Mean over the two views' losses of each example, shape (batch,), at least float32.
    """
    batch = first.shape[0]
    dtype = jnp.promote_types(first.dtype, jnp.float32)
    first, second = (_unit(views.astype(dtype)) for views in (first, second))
    all_first, all_second, shard = first, second, jnp.asarray(0)
    if axis_name is not None:
        all_first, all_second = (
            jax.lax.all_gather(views, axis_name, tiled=True) for views in (first, second)
        )
        shard = jax.lax.axis_index(axis_name)
    own = jax.nn.one_hot(shard * batch + jnp.arange(batch), all_first.shape[0], dtype=bool)

    def losses(views: Array, partners: Array, alike: Array, others: Array) -> Array:
        positive = jnp.sum(views * partners, axis=1) / temperature
        alike = jnp.where(own, -jnp.inf, views @ alike.T / temperature)
        every = jnp.concatenate([alike, views @ others.T / temperature], axis=1)
        return jax.nn.logsumexp(every, axis=1) - positive

    forth = losses(first, second, all_first, all_second)
    back = losses(second, first, all_second, all_first)
    return 0.5 * (forth + back)


def _unit(views: Array) -> Array:
    # The gradient of a norm at 0 is not a number.
    square = jnp.sum(jnp.square(views), axis=-1, keepdims=True)
    return views * jax.lax.rsqrt(jnp.where(square > TINY, square, 1))


def warn_of_few_negatives(batch_size: int) -> None:
    """Warn where a batch gives each view few others to be told from.

    Args:
        batch_size: examples in the global batch.
    """
    if batch_size < FEW:
        warnings.warn(
            f"batch_size = {batch_size} gives each view {2 * batch_size - 2} negatives; "
            f"contrastive learning wants a batch of {FEW} or more (arXiv:2002.05709, figure 9)",
            UserWarning,
            stacklevel=2,
        )


def cached_value_and_grad(
    embed: Callable[[Any, Any], Array], loss: Callable[[Array], Array], parts: int
) -> Callable[[Any, Any], tuple[Array, Any]]:
    """Value and gradient of loss(embed(params, batch)) with the memory of one part of the batch.

    Sums of the parts' own losses would see the negatives of their part alone. Here all parts are
    embedded first without keeping intermediate values, the loss is differentiated by the
    embeddings, and each part is embedded again for its share of the gradient
    (arXiv:2101.06983). The result is the big batch's.

    Args:
        embed: (params, rows of a batch) -> one embedding a row.
        loss: all embeddings in the rows' order -> scalar.
        parts: how many; divides the batch.

    Returns:
        A function (params, batch) -> (value, gradient by params); `batch` is an array or a tree
        of arrays whose first dimension is the batch.
    """

    def value_and_grad(params: Any, batch: Any) -> tuple[Array, Any]:
        rows = jax.tree.leaves(batch)[0].shape[0]
        if parts < 1 or rows % parts:
            raise ValueError(f"parts = {parts} does not divide the batch of {rows}")
        cut = jax.tree.map(lambda leaf: leaf.reshape(parts, rows // parts, *leaf.shape[1:]), batch)
        embedded = jax.lax.map(lambda part: embed(params, part), cut)
        flat = embedded.reshape(rows, *embedded.shape[2:])
        value, slope = jax.value_and_grad(loss)(flat)

        def add(total: Any, inputs: tuple[Any, Array]) -> tuple[Any, None]:
            part, part_slope = inputs
            _, pull = jax.vjp(lambda params: embed(params, part), params)
            return jax.tree.map(jnp.add, total, pull(part_slope)[0]), None

        zero = jax.tree.map(jnp.zeros_like, params)
        gradient, _ = jax.lax.scan(add, zero, (cut, slope.reshape(embedded.shape)))
        return value, gradient

    return value_and_grad


class SimCLR(nnx.Module):
    """The encoder and projector of a configuration.

    Args:
        config: sizes, temperature, augmentations.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: SimCLRConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        encoder = config.encoder
        dtypes = (encoder.dtype, encoder.param_dtype)
        self.encoder = ViT(encoder, rngs=rngs)
        self.hidden = Linear(encoder.width, config.projector_hidden, dtypes, rngs=rngs)
        self.projector = Linear(config.projector_hidden, config.projector_width, dtypes, rngs=rngs)

    def __call__(self, views: Array) -> Array:
        """Projections of views, shape (batch, projector_width).

        Args:
            views: normalised, shape (batch, height, width, channels).
        """
        return self.projector(jax.nn.relu(self.hidden(self.encode(views))))

    def encode(self, images: Array) -> Array:
        """What is used after training: the pooled token before the projector, (batch, width)."""
        return self.encoder(images)

    def per_example_loss(self, first: Array, second: Array) -> Array:
        """NT-Xent of each example of a batch, shape (batch,); warns where the batch is small.

        Args:
            first: first views, normalised, shape (batch, height, width, channels).
            second: second views of the same images.
        """
        warn_of_few_negatives(first.shape[0])
        return nt_xent(self(first), self(second), self.config.temperature)

    def views(self, key: Array, numbers: Array, images: Array) -> tuple[Array, Array]:
        """Two random views of each image, see `random_views`; neither is normalised."""
        return random_views(key, numbers, images, self.config.augmentation)
