"""GraNd over all parameters of a JAX model."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_integer
from selection.core.scores import Scores

__all__ = ["gradient_norms"]


def gradient_norms(
    loss: Callable[[Any, Any, Any], Any],
    parameters: Sequence[Any],
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    batch: int = 64,
) -> Scores:
    """Mean over the seeds of norm(grad_theta loss(theta, x_i, y_i)), over all parameters.

    Args:
        loss: of one example: loss(parameters, input, label) -> scalar.
        parameters: one pytree of parameters a seed.
        inputs: shape (n, ...).
        labels: shape (n, ...).
        batch: examples whose gradients are in memory together; with P parameters they take
            batch * P numbers.

    Raises:
        ValueError: no seeds, different lengths, a norm that is not finite.

    Source: Paul et al., Deep learning on a data diet, arXiv:2107.07075.
    """
    check_integer("batch", batch, 1, 2**31)
    if len(parameters) == 0:
        raise ValueError("parameters is empty; give those of one seed at least")
    examples, targets = np.asanyarray(inputs), np.asanyarray(labels)
    if len(examples) != len(targets):
        raise ValueError(
            f"the arrays have different lengths: inputs {len(examples)}, labels {len(targets)}"
        )

    @jax.jit
    def norms(theta: Any, x: Any, y: Any) -> Any:
        gradients = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(theta, x, y)
        leaves = jax.tree.leaves(gradients)
        return jnp.sqrt(sum(jnp.sum(g.reshape(len(g), -1) ** 2, axis=1) for g in leaves))

    total = np.zeros(len(examples))
    for theta in parameters:
        for start in range(0, len(examples), batch):
            rows = slice(start, start + batch)
            total[rows] += np.asarray(norms(theta, examples[rows], targets[rows]))
    return Scores.of(total / len(parameters), name="grand", seeds=len(parameters), last_layer=False)
