"""Frozen dataclasses that are JAX pytrees."""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

T = TypeVar("T", bound=type)

STATIC = {"static": True}


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def pytree_dataclass(cls: T) -> T:
    """Make `cls` a frozen dataclass and a pytree; fields with metadata STATIC are not leaves.

    Lists and tuples of numbers given for a leaf become arrays: JAX would take them for branches.
    Unflattening bypasses `__init__`: validation belongs to the user's call, and JAX also
    unflattens with tracers, `None` and sentinels.
    """
    validate = cls.__dict__.get("__post_init__")

    def convert_and_validate(self: Any) -> None:
        for name in leaves:
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, _as_array(name, value))
        if validate is not None:
            validate(self)

    cls.__post_init__ = convert_and_validate  # type: ignore[attr-defined]
    made: Any = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(made)
    static = tuple(f.name for f in fields if f.metadata.get("static"))
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))

    def flatten_with_keys(node: Any) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        children = [(jax.tree_util.GetAttrKey(name), getattr(node, name)) for name in leaves]
        return children, tuple(getattr(node, name) for name in static)

    def flatten(node: Any) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(node, name) for name in leaves], tuple(
            getattr(node, name) for name in static
        )

    def unflatten(auxiliary: tuple[Any, ...], children: Any) -> Any:
        node = object.__new__(made)
        for name, value in zip(leaves, children, strict=True):
            object.__setattr__(node, name, value)
        for name, value in zip(static, auxiliary, strict=True):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(made, flatten_with_keys, unflatten, flatten)
    return made


def _as_array(name: str, value: Any) -> Any:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        return jax.numpy.asarray(value)
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} = {value!r} is not a number or an array of numbers") from None
