"""Scores pairs of features, reconstructions and gradients.

These scores need no classifier.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_choice, check_integer
from selection.arrays import Array, Floats, blocks, real_rows, unit_rows
from selection.pool import Scores
from selection.selector import generator

Space = Literal["target", "pixel"]

VARIANCE_FLOOR = 1e-6  # masked autoencoders add it to a patch's variance before its root
PROJECTED = 4096  # gradient entries that share a random key


def clip(features: ArrayLike, texts: ArrayLike, *, normalise: bool = True) -> Scores:
    """Score by how well an image's and its text's embeddings agree.

    The score is 2 <v_i, t_i>.

    Args:
        features: v, shape (n, d).
        texts: t, shape (n, d).
        normalise: whether to use unit vectors.

    Raises:
        ValueError: different shapes, NaN or infinity, a row of norm zero.

    Source: Hessel et al., CLIPScore, arXiv:2104.08718.
    """
    left = real_rows("features", features, ndim=(2,))
    right = real_rows("texts", texts, ndim=(2,))
    if left.shape != right.shape:
        raise ValueError(f"features has shape {left.shape}, texts {right.shape}; they must agree")
    values = np.empty(len(left))
    for rows in blocks(len(left), left.shape[1]):
        pair = (left[rows].astype(np.float64), right[rows].astype(np.float64))
        if normalise:
            pair = (
                unit_rows("features", pair[0], rows.start),
                unit_rows("texts", pair[1], rows.start),
            )
        values[rows] = 2 * np.einsum("ij,ij->i", *pair)
    return Scores.of(values, name="clip", normalise=normalise)


def c_rho(
    features: ArrayLike,
    texts: ArrayLike,
    training_features: ArrayLike,
    training_texts: ArrayLike,
    *,
    normalise: bool = True,
) -> Scores:
    """Score by the difference of two models' `clip`.

    It is that of a model of validation data minus that of a model of the pool.

    Args:
        features: images by the validation model, shape (n, d).
        texts: texts by the validation model, shape (n, d).
        training_features: images by the model trained on the pool, shape (n, d').
        training_texts: texts by the model trained on the pool, shape (n, d').
        normalise: whether to use unit vectors.

    Raises:
        ValueError: shapes that do not fit, NaN or infinity, a row of norm zero.
    """
    reference = clip(features, texts, normalise=normalise)
    trained = clip(training_features, training_texts, normalise=normalise)
    if len(reference) != len(trained):
        raise ValueError(
            "the arrays have different lengths: "
            f"features {len(reference)}, training_features {len(trained)}"
        )
    return Scores.of(reference.values - trained.values, name="c-rho", normalise=normalise)


def reconstruction(
    predictions: ArrayLike,
    patches: ArrayLike,
    masks: ArrayLike,
    *,
    space: Space = "target",
    normalised: bool = True,
) -> Scores:
    """Score by the mean squared error on masked tokens.

    The error is the mean over K fixed masks.

    What the model puts out for visible tokens is untrained and does not count.

    Args:
        predictions: of the K masked inputs in the space the model was trained in, shape
            (K, n, tokens, values).
        patches: the inputs themselves, shape (n, tokens, values).
        masks: True where the token was hidden, shape (K, tokens) or (K, n, tokens).
        space: where the error is measured: "target", the space of the training, or "pixel".
        normalised: whether the model was trained on patches with mean 0 and variance 1 each
            (unbiased variance, plus 1e-6).

    Raises:
        ValueError: shapes that do not fit, an input without a masked token, NaN or infinity.

    Source: He et al., Masked autoencoders are scalable vision learners, arXiv:2111.06377.
    """
    check_choice("space", space, get_args(Space))
    outputs, inputs = np.asanyarray(predictions), np.asanyarray(patches)
    hidden = np.asarray(masks, dtype=bool)
    if inputs.ndim != 3 or outputs.shape[1:] != inputs.shape or outputs.ndim != 4:
        raise ValueError(
            f"predictions has shape {outputs.shape} and patches {inputs.shape}; they must be "
            "(K, n, tokens, values) and (n, tokens, values)"
        )
    if hidden.ndim == 2:
        hidden = np.broadcast_to(
            hidden[:, None], (hidden.shape[0], *inputs.shape[:1], hidden.shape[1])
        )
    if hidden.shape != outputs.shape[:3]:
        raise ValueError(
            f"masks has shape {np.shape(masks)}; it must be (K, tokens) = "
            f"{(outputs.shape[0], outputs.shape[2])} or (K, n, tokens) = {outputs.shape[:3]}"
        )
    if not np.all(np.any(hidden, axis=2)):
        mask, row = (int(i) for i in np.argwhere(~np.any(hidden, axis=2))[0])
        raise ValueError(f"masks hides no token of example {row} in mask {mask}")
    values = np.empty(len(inputs))
    for rows in blocks(len(inputs), inputs[0].size):
        target, scale = _targets(inputs[rows], space, normalised)
        errors = np.zeros(len(target))
        for output, mask in zip(outputs[:, rows], hidden[:, rows], strict=True):
            square = np.mean(((output - target) * scale) ** 2, axis=2)
            errors += np.sum(square * mask, axis=1) / np.sum(mask, axis=1)
        values[rows] = errors / len(outputs)
    return Scores.of(
        values, name="reconstruction", space=space, normalised=normalised, masks=len(outputs)
    )


def _targets(patches: Array, space: Space, normalised: bool) -> tuple[Floats, Floats]:
    """Return what the model was to predict, and the unit of its error."""
    patches = patches.astype(np.float64)
    if not normalised:
        return patches, np.ones(1)
    mean = patches.mean(axis=2, keepdims=True)
    scale = np.sqrt(patches.var(axis=2, ddof=1, keepdims=True) + VARIANCE_FLOOR)
    return (patches - mean) / scale, np.ones(1) if space == "target" else scale


def influence(
    gradients: ArrayLike,
    validation_gradients: ArrayLike,
    *,
    cosine: bool = False,
    dimension: int | None = None,
    seed: int = 0,
) -> Scores:
    """Score by how much a gradient step lowers the validation loss.

    The score is g_i . mean_v g_v.

    Args:
        gradients: of the candidates' losses, shape (n, g).
        validation_gradients: of the validation examples' losses, shape (m, g).
        cosine: whether to divide by both norms.
        dimension: project both to this many random directions first; default no projection.
        seed: of the projection.

    Raises:
        ValueError: different numbers of columns, NaN or infinity, a gradient of norm zero where
            the cosine is asked for.

    Source: Xia et al., LESS, arXiv:2402.04333.
    """
    rows = real_rows("gradients", gradients, ndim=(2,))
    wanted = real_rows("validation_gradients", validation_gradients, ndim=(2,))
    if rows.shape[1] != wanted.shape[1]:
        raise ValueError(
            f"gradients has {rows.shape[1]} columns, validation_gradients {wanted.shape[1]}; "
            "they must agree"
        )
    if dimension is not None:
        rows, wanted = (random_projection(one, dimension, seed) for one in (rows, wanted))
    target: Floats = np.asarray(np.mean(wanted, axis=0, dtype=np.float64))
    if cosine:
        target = unit_rows("validation_gradients", target[None])[0]
    values = np.empty(len(rows))
    for block in blocks(len(rows), rows.shape[1]):
        part = rows[block].astype(np.float64)
        values[block] = (unit_rows("gradients", part, block.start) if cosine else part) @ target
    return Scores.of(values, name="influence", cosine=cosine, dimension=dimension, seed=seed)


def random_projection(values: ArrayLike, dimension: int, seed: int = 0) -> Floats:
    """Project rows to random directions.

    Inner products are kept in expectation.

    They are values @ R, entries of R normal with variance 1 / dimension.

    Args:
        values: shape (n, g); R is drawn 4,096 rows at a time and never stored whole.
        dimension: columns of the result, >= 1.
        seed: of R.

    Returns:
        Shape (n, dimension).

    Raises:
        ValueError: NaN or infinity, another shape.
    """
    check_integer("dimension", dimension, 1, 2**31)
    rows = real_rows("values", values, ndim=(2,))
    projected = np.zeros((len(rows), dimension))
    for number, start in enumerate(range(0, rows.shape[1], PROJECTED)):
        part = rows[:, start : start + PROJECTED]
        directions = generator(seed, number).standard_normal((part.shape[1], dimension))
        projected += part @ directions
    return projected / np.sqrt(dimension)
