"""Random weights for torch models and the distance between two sets of gradients."""

from collections.abc import Iterator, Mapping

import jax
import numpy as np
import torch
from numpy.typing import NDArray


def randomise(model: torch.nn.Module, seed: int, scale: float = 0.2) -> None:
    """Draw every parameter, those that start at zero or one too, so that none is inert."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(scale * noise)


def arrays(tensors: Iterator[tuple[str, torch.Tensor]]) -> dict[str, NDArray]:
    """Tensors as arrays."""
    return {name: tensor.detach().numpy() for name, tensor in tensors}


def gradients(model: torch.nn.Module) -> dict[str, NDArray]:
    """Gradients of the parameters that have one."""
    named = ((name, p.grad) for name, p in model.named_parameters() if p.grad is not None)
    return arrays(named)


def gradient_errors(ours: Mapping[str, NDArray], theirs: Mapping[str, NDArray]) -> dict[str, float]:
    """norm(difference) / max(norm, 1e-6 of the norm of all) of each tensor.

    The floor is for gradients that vanish identically: those of the bias of attention's keys.
    """
    total = np.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in theirs.values()))
    return {
        name: float(
            np.linalg.norm(ours[name] - theirs[name])
            / max(np.linalg.norm(theirs[name]), 1e-6 * total)
        )
        for name in theirs
    }


def relative(ours: jax.Array | NDArray, theirs: torch.Tensor) -> float:
    """norm(difference) / norm."""
    reference = theirs.detach().numpy()
    return float(np.linalg.norm(np.asarray(ours) - reference) / np.linalg.norm(reference))
