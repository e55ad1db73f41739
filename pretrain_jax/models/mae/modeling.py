"""Defines the masked autoencoder.

It trains an encoder to predict hidden patches from visible ones.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.mae.config import MAEConfig
from pretrain_jax.models.vit import ViT, patchify, unpatchify
from pretrain_jax.models.vit.config import dtype_of
from pretrain_jax.models.vit.modeling import (
    Block,
    Linear,
    check_images,
    layer_norm,
    position_table,
    resized,
    run_blocks,
)

Array = jax.Array

# Added to the variance of a target patch.
PATCH_EPS = 1e-6


class MAEOutput(NamedTuple):
    """Holds what a masked autoencoder says about a batch.

    Attributes:
        loss: mean of `per_example_loss`.
        per_example_loss: mean squared error over the hidden patches, in the space of the
            training target, shape (batch,).
        prediction: patches in the space of the target, shape (batch, patches, values).
        mask: 1 where a patch is hidden, 0 where it is visible, shape (batch, patches).
        ids_restore: rank of each patch by noise, shape (batch, patches).
    """

    loss: Array
    per_example_loss: Array
    prediction: Array
    mask: Array
    ids_restore: Array


def masking_noise(key: Array, example_ids: Array, patches: int) -> Array:
    """Draw the uniform noise whose ranks decide which patches are hidden.

    It is keyed for each example.

    An example's noise depends on the key and its number alone, so that it is the same whatever
    the batch, its order and the number of devices.

    Args:
        key: a JAX random key, one for each step.
        example_ids: non-negative numbers of the examples, shape (batch,).
        patches: number of patches of an image.

    Returns:
        Shape (batch, patches), in [0, 1).
    """

    def one(number: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(key, number), (patches,), jnp.float32)

    return jax.vmap(one)(example_ids)


def patch_moments(patches: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation of each patch.

    The deviation is the root of the unbiased variance plus 1e-6.
    """
    mean = patches.mean(axis=-1, keepdims=True)
    variance = patches.var(axis=-1, keepdims=True, ddof=1)
    return mean, jnp.sqrt(variance + PATCH_EPS)


def standardise_patches(patches: Array) -> Array:
    """Standardise each patch.

    It is (patch - mean) / sqrt(unbiased variance + 1e-6), the target of the normalised pixel loss.
    """
    mean, deviation = patch_moments(patches)
    return (patches - mean) / deviation


class MAE(nnx.Module):
    """Implements the masked autoencoder of a configuration.

    Args:
        config: sizes, mask ratio, target.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: MAEConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        encoder, width = config.encoder, config.decoder_width
        dtypes = (encoder.dtype, encoder.param_dtype)
        self.encoder = ViT(encoder, rngs=rngs)
        self.decoder_embed = Linear(encoder.width, width, dtypes, rngs=rngs)
        self.mask_token = nnx.Param(
            0.02 * jax.random.normal(rngs.params(), (width,), dtype_of(encoder.param_dtype))
        )
        self.decoder_positions = position_table(encoder, width, rngs)
        self.decoder_blocks = nnx.List(
            Block(
                width,
                config.decoder_heads,
                round(encoder.mlp_ratio * width),
                encoder.layer_norm_eps,
                dtypes,
                rngs,
            )
            for _ in range(config.decoder_depth)
        )
        self.decoder_norm = layer_norm(width, encoder.layer_norm_eps, dtypes, rngs)
        self.predict = Linear(width, encoder.patch_values, dtypes, rngs=rngs)

    def __call__(self, images: Array, noise: Array) -> MAEOutput:
        """Return loss and prediction with some patches hidden.

        Those of the largest noise are hidden.

        Args:
            images: normalised, shape (batch, height, width, channels).
            noise: shape (batch, patches), see `masking_noise`.
        """
        config = self.config
        check_images(images, config.encoder)
        visible = config.visible
        order = jnp.argsort(noise, axis=1)
        ids_restore = jnp.argsort(order, axis=1)
        # All work is done in the order of the noise: positions go along, so that nothing of the
        # forward or backward pass has to be scattered back.
        patches = patchify(images, config.encoder.patch_size)
        patches = jnp.take_along_axis(patches, order[:, :, None], axis=1)
        shown = patches[:, :visible].astype(dtype_of(config.encoder.dtype))
        tokens = self.encode_patches(shown, order[:, :visible])
        predicted = self.decode(tokens, order)
        wide = jnp.promote_types(predicted.dtype, jnp.float32)
        target = patches[:, visible:].astype(wide)
        if config.norm_pixel_loss:
            target = standardise_patches(target)
        error = jnp.square(predicted[:, visible:].astype(wide) - target)
        per_example_loss = error.mean(axis=(1, 2))
        return MAEOutput(
            loss=per_example_loss.mean(),
            per_example_loss=per_example_loss,
            prediction=jnp.take_along_axis(predicted, ids_restore[:, :, None], axis=1),
            mask=(ids_restore >= visible).astype(wide),
            ids_restore=ids_restore,
        )

    def encode(self, images: Array) -> Array:
        """Return the tokens of whole images after the encoder's norm.

        Their shape is (batch, 1 + patches, width).
        """
        return self.encoder(images)

    def encode_patches(self, patches: Array, places: Array) -> Array:
        """Return tokens of some patches of each image after the encoder's norm.

        Args:
            patches: shape (batch, n, values).
            places: where in the grid each comes from, shape (batch, n).

        Returns:
            Shape (batch, 1 + n, width).
        """
        encoder = self.encoder
        tokens = encoder.tokens(patches, places)
        tokens = run_blocks(encoder.blocks, tokens, remat=encoder.config.remat)[-1]
        return encoder.norm(tokens)

    def decode(self, tokens: Array, order: Array) -> Array:
        """Return predicted patches, in the order given.

        Args:
            tokens: what the encoder made of the first n patches, shape (batch, 1 + n, width).
            order: places in the grid of the visible and then of the hidden patches, shape
                (batch, patches).

        Returns:
            Shape (batch, patches, values).
        """
        batch, patches = order.shape
        embedded = self.decoder_embed(tokens)
        width = embedded.shape[-1]
        hidden = self.mask_token[...].astype(embedded.dtype)
        hidden = jnp.broadcast_to(hidden, (batch, 1 + patches - tokens.shape[1], width))
        table = self.decoder_positions[...].astype(embedded.dtype)
        places = jnp.concatenate([jnp.zeros_like(order[:, :1]), order + 1], axis=1)
        states = jnp.concatenate([embedded, hidden], axis=1) + table[places]
        states = run_blocks(self.decoder_blocks, states, remat=self.config.encoder.remat)[-1]
        return self.predict(self.decoder_norm(states)[:, 1:])

    def reconstruct(self, images: Array, noise: Array) -> Array:
        """Return images whose hidden patches are the model's.

        The visible patches stay as given.

        A prediction of standardised patches is scaled back by the true patch's mean and
        deviation.

        Args:
            images: normalised, shape (batch, height, width, channels).
            noise: shape (batch, patches).

        Returns:
            As `images`.
        """
        config = self.config
        output = self(images, noise)
        patches = patchify(images, config.encoder.patch_size)
        predicted = output.prediction.astype(patches.dtype)
        if config.norm_pixel_loss:
            mean, deviation = patch_moments(patches)
            predicted = predicted * deviation + mean
        shown = jnp.where(output.mask[:, :, None] > 0, predicted, patches)
        return unpatchify(shown, config.encoder.patch_size, config.encoder.grid)

    def with_image_size(self, image_size: int | tuple[int, int]) -> "MAE":
        """Return the same model for images of another size.

        Its positions are interpolated (bicubic).

        Args:
            image_size: side, or height and width, in pixels.

        Returns:
            A new model.
        """
        encoder = dataclasses.replace(self.config.encoder, image_size=image_size)
        config = dataclasses.replace(self.config, encoder=encoder)
        new = nnx.eval_shape(lambda: MAE(config, rngs=nnx.Rngs(0)))
        return resized(self, new, self.config.encoder.grid, encoder.grid)
