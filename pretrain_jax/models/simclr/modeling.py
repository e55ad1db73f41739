"""SimCLR: an encoder, a projector, and the loss between two views of each image."""

import jax
from flax import nnx

from pretrain_jax.models.simclr.augmentations import random_views
from pretrain_jax.models.simclr.config import SimCLRConfig
from pretrain_jax.models.simclr.ntxent import nt_xent, warn_of_few_negatives
from pretrain_jax.models.vit import ViT
from pretrain_jax.models.vit.blocks import Linear

__all__ = ["SimCLR"]

Array = jax.Array


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
