"""Theory: the 10,000-point certified grid, cold and compiled, against SciPy on the same equations.

    python benchmarks/replica_grid.py [--points-peer 3]

The peer maximises the margin as a user would write it: `dblquad` for the average, `brentq` for the
margin, Nelder-Mead over the student's plane, at a looser tolerance than ours.
"""

import argparse
import time

START = time.perf_counter()

import numpy as np  # noqa: E402
from scipy.integrate import dblquad  # noqa: E402
from scipy.optimize import brentq, minimize  # noqa: E402
from scipy.stats import norm  # noqa: E402

import replica  # noqa: E402
from theory.problem import PerceptronProblem  # noqa: E402


def peer(alpha_total: float, keep_fraction: float, theta: float) -> float:
    """Fitting error by SciPy, hard policy, to about 1e-4."""
    edge = norm.isf((1 - keep_fraction) / 2)
    cot = np.cos(theta) / np.sin(theta)

    def margin(v: np.ndarray) -> float:
        q2 = 1 - v @ v
        if q2 <= 1e-9:
            return -1.0
        q = np.sqrt(q2)
        along = v @ [np.cos(theta), np.sin(theta)]
        across = v @ [np.sin(theta), -np.cos(theta)]

        def excess(kappa: float) -> float:
            def integrand(other: float, z: float) -> float:
                r = (kappa - along * z - across * other) / q
                density = np.exp(-(z * z + other * other) / 2) / (2 * np.pi)
                square = (r * r + 1) * norm.cdf(r) + r * norm.pdf(r)
                return density * square

            low, high = -edge, edge
            value = dblquad(
                integrand, low, high, lambda z: max(-z * cot, -6.0), 6.0, epsabs=1e-5, epsrel=1e-5
            )[0]
            return 2 * alpha_total * value - 1

        return brentq(excess, -1.0, 10.0, xtol=1e-5)

    best = minimize(lambda v: -margin(v), [0.5, 0.0], method="Nelder-Mead", tol=1e-4).x
    return float(np.arccos(best[0]) / np.pi)


def main() -> None:
    """Print the times and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points-peer", type=int, default=1)
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
    start = time.perf_counter()
    for k in range(options.points_peer):
        peer(3.0 + k, 0.5, 0.3)
    each = (time.perf_counter() - start) / max(1, options.points_peer)
    print(f"SciPy: {each:.1f} s a point; ratio {each / (compiled / count):.0f}")


if __name__ == "__main__":
    main()
