"""Meshes of devices: the batch is divided over all of them, parameters over the axis fsdp."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = [
    "batch_sharding",
    "check_batch",
    "global_batch",
    "make_mesh",
    "replicated",
    "state_sharding",
]

DATA, FSDP = "data", "fsdp"


def make_mesh(devices: int | None = None, fsdp: int = 1) -> Mesh:
    """A mesh with the axes (data, fsdp) over the first `devices` devices.

    Args:
        devices: how many; None takes all, of all hosts.
        fsdp: devices over which parameters are sharded; divides `devices`.

    Raises:
        ValueError: more devices than there are, or `fsdp` does not divide them.
    """
    available = jax.devices()
    count = len(available) if devices is None else devices
    if not 1 <= count <= len(available):
        raise ValueError(f"devices = {count} is outside the valid range [1, {len(available)}]")
    if jax.process_count() > 1 and count != len(available):
        raise ValueError(f"devices = {count}: several hosts use all {len(available)} devices")
    if count % fsdp:
        raise ValueError(f"fsdp = {fsdp} does not divide the {count} device(s)")
    grid = np.array(available[:count]).reshape(count // fsdp, fsdp)
    # Auto, or reshapes of sharded axes would have to name their sharding.
    return Mesh(grid, (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def check_batch(batch_size: int, accumulation: int, mesh: Mesh) -> None:
    """Check that every device gets the same number of rows of every part of a batch.

    Raises:
        ValueError: names batch, parts and devices.
    """
    devices, parts = mesh.size, "" if accumulation == 1 else f" in {accumulation} parts"
    if batch_size % (devices * accumulation):
        raise ValueError(
            f"batch_size = {batch_size}{parts} cannot be divided over {devices} devices: it must "
            f"be a multiple of {devices * accumulation}"
        )


def batch_sharding(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Rows, which are the dimension `axis`, over all devices."""
    return _sharding(mesh, *[None] * axis, (DATA, FSDP))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on each device."""
    return _sharding(mesh)


def state_sharding(state: Any, mesh: Mesh) -> Any:
    """A sharding for each array: its longest dimension that fsdp divides, else a copy on each."""
    shards = mesh.shape[FSDP]

    def one(leaf: Any) -> NamedSharding:
        fitting = [n if n % shards == 0 else 0 for n in leaf.shape]
        if shards == 1 or not fitting or max(fitting) == 0:
            return replicated(mesh)
        longest = int(np.argmax(fitting))
        return _sharding(mesh, *[None] * longest, FSDP)

    return jax.tree.map(one, state)


def global_batch(rows: np.ndarray, mesh: Mesh, axis: int = 0) -> jax.Array:
    """The array of all hosts' rows, each host giving its own; dimension `axis` is the rows."""
    sharding = batch_sharding(mesh, axis)
    return jax.make_array_from_process_local_data(sharding, rows)  # type: ignore[no-untyped-call]


def _sharding(mesh: Mesh, *axes: Any) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*axes))  # type: ignore[no-untyped-call]
