"""Writes and reads checkpoints by Orbax.

They are written atomically, the newest are kept, and damaged ones are recognised.

A checkpoint holds three groups of arrays (weights, average, optimizer) and a JSON part with
configuration, statistics of the data, the loader's state and a fingerprint of each group. The
fingerprint is computed on the device from the bits that were to be written, so that what is read
can be told from it whatever happened to the files in between. Beside them lies a listing of the
files with their checksums, by which `hardset verify` checks a checkpoint without any device.
"""

import errno
import io
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from hardset.listing import check_listing, write_listing
from pretrain_jax.train.step import TrainState

SCHEMA = 1
META = "meta"
GOLDEN = 0x9E3779B1  # an odd number near 2^32 over the golden ratio
REMOVALS, REMOVAL_SECONDS = 20, 0.1
WAITS, WAIT_SECONDS = 10, 0.3
# Groups of arrays and the fields of the state in them.
GROUPS = {
    "weights": ("params", "constants"),
    "average": ("ema",),
    "optimizer": ("step", "optimizer"),
}


class CheckpointError(ValueError):
    """Says that no checkpoint is there, or that it cannot be used.

    None can be read, or one cannot be written.
    """


class Checkpoints:
    """Holds the checkpoints of a run's folder.

    Args:
        folder: created when the first one is written.
        keep: how many are kept, the newest.
    """

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self._folder = folder.absolute()
        self._keep = keep

    def steps(self) -> list[int]:
        """List the steps with a finished checkpoint, ascending."""
        if not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def save(self, state: TrainState, meta: dict[str, Any]) -> None:
        """Write the state after its last step.

        Afterwards the oldest beyond `keep` are deleted.

        Args:
            state: on any number of devices.
            meta: JSON-able; see `restore`.

        Raises:
            CheckpointError: it cannot be written, with the reason; those before it are intact.
        """
        ocp = _orbax()
        step = int(state.step)
        groups = _groups(state)
        meta = meta | {
            "schema": SCHEMA,
            "step": step,
            "fingerprints": {name: int(fingerprint(group)) for name, group in groups.items()},
        }
        items = {name: ocp.args.StandardSave(group) for name, group in groups.items()}
        try:
            with _quiet(), self._manager() as manager:
                manager.save(step, args=ocp.args.Composite(**items, meta=ocp.args.JsonSave(meta)))
            if jax.process_index() == 0:
                write_listing(self._folder / str(step))
        except Exception as error:  # Orbax and TensorStore raise many types when a write fails
            self._remove_unfinished()
            before = [found for found in self.steps() if found != step]
            kept = f"that of step {before[-1]} is intact" if before else "there is none before it"
            raise CheckpointError(
                f"the checkpoint of step {step} cannot be written to {self._folder}: "
                f"{_reason(error)}; {kept}"
            ) from None

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Return the newest checkpoint that is whole.

        A message on stderr names each that is not.

        Args:
            like: shapes, types and shardings of the state.

        Returns:
            The state and the JSON part, or None where no checkpoint was ever finished.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return _read_state(self._folder / str(step), like)
            except CheckpointError as error:
                others = "trying the one before it" if step != steps[0] else "it was the last one"
                print(f"warning: {error}: refused, {others}", file=sys.stderr)
        if steps:
            raise CheckpointError(
                f"every checkpoint in {self._folder} is damaged (steps "
                f"{', '.join(map(str, steps))}); to start again delete the folder {self._folder}"
            )
        return None

    def remove_after(self, step: int) -> None:
        """Delete checkpoints beyond `step`.

        Damaged ones would be in the way.
        """
        for found in self.steps():
            if found > step and jax.process_index() == 0:
                shutil.rmtree(self._folder / str(found))

    def _manager(self) -> Any:
        ocp = _orbax()
        return ocp.CheckpointManager(
            self._folder,
            item_names=(*GROUPS, META),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=self._keep, enable_async_checkpointing=False, create=True
            ),
        )

    def _remove_unfinished(self) -> None:
        if jax.process_index() != 0:
            return
        # Orbax's threads may still be writing the other parts.
        for _ in range(REMOVALS):
            left = [path for path in self._folder.glob("*") if not path.name.isdigit()]
            if not left:
                return
            for path in left:
                shutil.rmtree(path, ignore_errors=True)
            time.sleep(REMOVAL_SECONDS)


def read_weights(
    folder: Path, like: Any, *, average: bool
) -> tuple[dict[str, jax.Array], dict[str, Any]]:
    """Read parameters and constants of one checkpoint by name, verified.

    Args:
        folder: of one step.
        like: a `TrainState` of shapes; only params, constants and ema are looked at.
        average: whether to take the moving average in the place of the parameters.

    Raises:
        CheckpointError: it is damaged or of another model.
    """
    meta = read_meta(folder)
    groups = _groups(like)
    weights = _read_group(folder, "weights", groups["weights"], meta)
    if average:
        weights |= _read_group(folder, "average", groups["average"], meta)
    return weights, meta


def read_meta(folder: Path) -> dict[str, Any]:
    """Read the JSON part of one checkpoint.

    Raises:
        CheckpointError: it is missing, damaged or of a newer version.
    """
    ocp = _orbax()
    jax.devices()  # without a device nothing is damaged: this raises by itself
    try:
        # Those of earlier versions have no listing; the arrays' fingerprints are checked anyway.
        check_listing(folder)
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            meta: dict[str, Any] = reader.restore(folder.absolute() / META)
        schema = int(meta["schema"])
    except (MemoryError, PermissionError):  # no damage either
        raise
    except Exception as error:
        raise CheckpointError(
            f"checkpoint {folder} is damaged or none: {_first_line(error)}"
        ) from None
    if schema > SCHEMA:
        raise CheckpointError(
            f"checkpoint {folder} has version {schema}; this version reads up to {SCHEMA}"
        )
    return meta


@jax.jit
def fingerprint(group: dict[str, jax.Array]) -> jax.Array:
    """Return a 32-bit number that depends on every bit of every array and its place.

    The sum over an array's words, each scrambled together with its place, modulo 2^32, chained
    over the arrays in the order of their names: exact integers, the same under every sharding.
    """
    total = jnp.uint32(len(group))
    for name in sorted(group):
        words = _words(group[name])
        places = jax.lax.iota(jnp.uint32, words.size).reshape(words.shape)
        scrambled = _scramble(words ^ (places * jnp.uint32(GOLDEN)))
        total = total * jnp.uint32(GOLDEN) + jnp.sum(scrambled, dtype=jnp.uint32)
    return total


def _scramble(words: jax.Array) -> jax.Array:
    """Scramble words by the finaliser of MurmurHash3.

    Every input bit changes about half of the output bits.
    """
    words = (words ^ (words >> 16)) * jnp.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * jnp.uint32(0xC2B2AE35)
    return words ^ (words >> 16)


def _words(array: jax.Array) -> jax.Array:
    """Return the array's bits as uint32.

    An entry has one word or two.
    """
    size = array.dtype.itemsize
    if size >= 4:
        return jax.lax.bitcast_convert_type(array, jnp.uint32)
    narrow = {1: jnp.uint8, 2: jnp.uint16}[size]
    return jax.lax.bitcast_convert_type(array, narrow).astype(jnp.uint32)


def _read_state(folder: Path, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
    meta = read_meta(folder)
    found: dict[str, jax.Array] = {}
    for name, group in _groups(like).items():
        found |= _read_group(folder, name, group, meta)
    paths, tree = jax.tree_util.tree_flatten_with_path(like)
    return jax.tree.unflatten(tree, [found[_name(path)] for path, _ in paths]), meta


def _read_group(
    folder: Path, name: str, like: dict[str, Any], meta: dict[str, Any]
) -> dict[str, jax.Array]:
    ocp = _orbax()
    if not like:
        return {}
    try:
        with _quiet(), ocp.StandardCheckpointer() as reader:
            found: dict[str, jax.Array] = reader.restore(folder.absolute() / name, target=like)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"checkpoint {folder} is damaged or of another model: {_first_line(error)}"
        ) from None
    if int(fingerprint(found)) != meta["fingerprints"].get(name):
        raise CheckpointError(
            f"checkpoint {folder} is damaged: the {name} read are not those that were written"
        )
    return found


def _groups(state: TrainState) -> dict[str, dict[str, Any]]:
    """Return the arrays of each group by name.

    Groups without any are left out.
    """
    named = {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]}
    groups = {
        group: {name: leaf for name, leaf in named.items() if name.split("/")[0] in of}
        for group, of in GROUPS.items()
    }
    return {group: arrays for group, arrays in groups.items() if arrays}


def _name(path: Any) -> str:
    """Return a leaf's place as text.

    It is the same in NNX's graph and tree mode.
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the tracebacks of failures that become one sentence here.

    They are those of Orbax and TensorStore.

    TensorStore's threads print theirs whatever loggers and hooks are set, and some of them after
    the failure itself. What is printed while nothing fails is printed at the end.
    """
    logger = logging.getLogger("absl")
    level, shown, held = logger.level, sys.stderr, io.StringIO()
    logger.setLevel(logging.CRITICAL)
    sys.stderr = held
    try:
        yield
        shown.write(held.getvalue())
    except BaseException:
        before = -1
        for _ in range(WAITS):
            now = len(held.getvalue())
            if now == before:
                break
            before = now
            time.sleep(WAIT_SECONDS)
        raise
    finally:
        sys.stderr = shown
        logger.setLevel(level)


def _reason(error: Exception) -> str:
    """Say why a write failed."""
    full = "RESOURCE_EXHAUSTED" in str(error) or os.strerror(errno.ENOSPC) in str(error)
    return "the disk is full" if full else _first_line(error)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__


def _orbax() -> Any:
    try:
        import orbax.checkpoint
    except ImportError:
        raise ValueError(
            "checkpoints need the package orbax-checkpoint, which is not installed: "
            "pip install 'hardset[pretrain]'"
        ) from None
    return orbax.checkpoint
