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
from pretrain_jax.train.flops import TRAINING_FACTOR, encoder_block_flops, vit_forward_flops
from pretrain_jax.train.objectives import Merge
from pretrain_jax.train.setup import Plan
from pretrain_jax.train.step import PROGRAMS, Step, adamw

Array = jax.Array


@dataclass(frozen=True)
class SegmentationObjective:
    """Minimises the mean cross entropy over pixels that have a class.

    Attributes:
        model: sizes of encoder and head.
        blocks: how many of the encoder's last blocks are trained, with its last norm; None is the
            whole encoder, 0 nothing of it.
    """

    drawing_level: ClassVar[int] = 0

    model: ModelConfig
    blocks: int | None = None

    @property
    def trained(self) -> Any:
        """Return the filter of the variables that the optimiser changes."""
        if self.blocks is None:
            return nnx.Param
        return nnx.All(nnx.Param, _Last(self.model.encoder.depth, self.blocks))

    def build(self, seed: int | Array) -> Segmenter:
        """Return encoder and head with initial parameters."""
        return Segmenter(self.model, rngs=nnx.Rngs(jax.random.key(seed)))

    def value_and_grad(
        self, merge: Merge, params: Any, batch: Crops, key: Array, parts: int
    ) -> tuple[Array, Any, Any]:
        """Compute the loss of a batch of crops and its gradient.

        What batch norm has learned of the batch comes with them.
        """
        pixels = jnp.maximum((jnp.asarray(batch.labels) != IGNORE).sum(), 1)

        def loss(params: Any, crops: Crops, key: Array) -> tuple[Array, Any]:
            model = merge(params)
            logits = model(crops.images, key=key, training=True)
            labels = jnp.asarray(crops.labels)
            height, width = labels.shape[1:]
            total = summed_cross_entropy(logits_at(logits, (height, width)), labels)
            return total / pixels, self._constants(model)

        value_and_grad = jax.value_and_grad(loss, has_aux=True)
        if parts == 1:
            (value, constants), gradient = value_and_grad(params, batch, key)
            return value, gradient, constants
        before = self._constants(merge(params))

        def strided(array: Array) -> Array:
            # Part a takes the rows a, a + parts, ...: each device keeps the rows it has.
            rows = jnp.asarray(array)
            return rows.reshape(-1, parts, *rows.shape[1:]).swapaxes(0, 1)

        def add(total: Any, part: tuple[Crops, Array]) -> tuple[Any, None]:
            crops, number = part
            own = jax.random.fold_in(key, number)
            (value, constants), gradient = value_and_grad(params, crops, own)
            # What does not change adds zeros, so that it stays as it is to the last bit.
            changes = jax.tree.map(lambda new, old: (new - old) / parts, constants, before)
            return jax.tree.map(jnp.add, total, (value, gradient, changes)), None

        shapes = jax.eval_shape(lambda: (pixels * 1.0, params, before))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        parts_of = jax.tree.map(strided, batch), jnp.arange(parts)
        (value, gradient, changes), _ = jax.lax.scan(add, zeros, parts_of)
        return value, gradient, jax.tree.map(jnp.add, before, changes)

    def _constants(self, model: Any) -> Any:
        """Return what a model holds besides what is trained."""
        return nnx.split(model, self.trained, ...)[2]  # type: ignore[misc]

    def training_flops(self) -> int:
        """Count the FLOPs of a trained crop.

        They are those of matrix products and convolutions.
        """
        return finetuning_flops(self.model, self.blocks)


@dataclass(frozen=True)
class _Last:
    """Tells what is trained where only the encoder's last blocks are.

    Attributes:
        depth: blocks of the encoder.
        blocks: that are trained.
    """

    depth: int
    blocks: int

    def __call__(self, path: tuple[Any, ...], _: Any) -> bool:
        """Say whether the variable at a path is trained."""
        if "encoder" not in path:
            return True
        inner = path[path.index("encoder") + 1 :]
        if inner[0] == "blocks":
            return int(inner[1]) >= self.depth - self.blocks
        return bool(self.blocks) and inner[0] == "norm"


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
    return Step(objective, rule, rates, plan.mesh, seed, config.accumulation, config.ema_decay)


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
    return summed_cross_entropy(logits, labels) / jnp.maximum((labels != IGNORE).sum(), 1)


def summed_cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the sum of the cross entropies of pixels, see `cross_entropy`."""
    known = labels != IGNORE
    safe = jnp.where(known, labels, 0).astype(jnp.int32)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), safe
    )
    return jnp.sum(jnp.where(known, losses, 0.0))


def finetuning_flops(model: ModelConfig, blocks: int | None = None) -> int:
    """Return the FLOPs of one trained crop.

    Of what is frozen below all that is trained it is the forward pass alone.

    Args:
        model: encoder and head.
        blocks: how many of the encoder's last blocks are trained; None is the whole encoder.
    """
    encoder, once = model.encoder, vit_forward_flops(model.encoder)
    trained = once if blocks is None else blocks * encoder_block_flops(encoder, encoder.patches)
    return once + (TRAINING_FACTOR - 1) * trained + TRAINING_FACTOR * head_flops(model)


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
