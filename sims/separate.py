"""Finds the max-margin separator of a user's own examples.

It reads and checks them, solves, and writes the direction.
"""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardset.arrays import ArrayFileError, load_array, npy_bytes
from hardset.cli import check_output_folder
from hardset.datafile import check_output_file, write_bytes_atomic

if TYPE_CHECKING:
    from sims.maxmargin.solver import MaxMarginStatus

DEFAULT_OUTPUT = "direction.npy"
SOLVED_CODE = 0
UNSOLVED_CODE = 1
NOT_SEPARABLE_CODE = 3
SMALLEST_ROW = 1e-290  # a row that is smaller than this times the largest one is refused


@dataclasses.dataclass(frozen=True)
class UserSolution:
    """The separator of labelled examples, or the proof that there is none.

    Attributes:
        direction: unit vector w, shape (N,): x is labelled by the sign of w x.
        margin: min over the examples of y w x, in the features' units.
        bracket: certified relative gap of `margin` to the best possible one.
        support: indices of the examples that hold the separator, ascending.
        duals: their weights u > 0, with sum 1; w is parallel to sum u_i y_i x_i.
        farkas: norm(sum u_i y_i x_i) / sum u_i norm(x_i); where it vanishes, `support` and `duals`
            prove that nothing separates the examples.
        status: how the solve ended.
        iterations: interior-point iterations.
    """

    direction: NDArray[np.float64]
    margin: float
    bracket: float
    support: NDArray[np.int64]
    duals: NDArray[np.float64]
    farkas: float
    status: "MaxMarginStatus"
    iterations: int


def solve_user_data(features: ArrayLike, labels: ArrayLike) -> UserSolution:
    """Find the separator through the origin of largest margin for labelled examples.

    It is the unit vector w that maximises min_i y_i w x_i, without an offset.

    Args:
        features: examples x_i, shape (P, N), finite numbers.
        labels: y_i, shape (P,), either -1/+1 or 0/1; one class alone is fine.

    Returns:
        The certified separator, or a Farkas certificate for examples that are not separable.

    Raises:
        ValueError: wrong shapes, values that are not finite numbers, other labels.
    """
    return _solve_rows(*signed_rows(features, labels))


def _solve_rows(rows: NDArray[np.float64], exponent: int) -> UserSolution:
    """Return the separator of label-signed rows times 2**exponent."""
    # Imported when the data are known to be right: JAX takes a second to load.
    from sims.machine import one_blas_thread
    from sims.maxmargin.solver import MaxMarginStatus, max_margin

    with one_blas_thread():
        found = max_margin(rows)
    dual = np.asarray(found.dual)
    support = np.flatnonzero(dual)
    return UserSolution(
        direction=np.asarray(found.direction),
        margin=float(np.ldexp(found.margin, exponent)),
        bracket=float(found.bracket),
        support=support,
        duals=dual[support],
        farkas=float(found.farkas),
        status=MaxMarginStatus(int(found.status)),
        iterations=int(found.iterations),
    )


def run_solve(
    features_path: str | Path,
    labels_path: str | Path,
    out_direction_path: str | Path | None = None,
    as_json: bool = False,
) -> tuple[int, str, str]:
    """Separate the examples of two files, save the direction and report.

    Args:
        features_path: .npy file of shape (P, N).
        labels_path: .npy file of shape (P,), labels -1/+1 or 0/1.
        out_direction_path: .npy file to write the direction to; default the first of
            `direction.npy`, `direction-2.npy`, ... in the current folder that is free or holds this
            very direction. Nothing is overwritten, and nothing written for examples that are not
            separable.
        as_json: report as JSON instead of text.

    Returns:
        Exit code (0 solved, 3 not separable, 1 otherwise), the report, and why the direction was
        not saved, or nothing; the report then holds the direction itself.

    Raises:
        ValueError: bad input, or an output file that is there and holds no such direction.
        OSError: the output file cannot be written; both are found before the work.
    """
    if out_direction_path is None:
        check_output_folder(Path.cwd())
    else:
        check_output_file(out_direction_path)
    rows, exponent = signed_rows(*load_arrays(features_path, labels_path))
    check_new(out_direction_path, rows.shape[1])
    solution = _solve_rows(rows, exponent)
    separable = solution.status.name != "NOT_SEPARABLE"
    saved: Path | None = None
    trouble = ""
    if separable:
        try:
            saved = save_vector(out_direction_path, DEFAULT_OUTPUT, solution.direction)
        except OSError as error:
            trouble = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    report = _report(solution, saved)
    if trouble:
        report["direction"] = solution.direction.tolist()
    if solution.status.name == "SOLVED":
        code = SOLVED_CODE
    else:
        code = UNSOLVED_CODE if separable else NOT_SEPARABLE_CODE
    text = json.dumps(report, indent=2, allow_nan=False) if as_json else _as_text(report)
    return code, text, trouble


def check_new(path: str | Path | None, length: int) -> None:
    """Raise ValueError if a file holds something else than a vector of this length.

    Whether it is the very vector is seen by `save_vector`, after the work.
    """
    if path is None or not Path(path).exists():
        return
    found = _stored(Path(path))
    if found is None or found.shape != (length,):
        raise ValueError(f"output file {path} exists already; name another one with --out")


def save_vector(path: str | Path | None, default: str, vector: NDArray[np.float64]) -> Path:
    """Write a vector to a file and return its name.

    Without `path` that is the first default name that is free or holds this very vector.

    Raises:
        OSError: it cannot be written, or `path` holds something else.
    """
    first = Path(default)
    numbered = (first.with_stem(f"{first.stem}-{k}") for k in itertools.count(2))
    for name in [Path(path)] if path is not None else itertools.chain([first], numbered):
        try:
            if not name.exists():
                write_bytes_atomic(name, npy_bytes(vector), replace=False)
                return name
        except FileExistsError:  # another process was faster
            pass
        # A repeated run finds its own file.
        found = _stored(name)
        if found is not None and np.array_equal(found, vector):
            return name
    raise OSError(f"output file {path} exists already and holds another {first.stem}")


def _stored(path: Path) -> NDArray | None:
    try:
        return load_array(path)
    except ArrayFileError:
        return None


def _report(solution: UserSolution, saved: Path | None) -> dict[str, Any]:
    separable = solution.status.name != "NOT_SEPARABLE"
    held = {"indices": solution.support.tolist(), "duals": solution.duals.tolist()}
    return {
        "status": solution.status.name.lower(),
        "message": solution.status.sentence,
        "direction": None if saved is None else str(saved),
        "margin": _finite(solution.margin) if separable else None,
        "bracket": _finite(solution.bracket) if separable else None,
        "support_vectors": held if separable else None,
        "farkas_certificate": None if separable else {"residual": solution.farkas, **held},
        "iterations": solution.iterations,
    }


def _finite(value: float) -> float | None:
    # A solve without progress has no bracket, and JSON no infinity.
    return value if np.isfinite(value) else None


def _as_text(report: dict[str, Any]) -> str:
    lines = [report["message"]]
    held = report["support_vectors"]
    if held is not None:
        lines += [
            f"direction        {report['direction']}",
            f"margin           {report['margin']}",
            f"relative gap     {report['bracket']}",
            f"support vectors  {len(held['indices'])}",
        ]
    else:
        certificate = report["farkas_certificate"]
        lines += [
            f"certificate      {len(certificate['indices'])} examples whose weighted sum vanishes",
            f"residual         {certificate['residual']:.1e}",
        ]
    return "\n".join(lines)


def load_arrays(features_path: str | Path, labels_path: str | Path) -> tuple[NDArray, NDArray]:
    """Read features (P, N) and labels (P,) from .npy files.

    Pickled objects are refused.

    Raises:
        ValueError: a file is missing, not a .npy file, cut short, or of the wrong dimension.
    """
    return load_one("features", features_path, 2), load_one("labels", labels_path, 1)


def load_one(name: str, path: str | Path, ndim: int) -> NDArray:
    """Read an array of 1 or 2 dimensions from a .npy file.

    Messages call it `name`.

    Raises:
        ValueError: see `load_arrays`.
    """
    try:
        array = load_array(path)
    except ArrayFileError as error:
        raise ValueError(f"{name} file {error}") from None
    if array.ndim != ndim:
        wanted = "(P, N)" if ndim == 2 else "(P,)"
        raise ValueError(f"{name} file {path} has shape {array.shape}; it must be {wanted}")
    return array


def signed_rows(features: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], int]:
    """Return the rows y_i x_i over 2**exponent, and that exponent.

    Args:
        features: examples x_i, shape (P, N), finite numbers.
        labels: y_i, shape (P,), either -1/+1 or 0/1.

    Raises:
        ValueError: wrong shapes, values that are not finite numbers, other labels.
    """
    matrix, signs = checked(features, labels)
    matrix, exponent = _scaled(matrix)
    return matrix * signs[:, None], exponent


def checked(
    features: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return examples x_i and labels y_i = -1 or 1 in double precision.

    Args and errors are those of `signed_rows`.
    """
    matrix = real_numbers("features", features)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"features has shape {matrix.shape}; it must be (P, N): "
            "at least one example (row) of at least one feature (column)"
        )
    return matrix, _signs(labels, matrix.shape[0])


def real_numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return an array of finite numbers in double precision.

    Raises:
        ValueError: values that are not real, or not finite; the message calls them `name`.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} has dtype {array.dtype}; it must hold real numbers")
    array = array.astype(np.float64)
    if not np.all(np.isfinite(array)):
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"{name} holds {array[index]} at index {index}; every value must be a finite number"
        )
    return array


def _scaled(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Scale a matrix by a power of two, and return the exponent with it.

    Compiled code takes numbers below 2.2e-308 for zero.
    """
    largest = np.max(np.abs(matrix), axis=1)
    exponent = int(np.frexp(np.max(largest))[1])
    scaled = np.ldexp(matrix, -exponent)
    lost = (largest > 0) & (largest < np.max(largest) * SMALLEST_ROW)
    if np.any(lost):
        row = int(np.flatnonzero(lost)[0])
        raise ValueError(
            f"features holds row {row} of size {largest[row]:.3g} beside one of size "
            f"{np.max(largest):.3g}; their ratio must be at least {SMALLEST_ROW:g}"
        )
    return scaled, exponent


def _signs(labels: ArrayLike, count: int) -> NDArray[np.float64]:
    values = real_numbers("labels", labels)
    if values.shape != (count,):
        raise ValueError(
            f"labels has shape {values.shape}; it must be ({count},), one label per row of features"
        )
    if np.all(np.isin(values, (-1.0, 1.0))):
        return values
    if np.all(np.isin(values, (0.0, 1.0))):
        return 2.0 * values - 1.0
    strange = values[~np.isin(values, (-1.0, 0.0, 1.0))]
    found = f"{strange[0]:g}" if strange.size else "-1 and 0 together"
    raise ValueError(f"labels holds {found}; labels are either -1 and +1, or 0 and 1")
