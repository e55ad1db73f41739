"""Makes fine-tuning an objective of the trainer.

It has a segmenter's loss, schedule and cost.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from pretrain_jax.models.dpt.modeling import DPTConfig
from pretrain_jax.segmentation.config import FinetuneConfig
from pretrain_jax.segmentation.dataset import Crops
from pretrain_jax.segmentation.heads import ModelConfig, ProbeConfig, Segmenter, logits_at
from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.train.flops import TRAINING_FACTOR, vit_forward_flops
from pretrain_jax.train.objectives import Merge
from pretrain_jax.train.setup import Plan
from pretrain_jax.train.step import PROGRAMS, Step, adamw

Array = jax.Array


@dataclass(frozen=True)
class SegmentationObjective:
    """Minimises the mean cross entropy over pixels that have a class.

    Attributes:
        model: sizes of encoder and head.
        frozen: whether the encoder's parameters stay.
    """

    drawing_level: ClassVar[int] = 0

    model: ModelConfig
    frozen: bool

    @property
    def trained(self) -> Any:
        """Return the filter of the variables that the optimiser changes."""
        outside = nnx.Not(nnx.PathContains("encoder"))
        return nnx.All(nnx.Param, outside) if self.frozen else nnx.Param

    def build(self, seed: int | Array) -> Segmenter:
        """Return encoder and head with initial parameters."""
        return Segmenter(self.model, rngs=nnx.Rngs(jax.random.key(seed)))

    def value_and_grad(
        self, merge: Merge, params: Any, batch: Crops, key: Array, parts: int
    ) -> tuple[Array, Any, Any]:
        """Compute the loss of a batch of crops and its gradient.

        What batch norm has learned of the batch comes with them.
        """
        if parts != 1:
            raise ValueError(f"accumulation = {parts}: batch norm sees whole batches")

        def loss(params: Any) -> tuple[Array, Any]:
            model = merge(params)
            logits = model(batch.images, key=key, training=True)
            constants = nnx.split(model, self.trained, ...)[2]  # type: ignore[misc]
            labels = jnp.asarray(batch.labels)
            height, width = labels.shape[1:]
            return cross_entropy(logits_at(logits, (height, width)), labels), constants

        (value, constants), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return value, gradient, constants

    def training_flops(self) -> int:
        """Count the FLOPs of a trained crop.

        They are those of matrix products and convolutions.
        """
        return finetuning_flops(self.model, frozen=self.frozen)


def make_step(
    config: FinetuneConfig, objective: SegmentationObjective, plan: Plan, seed: int
) -> Step:
    """Make the step of a fine-tuning.

    Steps that differ in nothing but the seed share programs.
    """
    rule, rates = _optimizer(
        config.learning_rate,
        plan.steps,
        config.power,
        config.warmup_steps,
        config.weight_decay,
        config.betas,
    )
    return Step(objective, rule, rates, plan.mesh, seed)


@lru_cache(PROGRAMS)
def _optimizer(
    learning_rate: float,
    steps: int,
    power: float,
    warmup_steps: int,
    weight_decay: float,
    betas: tuple[float, float],
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    rates = schedule(learning_rate, steps, power, warmup_steps)
    return adamw(rates, betas, weight_decay), rates


def schedule(learning_rate: float, steps: int, power: float, warmup_steps: int) -> optax.Schedule:
    """Return the learning rate of step k = 0, 1, ...

    It is learning_rate (1 - k / steps)^power min(1, (k + 1) / warmup).

    Source: the polynomial policy with linear warmup of MMSegmentation 0.x (its warmup starts at
    1e-6 of the rate instead of 1 / warmup).
    """

    def rate(step: Array) -> Array:
        left = jnp.maximum(1.0 - step / steps, 0.0)
        rise = jnp.minimum(1.0, (step + 1) / max(warmup_steps, 1))
        return learning_rate * left**power * rise

    return rate


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the mean cross entropy over the pixels that have a label.

    It is -log softmax at the label, and 0 where no pixel has one.

    Args:
        logits: shape (..., classes).
        labels: shape (...), in [0, classes) or `IGNORE`.
    """
    known = labels != IGNORE
    safe = jnp.where(known, labels, 0).astype(jnp.int32)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), safe
    )
    return jnp.sum(jnp.where(known, losses, 0.0)) / jnp.maximum(known.sum(), 1)


def finetuning_flops(model: ModelConfig, *, frozen: bool) -> int:
    """Return the FLOPs of one trained crop.

    Of a frozen encoder it is the forward pass alone.

    Args:
        model: encoder and head.
        frozen: whether only the head is trained.
    """
    passes = 1 if frozen else TRAINING_FACTOR
    return passes * vit_forward_flops(model.encoder) + TRAINING_FACTOR * head_flops(model)


def head_flops(model: ModelConfig) -> int:
    """Return the FLOPs of the head for one image, forward only.

    They are those of matrix products and convolutions.
    """
    if isinstance(model, ProbeConfig):
        hidden, ends = model.hidden, (model.encoder.width, model.classes)
        weights = hidden * sum(ends) if hidden else ends[0] * ends[1]
        return 2 * model.encoder.patches * weights
    return _dpt(model)


def _dpt(config: DPTConfig) -> int:
    width, encoder = config.fusion_width, config.encoder
    rows, columns = encoder.grid
    halved = -(-rows // 2), -(-columns // 2)
    total = 0
    # Reassembled maps: readout, projection, change of resolution, convolution to the fused width.
    readout = 2 * encoder.width if config.readout == "project" else 0
    sizes = [(factor * rows, factor * columns) for factor in (4, 2, 1)] + [halved]
    for own, factor, (height, across) in zip(config.widths, (4, 2, 1, 0), sizes, strict=True):
        total += 2 * encoder.patches * encoder.width * (readout + own)
        if factor > 1:
            total += 2 * encoder.patches * own * own * factor**2
        pixels = height * across
        total += 2 * pixels * 9 * own * (width + (own if factor == 0 else 0))
    # Fused maps, deepest first: two convolutions a residual unit, doubling, one by one projection.
    height, across = halved
    for units in (1, 2, 2, 2):
        total += units * 2 * 2 * height * across * 9 * width**2 + _doubling(height, across, width)
        height, across = 2 * height, 2 * across
        total += 2 * height * across * width**2
    total += 2 * height * across * width * (9 * width + config.classes)
    for _ in range(config.head_doublings):
        total += _doubling(height, across, config.classes)
        height, across = 2 * height, 2 * across
    return total


def _doubling(height: int, across: int, features: int) -> int:
    """Count the FLOPs of doubling a map along both axes.

    It is a product with a (2 height, height) matrix, then one with a (2 across, across) matrix.
    """
    return 2 * features * (2 * height * height * across + 2 * height * 2 * across * across)
