"""Draws the random data of the teacher-student perceptron.

Each (seed, dim, draw) has a random key of its own. Commands check their arguments with this module
before JAX is loaded, so it imports NumPy alone.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OVERLAPS = ("cosine", "pearson")  # how a sweep compares student and teacher
BLOCK = 256  # rows that share a random key; a longer draw adds blocks and changes none
STREAMS = {"rows": 0, "probe": 1, "scores": 2, "axes": 3, "labels": 4}


def check_kept(keep_fraction: float, alpha_total: float, dim: int) -> None:
    """Check that a simulation at dimension `dim` keeps an example.

    Raises:
        ValueError: f alpha_total N < 1.
    """
    kept = keep_fraction * alpha_total * dim
    if kept < 1 - 1e-9:
        raise ValueError(
            f"keep_fraction * alpha_total * dim = {keep_fraction:.6g} * {alpha_total:.6g} * {dim} "
            f"= {kept:.6g} is below 1: a simulation must keep at least one example (the theory "
            "needs none)"
        )


def _generator(seed: int, *path: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=path)))


@dataclasses.dataclass(frozen=True)
class Draw:
    """One realisation of the random data.

    It has rows x ~ N(0, I_N), labels y = sign(x_1) and the teacher T = e_1. By rotation invariance
    this teacher stands for all.

    Attributes:
        seed: the experiment's seed, >= 0.
        dim: N.
        number: which draw, 0, 1, ...
        rows: label-signed rows y x, shape (P, N); the first column is positive.
        labels: y, +1 or -1, shape (P,).
    """

    seed: int
    dim: int
    number: int
    rows: Floats
    labels: Floats

    def scores(self, count: int, copies: int) -> Floats:
        """Return the uniform numbers in [0, 1) that decide random selections.

        Their shape is (count, copies).
        """
        columns = [self._uniform(count, STREAMS["scores"], copy) for copy in range(copies)]
        return np.stack(columns, axis=1)

    def label_noise(self) -> Floats:
        """Return the uniform numbers in [0, 1) that decide the observed labels, shape (P,)."""
        return self._uniform(len(self.rows), STREAMS["labels"])

    def _uniform(self, count: int, *path: int) -> Floats:
        blocks = [
            _generator(self.seed, self.dim, self.number, *path, block).random(BLOCK)
            for block in range(-(-count // BLOCK))
        ]
        return np.concatenate(blocks)[:count]

    def axes_vector(self) -> Floats:
        """Return a normal vector that orients dense coordinate axes, shape (N,)."""
        path = (self.dim, self.number, STREAMS["axes"])
        return _generator(self.seed, *path).standard_normal(self.dim)


def draw_rows(seed: int, dim: int, number: int, count: int, *, stream: str = "rows") -> Draw:
    """Draw the first `count` rows of a realisation of the data.

    A larger `count` adds rows and changes none.

    Args:
        seed: the experiment's seed, >= 0.
        dim: N >= 1.
        number: which draw, >= 0.
        count: rows P >= 1.
        stream: "rows" for the data, "probe" for the independent data of a probe.

    Returns:
        The draw; the same numbers whatever else is drawn, in whatever order.
    """
    rows = np.empty((-(-count // BLOCK) * BLOCK, dim))
    for block, start in enumerate(range(0, len(rows), BLOCK)):
        path = (dim, number, STREAMS[stream], block)
        _generator(seed, *path).standard_normal(out=rows[start : start + BLOCK])
    rows = rows[:count]
    labels = np.where(rows[:, 0] < 0, -1.0, 1.0)
    rows *= labels[:, None]
    return Draw(seed, dim, number, rows, labels)
