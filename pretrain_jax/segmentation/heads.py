"""Models that give each pixel a class: an encoder with a DPT or with a probe of its tokens."""

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import jax
from flax import nnx

from pretrain_jax.models.dpt.modeling import DPT, DPTConfig
from pretrain_jax.models.vit import ViT, ViTConfig
from pretrain_jax.models.vit.modeling import Linear, gelu

Array = jax.Array


class Segmenter(Protocol):
    """A model with an encoder that gives logits of pixels."""

    encoder: ViT

    def __call__(self, images: Array, *, key: Array | None = None, training: bool = False) -> Array:
        """Logits (batch, h, w, classes) of images (batch, height, width, channels)."""
        ...


@dataclass(frozen=True)
class ProbeConfig:
    """A probe of the patch tokens after the encoder's last norm.

    Attributes:
        encoder: the ViT, without pooling.
        classes: number of classes.
        hidden: width of a hidden layer of GELUs, 0 for an affine map.
    """

    encoder: ViTConfig
    classes: int
    hidden: int = 0


ModelConfig = DPTConfig | ProbeConfig


class TokenProbe(nnx.Module):
    """Logits of each patch.

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
    """

    def __init__(self, config: ProbeConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.encoder = ViT(config.encoder, rngs=rngs)
        dtypes = (config.encoder.dtype, config.encoder.param_dtype)
        sizes = [config.encoder.width, *([config.hidden] if config.hidden else []), config.classes]
        self.layers = nnx.List(
            Linear(inputs, outputs, dtypes, rngs=rngs)
            for inputs, outputs in itertools.pairwise(sizes)
        )

    def __call__(self, images: Array, *, key: Array | None = None, training: bool = False) -> Array:
        """Logits (batch, rows, columns, classes); nothing differs in training."""
        del key, training
        tokens = self.encoder(images)[:, int(self.config.encoder.class_token) :]
        for number, layer in enumerate(self.layers):
            tokens = layer(gelu(tokens) if number else tokens)
        return tokens.reshape(len(tokens), *self.config.encoder.grid, -1)


def model_config(
    encoder: ViTConfig,
    classes: int,
    head: Literal["dpt", "linear", "mlp"],
    *,
    widths: tuple[int, ...],
    fusion_width: int,
    head_doublings: int,
    hidden_width: int,
) -> ModelConfig:
    """The model of a head on an encoder; DPT's hooks are the last blocks of each quarter.

    Args:
        encoder: of any pooling, which is left out.
        classes: number of classes.
        head: the kind.
        widths: see `DPTConfig`.
        fusion_width: see `DPTConfig`.
        head_doublings: see `DPTConfig`.
        hidden_width: of the hidden layer of "mlp".

    Raises:
        ValueError: the encoder does not fit the head (DPT: at least 4 blocks, a class token).
    """
    if head == "dpt":
        if encoder.depth < 4:
            raise ValueError(
                f"head = 'dpt' needs an encoder of 4 blocks, this one has {encoder.depth}"
            )
        return DPTConfig.on(
            encoder,
            classes=classes,
            widths=widths,
            fusion_width=fusion_width,
            head_doublings=head_doublings,
        )
    plain = dataclasses.replace(encoder, pool=None, classes=0)
    return ProbeConfig(plain, classes, hidden_width if head == "mlp" else 0)


def build(config: ModelConfig, rngs: nnx.Rngs) -> Any:
    """The model of a configuration, with random weights."""
    if isinstance(config, DPTConfig):
        return DPT(config, rngs=rngs)
    return TokenProbe(config, rngs=rngs)


def logits_at(logits: Array, size: tuple[int, int]) -> Array:
    """Logits (batch, h, w, classes) at another resolution, bilinear."""
    shape = (logits.shape[0], *size, logits.shape[-1])
    return logits if shape == logits.shape else jax.image.resize(logits, shape, "bilinear")
