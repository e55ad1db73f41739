"""Gives each pixel of an image a class.

The model is an encoder with a DPT, or with a probe of its tokens.
"""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from pretrain_jax.models.dpt.modeling import DPT, DPTConfig
from pretrain_jax.models.encoders import Architecture, build_encoder, tokens_alone
from pretrain_jax.models.vit.modeling import Linear, gelu
from pretrain_jax.segmentation.config import FinetuneConfig
from pretrain_jax.train.objectives import unit_range

Array = jax.Array


@dataclass(frozen=True)
class ProbeConfig:
    """Configures a probe of the patch tokens.

    The tokens are those after the encoder's last norm.

    Attributes:
        encoder: its configuration, without pooling.
        classes: number of classes.
        hidden: width of a hidden layer of GELUs, 0 for an affine map.
    """

    encoder: Architecture
    classes: int
    hidden: int = 0


ModelConfig = DPTConfig | ProbeConfig


class TokenProbe(nnx.Module):
    """Computes the logits of each patch.

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: ProbeConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.encoder = build_encoder(config.encoder, rngs)
        dtypes = (config.encoder.dtype, config.encoder.param_dtype)
        sizes = [config.encoder.width, *([config.hidden] if config.hidden else []), config.classes]
        self.layers = nnx.List(
            Linear(inputs, outputs, dtypes, rngs=rngs)
            for inputs, outputs in itertools.pairwise(sizes)
        )

    def __call__(self, images: Array, *, key: Array | None = None, training: bool = False) -> Array:
        """Return logits (batch, rows, columns, classes).

        Nothing differs in training.
        """
        del key, training
        config = self.config.encoder
        (tokens,) = self.encoder.hidden_states(images, [config.depth - 1])
        tokens = self.encoder.norm(tokens)[:, config.leading :]
        for number, layer in enumerate(self.layers):
            tokens = layer(gelu(tokens) if number else tokens)
        return tokens.reshape(len(tokens), *config.grid, -1)


class Statistic(nnx.Variable[Array]):
    """Holds mean or standard deviation of the channels in training.

    The scale has the largest pixel value as 1.
    """


class Segmenter(nnx.Module):
    """Predicts the classes of integer pixels.

    It brings them to the statistics that it was trained with.

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        self.model = build(config, rngs)
        channels = config.encoder.channels
        self.mean = Statistic(jnp.zeros(channels, jnp.float32))
        self.std = Statistic(jnp.ones(channels, jnp.float32))

    def __call__(self, pixels: Array, *, key: Array | None = None, training: bool = False) -> Array:
        """Return logits (batch, h, w, classes) of pixels.

        The pixels have the shape (batch, height, width, channels).
        """
        images = unit_range(pixels, self.model.config.encoder.param_dtype)
        images = (images - self.mean[...]) / self.std[...]
        return self.model(images, key=key, training=training)


def model_of(config: FinetuneConfig, encoder: Architecture, classes: int) -> ModelConfig:
    """Return the model of a head on an encoder.

    DPT's hooks are the last blocks of each quarter.

    Args:
        config: kind and sizes of the head.
        encoder: of any pooling, which is left out.
        classes: number of classes.

    Raises:
        ValueError: the encoder does not fit (square images of whole patches; DPT: at least 4
            blocks; mode "last": as many as are trained).
    """
    if encoder.size[0] != encoder.size[1]:
        raise ValueError(f"image_size = {encoder.size}: fine-tuning takes square images")
    if encoder.size[0] % encoder.patch_size:
        raise ValueError(
            f"image_size = {encoder.size[0]} is not divisible by patch_size = {encoder.patch_size}"
        )
    if config.mode == "last" and config.blocks > encoder.depth:
        raise ValueError(
            f"blocks = {config.blocks}: the encoder has {encoder.depth}, of which the last are "
            "trained"
        )
    if config.head == "dpt":
        if encoder.depth < 4:
            raise ValueError(
                f"head = 'dpt' needs an encoder of 4 blocks, this one has {encoder.depth}"
            )
        return DPTConfig.on(
            encoder,
            classes=classes,
            widths=config.widths,
            fusion_width=config.fusion_width,
            head_doublings=config.head_doublings,
        )
    plain = tokens_alone(encoder)
    return ProbeConfig(plain, classes, config.hidden_width if config.head == "mlp" else 0)


def build(config: ModelConfig, rngs: nnx.Rngs) -> DPT | TokenProbe:
    """Return the model of a configuration, with random weights."""
    return (
        DPT(config, rngs=rngs) if isinstance(config, DPTConfig) else TokenProbe(config, rngs=rngs)
    )


def logits_at(logits: Array, size: tuple[int, int]) -> Array:
    """Interpolate logits to another resolution.

    Their shape is (batch, h, w, classes), and the interpolation is bilinear.
    """
    shape = (logits.shape[0], *size, logits.shape[-1])
    return logits if shape == logits.shape else jax.image.resize(logits, shape, "bilinear")
