"""Says which array of another library's checkpoint is which variable of a model."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.weights.torch_file import WeightsError, names

FLOATS = {np.dtype(t) for t in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)}
State = Mapping[str, NDArray]
HEADS = frozenset({"head", "classifier", "fc"})  # what classifiers call their last layer
DEEP = 3  # parts of a name, from the left, that may be prefixes or say that it is a head's


@dataclass(frozen=True)
class Layout:
    """Says how a library names the arrays of a model.

    Attributes:
        keys: the names that the model needs.
        rename: brings a file's names into the form of `keys`.
    """

    keys: Collection[str]
    rename: Callable[[State], State] = lambda state: state


@dataclass(frozen=True)
class Named:
    """Holds a checkpoint's arrays under the names of a layout.

    Attributes:
        layout: which one fits best.
        state: name -> array.
        notes: sentences on what was stripped or left out.
        hint: where names of the layout stand behind a prefix that not all share, a sentence;
            else empty.
    """

    layout: str
    state: State
    notes: tuple[str, ...]
    hint: str

    def load_into(self, model: nnx.Module, table: Iterable["Entry"]) -> None:
        """Set a model's variables, strictly.

        Args:
            model: changed in place; untouched where an error is raised.
            table: the layout, one entry for each variable of the model.

        Raises:
            WeightsError: missing, unexpected and misshapen keys, with the hint.
        """
        try:
            load_into(model, self.state, table)
        except WeightsError as error:
            raise WeightsError(f"{error}; {self.hint}" if self.hint else str(error)) from None


def named_as(state: State, layouts: Mapping[str, Layout]) -> Named:
    """Name the arrays by the layout that fits best.

    A prefix that all names share is left out.

    Torch writes `module.` or `encoder.` before every name where a model was wrapped or was part
    of another. A classifier's head (`head.*`) may lack the prefix; it is left out where the layout
    has no such name.

    Args:
        state: name -> array, as read from a file.
        layouts: by name; of those that fit equally well the first is taken.
    """
    best = ("", next(iter(layouts)), -1)
    for prefix in ["", *_common_prefixes(state)]:
        for name, layout in layouts.items():
            fitting = _fitting(layout.rename(_stripped(state, prefix)), layout)
            if fitting > best[2]:
                best = (prefix, name, fitting)
    prefix, name, fitting = best
    layout = layouts[name]
    stripped = _stripped(state, prefix)
    needed = any(map(_is_head, layout.keys))
    heads = set() if needed else set(filter(_is_head, stripped))
    kept = layout.rename({key: value for key, value in stripped.items() if key not in heads})
    notes = [f"the prefix {prefix} of its names is stripped"] if prefix else []
    if heads:
        notes.append(f"not taken, as the model has no classifier: {names(sorted(heads))}")
    return Named(name, kept, tuple(notes), _hint(state, layout, fitting))


def _fitting(state: State, layout: Layout) -> int:
    return sum(key in state for key in layout.keys)


def _is_head(key: str) -> bool:
    return not HEADS.isdisjoint(key.split(".", DEEP)[:DEEP])


def _prefixes(key: str) -> list[str]:
    """Return the first few prefixes of a name, the shortest first.

    They end at a dot.
    """
    return list(accumulate(f"{part}." for part in key.split(".", DEEP)[:-1]))


def _common_prefixes(state: State) -> list[str]:
    """Return the prefixes that all names but those of a head share."""
    keys = [key for key in state if not _is_head(key)]
    if not keys:
        return []
    return list(
        takewhile(lambda prefix: all(k.startswith(prefix) for k in keys), _prefixes(keys[0]))
    )


def _stripped(state: State, prefix: str) -> dict[str, NDArray]:
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _hint(state: State, layout: Layout, fitting: int) -> str:
    """Say which prefix to strip by hand.

    It is one without which more names fit than do now.
    """
    counts = Counter(prefix for key in state for prefix in _prefixes(key))
    for prefix, count in counts.most_common(DEEP**2):
        part = {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
        found = _fitting(layout.rename(part), layout)
        if found > fitting and 2 * found > len(layout.keys):
            return (
                f"{found} of the {len(layout.keys)} names fit without the prefix {prefix}, which "
                f"{count} of the {len(state)} have: save those alone, without it"
            )
    return ""


@dataclass(frozen=True)
class Entry:
    """Holds one variable of a model, and says which arrays it is.

    The arrays are those of a checkpoint.

    Attributes:
        path: the variable, for example "blocks.0.qkv.kernel".
        keys: names in the checkpoint.
        load: makes the variable's value of the arrays.
        save: the inverse of `load`.
    """

    path: str
    keys: tuple[str, ...]
    load: Callable[[Sequence[NDArray]], NDArray]
    save: Callable[[NDArray], Sequence[NDArray]]


@dataclass(frozen=True)
class KeyReport:
    """Lists the keys of a checkpoint that do not fit a model.

    As text it has the first few of each kind.

    Attributes:
        missing: keys that the model needs and the checkpoint lacks.
        unexpected: keys that the model has no place for.
        misshapen: keys of the wrong shape or type, with both.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        lists = {
            "missing keys": self.missing,
            "unexpected keys": self.unexpected,
            "keys of another shape or type": self.misshapen,
        }
        return "; ".join(f"{len(k)} {name}: {names(k, 4)}" for name, k in lists.items() if k)


def same(path: str, key: str, *, leading: int = 0) -> Entry:
    """Return the entry of a variable that is stored as it is.

    In the checkpoint it has `leading` axes of length 1 before its own.
    """
    return Entry(
        path,
        (key,),
        lambda arrays: _unlead(arrays[0], leading),
        lambda value: [value.reshape((1,) * leading + value.shape)],
    )


def _unlead(array: NDArray, leading: int) -> NDArray:
    if array.shape[:leading] != (1,) * leading:
        raise ValueError(f"{leading} axes of length 1 are needed in front")
    return array.reshape(array.shape[leading:])


def transposed(path: str, key: str) -> Entry:
    """Return the entry of a matrix that is stored as (outputs, inputs)."""
    return Entry(path, (key,), lambda arrays: arrays[0].T, lambda value: [value.T])


def fused(path: str, keys: Sequence[str]) -> Entry:
    """Return the entry of a kernel or bias that is stored in parts.

    Each part is a matrix (outputs, inputs).
    """
    return Entry(
        path,
        tuple(keys),
        lambda arrays: np.concatenate([array.T for array in arrays], axis=-1),
        lambda value: [part.T for part in np.split(value, len(keys), axis=-1)],
    )


def patch_embedding(path: str, key: str, patch_size: int, channels: int) -> Entry:
    """Return the entry of a patch projection that is stored as a convolution.

    It is stored as (outputs, channels, rows, columns).
    """
    shape = (patch_size, patch_size, channels, -1)
    return Entry(
        path,
        (key,),
        lambda arrays: arrays[0].transpose(2, 3, 1, 0).reshape(-1, arrays[0].shape[0]),
        lambda value: [value.reshape(shape).transpose(3, 2, 0, 1)],
    )


def check_state(
    model: nnx.Module, state: Mapping[str, NDArray], table: Iterable[Entry]
) -> KeyReport:
    """Say which keys of a checkpoint do not fit a model.

    Args:
        model: the model, abstract (nnx.eval_shape) or not.
        state: name -> array.
        table: the layout, one entry for each variable of the model.
    """
    return _match(model, state, table)[1]


def load_into(
    model: nnx.Module,
    state: Mapping[str, NDArray],
    table: Iterable[Entry],
    *,
    strict: bool = True,
) -> KeyReport:
    """Set a model's variables from a checkpoint.

    They keep their types and shardings.

    Args:
        model: changed in place; untouched where an error is raised.
        state: name -> array.
        table: the layout, one entry for each variable of the model.
        strict: whether missing and unexpected keys are errors; misshapen ones always are.

    Returns:
        The keys that did not fit; empty where `strict`.

    Raises:
        WeightsError: the lists of missing, unexpected and misshapen keys.
    """
    values, report = _match(model, state, table)
    if report.misshapen or (strict and report):
        raise WeightsError(f"the checkpoint does not fit the model; {report}")
    variables = _variables(model)
    new = [
        (path, variables[name].replace(_placed(values[name], variables[name])))
        for path, name in _paths(model)
        if name in values
    ]
    nnx.update(model, nnx.from_flat_state(new))
    return report


def export_state(model: nnx.Module, table: Iterable[Entry]) -> dict[str, NDArray]:
    """Return a model's variables in the layout of a table.

    Loading them gives the same bits.

    Args:
        model: the model.
        table: the layout.

    Returns:
        name -> array, in the variables' types.
    """
    variables = _variables(model)
    state: dict[str, NDArray] = {}
    for entry in table:
        parts = entry.save(np.asarray(variables[entry.path][...]))
        state.update(zip(entry.keys, map(np.ascontiguousarray, parts), strict=True))
    return state


def _match(
    model: nnx.Module, state: Mapping[str, NDArray], table: Iterable[Entry]
) -> tuple[dict[str, NDArray], KeyReport]:
    """Return the values that fit, by variable, and the keys that do not."""
    variables = _variables(model)
    values: dict[str, NDArray] = {}
    known: set[str] = set()
    missing: list[str] = []
    misshapen: list[str] = []
    for entry in table:
        known.update(entry.keys)
        absent = [key for key in entry.keys if key not in state]
        missing += absent
        if absent:
            continue
        arrays = [state[key] for key in entry.keys]
        name, needed = ", ".join(entry.keys), variables[entry.path].shape
        if any(array.dtype not in FLOATS for array in arrays):
            misshapen.append(f"{name} (type {arrays[0].dtype}, a floating-point one is needed)")
            continue
        try:
            value = entry.load(arrays)
        except ValueError:
            value = None
        if value is None or value.shape != needed:
            shapes = ", ".join(str(array.shape) for array in arrays)
            misshapen.append(f"{name} (shape {shapes}, does not give {needed} of {entry.path})")
        else:
            values[entry.path] = value
    unexpected = [key for key in state if key not in known]
    return values, KeyReport(tuple(missing), tuple(unexpected), tuple(misshapen))


def _paths(model: nnx.Module) -> list[tuple[tuple, str]]:
    """Return the path of each variable, and its name."""
    paths = [path for path, _ in nnx.to_flat_state(nnx.state(model))]
    return [(path, ".".join(map(str, path))) for path in paths]


def _variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    """Return the model's variables by name."""
    flat = nnx.to_flat_state(nnx.state(model))
    return {".".join(map(str, path)): variable for path, variable in flat}


def _placed(value: NDArray, variable: nnx.Variable) -> jax.Array:
    """Return the value in the variable's type, where the variable lies."""
    array = np.asarray(value, variable.dtype)
    old = variable.get_value()
    return jax.device_put(array, old.sharding) if isinstance(old, jax.Array) else jnp.asarray(array)


def convolution(path: str, key: str) -> Entry:
    """Return the entry of a convolution's kernel.

    The kernel is (rows, columns, inputs, outputs).

    It is stored as (outputs, inputs, rows, columns).
    """
    return _permuted(path, key, (2, 3, 1, 0), (3, 2, 0, 1))


def transposed_convolution(path: str, key: str) -> Entry:
    """Return the entry of a transposed convolution's kernel.

    The kernel is (inputs, rows, columns, outputs).

    It is stored as (inputs, outputs, rows, columns).
    """
    return _permuted(path, key, (0, 2, 3, 1), (0, 3, 1, 2))


def _permuted(path: str, key: str, load: tuple[int, ...], save: tuple[int, ...]) -> Entry:
    return Entry(
        path,
        (key,),
        lambda arrays: arrays[0].transpose(load),
        lambda value: [value.transpose(save)],
    )
