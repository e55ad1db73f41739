"""Regularised students: 10,000 random points through the command, against the NumPy reference.

    python benchmarks/erm_grid.py [--loss hinge square logistic] [--points 10000] [--peer 20]

The command runs twice: the first run compiles what the cache lacks, the second finds it there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "replica"))

import erm_reference as reference  # noqa: E402

FAMILIES = {"hinge": ("hinge", "squared-hinge"), "square": ("square",), "logistic": ("logistic",)}


def random_points(losses: tuple[str, ...], count: int, seed: int) -> list[dict[str, Any]]:
    """Draw points with flips and the unsigned hard and easy policies."""
    rng = np.random.default_rng(seed)
    return [
        {
            "alpha_total": float(10 ** rng.uniform(0, 1.5)),
            "keep_fraction": float(rng.uniform(0.1, 0.9)),
            "theta_deg": float(rng.uniform(0, 60)),
            "policy": str(rng.choice(["hard", "easy"])),
            "loss": str(rng.choice(losses)),
            "lam": float(10 ** rng.uniform(-3, 0.5)),
            "flip": float(rng.uniform(0, 0.3)),
        }
        for _ in range(count)
    ]


def by_reference(point: dict[str, Any]) -> float:
    """Return the error of a point by the reference solver."""
    f = point["keep_fraction"]
    low = 1 - f if point["policy"] == "easy" else 0.0
    theta, labels = np.deg2rad(point["theta_deg"]), reference.flips(point["flip"])
    weight = reference.ranks(low, low + f)
    return reference.solve(
        reference.Point(
            point["loss"], point["lam"], point["alpha_total"], theta, weight, labels
        )
    ).error  # fmt: skip


def main() -> None:
    """Print times, ratios and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loss", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--peer", type=int, default=20)
    options = parser.parse_args()
    for family in options.loss:
        points = random_points(FAMILIES[family], options.points, seed=0)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "points.json"
            file.write_text(json.dumps(points))
            command = [sys.executable, "-m", "replica", "solve", "--points", str(file), "--json"]
            times, output = [], ""
            for _ in range(2):
                start = time.perf_counter()
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                times.append(time.perf_counter() - start)
        answers = json.loads(output)
        start = time.perf_counter()
        wanted = [by_reference(point) for point in points[: options.peer]]
        each = (time.perf_counter() - start) / options.peer
        pairs = zip(answers, wanted, strict=False)
        worst = max(abs(answer["error"] - error) for answer, error in pairs)
        print(
            f"{family}: {len(points)} points in {times[0]:.1f} s, with a warm cache {times[1]:.1f} "
            f"s; reference {each:.2f} s a point, ratio {each * len(points) / times[1]:.0f}, "
            f"largest difference of {options.peer} errors {worst:.0e}"
        )


if __name__ == "__main__":
    main()
