"""Lets public functions compute in double precision, whatever the caller's JAX setting."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from numpy.typing import NDArray

# A `float64` function returns a NumPy array, or a tracer under a JAX transformation.
Float64Array = NDArray[np.float64] | jax.Array
IntegerArray = NDArray[np.integer] | jax.Array

P = ParamSpec("P")
T = TypeVar("T")


def float64(function: Callable[P, T]) -> Callable[P, T]:
    """Make `function` run with 64-bit JAX types.

    Meanwhile arrays of different rank broadcast as in NumPy (`jax_numpy_rank_promotion`). The
    caller's settings are restored afterwards.

    Called with numbers it returns NumPy arrays. They keep their digits where a 64-bit JAX array
    would lose them in the caller's next operation. Under a transformation it returns tracers. In
    a child that was forked after a call it raises RuntimeError, as it would wait for ever there.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        _threads.check()
        with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
            return jax.tree.map(_on_host, function(*args, **kwargs))

    return wrapper


class _Threads:
    """A note of whether this process has started JAX's threads or lost them.

    A child that was forked has lost them, since a fork copies no threads.
    """

    def __init__(self) -> None:
        self.started = False
        self.lost = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forked)

    def forked(self) -> None:
        """Note, in the child, that the parent's threads are gone."""
        self.lost = self.started or _jax_runs()

    def check(self) -> None:
        """Raise RuntimeError in a child that has lost JAX's threads."""
        if self.lost:
            raise RuntimeError(
                "this process was forked from one that had used JAX, whose threads a fork does "
                "not copy: it would wait for ever. Start workers by multiprocessing.get_context("
                "'spawn') or ('forkserver'), or by loky or joblib, or fork before the first call"
            )
        self.started = True


def _jax_runs() -> bool:
    """Tell whether JAX's threads run, whoever started them."""
    # JAX has no public function for it. Where the private one is gone, only our own use counts.
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bool(getattr(bridge, "backends_are_initialized", bool)())


_threads = _Threads()


def _on_host(leaf: Any) -> Any:
    concrete = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
    return np.asarray(leaf) if concrete else leaf
