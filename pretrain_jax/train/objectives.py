"""Defines the objectives of pre-training.

It says what is minimised, and what any objective offers a run.

Everything random comes from the step's key and the examples' numbers within the step, so that a
loss depends neither on devices nor on how a batch is divided.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pretrain_jax.models.encoders import Architecture
from pretrain_jax.models.mae import MAE, MAEConfig, masking_noise
from pretrain_jax.models.simclr import SimCLR, SimCLRConfig, cached_value_and_grad, nt_xent
from pretrain_jax.models.vit.config import DType
from pretrain_jax.train.flops import mae_training_flops, simclr_training_flops

Array = jax.Array
Merge = Callable[[Any], Any]


class Objective(Protocol):
    """Defines a model and its loss.

    Attributes:
        trained: filter of the variables that the optimiser changes.
        drawing_level: at which XLA on CPU optimises the drawing of initial parameters. Drawn
            numbers can differ in their last bit between level 0, the quickest to compile, and the
            others.
    """

    @property
    def trained(self) -> Any:
        """Return the filter of the variables that the optimiser changes."""
        ...

    @property
    def drawing_level(self) -> int:
        """Return the optimisation level at which XLA draws initial parameters.

        It is that of XLA on CPU.
        """
        ...

    def __hash__(self) -> int:
        """Hash the objective.

        Equal objectives share compiled programs.
        """
        ...

    def build(self, seed: int | Array) -> nnx.Module:
        """Return the model with initial parameters drawn from `seed`."""
        ...

    def value_and_grad(
        self, merge: Merge, params: Any, batch: Any, key: Array, parts: int
    ) -> tuple[Array, Any, Any]:
        """Compute the batch's mean loss and its gradient.

        The model's other variables after the step come with them.

        Args:
            merge: parameters -> model.
            params: the parameters.
            batch: what the run's source of batches gives; rows are numbers from 0.
            key: of the step.
            parts: that are computed one after the other; divides the batch.

        Returns:
            The third is None where a step changes parameters alone.
        """
        ...

    def training_flops(self) -> int:
        """Count the floating-point operations of a trained image."""
        ...


@dataclass(frozen=True)
class MAEObjective:
    """Minimises the mean squared error of hidden patches.

    Masks are keyed by example (arXiv:2111.06377).
    """

    trained: ClassVar[Any] = nnx.Param
    drawing_level: ClassVar[int] = 1
    whole_batches: ClassVar[bool] = False

    config: MAEConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def build(self, seed: int | Array) -> MAE:
        """Return a masked autoencoder with initial parameters."""
        return MAE(self.config, rngs=nnx.Rngs(jax.random.key(seed)))

    def per_example(self, model: MAE, pixels: Array, key: Array, numbers: Array) -> Array:
        """Return the mean squared error over the hidden patches of each image.

        Args:
            model: what `build` made.
            pixels: uint8 or uint16, shape (batch, height, width, channels).
            key: of the step.
            numbers: of the examples within the step, shape (batch,).
        """
        noise = masking_noise(key, numbers, self.config.encoder.patches)
        return model(self._images(pixels), noise).per_example_loss

    def value_and_grad(
        self, merge: Merge, params: Any, pixels: Array, key: Array, parts: int
    ) -> tuple[Array, Any, None]:
        """Return the mean of the parts' losses and gradients."""

        def loss(params: Any, pixels: Array, numbers: Array) -> Array:
            return self.per_example(merge(params), pixels, key, numbers).mean()

        value_and_grad = jax.value_and_grad(loss)
        rows = pixels.shape[0]
        numbers = jnp.arange(rows)
        if parts == 1:
            return *value_and_grad(params, pixels, numbers), None

        def strided(array: Array) -> Array:
            # Part a takes the rows a, a + parts, ...: each device keeps the rows it has.
            return array.reshape(rows // parts, parts, *array.shape[1:]).swapaxes(0, 1)

        def add(total: Any, part: tuple[Array, Array]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, value_and_grad(params, *part)), None

        shapes = jax.eval_shape(value_and_grad, params, pixels, numbers)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        total, _ = jax.lax.scan(add, zeros, (strided(pixels), strided(numbers)))
        value, gradient = jax.tree.map(lambda leaf: leaf / parts, total)
        return value, gradient, None

    def features(self, model: MAE, pixels: Array) -> Array:
        """Return what probes see of each image, shape (batch, width).

        It is the mean patch token.
        """
        return model.encode(self._images(pixels))[:, 1:].mean(axis=1)

    def training_flops(self) -> int:
        """Return the matrix products of a forward and a backward pass."""
        return mae_training_flops(self.config)

    def _images(self, pixels: Array) -> Array:
        return normalise(pixels, self.mean, self.std, self.config.encoder.param_dtype)


@dataclass(frozen=True)
class SimCLRObjective:
    """Minimises NT-Xent between two views of each image.

    Negatives come from all devices (arXiv:2002.05709).
    """

    trained: ClassVar[Any] = nnx.Param
    drawing_level: ClassVar[int] = 1
    whole_batches: ClassVar[bool] = True

    config: SimCLRConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def build(self, seed: int | Array) -> SimCLR:
        """Return encoder and projector with initial parameters."""
        return SimCLR(self.config, rngs=nnx.Rngs(jax.random.key(seed)))

    def per_example(self, model: SimCLR, pixels: Array, key: Array, numbers: Array) -> Array:
        """Return the loss of each image, the mean over its two views."""
        return self._losses(self._projections(model, pixels, key, numbers))

    def value_and_grad(
        self, merge: Merge, params: Any, pixels: Array, key: Array, parts: int
    ) -> tuple[Array, Any, None]:
        """Compute loss and gradient of a batch.

        Where there are parts, it goes through the gradient of the embeddings: they share negatives.
        """
        numbers = jnp.arange(pixels.shape[0])

        def embed(params: Any, rows: tuple[Array, Array]) -> Array:
            return self._projections(merge(params), rows[0], key, rows[1])

        def loss(projections: Array) -> Array:
            return self._losses(projections).mean()

        if parts == 1:
            whole = jax.value_and_grad(lambda params: loss(embed(params, (pixels, numbers))))
            return *whole(params), None
        return *cached_value_and_grad(embed, loss, parts)(params, (pixels, numbers)), None

    def features(self, model: SimCLR, pixels: Array) -> Array:
        """Return what probes see of each image.

        It is the pooled token before the projector.
        """
        dtype = self.config.encoder.param_dtype
        return model.encode(normalise(pixels, self.mean, self.std, dtype))

    def training_flops(self) -> int:
        """Return the matrix products of a forward and a backward pass of two views."""
        return simclr_training_flops(self.config)

    def _projections(self, model: SimCLR, pixels: Array, key: Array, numbers: Array) -> Array:
        """Return both views' projections, shape (batch, 2, width)."""
        images = unit_range(pixels, self.config.encoder.param_dtype)
        views = model.views(key, numbers, images)
        return jnp.stack([model(standardise(view, self.mean, self.std)) for view in views], axis=1)

    def _losses(self, projections: Array) -> Array:
        return nt_xent(projections[:, 0], projections[:, 1], self.config.temperature)


ImageObjective = MAEObjective | SimCLRObjective
# The objective of each type of model, by the type of its configuration.
OBJECTIVES: Mapping[type[MAEConfig | SimCLRConfig], type[ImageObjective]] = MappingProxyType(
    {MAEConfig: MAEObjective, SimCLRConfig: SimCLRObjective}
)


def computed_in(encoder: Architecture, dtype: DType) -> Architecture:
    """Return the encoder with that type of the computation.

    Its parameters are float32, or float64.
    """
    wide: DType = "float64" if dtype == "float64" else "float32"
    return dataclasses.replace(encoder, dtype=dtype, param_dtype=wide)


def make_objective(
    config: MAEConfig | SimCLRConfig, dtype: DType, mean: Sequence[float], std: Sequence[float]
) -> ImageObjective:
    """Return the objective of a model's configuration.

    Args:
        config: of the model.
        dtype: of the computation; parameters are float32, or float64 where it is.
        mean: of each channel, where the largest pixel value is 1.
        std: of each channel.
    """
    encoder: Any = computed_in(config.encoder, dtype)
    typed: Any = dataclasses.replace(config, encoder=encoder)
    return OBJECTIVES[type(config)](typed, tuple(mean), tuple(std))


def unit_range(pixels: Array, dtype: Any) -> Array:
    """Return integer pixels over the largest value of their type."""
    return pixels.astype(dtype) / int(np.iinfo(pixels.dtype).max)


def standardise(images: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """Standardise an image channel by channel.

    It is (image - mean) / std.
    """
    return (images - jnp.asarray(mean, images.dtype)) / jnp.asarray(std, images.dtype)


def normalise(pixels: Array, mean: Sequence[float], std: Sequence[float], dtype: Any) -> Array:
    """Normalise integer pixels to floating-point numbers.

    They are (value / largest - mean) / std in `dtype`.
    """
    return standardise(unit_range(pixels, dtype), mean, std)
