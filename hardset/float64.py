"""Double precision at the package's border, whatever the caller's global JAX setting."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from numpy.typing import NDArray

# What a `float64` function returns: a NumPy array, or a tracer under a JAX transformation.
Float64Array = NDArray[np.float64] | jax.Array
IntegerArray = NDArray[np.integer] | jax.Array

P = ParamSpec("P")
T = TypeVar("T")


def float64(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function` with 64-bit JAX types enabled; the caller's setting is restored afterwards.

    So is his `jax_numpy_rank_promotion`: arrays of different rank broadcast as in NumPy.

    Called with numbers it returns NumPy arrays, which keep their digits where a 64-bit JAX array
    would lose them in the caller's next operation; under a transformation it returns tracers. In
    a child that was forked after a call it raises RuntimeError: there it would wait for ever.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        _threads.check()
        with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
            return jax.tree.map(_on_host, function(*args, **kwargs))

    return wrapper


class _Threads:
    """Whether JAX's threads were started here; a fork copies none of them."""

    def __init__(self) -> None:
        self.started = False
        self.lost = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forked)

    def forked(self) -> None:
        """Note, in the child, that the parent's threads are gone."""
        self.lost = self.started or _jax_runs()

    def check(self) -> None:
        """Raise RuntimeError in a child that has lost them."""
        if self.lost:
            raise RuntimeError(
                "this process was forked from one that had used JAX, whose threads a fork does "
                "not copy: it would wait for ever. Start workers by multiprocessing.get_context("
                "'spawn') or ('forkserver'), or by loky or joblib, or fork before the first call"
            )
        self.started = True


def _jax_runs() -> bool:
    """Say whether somebody else's use of JAX has started its threads."""
    # JAX has no public word for it; where the private one is gone, our own use alone counts.
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bool(getattr(bridge, "backends_are_initialized", bool)())


_threads = _Threads()


def _on_host(leaf: Any) -> Any:
    concrete = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
    return np.asarray(leaf) if concrete else leaf
