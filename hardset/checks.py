"""Checks arguments, and names the argument, the value and the valid range in one sentence."""

import difflib
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jax.typing import ArrayLike


def is_concrete(value: Any) -> bool:
    """Tell whether `value` holds numbers.

    A tracer or one of JAX's sentinels does not.
    """
    return not _is_traced(value) and (
        isinstance(value, (int, float, complex, list, tuple)) or hasattr(value, "__array__")
    )


def _is_traced(value: Any) -> bool:
    # JAX is not imported here: without it there are no tracers, and commands start faster.
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)


def check_range(
    name: str,
    value: Any,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
    unit: str = "",
) -> None:
    """Check that every entry of `value` is finite and between `low` and `high`.

    Args:
        name: the argument's name, as the user wrote it.
        value: a scalar or an array; tracers pass unchecked.
        low: lower end of the range.
        high: upper end of the range.
        open_low: whether `low` itself is excluded.
        open_high: whether `high` itself is excluded.
        unit: unit named in the message.

    Raises:
        ValueError: a value is outside the range, NaN or complex; names the first such value and
            the valid range.
    """
    if isinstance(value, str) or value is None:
        raise ValueError(f"{name} = {value!r} is not a number")
    if _is_traced(value):
        return
    array = real_array(name, value)
    below = array <= low if open_low else array < low
    above = array >= high if open_high else array > high
    for bad, trouble in (
        (np.isnan(array), "is not a number in"),
        (~np.isfinite(array) | below | above, "is outside"),
    ):
        if np.any(bad):
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            where = f" at index {index}" if array.ndim else ""
            # All digits where six would not tell the value from an end of the range.
            alike = any(
                end != array[index] and f"{end:.6g}" == f"{array[index]:.6g}" for end in (low, high)
            )
            digits = "" if alike else ".6g"
            left, right = (
                "(" if open_low or np.isinf(low) else "[",
                ")" if open_high or np.isinf(high) else "]",
            )
            raise ValueError(
                f"{name} = {array[index]:{digits}}{where} {trouble} the valid range "
                f"{left}{low:{digits}}, {high:{digits}}{right}" + (f" {unit}" if unit else "")
            )


def check_integer(name: str, value: Any, low: float, high: float) -> None:
    """Check that `value` is one whole number in the closed interval from `low` to `high`.

    Args:
        name: the argument's name, as the user wrote it.
        value: the number; 30.0 is whole, 15.5 and True are not.
        low: lower end of the range.
        high: upper end of the range.

    Raises:
        ValueError: the value and the valid range.
    """
    whole = np.ndim(value) == 0 and not isinstance(value, bool | np.bool_)
    if whole:
        check_range(name, value, low, high)
    if not whole or value != int(value):
        raise ValueError(f"{name} = {value!r} is not a whole number")


# Words of version 0.1 in files and options, with what they are called now.
RENAMED = {
    "f": "keep_fraction",
    "R": "overlap",
    "rho": "probe_overlap",
    "kappa": "margin",
    "delta": "downstream_deg",
    "rivals": "policy",
    "tolerances": "tolerance",
    "simulated_offset": "lo_share",
    "checkpoint": "weights",
    "probe.checkpoint": "probe.weights",
    "propose.sam.checkpoint": "propose.sam.weights",
    "sam_checkpoint": "sam_weights",
    "run": "init",
    "max_skipped_share": "skip_at_most",
    "data.max_skipped_share": "data.skip_at_most",
}


def meant(word: str, known: Iterable[str]) -> str:
    """Suggest a known word in place of an unknown one.

    That is the word's present name if it was renamed, or else the nearest known word. The text is
    the end of a sentence, "" where nothing is near.

    Args:
        word: a key, an option with its hyphens, a command.
        known: what would have been understood.
    """
    options = list(known)
    now = RENAMED.get(word.lstrip("-").replace("-", "_"))
    for one in options:
        if now and one.lstrip("-").replace("-", "_") == now:
            return f"; it is called {one} now"
    near = [one for one in options if len(word.strip("-")) > 1 and one.startswith(word)]
    if len(word.strip("-")) > 1:  # one letter is like any other
        near = near or difflib.get_close_matches(word, options, 1)
    return f"; did you mean {near[0]}?" if near else ""


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Check that `value` is one of the words `choices`.

    Args:
        name: the argument's name, as the user wrote it.
        value: what was given.
        choices: what is valid; the arguments of a Literal type, the keys of a mapping.

    Raises:
        ValueError: the value and what is valid.
    """
    valid = tuple(choices)
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"{name} = {value!r} is not one of {', '.join(valid)}")


def within_right_angle(name: str, angle: "ArrayLike") -> "ArrayLike":
    """Check that angles lie in [0, pi/2] rad.

    Single precision rounds pi/2 itself to 4e-8 above it, which is accepted.

    Args:
        name: the argument's name, as the user wrote it.
        angle: a scalar or an array in radians; tracers pass unchecked.

    Returns:
        The angles, those above pi/2 by no more than that rounding set to pi/2.

    Raises:
        ValueError: the first offending angle and the valid range.
    """
    if is_concrete(angle):
        array = real_array(name, angle)
        rounded = (array > np.pi / 2) & (array <= float(np.float32(np.pi / 2)))
        if np.any(rounded):
            angle = np.where(rounded, np.pi / 2, array)
    check_range(name, angle, 0.0, np.pi / 2, unit="rad")
    return angle


def real_array(name: str, value: Any) -> NDArray[np.float64]:
    """Convert `value` to an array in double precision.

    Raises:
        ValueError: the value is complex, a time or no number.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "cmM":
            return array.astype(np.float64)
        trouble = "is complex; a real number is needed" if array.dtype.kind == "c" else "is a time"
    except (TypeError, ValueError, OverflowError):
        trouble = "is not a number in double precision"
    text = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:60]}..."
    raise ValueError(f"{name} = {text} {trouble}")


# What an extra of the installation brings, by the names that one imports.
EXTRAS = {
    "selection": ("faiss", "numba", "pyarrow", "sklearn"),
    "pretrain": (
        "PIL",
        "av",
        "grain",
        "jinja2",
        "ml_dtypes",
        "orbax",
        "pycocotools",
        "safetensors",
        "skimage",
        "tensorboardX",
        "tifffile",
    ),
    "medical": ("nibabel", "pydicom"),
    "demo": ("mlxtend", "nilearn"),
    "cluster": ("dask", "distributed"),
    "explorer": ("bokeh", "panel"),
    "parity": ("torch", "transformers"),
}


def require(module: str, extra: str = "selection") -> Any:
    """Import a module that an extra of the installation brings.

    Args:
        module: its full name.
        extra: the extra that installs it.

    Raises:
        ValueError: it is missing, with the command that installs it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(_missing(error.name, extra)) from None


def remedy(error: ModuleNotFoundError) -> str | None:
    """Say which extra brings a module that was not found.

    Returns:
        A sentence with the command that installs it, or None for a module that no extra brings.
    """
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return _missing(error.name, extra)
    return None


def _missing(name: str | None, extra: str) -> str:
    return f"the package {name} is not installed: pip install 'hardset[{extra}]'"
