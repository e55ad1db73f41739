"""Fits a regularised student to a user's own examples.

It reads and checks them, minimises the loss, and writes the weights.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardset.checks import check_choice, check_range
from hardset.cli import check_output_folder
from hardset.datafile import check_output_file
from sims.separate import check_new, checked, load_arrays, load_one, real_numbers, save_vector
from theory.policy_names import LOSSES

if TYPE_CHECKING:
    from sims.erm.solver import ERMResult

DEFAULT_OUTPUT = "weights.npy"
SOLVED_CODE = 0
UNSOLVED_CODE = 1
NO_MINIMISER_CODE = 3


def run_fit(
    features_path: str | Path,
    labels_path: str | Path,
    loss: str,
    lam: float,
    intercept: bool = False,
    sample_weight_path: str | Path | None = None,
    out_weights_path: str | Path | None = None,
    as_json: bool = False,
) -> tuple[int, str, str]:
    """Minimise a regularised loss over the examples of files, save the weights and report.

    Args:
        features_path: .npy file of shape (P, N).
        labels_path: .npy file of shape (P,), labels -1/+1 or 0/1.
        loss: one of `theory.policy_names.LOSSES`.
        lam: ridge strength > 0: (lam N / 2) W.W is added to the sum of the losses.
        intercept: whether an offset is fitted, without penalty.
        sample_weight_path: .npy file of shape (P,), numbers >= 0, one of them > 0.
        out_weights_path: .npy file to write W to; default the first of `weights.npy`,
            `weights-2.npy`, ... in the current folder that is free or holds this very W. Nothing is
            overwritten, and nothing written where there is no minimiser.
        as_json: report as JSON instead of text.

    Returns:
        Exit code (0 solved, 3 no minimiser, 1 otherwise), the report, and why the weights were not
        saved, or nothing; the report then holds the weights themselves.

    Raises:
        ValueError: bad input, or an output file that is there and holds no such weights.
        OSError: the output file cannot be written; both are found before the work.
    """
    check_choice("loss", loss, LOSSES)
    check_range("lam", lam, 0.0, np.inf, open_low=True)
    if out_weights_path is None:
        check_output_folder(Path.cwd())
    else:
        check_output_file(out_weights_path)
    matrix, signs = checked(*load_arrays(features_path, labels_path))
    sizes = None
    if sample_weight_path is not None:
        sizes = _sizes(load_one("sample_weight", sample_weight_path, 1), len(signs))
    check_new(out_weights_path, matrix.shape[1])
    # Imported when the data are known to be right: JAX takes a second to load.
    from sims.erm.solver import ERMStatus, erm
    from sims.machine import one_blas_thread

    with one_blas_thread():
        found = erm(matrix, signs, loss=loss, lam=lam, sample_weight=sizes, intercept=intercept)
    status = ERMStatus(int(found.status))
    weights = np.asarray(found.weights)
    saved: Path | None = None
    trouble = ""
    if status is not ERMStatus.NO_MINIMISER:
        try:
            saved = save_vector(out_weights_path, DEFAULT_OUTPUT, weights)
        except OSError as error:
            trouble = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    report = {
        "status": status.name.lower(),
        "message": status.sentence,
        "loss": loss,
        "lam": lam,
        "weights": weights.tolist() if trouble else saved and str(saved),
        **_values(found, np.ones(len(signs)) if sizes is None else sizes, lam * matrix.shape[1]),
    }
    if status is ERMStatus.NO_MINIMISER:
        report |= dict.fromkeys(VALUES)
    code = {ERMStatus.SOLVED: SOLVED_CODE, ERMStatus.NO_MINIMISER: NO_MINIMISER_CODE}
    text = json.dumps(report, indent=2, allow_nan=False) if as_json else _as_text(report)
    return code.get(status, UNSOLVED_CODE), text, trouble


# Keys of the report that there are no values for without a minimiser.
VALUES = (
    "intercept",
    "weight_norm2",
    "objective",
    "training_loss",
    "training_error",
    "certificate",
)


def _values(found: "ERMResult", sizes: NDArray[np.float64], ridge: float) -> dict[str, Any]:
    norm2 = float(found.weights @ found.weights)
    objective = float(found.objective)
    total = float(np.sum(sizes))
    values = (
        float(found.intercept),
        norm2,
        objective,
        (objective - 0.5 * ridge * norm2) / total,
        float(sizes @ (np.asarray(found.margins) <= 0)) / total,
        float(found.certificate),
    )
    # A solve without progress has no certificate, and JSON no infinity.
    return {n: v if np.isfinite(v) else None for n, v in zip(VALUES, values, strict=True)}


def _sizes(values: ArrayLike, count: int) -> NDArray[np.float64]:
    sizes = real_numbers("sample_weight", values)
    if sizes.shape != (count,):
        raise ValueError(
            f"sample_weight has shape {sizes.shape}; it must be ({count},), one number per row of "
            "features"
        )
    if np.min(sizes) < 0:
        place = int(np.argmin(sizes))
        raise ValueError(
            f"sample_weight holds {sizes[place]:g} at index {place}; every value must be >= 0"
        )
    if np.max(sizes) == 0:
        raise ValueError("sample_weight is zero everywhere; at least one value must be > 0")
    return sizes


def _as_text(report: dict[str, Any]) -> str:
    shown = ("weights", *VALUES)
    if report["objective"] is None:
        return str(report["message"])
    lines = [f"{name.replace('_', ' '):<16} {report[name]}" for name in shown]
    return "\n".join([report["message"], *lines])
