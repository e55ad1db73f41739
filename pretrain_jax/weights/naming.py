"""Names in published checkpoints: a common prefix is stripped, a classifier's head left out."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import accumulate, takewhile

from numpy.typing import NDArray

from pretrain_jax.weights.torch_file import names

State = Mapping[str, NDArray]
HEADS = frozenset({"head", "classifier", "fc"})  # what classifiers call their last layer
DEEP = 3  # parts of a name, from the left, that may be prefixes or say that it is a head's


@dataclass(frozen=True)
class Layout:
    """How a library names the arrays of a model.

    Attributes:
        keys: the names that the model needs.
        rename: brings a file's names into the form of `keys`.
    """

    keys: Collection[str]
    rename: Callable[[State], State] = lambda state: state


@dataclass(frozen=True)
class Named:
    """A checkpoint's arrays under the names of a layout.

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


def named_as(state: State, layouts: Mapping[str, Layout]) -> Named:
    """The arrays under the names of the layout that fits best, without a prefix that all share.

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
    """The first few prefixes of a name that end at a dot, the shortest first."""
    return list(accumulate(f"{part}." for part in key.split(".", DEEP)[:-1]))


def _common_prefixes(state: State) -> list[str]:
    """Prefixes that all names but those of a head share."""
    keys = [key for key in state if not _is_head(key)]
    if not keys:
        return []
    return list(
        takewhile(lambda prefix: all(k.startswith(prefix) for k in keys), _prefixes(keys[0]))
    )


def _stripped(state: State, prefix: str) -> dict[str, NDArray]:
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _hint(state: State, layout: Layout, fitting: int) -> str:
    """Which prefix to strip by hand, where more names fit without it than do now."""
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
