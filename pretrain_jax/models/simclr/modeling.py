"""SimCLR: an encoder, a projector, and the loss between two views of each image."""

from dataclasses import dataclass, field
from typing import Any

import jax
from flax import nnx

from hardset.checks import check_choice, check_integer, check_range
from pretrain_jax.models.simclr.augmentations import Augmentation, random_views
from pretrain_jax.models.simclr.ntxent import nt_xent, warn_of_few_negatives
from pretrain_jax.models.vit import VIT_PRESETS, ViT, ViTConfig
from pretrain_jax.models.vit.blocks import Linear

__all__ = ["SimCLR", "SimCLRConfig"]

Array = jax.Array


@dataclass(frozen=True)
class SimCLRConfig:
    """Contrastive learning of an encoder (arXiv:2002.05709).

    Attributes:
        encoder: with pool = "mean" or "cls" and no classifier.
        projector_hidden: width of the projector's hidden layer.
        projector_width: length of a projection.
        temperature: of the loss.
        augmentation: of the views.
    """

    encoder: ViTConfig = field(default_factory=lambda: ViTConfig(pool="mean"))
    projector_hidden: int = 2048
    projector_width: int = 128
    temperature: float = 0.1
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        check_integer("projector_hidden", self.projector_hidden, 1, 1 << 20)
        check_integer("projector_width", self.projector_width, 1, 1 << 20)
        check_range("temperature", self.temperature, 0.0, 1e3, open_low=True)
        if self.encoder.pool is None or self.encoder.classes:
            raise ValueError("the encoder of SimCLR has pool = 'mean' or 'cls' and classes = 0")

    @classmethod
    def preset(cls, size: str, **fields: Any) -> "SimCLRConfig":
        """SimCLR on a named vision transformer, averaging the patch tokens.

        Args:
            size: one of `VIT_PRESETS`.
            **fields: fields of the encoder to replace.

        Raises:
            ValueError: an unknown name.
        """
        check_choice("size", size, VIT_PRESETS)
        return cls(ViTConfig.preset(size, **{"pool": "mean", **fields}))


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
