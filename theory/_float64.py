"""Double precision at the package's border, whatever the caller's global JAX setting."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from numpy.typing import NDArray

__all__ = ["Float64Array", "IntegerArray", "float64"]

# What a `float64` function returns: a NumPy array, or a tracer under a JAX transformation.
Float64Array = NDArray[np.float64] | jax.Array
IntegerArray = NDArray[np.integer] | jax.Array

P = ParamSpec("P")
T = TypeVar("T")


def float64(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function` with 64-bit JAX types enabled; the caller's setting is restored afterwards.

    Called with numbers it returns NumPy arrays, which keep their digits where a 64-bit JAX array
    would lose them in the caller's next operation; under a transformation it returns tracers.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.enable_x64(True):
            return jax.tree.map(_on_host, function(*args, **kwargs))

    return wrapper


def _on_host(leaf: Any) -> Any:
    concrete = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
    return np.asarray(leaf) if concrete else leaf
