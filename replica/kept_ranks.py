"""Students of unions of abs(z) rank intervals, and the influence of every rank on their error.

A set of ranks is an array of intervals (start, end), shape (INTERVALS, 2), with
0 <= start <= end <= 1 and empty intervals at the end: the quantiles of abs(z) between which all
examples are kept.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.special import ndtri

from replica.downstream import judge
from replica.gordon import Ensemble
from replica.implicit import student_response
from replica.line import LineAverages, probe_line
from replica.newton import Student, maximise_margin
from theory._float64 import float64
from theory._pytree import pytree_dataclass
from theory.problem import DownstreamShift
from theory.weights import IntervalWeight

__all__ = ["INTERVALS", "RankProblem", "Students", "fields_of", "influence", "train"]

Array = jnp.ndarray

INTERVALS = 3
BATCH = 64
FEW, MANY = 2 * INTERVALS, 512
FARTHEST = 8.0  # 1e-15 of the examples have larger fields


@pytree_dataclass
class RankProblem:
    """One problem, scalars: what is kept is said apart."""

    alpha_total: ArrayLike
    theta: ArrayLike
    downstream: DownstreamShift


@pytree_dataclass
class Students:
    """Trained students of several sets of ranks, arrays with a leading axis of sets.

    Attributes:
        ensemble: what they were trained on.
        student: the students.
        error: their errors; NaN where the margin's maximum was not found.
    """

    ensemble: Ensemble
    student: Student
    error: Array


def fields_of(ranks: np.ndarray) -> np.ndarray:
    """The abs(z) at the ranks, any shape; +inf at rank 1."""
    ranks = np.asarray(ranks, float)
    return np.abs(ndtri(np.clip((1 - ranks) / 2, 0.0, 0.5)))


@float64
def train(problem: RankProblem, sets: np.ndarray) -> Students:
    """The students of `sets`, shape (count, INTERVALS, 2)."""
    edges = fields_of(sets)
    problem = _double(problem)
    parts = []
    for start in range(0, len(edges), BATCH):
        chunk = edges[start : start + BATCH]
        trained = _train_batch(problem, np.resize(chunk, (BATCH, *chunk.shape[1:])), len(chunk))
        parts.append(jax.tree.map(partial(_first, count=len(chunk)), trained))
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


def _double(problem: RankProblem) -> RankProblem:
    """Python's numbers would be compiled for apart."""
    doubled: RankProblem = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), problem)
    return doubled


def _first(column: Array, count: int) -> np.ndarray:
    return np.asarray(column)[:count]


@float64
def influence(problem: RankProblem, students: Students, index: int, ranks: np.ndarray) -> Array:
    """d error/d w at the ranks, shape (n,), per unit of kept mass, of one of the students.

    alpha_total is fixed: keeping a small mass m more at a rank changes the error by m times this.
    """
    one = jax.tree.map(lambda column: column[index], students)
    fields = np.minimum(fields_of(ranks), FARTHEST)
    # Two shapes are compiled, for the ends of a set and for a whole profile.
    size = FEW if len(fields) <= FEW else -(-len(fields) // MANY) * MANY
    return _influences(_double(problem), one, np.resize(fields, size))[: len(fields)]


@jax.jit
def _train_batch(problem: RankProblem, edges: Array, count: Array) -> Students:
    def lane(i: Array, out: Students) -> Students:
        value = _train(problem, edges[i])
        return jax.tree.map(lambda column, entry: column.at[i].set(entry), out, value)

    example = jax.eval_shape(lambda: _train(problem, edges[0]))
    empty = jax.tree.map(lambda entry: jnp.zeros((BATCH, *entry.shape), entry.dtype), example)
    return jax.lax.fori_loop(0, count, lane, empty)


def _train(problem: RankProblem, edges: Array) -> Students:
    start, end = edges.T
    weight = IntervalWeight(
        low=jnp.concatenate([start, -end]),
        high=jnp.concatenate([end, -start]),
        level=jnp.ones(2 * INTERVALS),
    )
    alpha_total, theta = jnp.asarray(problem.alpha_total), jnp.asarray(problem.theta)
    ensemble = Ensemble(alpha_total, weight, theta)
    tail = jax.scipy.special.erfc(edges / np.sqrt(2))
    kept = jnp.sum(tail[:, 0] - tail[:, 1])
    student, _, converged = maximise_margin(ensemble, alpha_total * kept)
    found = converged & (student.mu > 0)
    error = jnp.where(found, _error(student.y, problem.downstream), jnp.nan)
    return Students(ensemble=ensemble, student=student, error=error)


def _error(y: Array, shift: DownstreamShift) -> Array:
    norm = jnp.sqrt(1 + y @ y)
    return judge(y[0] / norm, y[1] / norm, 1 / norm, shift)[1] / np.pi


@jax.jit
def _influences(problem: RankProblem, trained: Students, fields: Array) -> Array:
    student, ensemble = trained.student, trained.ensemble
    rate = jax.grad(_error)(student.y, problem.downstream)

    def error_change(change: LineAverages) -> Array:
        return rate @ student_response(ensemble, student, change).y

    zero = LineAverages(*(jnp.zeros(()),) * 4, jnp.zeros(2))
    # The answer is linear in the change of the averages: its coefficients serve every rank.
    coefficients = jax.grad(error_change)(zero)

    def at(field: Array) -> Array:
        sides = jax.vmap(probe_line, in_axes=(None, None, None, 0))(
            ensemble.theta, student.y, student.mu, jnp.stack([field, -field])
        )
        terms = jax.tree.map(lambda c, side: jnp.sum(c * side), coefficients, sides)
        return ensemble.alpha_total * sum(jax.tree.leaves(terms))

    return jax.lax.map(at, fields)
