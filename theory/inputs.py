"""Defines the law of the inputs: isotropic, a power law, or any spectrum.

x ~ N(0, C), (1/N) tr C = 1. Teacher T and probe J_p are unit vectors in the C-metric,
T'C T = J_p'C J_p = 1, and T'C J_p = cos(theta).
"""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_integer, check_range, is_concrete
from hardset.pytree import STATIC, pytree_dataclass

Array = jnp.ndarray

CLOSE = 1e-6  # to which a user's spectrum must be normalised


@pytree_dataclass
class Profile:
    """The eigenvalues of C with what teacher and probe have in each eigendirection.

    t is the whitened teacher C^{1/2} T, v the unit vector orthogonal to it in span(t, C^{1/2} J_p)
    on the probe's side. Padding has the share 0.

    Attributes:
        eigenvalue: c_j > 0, mean 1, shape (n,).
        share: share of the N directions, summing to 1, shape (n,).
        teacher: t_j^2, summing to 1, shape (n,).
        direction: v_j^2, summing to 1, shape (n,).
        cross: t_j v_j, summing to 0, shape (n,).
    """

    eigenvalue: Array
    share: Array
    teacher: Array
    direction: Array
    cross: Array


@pytree_dataclass
class Isotropic:
    """Inputs x ~ N(0, I_N)."""

    name: ClassVar[str] = "isotropic"

    def size(self) -> int:
        """Return how many eigenvalues the profile needs."""
        return 1

    def parameters(self) -> dict[str, Any]:
        """Return the law's own numbers, by the names that data files use."""
        return {}

    def record(self) -> dict[str, Any]:
        """Return what describes the law in data files, beside its numbers."""
        return {"name": self.name}


@pytree_dataclass
class PowerLaw:
    """Inputs whose covariance has eigenvalues that fall as a power law.

    They are j^-a for j = 1 .. dim, scaled to the mean 1.

    The squared teacher component T_j^2 is proportional to c_j^r, so that the whitened one is
    t_j^2 ~ c_j^(1+r), and v_j^2 ~ c_j^(1+rv), with random signs: sum_j t_j v_j g(c_j) = 0. For
    a < 1 a limit dim -> infinity exists; for a >= 1 dim is a parameter like any other.

    Attributes:
        dim: number of eigenvalues >= 2, one whole number.
        a: exponent of the spectrum, >= 0, scalar or array.
        r: exponent of the teacher's alignment; 0 is a random teacher.
        rv: exponent of the alignment of the probe's own direction.
    """

    dim: int = dataclasses.field(metadata=STATIC)
    a: ArrayLike
    r: ArrayLike = 0.0
    rv: ArrayLike = 0.0

    name: ClassVar[str] = "powerlaw"

    def __post_init__(self) -> None:
        check_integer("dim", self.dim, 2, 10**7)
        object.__setattr__(self, "dim", int(self.dim))
        check_range("a", self.a, 0.0, 20.0)
        check_range("r", self.r, -20.0, 20.0)
        check_range("rv", self.rv, -20.0, 20.0)

    def size(self) -> int:
        """Return how many eigenvalues the profile needs."""
        return self.dim

    def parameters(self) -> dict[str, Any]:
        """Return the law's own numbers, by the names that data files use."""
        return {"spectrum_a": self.a, "spectrum_r": self.r, "spectrum_rv": self.rv}

    def record(self) -> dict[str, Any]:
        """Return what describes the law in data files, beside its numbers."""
        return {"name": self.name, "dim": self.dim}


@pytree_dataclass
class Spectrum:
    """Inputs whose covariance has given eigenvalues, with a given teacher and probe direction.

    Attributes:
        eigenvalues: c_j > 0 with the mean 1, shape (..., n).
        teacher: components t_j of the whitened teacher C^{1/2} T in the eigenbasis, a unit
            vector, shape (..., n).
        direction: components v_j of the unit vector orthogonal to t in span(t, C^{1/2} J_p), on
            the probe's side, shape (..., n).

    Raises:
        ValueError: eigenvalues that are not positive or of another mean, vectors that are not
            unit or not orthogonal to 1e-6, shapes that do not fit.
    """

    eigenvalues: ArrayLike
    teacher: ArrayLike
    direction: ArrayLike

    name: ClassVar[str] = "spectrum"

    def __post_init__(self) -> None:
        names = ("eigenvalues", "teacher", "direction")
        shapes = [np.shape(getattr(self, name)) for name in names]
        if not shapes[0] or {shape[-1:] for shape in shapes} != {shapes[0][-1:]}:
            raise ValueError(
                f"eigenvalues, teacher and direction have the shapes {shapes}; their last axes "
                "must be of one length n >= 1"
            )
        if not all(is_concrete(getattr(self, name)) for name in names):
            return
        c, t, v = (np.asarray(getattr(self, name), np.float64) for name in names)
        check_range("eigenvalues", c, 0.0, np.inf, open_low=True)
        check_range("teacher", t, -np.inf, np.inf)
        check_range("direction", v, -np.inf, np.inf)
        for said, found, wanted in (
            ("the mean of eigenvalues", c.mean(axis=-1), 1.0),
            ("the squared norm of teacher", np.sum(t**2, axis=-1), 1.0),
            ("the squared norm of direction", np.sum(v**2, axis=-1), 1.0),
            ("the product of teacher and direction", np.sum(t * v, axis=-1), 0.0),
        ):
            off = np.abs(found - wanted)
            if c.shape[-1] > 1 and np.any(off > CLOSE):
                raise ValueError(
                    f"{said} is {np.ravel(found)[np.argmax(off)]:.9g}; it must be {wanted:g}"
                )

    def size(self) -> int:
        """Return how many eigenvalues the profile needs."""
        return int(np.shape(self.eigenvalues)[-1])

    def parameters(self) -> dict[str, Any]:
        """Return the law's own numbers, by the names that data files use."""
        return {}

    def record(self) -> dict[str, Any]:
        """Return what describes the law in data files, beside its numbers."""
        return {"name": self.name, "dim": self.size()}


Inputs = Isotropic | PowerLaw | Spectrum


def power_law_profile(dim: Array, a: Array, r: Array, rv: Array, size: int) -> Profile:
    """Return the profile of a power law, padded to `size` eigenvalues.

    Args:
        dim: number of eigenvalues, a whole number up to `size`; may be traced.
        a: exponent of the spectrum.
        r: exponent of the teacher's alignment.
        rv: exponent of the alignment of the probe's direction.
        size: length of the arrays.
    """
    place = jnp.arange(1, size + 1, dtype=jnp.float64)
    there = place <= dim
    logs = jnp.where(there, -a * jnp.log(place), -jnp.inf)
    # Powers are taken of logarithms, relative to their largest, so that none over- or underflows.
    eigenvalue = jnp.where(there, jnp.exp(logs), 0.0)
    eigenvalue = eigenvalue / (jnp.sum(eigenvalue) / dim)

    def power(exponent: Array) -> Array:
        height = jnp.where(there, exponent * jnp.where(there, logs, 0.0), -jnp.inf)
        part = jnp.where(there, jnp.exp(height - jnp.max(height)), 0.0)
        return part / jnp.sum(part)

    return Profile(
        eigenvalue=jnp.where(there, eigenvalue, 1.0),
        share=there / dim,
        teacher=power(1 + r),
        direction=power(1 + rv),
        cross=jnp.zeros(size),
    )


def spectrum_profile(eigenvalues: Array, teacher: Array, direction: Array, size: int) -> Profile:
    """Return the profile of given eigenvalues and vectors of shape (n,), padded to `size`."""
    missing = (0, size - eigenvalues.shape[0])

    def padded(values: Array, fill: float = 0.0) -> Array:
        return jnp.pad(values, missing, constant_values=fill)

    n = eigenvalues.shape[0]
    return Profile(
        eigenvalue=padded(eigenvalues / jnp.mean(eigenvalues), 1.0),
        share=padded(jnp.full(n, 1.0 / n)),
        teacher=padded(teacher**2),
        direction=padded(direction**2),
        cross=padded(teacher * direction),
    )
