"""Turns the normal rows of a draw into examples: inputs of any covariance, observed labels."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from sims.draws import Draw
from theory.inputs import Inputs, Isotropic, PowerLaw, Spectrum
from theory.labels import Clean, Flip, Labels, LabelSteps, Logit, Probit

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def realised_spectrum(inputs: PowerLaw | Spectrum, dim: int | None = None) -> Spectrum:
    """Return the eigenvalues and whitened vectors that simulations have.

    A `PowerLaw` says how large t_j and v_j are. The signs are such that the partial sums of
    t_j v_j stay close to 0, and v is then made orthogonal to t, which changes it where few
    directions dominate. `replica.solve` at the answer is the theory of exactly this simulation.

    A `Spectrum` of n eigenvalues is simulated at a multiple of n: each eigenvalue is repeated, and
    t_j and v_j lie along one direction of its eigenspace.

    Args:
        inputs: scalar parameters.
        dim: N, by default the number of eigenvalues.

    Returns:
        A spectrum of `dim` eigenvalues.

    Raises:
        ValueError: a dimension that does not fit the law.
    """
    size = inputs.size()
    dim = size if dim is None else dim
    check_dim(inputs, dim)
    if isinstance(inputs, Spectrum):
        repeats = dim // size
        eigenvalues = np.repeat(np.asarray(inputs.eigenvalues, np.float64), repeats)
        teacher, direction = np.zeros(dim), np.zeros(dim)
        teacher[::repeats], direction[::repeats] = inputs.teacher, inputs.direction
    else:
        a, r, rv = (float(np.asarray(value)) for value in (inputs.a, inputs.r, inputs.rv))
        logs = -a * np.log(np.arange(1.0, size + 1))
        eigenvalues = np.exp(logs)
        teacher, direction = (np.exp((1 + power) * logs / 2) for power in (r, rv))
        teacher /= np.linalg.norm(teacher)
        direction *= _balancing_signs(teacher * direction)
    eigenvalues /= np.mean(eigenvalues)
    teacher /= np.linalg.norm(teacher)
    if size > 1:
        direction -= (direction @ teacher) * teacher
        direction /= np.linalg.norm(direction)
    return Spectrum(eigenvalues, teacher, direction)


def _balancing_signs(products: Floats) -> Floats:
    """Return signs that keep the partial sums of the products close to 0."""
    signs, total = np.ones(len(products)), 0.0
    for place, product in enumerate(products):
        signs[place] = -1.0 if total > 0 else 1.0
        total += signs[place] * product
    return signs


def check_dim(inputs: Inputs, dim: int) -> None:
    """Check that a simulation at dimension `dim` can have these inputs.

    Raises:
        ValueError: it cannot.
    """
    if isinstance(inputs, PowerLaw) and dim != inputs.dim:
        raise ValueError(
            f"dim = {dim} is not that of the inputs, PowerLaw(dim={inputs.dim}): leave it out, or "
            "give the same"
        )
    if isinstance(inputs, Spectrum) and dim % inputs.size():
        raise ValueError(
            f"dim = {dim} is no multiple of the number of eigenvalues of inputs = Spectrum(...), "
            f"{inputs.size()}"
        )


class Examples:
    """The examples of one draw: a covariance and observed labels for its rows.

    In the eigenbasis of C an input is x_j = sqrt(c_j) g_j with the draw's normal numbers g. The
    fields of T and J_p are products of g with the whitened vectors.

    Attributes:
        draw: the draw.
        signs: observed label over the draw's own, shape (P,), or None where they are equal.
        scale: sqrt(c_j), shape (N,), or None for isotropic inputs.
        teacher: the whitened teacher t, a unit vector of shape (N,).
        direction: the unit vector v orthogonal to it, on the probe's side, shape (N,).
    """

    def __init__(self, draw: Draw, labels: Labels, inputs: Inputs) -> None:
        self.draw = draw
        self.scale: Floats | None = None
        self.teacher, self.direction = axis(draw.dim, 0), axis(draw.dim, 1)
        if not isinstance(inputs, Isotropic):
            spectrum = realised_spectrum(inputs, draw.dim)
            self.scale = np.sqrt(np.asarray(spectrum.eigenvalues))
            self.teacher = np.asarray(spectrum.teacher)
            self.direction = np.asarray(spectrum.direction)
        self.signs: Floats | None = None
        if not (isinstance(labels, Clean) and isinstance(inputs, Isotropic)):
            fields = row_products(draw.rows, self.teacher)
            kept = draw.label_noise() < chance_of_truth(labels, np.abs(fields))
            self.signs = np.where(kept == (fields >= 0), 1.0, -1.0)

    @property
    def labels(self) -> Floats:
        """Observed labels y, shape (P,)."""
        return self.draw.labels if self.signs is None else self.signs * self.draw.labels

    def margins(self, whitened: Floats) -> Floats:
        """Return y times the field of a vector, given whitened, shape (P,).

        The digits do not depend on the number of rows.
        """
        products = row_products(self.draw.rows, whitened)
        return products if self.signs is None else self.signs * products

    def problem(self, rows: Integers) -> tuple[Floats, Integers]:
        """Return label-signed inputs y x, and the places of the given rows among them."""
        if self.signs is None and self.scale is None:
            return self.draw.rows, rows
        return self.signed_inputs(rows), np.arange(len(rows))

    def signed_inputs(self, rows: Integers) -> Floats:
        """Return the label-signed inputs y x of the given rows, shape (len(rows), N)."""
        inputs = self.draw.rows.take(rows, axis=0)
        if self.signs is not None:
            inputs *= self.signs[rows, None]
        if self.scale is not None:
            inputs *= self.scale
        return inputs

    def whitened(self, directions: Floats) -> tuple[Floats, Floats]:
        """Return C^{1/2} w over its norm, and the norm.

        The w are unit vectors, shape (k, N).
        """
        if self.scale is None:
            return directions, np.ones(len(directions))
        scaled = directions * self.scale
        norms = np.linalg.norm(scaled, axis=1)
        norms = np.where(norms > 0, norms, 1.0)  # of a student that does not exist
        return scaled / norms[:, None], norms


def chance_of_truth(labels: Labels, fields: Floats) -> Floats:
    """Return the chance that an observed label is true.

    Args:
        labels: the channel.
        fields: sizes abs(u) > 0 of the teacher's field, any shape.
    """
    if isinstance(labels, LabelSteps):
        edges, chances = np.asarray(labels.edges), np.asarray(labels.probabilities)
        return np.asarray(chances[np.searchsorted(edges, fields, side="right")])
    flip = 0.0 if isinstance(labels, Clean) else float(np.asarray(labels.flip))
    right = np.ones_like(fields)
    with np.errstate(divide="ignore"):
        if isinstance(labels, Probit):
            right = ndtr(np.divide(fields, labels.sigma))
        elif isinstance(labels, Logit):
            right = expit(np.divide(fields, labels.temperature))
        else:
            assert isinstance(labels, Clean | Flip)
    return flip + (1 - 2 * flip) * right


def axis(dim: int, index: int) -> Floats:
    """Return the unit vector along a coordinate, shape (N,)."""
    vector = np.zeros(dim)
    vector[index] = 1.0
    return vector


def row_products(rows: Floats, vector: Floats) -> Floats:
    """Return rows @ vector with digits that do not depend on the number of rows."""
    used = np.flatnonzero(vector)
    if len(used) <= 2:  # a fixed probe
        return np.asarray(sum(vector[column] * rows[:, column] for column in used))
    return np.einsum("ij,j->i", rows, vector)
