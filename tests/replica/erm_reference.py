"""Solves the equations of regularised students with NumPy and SciPy alone, as a reference.

Nothing is shared with the packages: a product rule in the probe's field z and in the field zp
orthogonal to it in the plane of teacher and probe, the student's noise xi in closed form or by
Gauss-Legendre, and `scipy.optimize.root` with finite differences. It is slow (a second a point)
and meant for lam between 1e-4 and 100; docs/erm.md has the equations and the names.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.polynomial import chebyshev
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize, root
from scipy.special import expit, ndtr, ndtri

Floats = NDArray[np.float64]
Panels = list[tuple[float, float]]

FAR = 8.5  # 2 Phi(-8.5) = 2e-17
RULE, WEIGHTS = leggauss(14)
STEPS = np.array([0.5, 1.0, 2.0, 4.0, 8.0])
STEPS = np.concatenate([-STEPS[::-1], [0.0], STEPS])  # panel ends around a feature of scale 1
TERMS = 20  # Chebyshev terms on a panel of the logistic table


@dataclasses.dataclass(frozen=True)
class Channel:
    """P(y = +1 | u), and the fields and widths at which it changes."""

    chance: Callable[[Floats], Floats]
    features: Panels


def flips(eps: float = 0.0, sigma: float = 0.0, temperature: float = 0.0) -> Channel:
    """Make the channel of flips, and of Gaussian or of logistic noise beneath them."""

    def chance(u: Floats) -> Floats:
        if sigma:
            right = ndtr(u / sigma)
        elif temperature:
            right = expit(u / temperature)
        else:
            right = np.heaviside(u, 0.5)
        return eps + (1 - 2 * eps) * right

    return Channel(chance, [(0.0, sigma or temperature)])


def label_steps(edges: Sequence[float], chances: Sequence[float]) -> Channel:
    """Make the channel that is constant between the edges."""
    return Channel(
        lambda u: np.asarray(chances)[np.searchsorted(edges, u)], [(edge, 0.0) for edge in edges]
    )


@dataclasses.dataclass(frozen=True)
class Weight:
    """The share that is kept at a probe field (y z, if the label is used), and where it jumps."""

    share: Callable[[Floats], Floats]
    breaks: tuple[float, ...] = ()
    scale: float = 1.0


def intervals(parts: Iterable[tuple[float, float, float]]) -> Weight:
    """Make the weight that is the sum of (low, high, height)."""
    kept = tuple(parts)

    def share(z: Floats) -> Floats:
        return sum((h * ((z > low) & (z < high)) for low, high, h in kept), np.zeros_like(z))

    ends = {end for low, high, _ in kept for end in (low, high) if abs(end) < FAR}
    return Weight(share, tuple(sorted(ends)))


def ranks(low: float, high: float) -> Weight:
    """Keep the examples between two quantiles of abs(z), from hard to easy."""
    inner, outer = (float(ndtri((1 + rank) / 2)) for rank in (low, high))
    return intervals([(-outer, -inner, 1.0), (inner, outer, 1.0)])


def signed_ranks(low: float, high: float, theta: float, labels: Channel) -> Weight:
    """Keep the examples between two quantiles of y z, which depend on the noise."""

    def below(x: float) -> float:
        z, dz = _line(-FAR, x, _label_features(theta, labels))
        zp, dzp = _across(z, 0.0, theta, labels, [], 0.0)
        u = z[:, None] * np.cos(theta) + zp * np.sin(theta)
        chance = np.sum(dzp * _density(zp) * labels.chance(u), axis=1)
        return float(np.sum(dz * 2 * _density(z) * chance))

    def quantile(rank: float) -> float:
        if rank <= 0 or rank >= 1:
            return -FAR if rank <= 0 else FAR
        return float(brentq(lambda x: below(x) - rank, -FAR, FAR, xtol=1e-14))

    return intervals([(quantile(low), quantile(high), 1.0)])


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of C of mean 1, and whitened teacher t and direction v in its eigenbasis."""

    eigenvalues: Floats
    teacher: Floats
    direction: Floats
    cross: Floats  # t v of each eigenvalue

    @staticmethod
    def isotropic() -> "Spectrum":
        """Make the identity."""
        one = np.ones(1)
        return Spectrum(one, one, one, 0 * one)

    @staticmethod
    def power_law(dim: int, a: float, r: float = 0.0, rv: float = 0.0) -> "Spectrum":
        """Make c_j ~ j^-a, t_j^2 ~ c_j^(1+r), v_j^2 ~ c_j^(1+rv), with random signs."""
        c = np.arange(1, dim + 1) ** -a
        c /= c.mean()
        t2, v2 = c ** (1 + r), c ** (1 + rv)
        return Spectrum(c, np.sqrt(t2 / t2.sum()), np.sqrt(v2 / v2.sum()), np.zeros(dim))

    def sums(self, values: Floats) -> Floats:
        """Return sum_j values_j (t_j, v_j)(t_j, v_j)^T."""
        cross = np.sum(values * self.cross)
        return np.array(
            [
                [np.sum(values * self.teacher**2), cross],
                [cross, np.sum(values * self.direction**2)],
            ]
        )


@dataclasses.dataclass(frozen=True)
class Point:
    """A student of one loss on kept examples; `folds` and `common` are those of its probes."""

    loss: str
    lam: float
    alpha_total: float
    theta: float
    weight: Weight
    labels: Channel = dataclasses.field(default_factory=flips)
    spectrum: Spectrum = dataclasses.field(default_factory=Spectrum.isotropic)
    folds: int = 1
    common: float = 0.0


@dataclasses.dataclass(frozen=True)
class Answer:
    """The order parameters at the solution."""

    overlap: float
    probe_overlap: float
    norm: float
    weight_norm2: float
    error: float
    prox_step: float
    orthogonal: float
    residual: float


def solve(point: Point) -> Answer:
    """Solve the four equations of a point."""
    start = _start(point)

    def residuals(shift: Floats) -> Floats:
        return _residuals(start + shift - 1, point)

    # MINPACK's finite differences are relative to the unknowns, of which a_v may be 1e-17: they
    # are counted from the start, plus one. The start is near, and a long first step may overflow.
    found = root(residuals, np.ones(4), options={"xtol": 1e-14, "factor": 0.1})
    residual = float(np.max(np.abs(residuals(found.x))))
    if not residual < 1e-11:
        raise RuntimeError(f"{found.message} (residual {residual})")
    a_t, b, q, curvature = _unpack(start + found.x - 1, point)
    norm = float(np.sqrt(a_t**2 + b**2 + q**2))
    kap = _kap(point)
    c, s = np.cos(point.theta), np.sin(point.theta)
    step = _resolvent(point, curvature)
    nu = np.linalg.solve(point.spectrum.sums(step), np.array([a_t, b]))
    rest = a_t**2 + b**2 + q**2 - nu @ point.spectrum.sums(step**2) @ nu
    beta2 = rest / np.mean(step**2)
    euclid = step**2 / point.spectrum.eigenvalues
    return Answer(
        overlap=a_t / norm,
        probe_overlap=(a_t * c + kap * b * s) / norm,
        norm=norm,
        weight_norm2=float(beta2 * np.mean(euclid) + nu @ point.spectrum.sums(euclid) @ nu),
        error=float(np.arctan2(np.hypot(b, q), a_t) / np.pi),
        prox_step=float(np.mean(step)),
        orthogonal=q,
        residual=residual,
    )


def separability_threshold(theta: float, weight: Weight, labels: Channel) -> float:
    """Return the examples over the dimension up to which the kept ones are separable."""

    def square(a: Floats) -> float:
        z, zp, density = _nodes(a[0], a[1], 1.0, [0.0], theta, weight, labels)
        u, s = _fields(z, zp, theta)
        return float(np.sum(density * _second(-(a[0] * u + a[1] * s), 1.0)))

    options = {"xatol": 1e-10, "fatol": 1e-15, "maxiter": 400}
    found = minimize(square, np.array([0.5, 0.1]), method="Nelder-Mead", options=options)
    return 1 / float(found.fun)


def kept_fraction(theta: float, weight: Weight, labels: Channel) -> float:
    """Return < 1 >, the share of the examples that is kept."""
    return float(np.sum(_nodes(0.0, 0.0, 1.0, [], theta, weight, labels)[2]))


def _kap(point: Point) -> float:
    return float(np.sqrt((1 + (point.folds - 1) * point.common) / point.folds))


def _resolvent(point: Point, curvature: float) -> Floats:
    c = point.spectrum.eigenvalues
    return c / (point.lam + curvature * c)


def _unpack(x: Floats, point: Point) -> tuple[float, float, float, float]:
    q = float(np.exp(x[2]))
    return q * np.sinh(x[0]), q * np.sinh(x[1]), q, float(np.exp(x[3])) - point.lam


def _moments(
    point: Point, a_t: float, b: float, q: float, step: float
) -> tuple[Floats, float, float]:
    """Return alpha <U M'>, alpha <M'^2> and alpha <M''>, with U = (u, kap s)."""
    kap = _kap(point)
    along, across = a_t, kap * b
    apart = float(np.sqrt(q**2 + (1 - kap**2) * b**2))
    kinks, soft = {
        "square": ([], apart),
        "squared-hinge": ([1.0], apart),
        "hinge": ([1.0, 1.0 - step], apart),
        "logistic": ([0.0, float(np.log1p(step))], float(np.hypot(apart, 0.8))),
    }[point.loss]
    z, zp, density = _nodes(along, across, soft, kinks, point.theta, point.weight, point.labels)
    u, s = _fields(z, zp, point.theta)
    e1, e2, e3 = _smoothed(point.loss, along * u + across * s, apart, step)
    alpha = point.alpha_total
    pull = alpha * np.array([np.sum(density * u * e1), kap * np.sum(density * s * e1)])
    return pull, float(alpha * np.sum(density * e2)), float(alpha * np.sum(density * e3))


def _residuals(x: Floats, point: Point) -> Floats:
    a_t, b, q, curvature = _unpack(x, point)
    values = _resolvent(point, curvature)
    gamma = float(np.mean(values))
    pull, beta2, measured = _moments(point, a_t, b, q, gamma)
    a = np.array([a_t, b])
    nu = np.linalg.solve(point.spectrum.sums(values), a)
    # The part of b outside the field s_k of a fold's probe acts as noise; Stein's lemma.
    inside = np.array([curvature, curvature * _kap(point) ** 2]) * a
    norm2 = a @ a + q**2
    length = beta2 * np.mean(values**2) + nu @ point.spectrum.sums(values**2) @ nu
    return np.array(
        [
            *(gamma * (nu - inside + pull) / np.sqrt(norm2)),
            length / norm2 - 1,
            (measured - curvature) / (point.lam + curvature),
        ]
    )


def _start(point: Point) -> Floats:
    """Iterate state evolution towards the solution, by half steps, since whole ones diverge."""
    a, q, gamma = np.array([0.3, 0.1]), 0.5, 1 / (1 + point.lam)
    curvature = 0.0
    for _ in range(30):
        pull, beta2, curvature = _moments(point, a[0], a[1], q, gamma)
        values = _resolvent(point, curvature)
        nu = np.array([curvature, curvature * _kap(point) ** 2]) * a - pull
        target = point.spectrum.sums(values) @ nu
        length = beta2 * np.mean(values**2) + nu @ point.spectrum.sums(values**2) @ nu
        q = float(np.sqrt((q**2 + max(length - target @ target, 0.0)) / 2))
        a = (a + target) / 2
        gamma = float((gamma + np.mean(values)) / 2)
    return np.array([*np.arcsinh(a / q), np.log(q), np.log(point.lam + curvature)])


def _density(x: Floats) -> Floats:
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def _fields(z: Floats, zp: Floats, theta: float) -> tuple[Floats, Floats]:
    return z * np.cos(theta) + zp * np.sin(theta), z * np.sin(theta) - zp * np.cos(theta)


def _label_features(theta: float, labels: Channel) -> Panels:
    """Return where, and how sharply, the label changes along z."""
    cosine = max(np.cos(theta), 1e-9)
    return [(at / cosine, np.hypot(np.sin(theta), w) / cosine) for at, w in labels.features]


def _ends(features: Panels, low: float, high: float) -> Floats:
    near = [centre + scale * STEPS for centre, scale in features if scale < 4]
    ends = np.concatenate([[low, high], np.arange(-FAR, FAR + 0.1, 1.0), *near])
    return np.unique(np.clip(ends, low, high))


def _rule(ends: Floats) -> tuple[Floats, Floats]:
    half, middle = np.diff(ends) / 2, (ends[..., 1:] + ends[..., :-1]) / 2
    shape = (*ends.shape[:-1], half.shape[-1] * len(RULE))
    return (
        (middle[..., None] + half[..., None] * RULE).reshape(shape),
        (half[..., None] * WEIGHTS).reshape(shape),
    )


def _line(low: float, high: float, features: Panels) -> tuple[Floats, Floats]:
    return _rule(_ends(features, low, high))


def _across(
    z: Floats, along: float, theta: float, labels: Channel, kinks: list[float], slope: float,
    soft: float = 1.0,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return nodes and weights in zp for each z: t = along z + slope zp crosses the kinks."""
    sine = np.sin(theta)
    ends = [np.broadcast_to(np.arange(-FAR, FAR + 0.1, 1.7), (len(z), 11))]
    for at, width in labels.features:
        if sine > 0:
            centre = np.clip((at - z * np.cos(theta)) / sine, -1e3, 1e3)
            spread = width / sine
            ends.append(centre[:, None] + (spread * STEPS if 0 < spread < 4 else np.zeros(1)))
    for kink in kinks:
        if abs(slope) * 2 > soft:
            ends.append(((kink - along * z) / slope)[:, None] + soft / abs(slope) * STEPS)
    return _rule(np.sort(np.clip(np.concatenate(ends, axis=1), -FAR, FAR), axis=1))


def _nodes(
    a_t: float, a_v: float, soft: float, kinks: list[float], theta: float, weight: Weight,
    labels: Channel,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """Return z, zp and the density of the kept measure, flat, without what weighs nothing."""
    c, s = np.cos(theta), np.sin(theta)
    along, slope = a_t * c + a_v * s, a_t * s - a_v * c
    features = [*_label_features(theta, labels), *((end, 0.0) for end in weight.breaks)]
    if weight.scale < 1:
        features += [(end, weight.scale) for end in (0.0, *weight.breaks)]
    if along:
        spread = np.hypot(slope, soft) / abs(along)
        features += [(kink / along, spread) for kink in kinks]
    z, dz = _line(-FAR, FAR, features)
    density = 2 * dz * _density(z) * weight.share(z)
    z, density = z[density > 1e-18], density[density > 1e-18]
    zp, dzp = _across(z, along, theta, labels, kinks, slope, soft)
    u = z[:, None] * c + zp * s
    both = density[:, None] * dzp * _density(zp) * labels.chance(u)
    kept = both > 1e-19
    return np.broadcast_to(z[:, None], zp.shape)[kept], zp[kept], both[kept]


def _first(x: Floats, q: float) -> Floats:
    """Return E (x + q xi)_+."""
    return x * ndtr(x / q) + q * _density(x / q)


def _second(x: Floats, q: float) -> Floats:
    """Return E (x + q xi)_+^2."""
    return (x**2 + q**2) * ndtr(x / q) + x * q * _density(x / q)


def _smoothed(loss: str, mu: Floats, q: float, g: float) -> tuple[Floats, Floats, Floats]:
    """Return E M', E M'^2 and E M'' at t = mu + q xi."""
    short = 1 - mu
    if loss == "square":
        whole = np.ones_like(mu)
        return -short / (1 + g), (short**2 + q**2) / (1 + g) ** 2, whole / (1 + g)
    if loss == "squared-hinge":
        active = ndtr(short / q) / (1 + g)
        return -_first(short, q) / (1 + g), _second(short, q) / (1 + g) ** 2, active
    if loss == "hinge":
        rest = short - g
        square = _second(short, q) - _second(rest, q) - 2 * g * _first(rest, q)
        active = (ndtr(short / q) - ndtr(rest / q)) / g
        return -(_first(short, q) - _first(rest, q)) / g, square / g**2, active
    return _logistic(mu, q, g)


def _logistic(mu: Floats, q: float, g: float) -> tuple[Floats, Floats, Floats]:
    """Interpolate tables that are integrated over xi with panels around the bends of M'."""
    low, high = float(mu.min()) - 1e-9, float(mu.max()) + 1e-9
    count = max(int(np.ceil((high - low) / (0.75 * np.hypot(q, 0.8)))), 1)
    width = (high - low) / count
    nodes = chebyshev.chebpts1(TERMS)
    at = low + width * (np.arange(count)[:, None] + (nodes + 1) / 2)
    flat = at.ravel()[:, None]
    bends = [(bend - flat) / q + 1.5 / q * STEPS for bend in (0.0, np.log1p(g))]
    grid = np.broadcast_to(np.arange(-FAR, FAR + 0.1, 1.0), (flat.size, 18))
    xi, dxi = _rule(np.sort(np.clip(np.concatenate([grid, *bends], axis=1), -FAR, FAR), axis=1))
    r = _logistic_prox(flat + q * xi, g)
    slope, bend = -expit(-r), expit(r) * expit(-r)
    mass = dxi * _density(xi)
    averages = [np.sum(mass * one, axis=1) for one in (slope, slope**2, bend / (1 + g * bend))]
    inverse = np.linalg.inv(chebyshev.chebvander(nodes, TERMS - 1))
    place = (mu - low) / width
    panel = np.clip(place.astype(int), 0, count - 1)
    powers = chebyshev.chebvander(2 * (place - panel) - 1, TERMS - 1)
    tables = [values.reshape(count, TERMS) @ inverse.T for values in averages]
    e1, e2, e3 = (np.einsum("ij,ij->i", powers, table[panel]) for table in tables)
    return e1, e2, e3


def _logistic_prox(t: Floats, g: float) -> Floats:
    """Solve r - t = g/(1 + e^r) by Newton steps from the side on which they are monotone."""
    r = np.where(t + g / 2 > 0, np.maximum(t, 0.0), np.minimum(t + g, 0.0))
    for _ in range(80):
        down = expit(-r)
        move = (r - t - g * down) / (1 + g * down * (1 - down))
        r -= move
        if np.max(np.abs(move) / (1 + np.abs(r))) < 1e-14:
            break
    return r
