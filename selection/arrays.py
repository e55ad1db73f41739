"""Checks arrays as users hand them over.

Arrays are read block by block, so that files stay on disk.
"""

import math
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BLOCK_VALUES = 1 << 22  # numbers that one block of rows may hold: 32 MiB in double precision
# Beyond these numbers squares, and sums of them, leave the range of the precision.
LARGEST_SINGLE, LARGEST_DOUBLE = 1e15, 1e150
# Below these sizes squares of differences lose digits, or vanish, at the precision's lower end.
SMALLEST_SINGLE, SMALLEST_DOUBLE = 1e-12, 1e-120
DENSE = (
    "sparse matrices are not accepted here: give a dense one (matrix.toarray()), or fewer columns "
    "(sklearn.decomposition.TruncatedSVD)"
)
SHAPES = {1: "(n,)", 2: "(n, d)", 3: "(n, A, d)"}


def host_array(values: Any) -> Any:
    """Turn a tensor into a NumPy array.

    The array is detached, lies on the host, and has single precision where the tensor has half.

    NumPy alone refuses tensors that need a gradient, are on a device or hold bfloat16. Whatever is
    no tensor is returned as it is.
    """
    if not (hasattr(values, "detach") and hasattr(values, "is_floating_point")):
        return values
    tensor = values.detach().cpu()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    return tensor.numpy()


def blocks(count: int, width: int) -> Iterator[slice]:
    """Cut rows into slices of at most 2**22 numbers.

    Args:
        count: number of rows.
        width: numbers that a row stands for.
    """
    step = max(1, BLOCK_VALUES // max(width, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def on_disk(parts: Iterable[Array], kind: np.dtype, shape: tuple[int, ...]) -> Array:
    """Copy an array to a temporary file, and map the file.

    The array may be larger than memory. The file has no name, and is gone when the last array that
    maps it is.

    Args:
        parts: consecutive rows.
        kind: of the numbers or texts.
        shape: of the whole, of which no number is 0.

    Raises:
        OSError: no room in the folder of temporary files, which TMPDIR names.
    """
    with tempfile.TemporaryFile(buffering=0) as file:
        for part in parts:
            rest = np.ascontiguousarray(part, kind).view(np.uint8).reshape(-1).data
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as error:
                needed = math.prod(shape) * kind.itemsize
                raise OSError(
                    f"{needed} bytes cannot be copied to the folder of temporary files, "
                    f"{tempfile.gettempdir()}: {error.strerror}; name another with TMPDIR"
                ) from None
        return np.memmap(file, kind, "r", shape=shape)


def rows_of(array: Array, rows: Any) -> Array:
    """Take rows of an array, in their order.

    Many rows of a file are copied to another file.
    """
    if not isinstance(array, np.memmap) or not isinstance(rows, np.ndarray) or not len(rows):
        return array[rows]
    places = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
    shape = (len(places), *array.shape[1:])
    if math.prod(shape) <= BLOCK_VALUES:
        return array[places]
    width = math.prod(shape[1:])
    parts = (array[places[part]] for part in blocks(len(places), width))
    return on_disk(parts, array.dtype, shape)


def real_numbers(name: str, values: ArrayLike) -> Array:
    """Convert numbers to single or double precision.

    Half precision becomes single, and whole numbers become double.

    Raises:
        ValueError: they are no real numbers.
    """
    array = _array(name, values)
    if array.dtype in (np.float32, np.float64):
        return array
    if _is_floating(array.dtype):
        wide = np.dtype(np.float32 if array.dtype.itemsize < 4 else np.float64)
        if isinstance(array, np.memmap) and array.size > BLOCK_VALUES:
            own = blocks(len(array), array[0].size)
            return on_disk((array[part] for part in own), wide, array.shape)
        return array.astype(wide)
    if array.dtype.kind not in "bui":
        remedy = "; convert it by array.astype(float)" if array.dtype.kind in "OU" else ""
        raise ValueError(f"{name} has dtype {array.dtype}; it must hold real numbers{remedy}")
    return array.astype(np.float64)


def _array(name: str, values: ArrayLike) -> Array:
    """Make an array of an array-like.

    It is a ValueError if the array-like has no shape of its own.
    """
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise ValueError(f"{name} is a {type(values).__name__} of SciPy; {DENSE}")
    try:
        array = np.asanyarray(host_array(values))
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{name} is no array: {error}") from None
    check_unmasked(name, array)
    return array


def check_unmasked(name: str, array: Any) -> None:
    """Raise ValueError if a masked array hides a value.

    The value below a mask is no number.
    """
    if np.ma.is_masked(array):
        place = tuple(int(at) for at in np.argwhere(np.ma.getmaskarray(array))[0])
        index = place[0] if len(place) == 1 else place
        raise ValueError(f"{name} is masked at index {index}; every value must be there")


def _is_floating(kind: np.dtype) -> bool:
    """Say whether numbers are floating-point ones.

    Types like bfloat16 are among them.
    """
    extra = sys.modules.get("ml_dtypes")  # no array has one of its types before it is imported
    if kind.kind != "V" or extra is None:
        return kind.kind == "f"
    try:
        extra.finfo(kind)
    except ValueError:
        return False
    return True


def real_rows(name: str, values: ArrayLike, ndim: tuple[int, ...]) -> Array:
    """Check that an array holds finite real numbers in an allowed number of dimensions.

    Args:
        name: the argument's name, as the user wrote it.
        values: an array-like; float32 and float64 arrays are not copied, see `real_numbers`.
        ndim: numbers of dimensions that are valid.

    Raises:
        ValueError: another dimension, no rows, no numbers; the first row with NaN or infinity.
    """
    array = real_numbers(name, values)
    if array.ndim not in ndim or 0 in array.shape:
        shapes = " or ".join(SHAPES[count] for count in ndim)
        raise ValueError(f"{name} has shape {array.shape}; it must be {shapes}, none of them 0")
    for rows in blocks(len(array), array[0].size):
        finite = np.isfinite(array[rows])
        if not np.all(finite):
            index = tuple(int(i) for i in np.argwhere(~finite)[0])
            where = (rows.start + index[0], *index[1:])
            place = where[0] if len(where) == 1 else where
            raise ValueError(
                f"{name} holds {array[where]} at index {place}; every value must be a finite number"
            )
    return array


def whole_numbers(name: str, values: ArrayLike) -> Integers:
    """Check that an array of shape (n,) holds whole numbers.

    The ValueError names the first entry that is none.
    """
    array = _array(name, values)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"{name} has shape {array.shape}; it must be (n,), n at least 1")
    if array.dtype.kind in "uf" and np.any(too_large := np.abs(array) >= 2**63):
        index = int(np.argmax(too_large))
        raise ValueError(
            f"{name} holds {array[index]} at index {index}, outside the 64-bit integers; "
            "numbers up to 2^64 fit as text, or viewed as int64"
        )
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    if array.dtype.kind != "f":
        raise ValueError(f"{name} has dtype {array.dtype}; it must hold whole numbers")
    broken = ~np.isfinite(array) | (array != np.floor(array))
    if np.any(broken):
        index = int(np.argmax(broken))
        raise ValueError(f"{name} holds {array[index]} at index {index}, not a whole number")
    return array.astype(np.int64)


def unit_rows(name: str, rows: Array, first_row: int = 0) -> Array:
    """Divide the rows of an array by their norms.

    The array has the shape (n, ..., d) and keeps its precision.

    Args:
        name: the argument's name, as the user wrote it.
        rows: the array, or a block of it.
        first_row: the block's first row, for messages.

    Raises:
        ValueError: the first row of norm zero, which has no direction.
    """
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    # Squares of a short row lose digits or vanish: times a power of two its direction stays.
    short = np.flatnonzero(norms.ravel() < (1e-12 if rows.dtype == np.float32 else 1e-120))
    if len(short):
        rows = np.array(rows)
        few = rows.reshape(-1, rows.shape[-1])
        exponents = np.frexp(np.max(np.abs(few[short]), axis=1, keepdims=True))[1]
        few[short] = np.ldexp(few[short], -exponents)
        norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not np.all(norms > 0):
        first, *rest = (int(i) for i in np.argwhere(norms[..., 0] == 0)[0])
        place = (first_row + first, *rest) if rest else first_row + first
        raise ValueError(
            f"{name} has norm zero at row {place}; cosine similarity needs rows with a direction"
        )
    return rows / norms


def check_squares(name: str, array: Array) -> None:
    """Raise ValueError for the first number whose square would overflow in a sum."""
    limit = LARGEST_SINGLE if array.dtype == np.float32 else LARGEST_DOUBLE
    for rows in blocks(len(array), array[0].size):
        block = np.asarray(array[rows])
        if np.max(block) > limit or np.min(block) < -limit:
            first, *rest = (int(i) for i in np.argwhere(np.abs(block) > limit)[0])
            where = (rows.start + first, *rest)
            raise ValueError(
                f"{name} holds {array[where]:g} at index {where}; squares of {array.dtype} numbers "
                f"beyond {limit:g} overflow, scale them down"
            )


def square_distances(rows: Array, point: Array) -> Floats:
    """Compute the squared distance of every row to a point.

    It is norm(x - point)^2 of a row x, computed by differences: copies are at 0 exactly.
    """
    found = np.empty(len(rows))
    point = np.asarray(point, np.float64)
    for part in blocks(len(rows), rows.shape[1]):
        difference = rows[part] - point
        found[part] = np.einsum("ij,ij->i", difference, difference)
    return found


def class_codes(name: str, labels: ArrayLike) -> tuple[Integers, Array | None]:
    """Turn labels into whole numbers.

    Args:
        name: the argument's name, as the user wrote it.
        labels: whole numbers, which stay as they are, or strings, shape (n,).

    Returns:
        The numbers, shape (n,), and the distinct names in sorted order, of which they are the
        positions; None instead of names for labels that are numbers.

    Raises:
        ValueError: another shape, a value that is neither, with its index.
    """
    values = host_array(labels)
    check_unmasked(name, values)
    array = np.asarray(values)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind == "O" and array.ndim == 1 and len(array):
        array = _of_objects(name, array)
    if array.ndim == 1 and len(array) and array.dtype == np.int64:
        return array, None  # without a copy
    if array.dtype.kind not in "UT" or array.ndim != 1 or len(array) == 0:
        return whole_numbers(name, array), None
    names, codes = np.unique(array.astype(np.str_), return_inverse=True)
    return codes.astype(np.int64), names


def _of_objects(name: str, array: Array) -> Array:
    """Read strings or numbers out of an array of Python objects.

    All objects must be of one kind.
    """
    texts = [isinstance(one, str) for one in array]
    numbers = [isinstance(one, int | float | np.number | np.bool_) for one in array]
    kinds = texts if any(texts) else numbers
    if not all(kinds):
        index = kinds.index(False)
        raise ValueError(
            f"{name} holds {array[index]!r} at index {index}; labels must be all whole numbers or "
            "all strings"
        )
    return array.astype(np.str_) if any(texts) else np.asarray(array.tolist())


def class_rows(labels: Integers | None, n: int) -> list[Integers]:
    """List the rows of every class, ascending.

    The classes stand in the order of their first rows.
    """
    if labels is None:
        return [np.arange(n)]
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return sorted(np.split(order, cuts), key=lambda rows: int(rows[0]))


def lifted(rows: Array, before: Array) -> tuple[float, Array, Array]:
    """Scale rows of one space to a size whose squares keep all digits.

    Args:
        rows: shape (n, ...); rows of ordinary size come back as they are.
        before: others of the same space, shape (k, ...).

    Returns:
        What to multiply a distance among the returned rows with, a power of two, and the rows.
    """
    exponent = lift_exponent(rows, before)
    if exponent == 0:
        return 1.0, rows, before
    scale = float(np.ldexp(1.0, -exponent))
    return scale, np.ldexp(rows, exponent), np.ldexp(before, exponent)


def lift_exponent(*arrays: Array, single: bool = False) -> int:
    """Find the power of two that scales tiny arrays to ordinary size.

    The exponent e is such that 2^e times the arrays reach [1/2, 1). It is 0 for ordinary arrays.

    Args:
        *arrays: shape (n, ...).
        single: whether the work is done in single precision, whatever the arrays' own.
    """
    largest = 0.0
    for array in arrays:
        for part in blocks(len(array), array[0].size if len(array) else 1):
            block = np.asarray(array[part])
            largest = max(largest, float(np.max(block)), -float(np.min(block)))
    narrow = single or any(array.dtype == np.float32 for array in arrays if len(array))
    if largest == 0 or largest >= (SMALLEST_SINGLE if narrow else SMALLEST_DOUBLE):
        return 0
    return -int(np.frexp(largest)[1])
