"""Minimises smooth regularised losses by Newton's method, certified by the gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

# The gradient is driven this far down; rounding may end it before, above the certificate's limit.
AIM = 1e-11
STEPS = 200
# Steps without a better gradient, after which rounding is taken to have ended the progress.
PATIENCE = 4
SEARCHES = 40
# Squared hinge: the first ridge is this share of the rows' mean square in one dimension, and each
# next one is a tenth of the one before. From W = 0 its Newton steps are tiny where lam is.
FIRST, RATIO, LOOSE = 1e-2, 0.1, 1e-2
# A gradient that falls by this factor times `ACCURATE` from its start is zero to rounding.
FLOOR = 1e-5


def value(loss: str, margins: Array) -> Array:
    """Return the loss at each margin."""
    if loss == "logistic":
        return jnp.logaddexp(0.0, -margins)
    if loss == "hinge":
        return jnp.maximum(1.0 - margins, 0.0)
    if loss == "squared-hinge":
        return 0.5 * jnp.maximum(1.0 - margins, 0.0) ** 2
    return 0.5 * (1.0 - margins) ** 2


def slope(loss: str, margins: Array) -> Array:
    """Return the first derivative of a smooth loss at each margin."""
    if loss == "logistic":
        return -jax.nn.sigmoid(-margins)
    if loss == "squared-hinge":
        return -jnp.maximum(1.0 - margins, 0.0)
    return margins - 1.0


def curvature(loss: str, margins: Array) -> Array:
    """Return the second derivative of a smooth loss at each margin."""
    if loss == "logistic":
        return jax.nn.sigmoid(margins) * jax.nn.sigmoid(-margins)
    if loss == "squared-hinge":
        return (margins < 1.0).astype(margins.dtype)
    return jnp.ones_like(margins)


_Six = tuple[Array, Array, Array, Array, Array, Array]


class Point(NamedTuple):
    """Weights with their margins, their gradient and the gradient's relative size."""

    weights: Array
    margins: Array
    gradient: Array
    certificate: Array


class _State(NamedTuple):
    stage: Array
    point: Point
    best: Point
    factor: Array
    products: Array
    step: Array
    idle: Array


def minimise(loss: str, rows: Array, sizes: Array, ridge: Array) -> Point:
    """Minimise sum_i s_i loss(rows_i . z) + sum_j ridge_j z_j^2 / 2 over z.

    A Cholesky factor of the Hessian is kept from step to step as the preconditioner of conjugate
    gradients, and made anew where these become slow: the products with the rows cost far less than
    their Gram matrix.

    Args:
        loss: a smooth loss.
        rows: label-signed rows, shape (P, n), a column of labels included if there is an intercept.
        sizes: s >= 0, shape (P,).
        ridge: shape (n,), 0 for the intercept.
    """
    dim = rows.shape[1]
    start = jnp.zeros(dim)
    pull = rows.T @ (sizes * slope(loss, jnp.zeros(rows.shape[0])))
    floor = FLOOR * jnp.linalg.norm(pull)
    # So many products cost about a third of a Gram matrix.
    patient = max(4, min(dim // 8, 30))

    def at(weights: Array, stage: Array) -> Point:
        margins = rows @ weights
        shrink = stage * ridge * weights
        gradient = rows.T @ (sizes * slope(loss, margins)) + shrink
        scale = jnp.maximum(jnp.linalg.norm(shrink), floor)
        ratio = jnp.linalg.norm(gradient) / jnp.where(scale > 0, scale, 1.0)
        return Point(weights, margins, gradient, ratio)

    def more(state: _State) -> Array:
        return (state.best.certificate > AIM) & (state.step < STEPS) & (state.idle < PATIENCE)

    def forward(state: _State) -> _State:
        point, stage = state.point, state.stage
        current = stage * ridge
        bend = sizes * curvature(loss, point.margins)
        factor = lax.cond(
            state.products > patient,
            lambda: _factor(rows, bend, current),
            lambda: state.factor,
        )
        accuracy = jnp.clip(jnp.sqrt(point.certificate), 1e-4, 0.1)
        move, products = _conjugate(rows, bend, current, factor, point.gradient, accuracy, patient)
        length = _search(loss, rows @ move, sizes, current, point, move)
        new = at(point.weights + length * move, stage)
        better = (new.certificate < state.best.certificate) & (stage == 1.0)
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, state.best)
        # The gradient may grow for a while far from the minimum, where the objective falls.
        idle = jnp.where(better | (state.best.certificate > 1e-6), 0, state.idle + 1)
        lower = jnp.where(new.certificate < LOOSE, jnp.maximum(1.0, RATIO * stage), stage)
        if loss == "squared-hinge":
            new = lax.cond(lower < stage, lambda: at(new.weights, lower), lambda: new)
        return _State(lower, new, best, factor, products, state.step + 1, idle)

    stage = jnp.ones(())
    if loss == "squared-hinge":
        spread = FIRST * (sizes @ jnp.sum(rows**2, axis=1)) / dim
        stage = jnp.maximum(1.0, spread / jnp.max(ridge))
    first = at(start, stage)
    state = _State(
        stage,
        first,
        first._replace(certificate=jnp.asarray(jnp.inf)),
        jnp.eye(dim),
        jnp.asarray(patient + 1),
        jnp.asarray(0),
        jnp.asarray(0),
    )
    return lax.while_loop(more, forward, state).best


def _factor(rows: Array, bend: Array, ridge: Array) -> Array:
    scaled = rows * jnp.sqrt(bend)[:, None]
    gram = scaled.T @ scaled
    # Rounding's share keeps the matrix definite where no row bends along the intercept.
    tiny = 1e-15 * (jnp.max(jnp.diagonal(gram)) + jnp.max(ridge))
    return jnp.linalg.cholesky(gram + jnp.diag(ridge + tiny), symmetrize_input=False)


def _conjugate(
    rows: Array,
    bend: Array,
    ridge: Array,
    factor: Array,
    gradient: Array,
    accuracy: Array,
    most: int,
) -> tuple[Array, Array]:
    """Solve Hessian x = -gradient; the solution and the products with the rows it took."""

    def precondition(vector: Array) -> Array:
        return jax.scipy.linalg.cho_solve((factor, True), vector)

    def more(state: _Six) -> Array:
        _, _, _, size, target, count = state
        return (size > target) & (count <= most)

    def forward(state: _Six) -> _Six:
        solution, rest, along, size, target, count = state
        image = rows.T @ (bend * (rows @ along)) + ridge * along
        length = size / (along @ image)
        solution = solution + length * along
        rest = rest - length * image
        smooth = precondition(rest)
        new = rest @ smooth
        return solution, rest, smooth + new / size * along, new, target, count + 1

    smooth = precondition(-gradient)
    size = -gradient @ smooth
    state = jnp.zeros_like(gradient), -gradient, smooth, size, accuracy**2 * size, jnp.asarray(0)
    found = lax.while_loop(more, forward, state)
    return found[0], found[5]


def _search(
    loss: str, moved: Array, sizes: Array, ridge: Array, point: Point, move: Array
) -> Array:
    """Find a length where the slope of the objective along the move has almost vanished.

    Slopes, unlike values, keep their digits near the minimum.
    """
    linear = (ridge * point.weights) @ move
    square = (ridge * move) @ move
    first = point.gradient @ move

    def along(length: Array) -> tuple[Array, Array]:
        margins = point.margins + length * moved
        one = (sizes * slope(loss, margins)) @ moved + linear + length * square
        two = (sizes * curvature(loss, margins)) @ moved**2 + square
        return one, two

    def more(state: _Six) -> Array:
        _, _, _, one, _, count = state
        return ((one < 0.5 * first) | (one > -0.1 * first)) & (count < SEARCHES)

    def forward(state: _Six) -> _Six:
        length, low, high, one, two, count = state
        low = jnp.where(one < 0, length, low)
        high = jnp.where(one < 0, high, length)
        newton = length - one / two
        fallback = jnp.where(jnp.isfinite(high), 0.5 * (low + high), 2.0 * length)
        inside = (newton > low) & (newton < jnp.minimum(high, 10.0 * length))
        length = jnp.where(inside, newton, fallback)
        return (length, low, high, *along(length), count + 1)

    one = jnp.asarray(1.0)
    state = (one, jnp.asarray(0.0), jnp.asarray(jnp.inf), *along(one), jnp.asarray(0))
    return lax.while_loop(more, forward, state)[0]
