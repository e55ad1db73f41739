"""Minimises smooth regularised losses by Newton's method, certified by the gradient."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

# The certificate of a solved problem is at most this.
CERTIFIED = 1e-10
# The gradient is driven this far down; rounding may end it before, above the certificate's limit.
AIM = 2e-11
STEPS = 200
# Steps without a better gradient, after which rounding is taken to have ended the progress.
PATIENCE = 4
SEARCHES = 40
# Squared hinge: the first ridge is this share of the rows' mean square in one dimension, and each
# next one is a tenth of the one before. From W = 0 its Newton steps are tiny where lam is.
FIRST, RATIO, LOOSE, GONE = 1e-2, 0.1, 1e-2, 1e-10
# So many dimensions make a Gram matrix as dear as one product with the Hessian makes it.
DIMS_PER_PRODUCT = 12
# Products before their progress is judged.
GRACE = 4
EPSILON = 2.0**-52
# How conjugate gradients multiply and are preconditioned.
PLAIN, SINGLE, DOUBLE = 0, 1, 2
# Shares of the largest diagonal entry that keep a Gram matrix definite in either precision.
ROUNDING = {jnp.dtype("float32"): 1e-6, jnp.dtype("float64"): 1e-15}


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


def curvature(loss: str, margins: Array, slopes: Array, sizes: Array) -> Array:
    """Return s loss''(t) at each margin, whose slopes s loss'(t) are known."""
    if loss == "logistic":
        return -slopes * (1.0 + slopes / jnp.where(sizes > 0, sizes, 1.0))
    if loss == "squared-hinge":
        return sizes * (margins < 1.0)
    return sizes


_Six = tuple[Array, Array, Array, Array, Array, Array]
_Seven = tuple[Array, Array, Array, Array, Array, Array, Array]


class Point(NamedTuple):
    """Weights with their margins, dual u = -s loss'(t), objective and certificate."""

    weights: Array
    margins: Array
    dual: Array
    objective: Array
    certificate: Array


class _State(NamedTuple):
    stage: Array
    weights: Array
    margins: Array
    slopes: Array
    pull: Array
    certificate: Array
    best: Array
    best_certificate: Array
    level: Array
    factor: Array
    slow: Array
    fresh: Array
    step: Array
    idle: Array


def minimise(
    loss: str, rows: Array, unit: Array, signs: Array, sizes: Array, ridge: Array
) -> Point:
    """Minimise a smooth loss of weighted examples plus a ridge.

    The objective is sum_i s_i loss(y_i x_i . z) + sum_j ridge_j z_j^2 / 2.

    Newton's steps come from conjugate gradients in single precision. Where these are slow, they are
    preconditioned by a Gram matrix of single precision, and then of double precision.

    Args:
        loss: a smooth loss.
        rows: x over `unit`, shape (P, n), a column of ones included if there is an intercept.
        unit: brings the entries of x to a size of at most 1.
        signs: y, -1 or 1, shape (P,).
        sizes: s >= 0 of size at most 1, shape (P,).
        ridge: shape (n,); the last may be 0, for the intercept.
    """
    dim = rows.shape[1]
    single = (rows * unit).astype(jnp.float32)

    def times(vector: Array) -> Array:
        return signs * (rows @ (unit * vector))

    def back(vector: Array) -> Array:
        return unit * ((signs * vector) @ rows)

    def relative(gradient: Array, shrink: Array) -> Array:
        scale = jnp.linalg.norm(shrink)
        return jnp.linalg.norm(gradient) / jnp.where(scale > 0, scale, 1e-300)

    def more(state: _State) -> Array:
        return (state.best_certificate > AIM) & (state.step < STEPS) & (state.idle < PATIENCE)

    def forward(state: _State) -> _State:
        current = state.stage * ridge
        gradient = state.pull + current * state.weights
        bend = curvature(loss, state.margins, state.slopes, sizes)
        level = jnp.where(
            state.slow & ((state.level == PLAIN) | state.fresh),
            jnp.minimum(state.level + 1, DOUBLE),
            state.level,
        )
        factor = lax.cond(
            state.slow,
            lambda: lax.cond(
                level == DOUBLE,
                lambda: _factor(rows * unit, bend, current),
                lambda: _factor(single, bend, current).astype(jnp.float64),
            ),
            lambda: state.factor,
        )
        digits = jnp.clip(jnp.log10(state.certificate / AIM), 1.0, 11.0)
        # The square loss is its own quadratic model, and single precision has six digits.
        loose = 0.0 if loss == "square" else jnp.minimum(state.certificate, 0.1)
        loose = jnp.maximum(jnp.maximum(loose, 0.5 * AIM / state.certificate), 1e-6)
        # Products for a digit, beyond which a new Gram matrix is worth its cost.
        dear = dim / DIMS_PER_PRODUCT / digits + 1.5
        move, slow = lax.cond(
            level == DOUBLE,
            lambda: _conjugate(times, back, bend, current, level, factor, gradient, loose, dear),
            lambda: _conjugate(
                lambda vector: single @ vector,
                lambda vector: vector @ single,
                bend.astype(jnp.float32),
                current.astype(jnp.float32),
                level,
                factor.astype(jnp.float32),
                gradient,
                loose,
                dear,
            ),
        )
        length, margins, slopes = _search(
            loss, times(move), sizes, current, state, gradient @ move, move
        )
        weights = state.weights + length * move
        pull = back(slopes)
        certificate = relative(pull + current * weights, current * weights)
        better = (certificate < state.best_certificate) & (state.stage == 1.0)
        best = jnp.where(better, weights, state.best)
        best_certificate = jnp.where(better, certificate, state.best_certificate)
        # The gradient may grow for a while far from the minimum, where the objective falls.
        idle = jnp.where(better | (best_certificate > 1e-6), 0, state.idle + 1)
        stage = state.stage
        if loss == "squared-hinge":
            # Where the ridge is tiny, rounding keeps the relative size of the gradient large.
            gone = jnp.linalg.norm(pull + current * weights) < GONE * jnp.linalg.norm(first)
            near = (certificate < LOOSE) | gone
            stage = jnp.where(near, jnp.maximum(1.0, RATIO * stage), stage)
            shrink = stage * ridge * weights
            certificate = relative(pull + shrink, shrink)
        return _State(
            stage,
            weights,
            margins,
            slopes,
            pull,
            certificate,
            best,
            best_certificate,
            level,
            factor,
            slow,
            state.slow,
            state.step + 1,
            idle,
        )

    stage = jnp.ones(())
    if loss == "squared-hinge":
        spread = FIRST * (sizes @ jnp.sum(single**2, axis=1)) / dim
        stage = jnp.maximum(1.0, spread / jnp.max(ridge))
    start = jnp.zeros(dim)
    margins = jnp.zeros(rows.shape[0])
    slopes = sizes * slope(loss, margins)
    first = back(slopes)
    no, none = jnp.zeros((), bool), jnp.zeros((), int)
    state = _State(
        stage,
        start,
        margins,
        slopes,
        first,
        jnp.asarray(1.0),
        start,
        jnp.asarray(jnp.inf),
        none,
        jnp.eye(dim),
        no,
        no,
        none,
        none,
    )
    weights = lax.while_loop(more, forward, state).best
    # Margins that were updated step by step have lost some digits.
    margins = times(weights)
    slopes = sizes * slope(loss, margins)
    objective = sizes @ value(loss, margins) + 0.5 * jnp.sum(ridge * weights**2)
    certificate = _certify(
        loss,
        Point(weights, margins, -slopes, objective, back(slopes) + ridge * weights),
        jnp.sqrt(jnp.sum(single**2).astype(jnp.float64)),
        signs,
        sizes,
        ridge,
    )
    return Point(weights, margins, -slopes, objective, certificate)


def _certify(
    loss: str, point: Point, norm: Array, signs: Array, sizes: Array, ridge: Array
) -> Array:
    """Return the certificate of a point that holds its gradient in that place.

    Rounding is counted in: a rounding error for each term of the gradient, and one for each margin,
    which the curvature turns into a gradient. `norm` is the rows' Frobenius norm.
    """
    weights, margins, dual, objective, gradient = point
    bend = curvature(loss, margins, -dual, sizes)
    size = jnp.linalg.norm(weights)
    noise = jnp.linalg.norm(dual) + jnp.max(bend) * jnp.sqrt(1.0 * weights.shape[0]) * size
    noise = EPSILON * noise * norm
    ratio = (jnp.linalg.norm(gradient) + noise) / jnp.linalg.norm(ridge * weights)
    # Fenchel's gap for the dual, balanced between the classes if there is an intercept.
    heavy, share = imbalance(dual, signs, ridge, jnp.abs(gradient[-1]) + noise)
    moved = jnp.where(heavy, share * dual, 0.0)
    if loss == "logistic":
        # An upper bound of s KL(u'/s || u/s).
        fall = dual / jnp.where(sizes > 0, sizes, 1.0)
        one = sizes * (1.0 - fall * (1.0 - share)) * jax.nn.softplus(jnp.log(share) - margins)
        apart = jnp.sum(jnp.where(heavy, one, 0.0))
    else:
        apart = 0.5 * jnp.sum(moved**2 / jnp.where(sizes > 0, sizes, 1.0))
    rest = jnp.linalg.norm(jnp.where(ridge > 0, gradient, 0.0)) + noise
    rest += jnp.linalg.norm(moved) * norm
    gap = (apart + 0.5 * rest**2 / ridge[0]) / objective
    return jnp.where(ratio <= CERTIFIED, ratio, gap)


def imbalance(dual: Array, signs: Array, ridge: Array, least: Array) -> tuple[Array, Array]:
    """Return the rows whose dual must shrink, and the share it loses.

    Then the classes balance: the sum of u y vanishes, as an intercept asks for. Without an
    intercept no row must shrink.

    Args:
        dual, signs, ridge: u, y and the ridge, 0 in the last place for an intercept.
        least: the sum of u y counts as at least this, for its rounding.
    """
    pulls = dual * signs
    excess = jnp.sum(pulls)
    heavy = (pulls * jnp.where(excess < 0, -1.0, 1.0) > 0) & (ridge[-1] == 0)
    total = jnp.sum(jnp.where(heavy, jnp.abs(pulls), 0.0))
    return heavy, jnp.minimum(jnp.maximum(jnp.abs(excess), least) / jnp.maximum(total, 1e-300), 1.0)


def _factor(rows: Array, bend: Array, ridge: Array) -> Array:
    kind = rows.dtype
    scaled = rows * jnp.sqrt(bend).astype(kind)[:, None]
    gram = scaled.T @ scaled
    # Rounding's share keeps the matrix definite where no row bends along the intercept.
    tiny = ROUNDING[kind] * (jnp.max(jnp.diagonal(gram)) + jnp.max(ridge).astype(kind))
    matrix = gram + jnp.diag(ridge.astype(kind) + tiny)
    return jnp.linalg.cholesky(matrix, symmetrize_input=False)


def _conjugate(
    times: Callable[[Array], Array],
    back: Callable[[Array], Array],
    bend: Array,
    ridge: Array,
    level: Array,
    factor: Array,
    gradient: Array,
    accuracy: Array,
    dear: Array,
) -> tuple[Array, Array]:
    """Solve Hessian x = -gradient in the precision of `bend`.

    The answer is x, and whether digits became too dear.
    """
    kind = bend.dtype
    scale = jnp.linalg.norm(gradient)
    target = (-gradient / jnp.where(scale > 0, scale, 1.0)).astype(kind)

    def precondition(vector: Array) -> Array:
        return lax.cond(
            level == PLAIN,
            lambda: vector,
            lambda: jax.scipy.linalg.cho_solve((factor, True), vector),
        )

    def more(state: _Six) -> Array:
        _, _, _, size, enough, count = state
        found = 0.5 * (jnp.log10(first) - jnp.log10(size))
        return (size > enough) & ((count < GRACE) | (count < dear * found))

    def forward(state: _Six) -> _Six:
        solution, rest, along, size, enough, count = state
        image = back(bend * times(along)) + ridge * along
        length = size / (along @ image)
        solution = solution + length * along
        rest = rest - length * image
        smooth = precondition(rest)
        new = rest @ smooth
        return solution, rest, smooth + new / size * along, new, enough, count + 1

    smooth = precondition(target)
    first = target @ smooth
    enough = (accuracy**2 * first).astype(kind)
    state = (jnp.zeros_like(target), target, smooth, first, enough, jnp.asarray(0))
    found = lax.while_loop(more, forward, state)
    slow = ~(found[3] <= enough)
    usable = jnp.all(jnp.isfinite(found[0])) & (found[0] @ target > 0)
    move = jnp.where(usable, found[0], target)
    return scale * move.astype(jnp.float64), slow


def _search(
    loss: str, moved: Array, sizes: Array, ridge: Array, state: _State, first: Array, move: Array
) -> tuple[Array, Array, Array]:
    """Find a length where the slope of the objective along the move has almost vanished.

    Slopes, unlike values, keep their digits near the minimum. With the length come the margins and
    their slopes.
    """
    linear = (ridge * state.weights) @ move
    square = (ridge * move) @ move

    def along(length: Array) -> tuple[Array, Array, Array]:
        margins = state.margins + length * moved
        # Computed once: XLA would repeat it in each sum.
        slopes: Array = lax.optimization_barrier(  # type: ignore[no-untyped-call]
            sizes * slope(loss, margins)
        )
        return slopes @ moved + linear + length * square, margins, slopes

    def more(found: _Seven) -> Array:
        one, count = found[3], found[6]
        return ((one < 0.5 * first) | (one > -0.1 * first)) & (count < SEARCHES)

    def forward(found: _Seven) -> _Seven:
        length, low, high, one, margins, slopes, count = found
        two = curvature(loss, margins, slopes, sizes) @ moved**2 + square
        low = jnp.where(one < 0, length, low)
        high = jnp.where(one < 0, high, length)
        newton = length - one / two
        fallback = jnp.where(jnp.isfinite(high), 0.5 * (low + high), 2.0 * length)
        inside = (newton > low) & (newton < jnp.minimum(high, 10.0 * length))
        length = jnp.where(inside, newton, fallback)
        return (length, low, high, *along(length), count + 1)

    one = jnp.asarray(1.0)
    start = (one, jnp.asarray(0.0), jnp.asarray(jnp.inf), *along(one), jnp.asarray(0))
    found = lax.while_loop(more, forward, start)
    return found[0], found[4], found[5]
