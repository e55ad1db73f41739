"""Outputs and gradients of an encoder against those of the model that it was loaded from."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import torch
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.dinov2 import DINOv2Output
from pretrain_jax.weights import Entry, export_state
from tests.parity.tensors import arrays, gradient_errors, gradients, relative

# Compiling takes nearly all of the time; the programs run once.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def joined(output: DINOv2Output) -> jax.Array:
    """All tokens in the order of transformers."""
    first = output.class_token[:, None]
    return jax.numpy.concatenate([first, output.registers, output.patches], axis=1)


def distances(
    make: Callable[[], nnx.Module],
    load: Callable[[Any, Mapping[str, NDArray]], object],
    table: Sequence[Entry],
    keys: Callable[[Mapping[str, NDArray]], Mapping[str, NDArray]],
    theirs: torch.nn.Module,
    images: NDArray,
    masked: NDArray,
) -> tuple[float, dict[str, float]]:
    """Relative errors of tokens and gradients in double precision; loss = weighted sum."""
    pixels = torch.tensor(images.transpose(0, 3, 1, 2))
    expected = theirs(pixels, bool_masked_pos=torch.tensor(masked)).last_hidden_state
    weights = np.random.default_rng(5).normal(size=expected.shape)
    (expected * torch.tensor(weights)).sum().backward()
    with jax.enable_x64(True):
        model = nnx.eval_shape(make)
        load(model, arrays(theirs.named_parameters()))
        graph, params = nnx.split(model)

        def loss(params: nnx.State) -> tuple[jax.Array, jax.Array]:
            tokens = joined(nnx.merge(graph, params)(images, masked))
            return (tokens * weights).sum(), tokens

        step = jax.jit(jax.grad(loss, has_aux=True)).lower(params)
        gradient, tokens = step.compile(compiler_options=QUICK)(params)
        exported = export_state(nnx.merge(graph, gradient), table)
    return relative(tokens, expected), gradient_errors(exported, keys(gradients(theirs)))
