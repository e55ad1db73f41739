"""SimCLR's random views (arXiv:2002.05709, appendix A), on the device, keyed for each example."""

import math

import jax
import jax.numpy as jnp

from pretrain_jax.models.simclr.config import Augmentation

Array = jax.Array

# Weights of red, green and blue in luma (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


def random_views(
    key: Array, numbers: Array, images: Array, augmentation: Augmentation
) -> tuple[Array, Array]:
    """Two independent views of each image; those of an example depend on key and number alone.

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
    """A box of random area, shape and place, clipped to the image, scaled to the image's size."""
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
    """Brightness, contrast, saturation and hue, in this order."""
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
    """Luma of 3 channels, the mean of any other number, in every channel."""
    channels = image.shape[-1]
    weights = LUMA if channels == 3 else (1 / channels,) * channels
    luma = image @ jnp.asarray(weights, image.dtype)
    return jnp.broadcast_to(luma[..., None], image.shape)


def turn_hue(image: Array, turn: Array) -> Array:
    """The image with its hue, in the hexagonal model HSV, turned by `turn` turns."""
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
    """Gaussian blur of random width along both axes, the kernel renormalised at the edges."""
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
