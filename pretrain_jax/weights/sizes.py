"""Reads a model's sizes off the names and shapes of a checkpoint's arrays."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from hardset.cli import one_line
from pretrain_jax.weights.mapping import Entry, State
from pretrain_jax.weights.torch_file import WeightsError

HEAD_SIZE = 64  # numbers of an attention head in nearly all published sizes


class Sizes:
    """Finds the shapes of a checkpoint's arrays by the variables that they are.

    Args:
        state: name -> array, under the names of `table`.
        table: of a model of one block.
    """

    def __init__(self, state: State, table: Iterable[Entry]) -> None:
        self.state = state
        self.keys = {entry.path: entry.keys for entry in table}

    def has(self, path: str) -> bool:
        """Say whether the checkpoint has the arrays of a variable."""
        keys = self.keys.get(path, ())
        return bool(keys) and all(key in self.state for key in keys)

    def shape(self, path: str, axes: int) -> tuple[int, ...]:
        """Return the shape of the first array of a variable.

        Args:
            path: the variable.
            axes: that the array must have.

        Raises:
            WeightsError: there is no such array, or it has another number of axes.
        """
        key = self.keys[path][0]
        if key not in self.state:
            raise WeightsError(f"{key} is missing, which tells the model's size")
        shape = self.state[key].shape
        if len(shape) != axes:
            raise WeightsError(f"{key} has the shape {shape}; {axes} axes are needed")
        if 0 in shape:
            raise WeightsError(f"{key} has the shape {shape}: it is empty, and no size can be 0")
        return shape

    def patches(self, path: str = "embed.kernel") -> tuple[int, int, int]:
        """Return a token's length, channels and patch size by the patch projection.

        Raises:
            WeightsError: patches that are not square.
        """
        width, channels, rows, columns = self.shape(path, 4)
        if rows != columns:
            raise WeightsError(
                f"{self.keys[path][0]} has patches of {rows} x {columns} pixels, which must be "
                "square"
            )
        return width, channels, rows

    def side(self, extra: int, path: str = "positions") -> int:
        """Return the rows of a square table of positions.

        Args:
            extra: tokens before the patches.
            path: the variable, stored as (1, tokens, width).

        Raises:
            WeightsError: the table is not that of a square.
        """
        count = self.shape(path, 3)[1] - extra
        side = math.isqrt(max(count, 0))
        if side < 1 or side**2 != count:
            raise WeightsError(
                f"{self.keys[path][0]} has positions of {count} patches, which make no square"
            )
        return side

    def depth(self, path: str = "blocks.0.norm1.scale") -> int:
        """Return the number of blocks."""
        prefix, zero, _ = self.keys[path][0].partition(".0.")
        number = re.compile(re.escape(prefix + zero[:1]) + r"(\d{1,6})\.")
        return len({found[1] for key in self.state if (found := number.match(key))}) or 1

    def dtype(self) -> Literal["float32", "float64"]:
        """Return the type to compute in: float64 where the arrays are, and JAX may."""
        arrays = [
            self.state[key] for keys in self.keys.values() for key in keys if key in self.state
        ]
        wide = all(array.dtype == np.float64 for array in arrays)
        return "float64" if wide and jnp.result_type(float) == jnp.float64 else "float32"


def heads_of(
    width: int, known: Mapping[str, Any], sizes: Mapping[int, int] | None = None
) -> tuple[int, tuple[str, ...]]:
    """Return the number of attention heads, which no array tells.

    Args:
        width: length of a token.
        known: entries of config.json.
        sizes: numbers of a head at published widths where there are not 64.

    Returns:
        The number, and a sentence where it was assumed.

    Raises:
        WeightsError: it is not known.
    """
    if "num_attention_heads" in known:
        return known["num_attention_heads"], ()
    size = (sizes or {}).get(width, HEAD_SIZE)
    if width % size:
        raise WeightsError(
            f"its tokens have {width} numbers, which is no published size, so that the number of "
            "attention heads is not known: put a config.json with num_attention_heads beside it"
        )
    heads = width // size
    return heads, (f"{heads} attention heads are assumed, {size} numbers each as published",)


def check_known(known: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Check that config.json does not contradict the arrays.

    Args:
        known: entries of config.json.
        found: the same entries as the arrays have them.

    Raises:
        WeightsError: names the first entries that differ.
    """
    differing = [
        f"{name} = {one_line(known[name])} where the arrays need {value}"
        for name, value in found.items()
        if known.get(name, value) not in (value, [value, value])
    ]
    if differing:
        raise WeightsError(f"config.json beside it does not fit: {'; '.join(differing[:4])}")
