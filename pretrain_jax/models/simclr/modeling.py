"""Defines contrastive learning, with its views, projector and loss.

An encoder learns to tell views of one image from those of others.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.simclr.config import Augmentation, SimCLRConfig
from pretrain_jax.models.vit import ViT
from pretrain_jax.models.vit.modeling import Linear

Array = jax.Array

# SimCLR loses several points of accuracy below this batch size (its figure 9).
FEW = 256
TINY = 1e-20  # square of a length that counts as zero
# Weights of red, green and blue in luma (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


def random_views(
    key: Array, numbers: Array, images: Array, augmentation: Augmentation
) -> tuple[Array, Array]:
    """Make two independent views of each image.

    Those of an example depend on the key and its number alone.

    Args:
        key: a JAX random key, one for each step.
        numbers: non-negative numbers of the examples, shape (batch,).
        images: in [0, 1], shape (batch, height, width, channels).
        augmentation: what is drawn.

    Returns:
        Two arrays as `images`.
    """

    def both(number: Array, image: Array) -> Array:
        keys = jax.random.split(jax.random.fold_in(key, number))
        return jax.vmap(lambda key: _view(key, image, augmentation))(keys)

    first, second = jnp.moveaxis(jax.vmap(both)(numbers, images), 1, 0)
    return first, second


def _view(key: Array, image: Array, augmentation: Augmentation) -> Array:
    keys = jax.random.split(key, 8)
    view = _crop(keys[0], image, augmentation)
    view = jnp.where(_with(keys[1], augmentation.flip), view[:, ::-1], view)
    coloured = _jitter(keys[2], view, augmentation)
    view = jnp.where(_with(keys[3], augmentation.jitter), coloured, view)
    view = jnp.where(_with(keys[4], augmentation.grey), _luma(view), view)
    blurred = _blur(keys[5], view, augmentation)
    return jnp.where(_with(keys[6], augmentation.blur), blurred, view)


def _with(key: Array, probability: float) -> Array:
    return jax.random.bernoulli(key, probability)


def _crop(key: Array, image: Array, augmentation: Augmentation) -> Array:
    """Cut a random box of an image and scale it to the image's size.

    The box has random area, shape and place. It is clipped to the image.
    """
    keys = jax.random.split(key, 3)
    size = jnp.asarray(image.shape[:2], image.dtype)
    area = jax.random.uniform(keys[0], (), image.dtype, *augmentation.area)
    ends = map(math.log, augmentation.aspect)
    aspect = jnp.exp(jax.random.uniform(keys[1], (), image.dtype, *ends))
    # An aspect of 1 is the image's own.
    share = jnp.minimum(jnp.sqrt(area * jnp.stack([1 / aspect, aspect])), 1)
    corner = jax.random.uniform(keys[2], (2,), image.dtype) * (1 - share) * size
    view = jax.image.scale_and_translate(
        image, image.shape, (0, 1), 1 / share, -corner / share, "linear"
    )
    return jnp.clip(view, 0, 1)


def _jitter(key: Array, image: Array, augmentation: Augmentation) -> Array:
    """Change brightness, contrast, saturation and hue, in this order."""
    keys = jax.random.split(key, 4)

    def factor(key: Array, strength: float) -> Array:
        return jax.random.uniform(key, (), image.dtype, 1 - strength, 1 + strength)

    image = jnp.clip(image * factor(keys[0], augmentation.brightness), 0, 1)
    mean = _luma(image).mean()
    image = jnp.clip(mean + (image - mean) * factor(keys[1], augmentation.contrast), 0, 1)
    if image.shape[-1] != 3:
        return image
    luma = _luma(image)
    image = jnp.clip(luma + (image - luma) * factor(keys[2], augmentation.saturation), 0, 1)
    turn = jax.random.uniform(keys[3], (), image.dtype, -augmentation.hue, augmentation.hue)
    return turn_hue(image, turn)


def _luma(image: Array) -> Array:
    """Return the luma of an image in every channel.

    It is that of 3 channels, and the mean of any other number of channels.
    """
    channels = image.shape[-1]
    weights = LUMA if channels == 3 else (1 / channels,) * channels
    luma = image @ jnp.asarray(weights, image.dtype)
    return jnp.broadcast_to(luma[..., None], image.shape)


def turn_hue(image: Array, turn: Array) -> Array:
    """Return the image with its hue turned.

    Hue is that of the hexagonal model HSV. `turn` counts whole turns.
    """
    value, low = image.max(axis=-1, keepdims=True), image.min(axis=-1, keepdims=True)
    chroma = value - low
    safe = jnp.where(chroma > 0, chroma, 1)
    red, green, blue = jnp.split(image, 3, axis=-1)
    sixth = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    place = (jnp.asarray([5, 3, 1], image.dtype) + sixth + 6 * turn) % 6
    return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)


def _blur(key: Array, image: Array, augmentation: Augmentation) -> Array:
    """Blur an image by a Gaussian of random width along both axes.

    The kernel is renormalised at the edges.
    """
    low, high = augmentation.blur_sigma
    sigma = jax.random.uniform(key, (), image.dtype, low, high)

    def kernel(side: int) -> Array:
        places = jnp.arange(side)
        distance = jnp.abs(places[:, None] - places)
        weights = jnp.exp(-0.5 * (distance.astype(image.dtype) / sigma) ** 2)
        weights = jnp.where(distance <= round(augmentation.blur_radius * side), weights, 0)
        return weights / weights.sum(axis=1, keepdims=True)

    down, across = (kernel(side) for side in image.shape[:2])
    return jnp.einsum("ir,jc,rcn->ijn", down, across, image)


def nt_xent(first: Array, second: Array, temperature: float, axis_name: str | None = None) -> Array:
    """Compute the loss of telling an example's other view from all others.

    It is the cross-entropy among all views of all other examples.

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
    """Compute a batch's loss and gradient with the memory of one part.

    The loss is loss(embed(params, batch)).

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
    """Implements encoder and projector of a configuration.

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
        """Return the projections of views, shape (batch, projector_width).

        Args:
            views: normalised, shape (batch, height, width, channels).
        """
        return self.projector(jax.nn.relu(self.hidden(self.encode(views))))

    def encode(self, images: Array) -> Array:
        """Return what is used after training, shape (batch, width).

        It is the pooled token before the projector.
        """
        return self.encoder(images)

    def per_example_loss(self, first: Array, second: Array) -> Array:
        """Return NT-Xent of each example of a batch, shape (batch,).

        It warns where the batch is small.

        Args:
            first: first views, normalised, shape (batch, height, width, channels).
            second: second views of the same images.
        """
        warn_of_few_negatives(first.shape[0])
        return nt_xent(self(first), self(second), self.config.temperature)

    def views(self, key: Array, numbers: Array, images: Array) -> tuple[Array, Array]:
        """Return two random views of each image.

        See `random_views`. Neither view is normalised.
        """
        return random_views(key, numbers, images, self.config.augmentation)
