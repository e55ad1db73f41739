"""Records training dynamics in any training loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_integer
from hardset.progress import bar
from selection.arrays import Array, Integers, blocks, class_codes, host_array, whole_numbers
from selection.files import read_npz, write_npz
from selection.scoring.output import (
    check_names,
    checked_labels,
    label_statistics,
    prediction_changes,
    stacked,
)

OPTIONAL = {"gradient_norms", "changes"}


@dataclass(frozen=True, eq=False)
class TrainingDynamics:
    """Holds statistics of every example in every recorded epoch.

    There are S seeds, T epochs and n examples, so that the shape is (S, T, n). The arrays may lie
    on disk.

    Attributes:
        losses: cross entropy -log p_y of the label's class y.
        probabilities: p_y.
        margins: logit of the label's class minus the largest other logit.
        error_norms: norm(p - onehot(y)).
        correct: whether the logit of y is larger than all others; where it only equals the
            largest one, the example counts as wrong.
        gradient_norms: norm of the last layer's gradient, norm(p - onehot(y)) sqrt(1 + norm(h)^2);
            None where the penultimate features h were not recorded.
        changes: how far the prediction moved since the epoch before, sum_c abs(p_c log(p_c / q_c))
            with q the prediction of the epoch before; 0 in the first epoch. None in files that
            were written before version 0.2.3, and where epochs were recorded out of order.
    """

    losses: Array
    probabilities: Array
    margins: Array
    error_norms: Array
    correct: Array
    gradient_norms: Array | None = None
    changes: Array | None = None

    @classmethod
    def of(
        cls, logits: ArrayLike, labels: ArrayLike, features: ArrayLike | None = None
    ) -> "TrainingDynamics":
        """Compute the dynamics of stored logits.

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
            name: np.zeros((seeds, epochs, count), bool if name == "correct" else float)
            for name in names
        }
        for seed, epoch in np.ndindex(seeds, epochs):
            for rows in blocks(count, classes):
                part = None if hidden is None else hidden[seed, epoch, rows]
                block = label_statistics(values[seed, epoch, rows], known[rows], part, rows.start)
                for name, column in block.items():
                    found[name][seed, epoch, rows] = column
                if epoch:
                    now, before = values[seed, epoch, rows], values[seed, epoch - 1, rows]
                    found["changes"][seed, epoch, rows] = prediction_changes(now, before)
        return cls(**found)

    @classmethod
    def load(cls, path: str | Path) -> "TrainingDynamics":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is missing, damaged or holds something else.
        """
        arrays = read_npz(path)
        names = {entry.name for entry in fields(cls)}
        if not names - OPTIONAL <= set(arrays) <= names:
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
        """Return loss trajectories, shape (n, S T).

        The epochs of the first seed come first.
        """
        return np.asarray(self.losses).reshape(-1, len(self)).T


STATISTICS = ("losses", "probabilities", "margins", "error_norms", "changes")


class DynamicsRecorder:
    """Collects the statistics of `TrainingDynamics` batch by batch.

    Logits and features are reduced at once and not kept, apart from those of the last recorded
    epoch of the first seed, which geometric scores use, and the logits of the epoch before, with
    which the new ones are compared. Memory: S T n (21 bytes, 25 with features) and n (2 C + d) 4
    bytes for these epochs; with `folder` all of it is memory-mapped files, and
    what stays in memory is one batch.

    Args:
        labels: classes 0 ... C-1, or C distinct strings, which stand for the classes in sorted
            order, shape (n,).
        seeds: number of trainings S.
        epochs: number of recorded epochs T of each.
        folder: an empty or new folder for the arrays, default memory.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        seeds: int = 1,
        epochs: int = 20,
        folder: str | Path | None = None,
    ) -> None:
        check_integer("seeds", seeds, 1, 10**6)
        check_integer("epochs", epochs, 1, 10**6)
        self._labels, self._names = class_codes("labels", labels)
        self._shape = (int(seeds), int(epochs), len(self._labels))
        self._folder = None if folder is None else Path(folder)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            if any(self._folder.iterdir()):
                raise ValueError(f"folder {self._folder} is not empty; name a new one")
        self._arrays = {name: self._new(name, self._shape, np.float32) for name in STATISTICS}
        self._arrays["correct"] = self._new("correct", self._shape, bool)
        self._seen = np.zeros(self._shape[:2], np.int64)
        self._marks = np.zeros(self._shape[2], bool)
        self._widths: dict[str, int] = {}
        self._open: tuple[int, int] | None = None
        self._ordered = True

    def record(
        self,
        seed: int,
        epoch: int,
        rows: ArrayLike,
        logits: ArrayLike,
        features: ArrayLike | None = None,
    ) -> None:
        """Record one batch.

        Every example must come once in every epoch, epoch after epoch.

        Args:
            seed: number of the training, 0 ... S-1.
            epoch: number of the recorded epoch, 0 ... T-1.
            rows: the batch's examples, whole numbers, shape (b,).
            logits: shape (b, C).
            features: penultimate features, shape (b, d), in all batches or in none.

        Raises:
            ValueError: numbers outside their range, shapes that do not fit, an example that comes
                twice in an epoch, logits or features that are not finite; the batch leaves nothing
                behind and can be recorded again.
        """
        seeds, epochs, count = self._shape
        check_integer("seed", seed, 0, seeds - 1)
        check_integer("epoch", epoch, 0, epochs - 1)
        batch = whole_numbers("rows", host_array(rows))
        outputs = np.asarray(host_array(logits))
        if outputs.ndim != 2 or len(outputs) != len(batch):
            raise ValueError(
                f"rows has shape {batch.shape} and logits {outputs.shape}; "
                "they must be (b,) and (b, C)"
            )
        if np.any((batch < 0) | (batch >= count)):
            raise ValueError(f"rows must be in 0 to {count - 1}, the examples with labels")
        hidden = self._features(features, len(batch))
        self._check_width("logits", outputs)
        if self._names is not None:
            check_names(len(self._names), outputs.shape[1])
        self._check_turn(seed, epoch, batch)
        classes = checked_labels(self._labels[batch], *outputs.shape)
        found = label_statistics(outputs, classes, hidden)
        # The batch is valid: what follows changes the recorder, and nothing before does.
        if self._open != (seed, epoch):
            self._ordered &= epoch == 0 or self._open == (seed, epoch - 1)
            self._open = (seed, epoch)
            self._marks[:] = False
        self._marks[batch] = True
        self._widths["logits"] = outputs.shape[1]
        if hidden is not None and "gradient_norms" not in self._arrays:
            self._arrays["gradient_norms"] = self._new("gradient_norms", self._shape, np.float32)
            self._widths["features"] = hidden.shape[1]
        for name, values in found.items():
            self._arrays[name][seed, epoch, batch] = values
        if epoch:
            before = self._arrays["last_compared"][batch]
            self._arrays["changes"][seed, epoch, batch] = prediction_changes(outputs, before)
        if epoch + 1 < epochs:
            self._keep("last_compared", batch, outputs)
        self._seen[seed, epoch] += len(batch)
        if (seed, epoch) == (0, epochs - 1):
            self._keep("last_logits", batch, outputs)
            if hidden is not None:
                self._keep("last_features", batch, hidden)

    def dynamics(self) -> TrainingDynamics:
        """Return what was recorded, once it is complete.

        The arrays have single precision.

        Raises:
            ValueError: an epoch of a seed lacks examples, with their number.
        """
        missing = self._shape[2] - self._seen
        if np.any(missing):
            seed, epoch = (int(i) for i in np.argwhere(missing)[0])
            raise ValueError(f"seed {seed}, epoch {epoch} lacks {missing[seed, epoch]} examples")
        kept = {name: values for name, values in self._arrays.items() if "last" not in name}
        if not self._ordered:
            del kept["changes"]
        return TrainingDynamics(**kept)

    @property
    def last_logits(self) -> Array:
        """Return logits of the first seed's last epoch, shape (n, C).

        Before that epoch it is a ValueError.
        """
        return self._last("last_logits")

    @property
    def last_features(self) -> Array:
        """Return penultimate features of the first seed's last epoch, shape (n, d).

        Without them it is a ValueError.
        """
        return self._last("last_features")

    def _last(self, name: str) -> Array:
        if name not in self._arrays:
            raise ValueError(f"{name} were not recorded in the last epoch of the first seed")
        return self._arrays[name]

    def _features(self, features: Any, count: int) -> Array | None:
        """Return the batch's features in the shape (b, d).

        They are refused unless all batches have them, or none.
        """
        if features is None:
            if "gradient_norms" in self._arrays:
                raise ValueError("features are missing; earlier batches had them")
            return None
        hidden = np.asarray(host_array(features))
        if hidden.ndim < 2 or len(hidden) != count:
            raise ValueError(f"features has shape {hidden.shape}; it must be ({count}, d)")
        hidden = hidden.reshape(count, -1)
        if "gradient_norms" not in self._arrays and self._seen.any():
            raise ValueError("features were not recorded from the first batch on")
        self._check_width("features", hidden)
        return hidden

    def _check_width(self, name: str, values: Array) -> None:
        known = self._widths.get(name, values.shape[1])
        if values.shape[1] != known:
            raise ValueError(f"{name} has {values.shape[1]} columns; earlier batches had {known}")

    def _check_turn(self, seed: int, epoch: int, batch: Integers) -> None:
        """Refuse examples that come twice in an epoch.

        Epochs must not be interleaved.
        """
        repeated = len(np.unique(batch)) < len(batch)
        if self._open == (seed, epoch):
            repeated |= bool(np.any(self._marks[batch]))
        elif self._seen[seed, epoch]:
            raise ValueError(f"seed {seed}, epoch {epoch} was recorded before another one")
        if repeated:
            raise ValueError(f"an example comes twice in seed {seed}, epoch {epoch}")

    def _keep(self, name: str, batch: Integers, values: Array) -> None:
        if name not in self._arrays:
            shape = (self._shape[2], values.shape[1])
            self._arrays[name] = self._new(name, shape, np.float32)
        self._arrays[name][batch] = values

    def _new(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        if self._folder is None:
            return np.zeros(shape, dtype)
        path = self._folder / f"{name}.npy"
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def record_training(
    start: Callable[[int], Any],
    train_epoch: Callable[[Any, int, int], Any],
    predict: Callable[[Any, Any], Any],
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    seeds: Sequence[int] = tuple(range(10)),
    epochs: int = 20,
    batch: int = 1024,
    folder: str | Path | None = None,
    progress: bool = False,
) -> DynamicsRecorder:
    """Train one model for each seed, and record all examples after every epoch.

    Args:
        start: seed -> state: parameters, optimiser, whatever the training needs.
        train_epoch: (state, epoch, seed) -> state after one more epoch.
        predict: (state, inputs) -> logits, or (logits, penultimate features); jit it.
        inputs: shape (n, ...).
        labels: classes 0 ... C-1, or C distinct strings, see `DynamicsRecorder`, shape (n,).
        seeds: seeds of the trainings; ten, as EL2N and GraNd are averaged over some ten.
        epochs: epochs of each; 20 or more for the default epochs of EL2N and GraNd.
        batch: examples that are predicted together.
        folder: where the recorded arrays are kept, default memory; see `DynamicsRecorder`.
        progress: whether to show a bar on stderr.

    Returns:
        The recorder; `dynamics()` gives what the scores take.

    Raises:
        ValueError: see `DynamicsRecorder`.
    """
    check_integer("batch", batch, 1, 2**31)
    recorder = DynamicsRecorder(labels, seeds=len(seeds), epochs=epochs, folder=folder)
    examples = np.asanyarray(inputs)
    done = bar(len(seeds) * epochs, "record", "epoch", shown=progress)
    for number, seed in enumerate(seeds):
        state = start(seed)
        for epoch in range(epochs):
            state = train_epoch(state, epoch, seed)
            for first in range(0, len(examples), batch):
                rows = np.arange(first, min(first + batch, len(examples)))
                found = predict(state, examples[rows])
                logits, features = found if isinstance(found, tuple) else (found, None)
                recorder.record(number, epoch, rows, logits, features)
            done.update()
    done.close()
    return recorder


def linen_features(module: Any, layer: type | None = None) -> Callable[..., tuple[Any, Any]]:
    """Make a function that gives logits and features of a Flax Linen module.

    It maps (variables, inputs) to (logits, features).

    The features are the inputs of the last layer of a type that was called, its penultimate
    activations.

    Args:
        module: a `flax.linen.Module` whose output are logits.
        layer: type of the last layer, default `flax.linen.Dense`.

    Returns:
        A function that can be jitted; keyword arguments go to `module.apply`.
    """
    import flax.linen as nn

    wanted = nn.Dense if layer is None else layer

    def forward(variables: Any, inputs: Any, **keywords: Any) -> tuple[Any, Any]:
        entered: list[Any] = []

        def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if isinstance(context.module, wanted) and context.method_name == "__call__":
                entered.append(args[0])
            return call(*args, **kwargs)

        with nn.intercept_methods(watch):
            logits = module.apply(variables, inputs, **keywords)
        if not entered:
            raise ValueError(f"the module calls no layer of type {wanted.__name__}")
        return logits, entered[-1]

    return forward
