"""Solves grids as lanes of one compiled loop.

Grids of numbers are solved in chunks, with one thread for each processor. Grids of tracers carry
derivatives, for which only products are left to transpose.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from hardset.compilation import make_room

Array = jnp.ndarray
T = TypeVar("T")

CHUNK = 256
SHARE = 16  # points that are worth a thread
FEW = (8, 64)  # points that are prepared together where there are no more


def map_lanes(
    lane: Callable[[Any], T], points: Any, prepare: Callable[[Any], Any] = lambda chunk: chunk
) -> T:
    """Apply `lane` to every point in order, and return writable NumPy arrays.

    A lane at a time beats vmap on CPU: no lane waits for the slowest one.

    Args:
        lane: a pure function of one point, scalars in the tree of `points`. One compilation serves
            grids of every size as long as it is the same object.
        points: a pytree of NumPy arrays whose first axes have one length.
        prepare: maps a chunk of points to what `lane` takes, all of them at once.
    """
    make_room()  # every kind of problem is a program of its own
    columns, tree = jax.tree.flatten(points)
    count = len(columns[0])

    threads = os.cpu_count() or 1
    # Every thread has its share of a small grid, too.
    length = min(CHUNK, max(SHARE, -(-count // threads)))

    def prepared(start: int) -> Any:
        size = min(length, count - start)
        # Preparing takes longer than solving for some policies, so few points are not padded to
        # many before it.
        least = next((few for few in FEW if size <= few), CHUNK)
        padded = [_resized(column[start : start + size], least) for column in columns]
        chunk = prepare(jax.tree.unflatten(tree, padded))
        if least < CHUNK:
            chunk = jax.tree.map(lambda leaf: _resized(np.asarray(leaf), CHUNK), chunk)
        return chunk

    def run(start: int) -> Any:
        size = min(length, count - start)
        with jax.enable_x64(True):  # the setting is a thread's own
            out = _map_chunk(lane, prepared(start) if start else first, size)
            # Copies: JAX's own memory cannot be written to.
            return jax.tree.map(lambda column: np.array(np.asarray(column)[:size]), out)

    with jax.enable_x64(True):
        first = prepared(0)
    if count <= length:
        return run(0)
    with jax.enable_x64(True):
        _map_chunk(lane, first, 0)  # compiles once, before the threads
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(run, range(0, count, length)))
    return jax.tree.map(lambda *pieces: np.concatenate(pieces), *parts)


def _resized(column: np.ndarray, length: int) -> np.ndarray:
    """Repeat a column's entries up to a length; an empty one becomes ones."""
    shape = (length, *column.shape[1:])
    return np.resize(column, shape) if len(column) else np.ones(shape)


@partial(jax.jit, static_argnums=0)
def _map_chunk(lane: Callable[[Any], Any], points: Any, count: Array) -> Any:
    """Apply `lane` to the first `count` points of a chunk."""
    lane = jax.jit(lane, inline=True)  # traced once, for the shapes and for the loop

    def step(i: Array, out: Any) -> Any:
        value = lane(jax.tree.map(lambda column: column[i], points))
        return jax.tree.map(lambda column, entry: column.at[i].set(entry), out, value)

    example = jax.eval_shape(lambda: lane(jax.tree.map(lambda column: column[0], points)))
    empty = jax.tree.map(lambda entry: jnp.zeros((CHUNK, *entry.shape), entry.dtype), example)
    return jax.lax.fori_loop(0, count, step, empty)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def trace_lanes(lane: Callable[[list[Array]], Any], columns: list[Array]) -> Any:
    """Apply `lane` to every entry of columns that are tracers.

    The answer can be differentiated once, forwards or backwards.

    Args:
        lane: a pure function of scalars or vectors, one for each column, to a pytree of scalars.
        columns: arrays whose first axes have one length.
    """
    return jax.lax.map(lane, columns)


def _differentiate(
    lane: Callable[[list[Array]], Any], primals: tuple[list[Array]], tangents: tuple[list[Any]]
) -> tuple[Any, Any]:
    """Differentiate all lanes, with the Jacobian computed here in double precision.

    Only a product of numbers is left to transpose, perhaps in the caller's single precision.
    """
    (columns,), (moves,) = primals, tangents
    moved = [i for i, move in enumerate(moves) if not isinstance(move, SymbolicZero)]
    if any(columns[i].ndim > 1 for i in moved):
        raise NotImplementedError(
            "replica has no derivatives with respect to the vectors of Spectrum or LabelSteps: "
            "differentiate numerically"
        )
    with jax.enable_x64(True):
        values, rates = jax.lax.map(partial(_lane_rates, lane, moved), columns)
        rates = jax.tree.map(_once, rates)

        def tangent(value: Array, rate: Array) -> Any:
            if value.dtype != jnp.float64:
                return np.zeros(value.shape, jax.dtypes.float0)
            return sum(rate[:, k] * moves[i] for k, i in enumerate(moved))

        return values, jax.tree.map(tangent, values, rates)


trace_lanes.defjvp(_differentiate, symbolic_zeros=True)


def _lane_rates(
    lane: Callable[[list[Array]], Any], moved: Sequence[int], point: list[Array]
) -> tuple[Any, Any]:
    """Return one lane's values and their derivatives by the scalars `moved`.

    The scalars are the first axis of the derivatives.
    """

    def of(*values: Array) -> Any:
        full = list(point)
        for i, value in zip(moved, values, strict=True):
            full[i] = value
        return lane(full)

    values, push = jax.linearize(of, *(point[i] for i in moved))
    rates = jax.vmap(push)(*jnp.eye(len(moved)))

    def each(entry: Array, rate: Array) -> Array:
        # Integers have no derivative; zeros keep the tree.
        return rate if rate.dtype == jnp.float64 else jnp.zeros((len(moved), *entry.shape))

    return values, jax.tree.map(each, values, rates)


@jax.custom_jvp
def _once(rate: Array) -> Array:
    return rate


@_once.defjvp
def _refuse(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    raise NotImplementedError(
        "replica has first derivatives only: differentiate them numerically for a second one"
    )
