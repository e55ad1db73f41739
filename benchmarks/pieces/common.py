"""What the pieces share: sizes, timing, distances, the accelerator's name."""

import importlib
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Record = dict[str, Any]
Piece = Callable[["Sizes", Path], Iterator[Record]]

SINGLE, HALF = 1e-4, 3e-2  # relative norms of float32 and bfloat16 against float64


class Sizes(NamedTuple):
    """How much a piece computes.

    Attributes:
        product: side of the measured matrix product.
        copied: numbers of the measured copy.
        small: batch of the small training steps; the large ones are the piece's name.
        mae: the model, or "" for a toy.
        batches: the batch for each name of a MAE piece.
        steps: timed single steps.
        scanned: steps of a scan, by name.
        sam: preset, or "" for a toy.
        encoded: images of an encoder's batch.
        images: images that the generator takes.
        cases: N and P of the quadratic programs.
        lanes: problems of a call.
        each: problems of a processor.
        grid: points of the theory's grid along alpha, f and the angle.
        grid_processor: the same for the processor.
        points: lanes of the theory under vmap.
        rows: points and dimensions of the neighbours' search.
    """

    product: int
    copied: int
    mae: str
    batches: Mapping[str, int]
    steps: int
    scanned: Mapping[str, int]
    sam: str
    encoded: int
    images: int
    cases: tuple[tuple[int, int], ...]
    lanes: tuple[int, ...]
    each: int
    grid: tuple[int, int, int]
    grid_processor: tuple[int, int, int]
    points: int
    rows: tuple[int, int]


SIZES = {
    "full": Sizes(
        product=8192,
        copied=1 << 30,
        mae="mae_vit_base",
        batches={"16": 16, "1024": 1024},
        steps=20,
        scanned={"16": 100, "1024": 8},
        sam="sam_vit_b",
        encoded=8,
        images=3,
        cases=((200, 400), (200, 1000), (200, 100), (30, 600), (200, 4000)),
        lanes=(256, 2048),
        each=16,
        grid=(4, 8, 8),
        grid_processor=(25, 20, 20),
        points=4096,
        rows=(200_000, 128),
    ),
    "toy": Sizes(
        product=256,
        copied=1 << 20,
        mae="",
        batches={"16": 4, "1024": 4},
        steps=3,
        scanned={"16": 3, "1024": 3},
        sam="",
        encoded=2,
        images=1,
        cases=((10, 40),),
        lanes=(8,),
        each=4,
        grid=(2, 2, 2),
        grid_processor=(2, 2, 2),
        points=10,
        rows=(2_000, 16),
    ),
}


class SkippedError(Exception):
    """What a piece needs is not there; the message says what."""


def need(module: str) -> Any:
    """Import what only some machines have."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SkippedError(f"{error.name} is not installed") from None


def timed(function: Callable[[], Any], repeats: int = 5) -> tuple[float, float]:
    """Seconds of the first call, compilation included, and the median of `repeats` further ones.

    The calls end when their work is done.
    """
    spent = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        spent.append(time.perf_counter() - start)
    return spent[0], float(np.median(spent[1:]))


def relative(found: Any, expected: Any) -> float:
    """Norm of the difference over the norm, trees of arrays taken as one vector."""
    import jax

    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    wide = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    error = math.sqrt(sum(float(np.sum((a - b) ** 2)) for a, b in wide))
    return error / math.sqrt(sum(float(np.sum(b**2)) for _, b in wide))


def on_processor() -> Any:
    """Context in which JAX computes on the processor."""
    import jax

    return jax.default_device(jax.devices("cpu")[0])


def processor_name() -> str:
    """The processor's model, as far as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    said = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {said}"[:300]
