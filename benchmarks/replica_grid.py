"""Theory: the 10,000-point certified grid, cold and compiled, against SciPy on the same equations.

    python benchmarks/replica_grid.py [--points-peer 3]

The peer is what a user would write: `dblquad` for the averages of the published saddle-point
equations, `root` for (R, rho, kappa), at a looser tolerance than ours and, because it fails from a
generic start, started within 2% of the answer.
"""

import argparse
import time
from collections.abc import Callable

START = time.perf_counter()

import numpy as np  # noqa: E402
from scipy.integrate import dblquad  # noqa: E402
from scipy.optimize import root  # noqa: E402
from scipy.special import ndtr  # noqa: E402
from scipy.stats import norm  # noqa: E402

import replica  # noqa: E402
from theory import FixedAngle, PerceptronProblem  # noqa: E402


def peer(alpha_total: float, keep_fraction: float, theta: float, start: np.ndarray) -> float:
    """Fitting error by SciPy, hard policy, theta > 0, to about 1e-6."""
    edge = norm.isf((1 - keep_fraction) / 2)
    sine2, cosine = np.sin(theta) ** 2, np.cos(theta)

    def equations(v: np.ndarray) -> list[float]:
        R, rho, kappa = v
        lambda2 = sine2 - R * R - rho * rho + 2 * rho * R * cosine
        rest = 1 - rho * rho
        width = np.sqrt(rest)
        if lambda2 <= 0:
            return [1.0, 1.0, 1.0]
        scale = np.sqrt(lambda2)

        def boundary(t: float, z: float) -> float:
            delta = (
                z * z * (rho * rho + cosine * cosine - 2 * rho * R * cosine)
                + 2 * t * z * (R * cosine - rho)
                + t * t * sine2
            )
            return np.exp(-delta / (2 * lambda2) - z * z / 2) / (2 * np.pi) ** 0.5 * (kappa - t)

        def bulk(t: float, z: float) -> float:
            gamma = z * (rho * R - cosine) - t * (R - rho * cosine)
            gauss = np.exp(-((t - rho * z) ** 2) / (2 * rest) - z * z / 2) / (2 * np.pi * width)
            return gauss * ndtr(-gamma / (width * scale)) * (kappa - t)

        def average(function: Callable[[float, float], float]) -> float:
            low, high = -8.0, kappa
            return 2 * dblquad(function, -edge, edge, low, high, epsabs=1e-6, epsrel=1e-6)[0]

        line = average(boundary) * alpha_total / (2 * np.pi * scale)
        square = alpha_total * average(lambda t, z: bulk(t, z) * (kappa - t))
        mixed = alpha_total * average(lambda t, z: bulk(t, z) * (z - rho * t) / rest)
        return [
            (R - rho * cosine) / sine2 - line,
            1 - (rho * rho + R * R - 2 * rho * R * cosine) / sine2 - square,
            (rho - R * cosine) / sine2 - mixed - line * (rho * R - cosine) / rest,
        ]

    return float(np.arccos(root(equations, start, tol=1e-6).x[0]) / np.pi)


def main() -> None:
    """Print the times and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points-peer", type=int, default=3)
    options = parser.parse_args()
    grid = PerceptronProblem.grid(
        alpha_total=np.geomspace(0.5, 500, 25),
        keep_fraction=np.geomspace(0.01, 1, 20),
        theta=np.deg2rad(np.linspace(0, 45, 20)),
    )
    solution = replica.solve(grid)
    cold = time.perf_counter() - START
    start = time.perf_counter()
    replica.solve(grid)
    compiled = time.perf_counter() - start
    count = solution.error.size
    print(f"{count} points: {cold:.1f} s from a cold start, {compiled:.1f} s compiled")
    print(
        f"not certified {solution.failed}, residuals: saddle {solution.residual_saddle.max():.1e}, "
        f"Gordon {solution.residual_gordon.max():.1e}"
    )
    problem = PerceptronProblem(
        3.0 * np.arange(1, options.points_peer + 1), 0.35, FixedAngle.degrees(20)
    )
    ours = replica.solve(problem)
    start = time.perf_counter()
    worst = 0.0
    for k in range(options.points_peer):
        near = 0.98 * np.array([ours.overlap[k], ours.probe_overlap[k], ours.margin[k]])
        found = peer(problem.alpha_total[k], 0.35, np.deg2rad(20), near)
        worst = max(worst, abs(found / ours.error[k] - 1))
    each = (time.perf_counter() - start) / options.points_peer
    print(
        f"SciPy: {each:.2f} s a point, within {worst:.0e} of ours; "
        f"ratio {each * count / compiled:.0f}"
    )


if __name__ == "__main__":
    main()
