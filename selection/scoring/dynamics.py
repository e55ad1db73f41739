"""Training dynamics: what a model said about every example at every epoch of every seed."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from selection.core.arrays import Array, blocks
from selection.core.files import read_npz, write_npz
from selection.scoring.logits import checked_labels, label_statistics, stacked

__all__ = ["TrainingDynamics"]


@dataclass(frozen=True, eq=False)
class TrainingDynamics:
    """Statistics of S seeds, T epochs and n examples, arrays of shape (S, T, n), maybe on disk.

    Attributes:
        losses: cross entropy -log p_y of the label's class y.
        probabilities: p_y.
        margins: logit of the label's class minus the largest other logit.
        error_norms: norm(p - onehot(y)).
        correct: whether the logit of y is larger than all others; where it only equals the
            largest one, the example counts as wrong.
        gradient_norms: norm of the last layer's gradient, norm(p - onehot(y)) sqrt(1 + norm(h)^2);
            None where the penultimate features h were not recorded.
    """

    losses: Array
    probabilities: Array
    margins: Array
    error_norms: Array
    correct: Array
    gradient_norms: Array | None = None

    @classmethod
    def of(
        cls, logits: ArrayLike, labels: ArrayLike, features: ArrayLike | None = None
    ) -> "TrainingDynamics":
        """The dynamics of stored logits.

        Args:
            logits: shape (n, C), (T, n, C) or (S, T, n, C); read block by block.
            labels: classes 0 ... C-1, or C distinct strings, which stand for the classes in sorted
                order, shape (n,).
            features: penultimate features, the same leading axes, then d.

        Raises:
            ValueError: shapes that do not fit, labels that are no class, NaN or infinity.
        """
        values = stacked("logits", logits)
        seeds, epochs, count, classes = values.shape
        known = checked_labels(labels, count, classes)
        hidden = None if features is None else stacked("features", features)
        if hidden is not None and hidden.shape[:3] != values.shape[:3]:
            raise ValueError(
                f"features has seeds, epochs, examples {hidden.shape[:3]}; logits has "
                f"{values.shape[:3]}, they must be the same"
            )
        names = [e.name for e in fields(cls) if e.name != "gradient_norms" or hidden is not None]
        found = {
            name: np.empty((seeds, epochs, count), bool if name == "correct" else float)
            for name in names
        }
        for seed, epoch in np.ndindex(seeds, epochs):
            for rows in blocks(count, classes):
                part = None if hidden is None else hidden[seed, epoch, rows]
                block = label_statistics(values[seed, epoch, rows], known[rows], part, rows.start)
                for name, column in block.items():
                    found[name][seed, epoch, rows] = column
        return cls(**found)

    @classmethod
    def load(cls, path: str | Path) -> "TrainingDynamics":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is missing, damaged or holds something else.
        """
        arrays = read_npz(path)
        names = {entry.name for entry in fields(cls)}
        if not names - {"gradient_norms"} <= set(arrays) <= names:
            raise ValueError(f"file {path} does not hold training dynamics, but {sorted(arrays)}")
        for name, array in arrays.items():
            kinds = "b" if name == "correct" else "f"
            if array.shape != arrays["losses"].shape or array.ndim != 3 or 0 in array.shape:
                raise ValueError(
                    f"file {path}: {name} has shape {array.shape} and losses "
                    f"{arrays['losses'].shape}; all must be (seeds, epochs, examples), none of "
                    "them 0"
                )
            if array.dtype.kind not in kinds or not np.all(np.isfinite(array)):
                raise ValueError(
                    f"file {path}: {name} of dtype {array.dtype} must hold "
                    + ("truth values" if kinds == "b" else "finite floating-point numbers")
                )
        return cls(**arrays)

    def save(self, path: str | Path) -> None:
        """Write an .npz file, atomically.

        Raises:
            ValueError: the file exists already.
        """
        arrays = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        write_npz(path, {name: array for name, array in arrays.items() if array is not None})

    def __len__(self) -> int:
        return int(self.losses.shape[2])

    @property
    def trajectories(self) -> Array:
        """Loss trajectories, shape (n, S T), the epochs of the first seed first."""
        return np.asarray(self.losses).reshape(-1, len(self)).T
