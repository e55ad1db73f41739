"""Makes frozen dataclasses that are JAX pytrees and are compared by their content."""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

from hardset.checks import is_concrete

T = TypeVar("T", bound=type)

STATIC = {"static": True}
BRANCH = {"branch": True}  # a pytree of its own: lists in it are no arrays


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def pytree_dataclass(cls: T) -> T:
    """Make `cls` a frozen dataclass and a JAX pytree.

    Fields with metadata STATIC are not leaves, and those with metadata BRANCH are pytrees of their
    own. Lists and tuples of numbers that are given for a leaf become arrays, since JAX would take
    them for branches. Two objects are equal if their numbers, shapes and static fields are.
    Unflattening bypasses `__init__`: validation belongs to the user's call, and JAX also
    unflattens with tracers, `None` and sentinels.
    """
    validate = cls.__dict__.get("__post_init__")

    def convert_and_validate(self: Any) -> None:
        for name in numbers:
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
    numbers = tuple(f.name for f in fields if not f.metadata)

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
    made.__eq__, made.__hash__ = same_content, content_hash
    return made


def same_content(one: Any, other: object) -> bool:
    """Compare pytrees by structure, shapes and numbers.

    A tracer equals itself alone.
    """
    if type(one) is not type(other):
        return NotImplemented
    (own, structure), (its, its_structure) = jax.tree.flatten(one), jax.tree.flatten(other)
    return bool(structure == its_structure) and all(map(_same, own, its))  # type: ignore[operator]


def content_hash(one: Any) -> int:
    """Compute the hash that goes with `same_content`."""
    leaves, structure = jax.tree.flatten(one)
    return hash((structure, *map(_key, leaves)))


def _same(one: Any, other: Any) -> bool:
    if not (is_concrete(one) and is_concrete(other)):
        return one is other
    return np.array_equal(np.asarray(one), np.asarray(other))


def _key(leaf: Any) -> object:
    if not is_concrete(leaf):
        return id(leaf)
    array = np.asarray(leaf)
    # As Python numbers: equal ones of different types have one hash.
    return (array.shape, *array.ravel().tolist())


def _as_array(name: str, value: Any) -> Any:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        return jax.numpy.asarray(value)
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} = {value!r} is not a number or an array of numbers") from None
