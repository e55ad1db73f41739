"""Solver threads and the JAX devices that they call."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

import jax

from hardset.checks import check_range

__all__ = ["in_order", "local_devices", "solver_pool"]

T = TypeVar("T")


def local_devices(count: int | None) -> list[jax.Device | None]:
    """The first `count` devices of this process; None stands for JAX's default device alone.

    Raises:
        ValueError: `count` is below 1 or above the number of devices.
    """
    if count is None:
        return [None]
    there = jax.local_devices()
    if count > len(there):
        raise ValueError(
            f"devices = {count}, but JAX sees {len(there)} of the kind {there[0].platform}; a CPU "
            f"counts as more with XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        )
    check_range("devices", count, 1, len(there))
    return list(there[:count])


def solver_pool(threads: int, devices: Sequence[jax.Device | None]) -> ThreadPoolExecutor:
    """Threads that call the devices in turn; at least one thread a device."""
    turns = itertools.cycle(devices)

    def take_device() -> None:
        device = next(turns)
        if device is not None:
            # A setting of this thread only, for as long as it lives.
            jax.default_device(device).__enter__()

    return ThreadPoolExecutor(max(threads, len(devices)), initializer=take_device)


def in_order(pool: Executor | None, calls: Sequence[Callable[[], T]]) -> Iterator[T]:
    """Results of `calls` in order, computed ahead by `pool`, or one by one without a pool."""
    if pool is None:
        for call in calls:
            yield call()
        return
    futures = [pool.submit(call) for call in calls]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
