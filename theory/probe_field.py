"""Defines the law of the probe's field: standard normal, or measured on data."""

import dataclasses
import hashlib
from typing import Any, ClassVar

import jax
import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_range, is_concrete
from hardset.pytree import content_hash, pytree_dataclass, same_content


@pytree_dataclass
class NormalField:
    """A probe field z ~ N(0, 1), as Gaussian inputs give it."""

    name: ClassVar[str] = "normal"

    def record(self) -> dict[str, Any]:
        """Return what describes the law in data files."""
        return {"name": self.name}


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False)
class FieldLaw:
    """A probe field that takes the values `nodes` with the probabilities `weights`.

    Given z, everything else stays Gaussian: u = z cos(theta) + sin(theta) xi. The law of measured
    margins, over their root mean square, is one.

    Attributes:
        nodes: values of z, shape (..., m), root mean square near 1.
        weights: their probabilities, shape (..., m), >= 0, summing to 1.

    Raises:
        ValueError: weights that are negative or do not sum to 1, shapes that do not fit.
    """

    nodes: ArrayLike
    weights: ArrayLike

    name: ClassVar[str] = "measured"

    __eq__ = same_content
    __hash__ = content_hash

    def __post_init__(self) -> None:
        for name in ("nodes", "weights"):
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, np.asarray(value, np.float64))
        shapes = np.shape(self.nodes), np.shape(self.weights)
        if not shapes[0] or shapes[0][-1:] != shapes[1][-1:] or not shapes[0][-1]:
            raise ValueError(
                f"nodes has shape {shapes[0]} and weights {shapes[1]}; their last axes must be of "
                "one length m >= 1"
            )
        check_range("nodes", self.nodes, -np.inf, np.inf)
        check_range("weights", self.weights, 0.0, 1.0)
        if is_concrete(self.weights):
            total = np.sum(np.asarray(self.weights, np.float64), axis=-1)
            if np.any(np.abs(total - 1) > 1e-9):
                raise ValueError(f"weights sum to {np.ravel(total)[0]:.9g}; they must sum to 1")

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], None]:
        """Return nodes and weights as leaves with a last axis of their own."""
        names = ("nodes", "weights")
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names], None

    @classmethod
    def tree_unflatten(cls, _: None, leaves: tuple[Any, Any]) -> "FieldLaw":
        """Rebuild the law without validation, since JAX unflattens with tracers too."""
        made = object.__new__(cls)
        for name, leaf in zip(("nodes", "weights"), leaves, strict=True):
            object.__setattr__(made, name, leaf)
        return made

    def record(self) -> dict[str, Any]:
        """Return what describes the law in data files, with a digest of its numbers."""
        digest = hashlib.sha256()
        for values in (self.nodes, self.weights):
            digest.update(np.asarray(values, np.float64).tobytes())
        return {"name": self.name, "sha256": digest.hexdigest()}


ProbeField = NormalField | FieldLaw
