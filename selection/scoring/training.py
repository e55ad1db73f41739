"""Scores examples by the training of models.

The scores are EL2N, GraNd, forgetting, AUM, cartography, memorization, DUAL and TDDS.

`dynamics` are those of S seeds, T epochs and n examples; every score averages over the seeds.
`first` and `last` choose the epochs, counted from 0 among those recorded, both included; they
default to the first and the last one. Epochs that were not recorded are a ValueError. EL2N and
GraNd are scores of early training: without `first` and `last` they take the state after epochs 10
to 20 (first = 9, last = 19) where 20 epochs or more were recorded.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_choice, check_integer, check_range
from hardset.progress import bar
from selection.arrays import Array, Floats, Integers
from selection.pool import Scores
from selection.scoring.recorder import TrainingDynamics
from selection.selector import check_seed, generator

NeverLearned = Literal["max+1", "inf", "0"]

EARLY = (9, 19)  # after epochs 10 to 20 of the training, as its authors take EL2N


def loss(dynamics: TrainingDynamics, *, first: int = 0, last: int | None = None) -> Scores:
    """Score by the mean cross entropy of the label."""
    return _mean("loss", dynamics.losses, first, last)


def el2n(
    dynamics: TrainingDynamics, *, first: int | None = None, last: int | None = None
) -> Scores:
    """Score by the size of the error early in training.

    It is the mean of norm(p - onehot(y)).

    Its authors take 10 seeds and an epoch between 10 and 20.

    Args:
        dynamics: of some 10 seeds.
        first: first epoch, counted from 0; default 9 with 20 recorded epochs or more, else 0.
        last: last epoch; default 19 with 20 recorded epochs or more, else the last one. Where one
            of the two is given, the other defaults to the end of the recording on its side.

    Source: Paul et al., Deep learning on a data diet, arXiv:2107.07075.
    """
    return _mean("el2n", dynamics.error_norms, *_early(dynamics, first, last))


def grand(
    dynamics: TrainingDynamics, *, first: int | None = None, last: int | None = None
) -> Scores:
    """Score by the mean norm of the last layer's gradient.

    It is norm(p - onehot(y)) sqrt(1 + norm(h)^2).

    The norm over all parameters is `gradient_norms`.

    Args:
        dynamics: of some 10 seeds.
        first: first epoch, as for `el2n`.
        last: last epoch, as for `el2n`.

    Raises:
        ValueError: dynamics without penultimate features h.

    Source: Paul et al., Deep learning on a data diet, arXiv:2107.07075.
    """
    if dynamics.gradient_norms is None:
        raise ValueError("grand needs penultimate features, which the dynamics lack")
    return _mean("grand", dynamics.gradient_norms, *_early(dynamics, first, last))


def forgetting(dynamics: TrainingDynamics, *, never_learned: NeverLearned = "max+1") -> Scores:
    """Score by how often an example is forgotten.

    It is the number of epochs t with correct_t = 1 and correct_{t+1} = 0.

    Args:
        never_learned: number of a seed in which no epoch classifies the example correctly:
            "max+1" of the seed's largest number, or "0". With "inf" the mean is over the seeds in
            which it was learned; without any its score is the largest finite number.

    Raises:
        ValueError: another option.

    Source: Toneva et al., ICLR 2019.
    """
    check_choice("never_learned", never_learned, get_args(NeverLearned))
    total, seeds = np.zeros(len(dynamics)), np.zeros(len(dynamics), np.int64)
    for correct in dynamics.correct:
        events = np.zeros(len(dynamics))
        for before, after in itertools.pairwise(correct):
            events += before & ~after
        never = ~np.any(correct, axis=0)
        if never_learned == "max+1":
            events[never] = events.max() + 1
        total += events
        seeds += ~never if never_learned == "inf" else 1
    values = total / np.maximum(seeds, 1)
    values[seeds == 0] = np.finfo(np.float64).max
    return Scores.of(values, name="forgetting", never_learned=never_learned, **_counts(dynamics))


def aum(dynamics: TrainingDynamics, *, first: int = 0, last: int | None = None) -> Scores:
    """Score by the area under the margin, negated.

    It is -mean_t (z_y - max_{j != y} z_j).

    Source: Pleiss et al., arXiv:2001.10528.
    """
    return _mean("aum", dynamics.margins, first, last, orientation="easy")


def confidence(dynamics: TrainingDynamics, *, first: int = 0, last: int | None = None) -> Scores:
    """Score by the mean probability of the label, negated.

    It is -mean_t p_y: low confidence is hard.

    Source: Swayamdipta et al., Dataset cartography, EMNLP 2020.
    """
    return _mean("confidence", dynamics.probabilities, first, last, orientation="easy")


def variability(dynamics: TrainingDynamics, *, first: int = 0, last: int | None = None) -> Scores:
    """Score by the spread of the label's probability over the epochs.

    It is std_t p_y with 1/T in the variance: ambiguous examples are high.

    Source: Swayamdipta et al., Dataset cartography, EMNLP 2020.
    """
    chosen = _epochs(dynamics.probabilities, first, last)
    values = np.mean([np.std(one, axis=0) for one in chosen], axis=0)
    return Scores.of(values, name="variability", **_counts(dynamics, first, last))


def correctness(dynamics: TrainingDynamics, *, first: int = 0, last: int | None = None) -> Scores:
    """Score by how many epochs classify the example correctly, negated.

    Source: Swayamdipta et al., Dataset cartography, EMNLP 2020.
    """
    chosen = _epochs(dynamics.correct, first, last)
    values = np.mean(np.sum(chosen, axis=1), axis=0)
    counts = _counts(dynamics, first, last)
    return Scores.of(values, name="correctness", orientation="easy", **counts)


def dyn_unc(dynamics: TrainingDynamics, *, window: int = 10) -> Scores:
    """Score by the spread of the label's probability in short windows.

    It is std_t p_y, the mean over the windows of `window` consecutive epochs.

    Args:
        window: epochs in a window, 2 to T.

    Raises:
        ValueError: a window longer than the training.

    Source: He et al., Large-scale dataset pruning with dynamic uncertainty, arXiv:2306.05175.
    """
    epochs = dynamics.probabilities.shape[1]
    check_integer("window", window, 2, epochs)
    starts = range(epochs - window + 1)
    total = np.zeros(len(dynamics))
    for one in dynamics.probabilities:
        for start in starts:
            total += np.std(one[start : start + window], axis=0)
    values = total / (len(dynamics.probabilities) * len(starts))
    return Scores.of(values, name="dyn-unc", window=window, **_counts(dynamics))


def dual(
    dynamics: TrainingDynamics, *, window: int = 10, first: int = 0, last: int | None = None
) -> Scores:
    """Score by uncertainty times difficulty in short windows.

    It is std_t p_y times (1 - mean_t p_y), the mean over the windows of `window` epochs in a row,
    with 1 / (window - 1) in the variance.

    Its authors take the first 30 epochs of 200 on CIFAR, `last` = 29.

    Args:
        dynamics: of `window` epochs at least.
        window: epochs in a window, 2 to those chosen.
        first: first epoch, counted from 0.
        last: last epoch, default the last one.

    Raises:
        ValueError: a window longer than the chosen epochs.

    Source: Cho et al., Lightweight dataset pruning without full training, arXiv:2502.06905, the
    DUAL score; its Beta sampling is not part of it.
    """
    chosen = _epochs(dynamics.probabilities, first, last)
    check_integer("window", window, 2, chosen.shape[1])
    starts = range(chosen.shape[1] - window + 1)
    total = np.zeros(len(dynamics))
    for one in chosen:
        for start in starts:
            part = np.asarray(one[start : start + window], np.float64)
            total += np.std(part, axis=0, ddof=1) * (1 - np.mean(part, axis=0))
    values = total / (len(chosen) * len(starts))
    return Scores.of(values, name="dual", window=window, **_chosen(chosen, first))


def tdds(
    dynamics: TrainingDynamics,
    *,
    window: int = 10,
    decay: float = 0.9,
    first: int = 0,
    last: int | None = None,
) -> Scores:
    """Score by how unevenly the prediction moves from epoch to epoch.

    A window k of J epochs holds J - 1 changes D_t = sum_c abs(p_tc log(p_tc / p_{t-1,c})). With
    R_k = sqrt(sum_t (D_t - mean_t D_t)^2) the score is the moving average
    sum_k decay (1 - decay)^(T - J - k) R_k over the windows k = 0 ... T - J, the mean over seeds.

    Shorter trajectories T go with heavier pruning: the authors of DUAL compare with (T, J) from
    (90, 10) down to (10, 5), of 200 epochs on CIFAR. Where the authors' program adds 1e-8 to every
    probability, this one adds nothing.

    Args:
        dynamics: with `changes`.
        window: epochs J in a window, 3 to those chosen.
        decay: weight of the newest window, in (0, 1].
        first: first epoch, counted from 0.
        last: last epoch, T - 1 for a trajectory from epoch 0; default the last one.

    Raises:
        ValueError: dynamics without changes, a window longer than the chosen epochs.

    Source: Zhang et al., Spanning training progress, arXiv:2311.13613, and its program, whose norm
    R_k and weights these are.
    """
    if dynamics.changes is None:
        raise ValueError(
            "tdds needs the changes between epochs, which the dynamics lack; record the training "
            "again, epoch after epoch"
        )
    chosen = _epochs(dynamics.changes, first, last)
    epochs = chosen.shape[1]
    check_integer("window", window, 3, epochs)
    check_range("decay", decay, 0.0, 1.0, open_low=True)
    total = np.zeros(len(dynamics))
    for one in chosen:
        average = np.zeros(len(dynamics))
        for start in range(epochs - window + 1):
            part = np.asarray(one[start + 1 : start + window], np.float64)
            norm = np.linalg.norm(part - part.mean(axis=0), axis=0)
            average = decay * norm + (1 - decay) * average
        total += average
    return Scores.of(
        total / len(chosen), name="tdds", window=window, decay=decay, **_chosen(chosen, first)
    )


def ensemble_errors(dynamics: TrainingDynamics) -> Scores:
    """Score by the number of ensemble members that are wrong.

    Seeds and epochs alike are members.

    Source: Meding et al., Trivial or impossible, ICLR 2022.
    """
    wrong = np.sum(~np.asarray(dynamics.correct), axis=(0, 1))
    return Scores.of(wrong, name="ensemble-errors", **_counts(dynamics))


def learnability(dynamics: TrainingDynamics, *, early: int = 0, late: int | None = None) -> Scores:
    """Score by what the training learns of an example.

    It is loss(early) - loss(late).

    Args:
        early: the early epoch.
        late: the late one, default the last.

    Raises:
        ValueError: late <= early.
    """
    losses = _epochs(dynamics.losses, early, late)
    if losses.shape[1] < 2:
        raise ValueError(f"late = {late} is not after early = {early}")
    values = np.mean(losses[:, 0] - losses[:, -1], axis=0)
    return Scores.of(values, name="learnability", **_counts(dynamics, early, late))


def gradient_norms(
    loss: Callable[[Any, Any, Any], Any],
    parameters: Sequence[Any],
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    batch: int = 64,
) -> Scores:
    """Score by the norm of the loss gradient over all parameters.

    It is norm(grad_theta loss(theta, x_i, y_i)), the mean over seeds.

    Args:
        loss: of one example: loss(parameters, input, label) -> scalar.
        parameters: one pytree of parameters a seed.
        inputs: shape (n, ...).
        labels: shape (n, ...).
        batch: examples whose gradients are in memory together; with P parameters they take
            batch * P numbers.

    Raises:
        ValueError: no seeds, different lengths, a norm that is not finite.

    Source: Paul et al., Deep learning on a data diet, arXiv:2107.07075.
    """
    check_integer("batch", batch, 1, 2**31)
    if len(parameters) == 0:
        raise ValueError("parameters is empty; give those of one seed at least")
    examples, targets = np.asanyarray(inputs), np.asanyarray(labels)
    if len(examples) != len(targets):
        raise ValueError(
            f"the arrays have different lengths: inputs {len(examples)}, labels {len(targets)}"
        )

    @jax.jit
    def norms(theta: Any, x: Any, y: Any) -> Any:
        gradients = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(theta, x, y)
        leaves = jax.tree.leaves(gradients)
        return jnp.sqrt(sum(jnp.sum(g.reshape(len(g), -1) ** 2, axis=1) for g in leaves))

    total = np.zeros(len(examples))
    for theta in parameters:
        for start in range(0, len(examples), batch):
            rows = slice(start, start + batch)
            total[rows] += np.asarray(norms(theta, examples[rows], targets[rows]))
    return Scores.of(total / len(parameters), name="grand", seeds=len(parameters), last_layer=False)


def memorization(inside: ArrayLike, correct: ArrayLike) -> Scores:
    """Score by how much a model must see an example to get it right.

    It is P(correct on i | i in S) - P(correct on i | i not in S), S the training sets of M models.

    Args:
        inside: whether model m was trained on example i, shape (M, n); bool, or 0 and 1.
        correct: whether it classifies i correctly, shape (M, n); bool, or 0 and 1.

    Raises:
        ValueError: shapes that differ, a value that is neither 0 nor 1, an example that all or no
            models were trained on.

    Source: Feldman and Zhang, arXiv:2008.03703, the subsampled estimator.
    """
    members, hits = _flags("inside", inside), _flags("correct", correct)
    if members.shape != hits.shape or members.ndim != 2:
        raise ValueError(
            f"inside has shape {members.shape} and correct {hits.shape}; both must be (M, n)"
        )
    seen = members.sum(axis=0)
    for count, word in ((seen, "no"), (len(members) - seen, "every")):
        if not np.all(count):
            raise ValueError(
                f"example {int(np.argmin(count))} is in {word} training set of the "
                f"{len(members)} models; more models are needed"
            )
    with_it = np.sum(hits & members, axis=0) / seen
    without = np.sum(hits & ~members, axis=0) / (len(members) - seen)
    return Scores.of(with_it - without, name="memorization", models=len(members))


def random_training_sets(n: int, models: int, fraction: float = 0.7, seed: int = 0) -> Array:
    """Draw the floor(fraction n) examples that each of `models` models is trained on.

    Args:
        n: number of examples.
        models: number of models, at least 2.
        fraction: share of the examples that each one sees, in (0, 1).
        seed: of the choice.

    Returns:
        Shape (models, n), bool.

    Raises:
        ValueError: an argument outside its range.
    """
    check_integer("models", models, 2, 10**6)
    check_range("fraction", fraction, 0.0, 1.0, open_low=True, open_high=True)
    check_seed(seed)
    count = int(np.floor(fraction * n))
    if not 1 <= count < n:
        raise ValueError(f"fraction = {fraction:g} of {n} examples is none or all of them")
    inside = np.zeros((models, n), dtype=bool)
    for model, row in enumerate(inside):
        row[generator(seed, model).choice(n, count, replace=False)] = True
    return inside


def train_on_random_subsets(
    train: Callable[[Integers, int], ArrayLike],
    n: int,
    *,
    models: int = 100,
    fraction: float = 0.7,
    seed: int = 0,
    progress: bool = False,
) -> Scores:
    """Train models on random parts of the data, and score by `memorization`.

    Args:
        train: takes the rows to train on and a model's number; returns whether the model it
            trained classifies each of the n examples correctly.
        n: number of examples.
        models: number of models, at least 2; with few of them an example may be in all training
            sets or in none.
        fraction: share of the examples that each one sees, in (0, 1).
        seed: of the training sets.
        progress: whether to show a bar on stderr.

    Raises:
        ValueError: an argument outside its range, an answer of `train` that is not n times 0 or 1;
            see `memorization`.
    """
    inside = random_training_sets(n, models, fraction, seed)
    correct = np.empty((models, n), dtype=bool)
    done = bar(models, "memorization", "model", shown=progress)
    for model in range(models):
        name = f"correct of model {model}"
        found = _flags(name, train(np.flatnonzero(inside[model]), model))
        if found.shape != (n,):
            raise ValueError(f"{name} has shape {found.shape}; it must be ({n},)")
        correct[model] = found
        done.update()
    done.close()
    return memorization(inside, correct)


def _flags(name: str, values: ArrayLike) -> Array:
    """Convert values that are 0 or 1 to bool.

    Others are refused: NaN and probabilities would silently count as True.
    """
    array = np.asarray(values)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} has dtype {array.dtype}; it must be 0 or 1, or False or True")
    flags: Array = array == 1
    broken = ~flags & (array != 0)
    if np.any(broken):
        index = tuple(int(i) for i in np.argwhere(broken)[0])
        place = index[0] if len(index) == 1 else index
        raise ValueError(
            f"{name} holds {array[index]} at index {place}; it must be 0 or 1, or False or True"
        )
    return flags


def _early(
    dynamics: TrainingDynamics, first: int | None, last: int | None
) -> tuple[int, int | None]:
    """Choose the epochs of a score of early training.

    The head of this file says which they are.
    """
    if first is None and last is None and dynamics.losses.shape[1] > EARLY[1]:
        return EARLY
    return first or 0, last


def _epochs(values: Array, first: int, last: int | None) -> Array:
    """Take the chosen epochs, shape (S, T', n)."""
    count = values.shape[1]
    end = count - 1 if last is None else last
    check_integer("last", end, 0, count - 1)
    check_integer("first", first, 0, end)
    return values[:, first : end + 1]


def _mean(
    name: str,
    values: Array,
    first: int,
    last: int | None,
    orientation: Literal["hard", "easy"] = "hard",
) -> Scores:
    chosen = _epochs(values, first, last)
    mean: Floats = np.mean(chosen, axis=(0, 1), dtype=np.float64)
    return Scores.of(mean, name=name, orientation=orientation, **_chosen(chosen, first))


def _counts(dynamics: TrainingDynamics, first: int = 0, last: int | None = None) -> dict[str, Any]:
    return _chosen(_epochs(dynamics.losses, first, last), first)


def _chosen(chosen: Array, first: int) -> dict[str, Any]:
    """Describe which epochs were chosen of an array of shape (S, T', n)."""
    seeds, epochs = chosen.shape[:2]
    return {"seeds": seeds, "epochs": epochs, "first": first, "last": first + epochs - 1}
