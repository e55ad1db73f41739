"""The compiled programs of fine-tuning: one set for all runs of equal shapes and options.

Weights, seed and the statistics of the images are arguments, so that a process that fine-tunes
many encoders of one shape compiles once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import ArrayLike

from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.segmentation.config import FinetuneConfig
from pretrain_jax.segmentation.heads import ModelConfig, build, logits_at, model_config
from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.train.objectives import unit_range
from pretrain_jax.train.step import TrainState, decay_mask

Array = jax.Array
# Sets of programs that are kept in one process.
KEPT = 16
# Of a program that runs once: drawing a DPT's weights takes XLA on CPU four times as long to
# compile when it optimises.
QUICKLY_COMPILED = {"xla_backend_optimization_level": 0}


@dataclass(frozen=True)
class Recipe:
    """All that a compiled step depends on.

    Attributes:
        model: sizes of encoder and head.
        frozen: whether the encoder's parameters stay.
        steps: of the whole run.
        learning_rate: see `schedule`.
        warmup_steps: see `schedule`.
        power: see `schedule`.
        weight_decay: of matrices.
        betas: of Adam.
    """

    model: ModelConfig
    frozen: bool
    steps: int
    learning_rate: float
    warmup_steps: int
    power: float
    weight_decay: float
    betas: tuple[float, float]


def recipe_of(config: FinetuneConfig, encoder: ViTConfig, classes: int) -> Recipe:
    """What is compiled for a configuration on an encoder; ValueError where they do not fit."""
    if encoder.size[0] != encoder.size[1]:
        raise ValueError(f"image_size = {encoder.size}: fine-tuning takes square images")
    model = model_config(
        encoder,
        classes,
        config.head,
        widths=config.widths,
        fusion_width=config.fusion_width,
        head_doublings=config.head_doublings,
        hidden_width=config.hidden_width,
    )
    return Recipe(
        model=model,
        frozen=config.mode == "frozen",
        steps=config.steps,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        power=config.power,
        weight_decay=config.weight_decay,
        betas=config.betas,
    )


class Statistics(NamedTuple):
    """Mean and standard deviation of the channels, where the largest pixel value is 1; (C,)."""

    mean: Array
    std: Array


@dataclass(frozen=True)
class Program:
    """Compiled functions.

    Attributes:
        initial: seed -> the state with random weights.
        step: (state, images, labels, statistics, seed) -> (state, loss); the state is consumed.
        predict: (params, constants, images, statistics) -> logits (batch, h, w, classes).
        graph: the model without its arrays; `nnx.merge(graph, params, constants)` is the model.
        trained: filter of the variables that the optimiser changes.
    """

    initial: Callable[[Array], TrainState]
    step: Callable[[TrainState, ArrayLike, ArrayLike, Statistics, Array], tuple[TrainState, Array]]
    predict: Callable[[Any, Any, ArrayLike, Statistics], Array]
    graph: Any
    trained: Any

    def with_encoder(self, state: TrainState, encoder: Any) -> TrainState:
        """The state with the values of a trained encoder of the same shape."""
        model = nnx.merge(self.graph, state.params, state.constants)
        # A copy, as what the state holds is donated to the first step; by way of the host, as it
        # must not bring the mesh of its training with it: the second step would compile again.
        host = jax.device_get(nnx.state(encoder))
        nnx.update(model.encoder, jax.tree.map(jnp.array, host))
        _, params, constants = nnx.split(model, self.trained, ...)  # type: ignore[misc]
        return state._replace(params=params, constants=constants)


def schedule(recipe: Recipe) -> optax.Schedule:
    """Rate of step k = 0, 1, ...: learning_rate (1 - k / steps)^power min(1, (k + 1) / warmup).

    Source: the polynomial policy with linear warmup of MMSegmentation 0.x (its warmup starts at
    1e-6 of the rate instead of 1 / warmup).
    """

    def rate(step: Array) -> Array:
        left = jnp.maximum(1.0 - step / recipe.steps, 0.0)
        rise = jnp.minimum(1.0, (step + 1) / max(recipe.warmup_steps, 1))
        return recipe.learning_rate * left**recipe.power * rise

    return rate


@lru_cache(maxsize=KEPT)
def compiled(recipe: Recipe) -> Program:
    """The programs of a recipe, compiled at their first call with a batch size."""
    trained = _trained(recipe.frozen)
    optimizer = optax.adamw(
        schedule(recipe),
        b1=recipe.betas[0],
        b2=recipe.betas[1],
        weight_decay=recipe.weight_decay,
        mask=decay_mask,
    )
    dtype = recipe.model.encoder.param_dtype

    def make(seed: Array) -> Any:
        return build(recipe.model, nnx.Rngs(jax.random.key(seed)))

    graph = nnx.split(nnx.eval_shape(lambda: make(jnp.uint32(0))), trained, ...)[0]

    def initial(seed: Array) -> TrainState:
        _, params, constants = nnx.split(make(seed), trained, ...)  # type: ignore[misc]
        return TrainState(jnp.zeros((), jnp.int32), params, constants, optimizer.init(params), None)

    def step(
        state: TrainState, images: Array, labels: Array, statistics: Statistics, seed: Array
    ) -> tuple[TrainState, Array]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss(params: Any) -> tuple[Array, Any]:
            # Copies: batch norm may change only what was made in this trace.
            model = nnx.merge(graph, params, state.constants, copy=True)
            logits = model(_normalised(images, statistics, dtype), key=key, training=True)
            rest = nnx.split(model, trained, ...)[2]  # type: ignore[misc]
            return cross_entropy(
                logits_at(logits, (labels.shape[1], labels.shape[2])), labels
            ), rest

        (value, constants), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, constants, moments, None), value

    def predict(params: Any, constants: Any, images: Array, statistics: Statistics) -> Array:
        model = nnx.merge(graph, params, constants)
        return model(_normalised(images, statistics, dtype))

    quick = QUICKLY_COMPILED if jax.default_backend() == "cpu" else None
    return Program(
        jax.jit(initial, compiler_options=quick),
        jax.jit(step, donate_argnums=0),
        jax.jit(predict),
        graph,
        trained,
    )


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Mean of -log softmax at the label over the pixels that have one; 0 where none has.

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


def _normalised(images: Array, statistics: Statistics, dtype: Any) -> Array:
    return (unit_range(images, dtype) - statistics.mean) / statistics.std


def _trained(frozen: bool) -> Any:
    """Filter of the variables that the optimiser changes."""
    return nnx.All(nnx.Param, nnx.Not(nnx.PathContains("encoder"))) if frozen else nnx.Param
