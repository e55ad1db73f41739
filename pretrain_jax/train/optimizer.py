"""AdamW with a cosine schedule after a linear warmup, without decay on vectors."""

from typing import Any

import jax
import optax

from pretrain_jax.train.config import OptimizerOptions

__all__ = ["decay_mask", "make_optimizer", "peak_learning_rate", "schedule"]

REFERENCE_BATCH = 256


def peak_learning_rate(options: OptimizerOptions, batch_size: int) -> float:
    """The peak learning rate; `base_learning_rate` x batch / 256 where that is given.

    Source: arXiv:1706.02677 (linear scaling), arXiv:2111.06377 (its form).
    """
    if options.learning_rate is not None:
        return options.learning_rate
    assert options.base_learning_rate is not None
    return options.base_learning_rate * batch_size / REFERENCE_BATCH


def schedule(options: OptimizerOptions, steps: int, batch_size: int) -> optax.Schedule:
    """Learning rate by step: linear from 0 over the warmup, then half a cosine.

    Args:
        options: peak, warmup share, final share.
        steps: optimiser steps of the whole run.
        batch_size: images of a step, for the linear scaling rule.
    """
    peak = peak_learning_rate(options, batch_size)
    warmup = round(options.warmup_share * steps)
    cosine = optax.cosine_decay_schedule(peak, max(1, steps - warmup), options.final_share)
    if not warmup:
        return cosine
    # The first step already moves: step k of the warmup has the rate peak (k + 1) / warmup.
    rise = optax.linear_schedule(peak / warmup, peak, max(1, warmup - 1))
    return optax.join_schedules([rise, cosine], [warmup])


def decay_mask(params: Any) -> Any:
    """True where weight decay applies: on matrices, not on biases, norms and single tokens."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_optimizer(
    options: OptimizerOptions, steps: int, batch_size: int
) -> optax.GradientTransformation:
    """Clip, Adam, decoupled decay, schedule: p <- p - lr (m / (sqrt(v) + eps) + decay p).

    Source: arXiv:1711.05101.
    """
    adamw = optax.adamw(
        schedule(options, steps, batch_size),
        b1=options.betas[0],
        b2=options.betas[1],
        eps=options.eps,
        weight_decay=options.weight_decay,
        mask=decay_mask,
    )
    if options.clip_norm is None:
        return adamw
    return optax.chain(optax.clip_by_global_norm(options.clip_norm), adamw)
