"""Predicts classes of pixels from the tokens of four blocks.

The tokens become maps, which are fused from deep to shallow.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from numpy.typing import NDArray

from hardset.checks import check_choice, check_integer, check_range
from pretrain_jax.models.encoders import (
    AnyEncoder,
    Architecture,
    build_encoder,
    tokens_alone,
)
from pretrain_jax.models.vit import VIT_PRESETS, unpatchify
from pretrain_jax.models.vit.config import dtype_of
from pretrain_jax.models.vit.modeling import Linear, gelu

Readout = Literal["project", "add", "ignore"]
STAGES = 4
Array = jax.Array
# Resolution of the reassembled maps over that of the patches: enlarged, kept, halved.
SCALES = (4, 2, 1, 0.5)


@dataclass(frozen=True)
class DPTConfig:
    """Configures a dense prediction transformer for segmentation.

    Source: Ranftl et al. 2021, arXiv:2103.13413.

    Attributes:
        encoder: its configuration, without pooling.
        classes: number of classes.
        hooks: four blocks of the encoder whose tokens are used, from shallow to deep, counted
            from 0.
        widths: features of the four reassembled maps, which have 4, 2, 1 and 1/2 times the
            resolution of the patches.
        fusion_width: features of the fused maps.
        readout: what becomes of the class token: "project" concatenates it to each patch and
            maps both back to one token, "add" adds it, "ignore" drops it, or does without one.
        dropout: share of the head's features that training sets to zero.
        head_doublings: how often the head doubles the resolution of its logits, which is 8 times
            that of the patches before; the published 1 fits patches of 16 pixels, 0 those of 8.

    Raises:
        ValueError: a field outside its range, with the value and the range.
    """

    encoder: Architecture = VIT_PRESETS["vit_base"]
    classes: int = 2
    hooks: tuple[int, ...] = (2, 5, 8, 11)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    fusion_width: int = 256
    readout: Readout = "project"
    dropout: float = 0.1
    head_doublings: int = 1

    def __post_init__(self) -> None:
        check_integer("classes", self.classes, 1, 1 << 16)
        check_integer("fusion_width", self.fusion_width, 1, 1 << 16)
        check_range("dropout", self.dropout, 0.0, 1.0, open_high=True)
        check_integer("head_doublings", self.head_doublings, 0, 4)
        for name in ("hooks", "widths"):
            if len(getattr(self, name)) != STAGES:
                raise ValueError(f"{name} = {getattr(self, name)} has not {STAGES} entries")
        for hook in self.hooks:
            check_integer("hooks", hook, 0, self.encoder.depth - 1)
        if sorted(set(self.hooks)) != list(self.hooks):
            raise ValueError(f"hooks = {self.hooks} do not go from shallow to deep")
        for width in self.widths:
            check_integer("widths", width, 1, 1 << 16)
        check_choice("readout", self.readout, get_args(Readout))
        if tokens_alone(self.encoder) != self.encoder:
            raise ValueError("the encoder of a DPT has pool = None and no classes")
        if self.readout != "ignore" and not self.encoder.class_token:
            raise ValueError(f"readout = {self.readout!r} needs an encoder with a class token")

    @classmethod
    def on(cls, encoder: Architecture, **fields: Any) -> "DPTConfig":
        """Return the configuration on an encoder.

        Its hooks are at every quarter of the depth. Without a class token nothing is read out.

        Args:
            encoder: its configuration; pooling is left out.
            **fields: further fields.
        """
        hooks = tuple((stage + 1) * encoder.depth // STAGES - 1 for stage in range(STAGES))
        own = {"hooks": hooks} | ({} if encoder.class_token else {"readout": "ignore"})
        return cls(encoder=tokens_alone(encoder), **(own | fields))


def double(x: Array) -> Array:
    """Interpolate maps (B, H, W, C) to twice the resolution.

    The interpolation is bilinear, and corners stay on corners.
    """
    down, across = (jnp.asarray(_doubling(length), x.dtype) for length in x.shape[1:3])
    # Matrix products rather than gathers: their derivatives are matrix products, too.
    return jnp.einsum("ih,jw,bhwc->bijc", down, across, x, precision=lax.Precision.HIGHEST)


def _doubling(length: int) -> NDArray[np.float64]:
    """Return the matrix of linear interpolation to twice the length.

    Its shape is (2 length, length), and corners stay on corners.
    """
    place = np.arange(2 * length) * (length - 1) / (2 * length - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(length)))


def convolution(
    config: Architecture, inputs: int, outputs: int, size: int, rngs: nnx.Rngs, **options: Any
) -> nnx.Conv:
    """Make a convolution with a square kernel.

    The map has size // 2 zeros around it.
    """
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        padding=size // 2,
        dtype=dtype_of(config.dtype),
        param_dtype=dtype_of(config.param_dtype),
        rngs=rngs,
        **options,
    )


class Enlarge(nnx.Module):
    """Enlarges a map by a transposed convolution.

    Its stride is its kernel's size: a pixel becomes factor^2 pixels.
    """

    def __init__(self, config: Architecture, width: int, factor: int, rngs: nnx.Rngs) -> None:
        self.factor = factor
        dtype = dtype_of(config.param_dtype)
        init = nnx.initializers.lecun_normal(in_axis=0, out_axis=-1)
        self.kernel = nnx.Param(init(rngs.params(), (width, factor, factor, width), dtype))
        self.bias = nnx.Param(jnp.zeros(width, dtype))

    def __call__(self, x: Array) -> Array:
        """Map (B, H, W, width) to (B, factor H, factor W, width)."""
        batch, height, width, features = x.shape
        kernel = self.kernel[...].astype(x.dtype).reshape(features, -1)
        pixels = x.reshape(batch, height * width, features) @ kernel
        return unpatchify(pixels, self.factor, (height, width)) + self.bias[...].astype(x.dtype)


class Reassemble(nnx.Module):
    """Turns the tokens of one block into a map at its scale.

    The map has `fusion_width` features.
    """

    def __init__(self, config: DPTConfig, stage: int, rngs: nnx.Rngs) -> None:
        encoder, width, scale = config.encoder, config.widths[stage], SCALES[stage]
        dtypes = (encoder.dtype, encoder.param_dtype)
        self.grid, self.leading = encoder.grid, encoder.leading
        self.readout = config.readout
        if config.readout == "project":
            self.token = Linear(2 * encoder.width, encoder.width, dtypes, rngs=rngs)
        self.project = Linear(encoder.width, width, dtypes, rngs=rngs)
        resize: Enlarge | nnx.Conv | None = None
        if scale > 1:
            resize = Enlarge(encoder, width, int(scale), rngs)
        elif scale < 1:
            resize = convolution(encoder, width, width, 3, rngs, strides=round(1 / scale))
        self.resize = resize
        self.to_fusion = convolution(encoder, width, config.fusion_width, 3, rngs, use_bias=False)

    def __call__(self, tokens: Array) -> Array:
        """Map (B, leading + patches, width) to (B, h, w, fusion_width)."""
        # Between the class token and the patches lie registers, which are left out.
        first, patches = tokens[:, :1], tokens[:, self.leading :]
        if self.readout == "project":
            both = jnp.concatenate([patches, jnp.broadcast_to(first, patches.shape)], axis=-1)
            patches = gelu(self.token(both))
        elif self.readout == "add":
            patches = patches + first
        x = self.project(patches)
        x = x.reshape(len(x), *self.grid, x.shape[-1])
        if self.resize is not None:
            x = self.resize(x)
        return self.to_fusion(x)


class ResidualUnit(nnx.Module):
    """Adds two convolutions of a map to it.

    It is x + conv(relu(conv(relu(x)))): the activations come first.
    """

    def __init__(self, config: DPTConfig, rngs: nnx.Rngs) -> None:
        width = config.fusion_width
        self.conv1 = convolution(config.encoder, width, width, 3, rngs)
        self.conv2 = convolution(config.encoder, width, width, 3, rngs)

    def __call__(self, x: Array) -> Array:
        """Map (B, h, w, fusion_width) to the same shape."""
        return x + self.conv2(jax.nn.relu(self.conv1(jax.nn.relu(x))))


class Fusion(nnx.Module):
    """Adds a stage's map to what came from the deeper stages.

    The sum is brought to twice the resolution.
    """

    def __init__(self, config: DPTConfig, deepest: bool, rngs: nnx.Rngs) -> None:
        width = config.fusion_width
        # Nothing comes from below the deepest stage: its map takes that place.
        if not deepest:
            self.skip = ResidualUnit(config, rngs)
        self.joint = ResidualUnit(config, rngs)
        self.project = convolution(config.encoder, width, width, 1, rngs)

    def __call__(self, deeper: Array, stage: Array | None) -> Array:
        """Map both, (B, h, w, fusion_width), to (B, 2 h, 2 w, fusion_width)."""
        if stage is not None:
            if stage.shape != deeper.shape:
                # Halving an odd number of patches and doubling again does not give it back.
                stage = jax.image.resize(stage, deeper.shape, "bilinear", antialias=False)
            deeper = deeper + self.skip(stage)
        # Published the other way round: a map of pixels and an interpolation, whose weights sum to
        # one, commute, and here there are a quarter of the pixels to map.
        return double(self.project(self.joint(deeper)))


class Head(nnx.Module):
    """Turns the fused map into logits of classes.

    It is convolution, batch norm, ReLU, dropout and classes. Then the resolution is doubled.
    """

    def __init__(self, config: DPTConfig, rngs: nnx.Rngs) -> None:
        width, encoder = config.fusion_width, config.encoder
        self.dropout = config.dropout
        self.doublings = config.head_doublings
        self.conv = convolution(encoder, width, width, 3, rngs, use_bias=False)
        self.norm = nnx.BatchNorm(
            width,
            momentum=0.9,
            epsilon=1e-5,
            dtype=dtype_of(encoder.dtype),
            param_dtype=dtype_of(encoder.param_dtype),
            rngs=rngs,
        )
        # The statistics that Flax makes itself are always single precision.
        wide = jnp.promote_types(dtype_of(encoder.param_dtype), jnp.float32)
        self.norm.mean = nnx.BatchStat(jnp.zeros(width, wide))
        self.norm.var = nnx.BatchStat(jnp.ones(width, wide))
        self.classes = convolution(encoder, width, config.classes, 1, rngs)

    def __call__(self, x: Array, key: Array | None, training: bool) -> Array:
        """Map (B, h, w, fusion_width) to the logits.

        Their shape is (B, 2^doublings h, 2^doublings w, classes).
        """
        x = jax.nn.relu(self.norm(self.conv(x), use_running_average=not training))
        if key is not None and self.dropout > 0:
            kept = jax.random.bernoulli(key, 1 - self.dropout, x.shape)
            x = jnp.where(kept, x / (1 - self.dropout), 0)
        x = self.classes(x)
        for _ in range(self.doublings):
            x = double(x)
        return x


class DPT(nnx.Module):
    """Implements the dense prediction transformer for segmentation.

    Source: Ranftl et al. 2021, arXiv:2103.13413.

    Args:
        config: sizes and types.
        rngs: random numbers of the initial parameters.
        encoder: a trained encoder of the configuration's shape, shared, not copied; a new one
            where None.

    Raises:
        ValueError: an encoder of another configuration.
    """

    def __init__(
        self, config: DPTConfig, *, rngs: nnx.Rngs, encoder: AnyEncoder | None = None
    ) -> None:
        if encoder is not None and encoder.config != config.encoder:
            raise ValueError(
                f"the encoder's configuration {encoder.config} is not that of the head, "
                f"{config.encoder}"
            )
        self.config = config
        self.encoder = build_encoder(config.encoder, rngs) if encoder is None else encoder
        stages = range(len(config.hooks))
        self.reassemble = nnx.List(Reassemble(config, stage, rngs) for stage in stages)
        # In the order of the stages: the last is the deepest.
        self.fusion = nnx.List(Fusion(config, stage == stages[-1], rngs) for stage in stages)
        self.head = Head(config, rngs)

    def __call__(self, images: Array, *, key: Array | None = None, training: bool = False) -> Array:
        """Return logits at a multiple of the resolution of the patches.

        The multiple is s = 8 * 2^head_doublings.

        Args:
            images: normalised, shape (batch, height, width, channels).
            key: a JAX random key for dropout; none where None.
            training: whether batch norm takes the batch's statistics, and updates its own,
                instead of using its own.

        Returns:
            Shape (batch, s rows, s columns, classes) with rows x columns patches.
        """
        return self.decode(
            self.encoder.hidden_states(images, self.config.hooks), key=key, training=training
        )

    def decode(
        self, tokens: list[Array], *, key: Array | None = None, training: bool = False
    ) -> Array:
        """Return the logits from the tokens of the hooked blocks.

        The blocks stand from shallow to deep. See `__call__`.
        """
        maps = [stage(part) for stage, part in zip(self.reassemble, tokens, strict=True)]
        fused = self.fusion[-1](maps[-1], None)
        for fusion, stage in zip(list(self.fusion)[-2::-1], maps[-2::-1], strict=True):
            fused = fusion(fused, stage)
        return self.head(fused, key, training)
