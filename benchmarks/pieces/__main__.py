"""A piece of accelerator.py as a process: every line on the standard output is a record.

    python -m pieces NAME full|toy FOLDER

FOLDER is shared by the pieces of a run.
"""

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hardset.compilation import use_cache
from pieces import models, numerics
from pieces.common import SIZES, Piece, Record, SkippedError, first_line

PIECES: dict[str, Piece] = {
    "device": numerics.device,
    "agree-replica": numerics.agree_replica,
    "agree-maxmargin": numerics.agree_maxmargin,
    "agree-mae": models.agree_mae,
    "agree-sam": models.agree_sam,
    "mae-1024": lambda sizes, shared: models.mae("1024", sizes, shared),
    "mae-1024-torch": lambda sizes, shared: models.torch_mae("1024", sizes, shared),
    "mae-16": lambda sizes, shared: models.mae("16", sizes, shared),
    "mae-16-torch": lambda sizes, shared: models.torch_mae("16", sizes, shared),
    "sam": models.sam,
    "sam-torch": models.torch_sam,
    "qp": numerics.qp,
    "qp-processor": numerics.qp_processor,
    "theory": numerics.theory,
    "theory-processor": lambda sizes, shared: numerics.theory(sizes, shared, processor=True),
    "knn": numerics.knn,
}


def peaks() -> Record:
    """The largest memory so far: of the device where it counts it, and of this process."""
    found: Record = {}
    with contextlib.suppress(KeyError, RuntimeError):  # no JAX, or no device after all
        stats = sys.modules["jax"].devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in stats:
            found["peak_bytes"] = stats["peak_bytes_in_use"]
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["peak_bytes"] = torch.cuda.max_memory_allocated()
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    found["host_peak_bytes"] = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found


def plain(value: Any) -> Any:
    """What JSON can hold: infinity and NaN as words."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def die_with_parent() -> None:
    """A killed run leaves no process behind that holds the device; on Linux."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of prctl.h


def main() -> int:
    """Run one piece; every line on the standard output is a record."""
    name, scale, shared = sys.argv[1:]
    die_with_parent()
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no record
    # Times of compilation are real ones where they are of interest.
    use_cache("off" if scale == "full" else None)
    start = time.perf_counter()

    def say(record: Record) -> None:
        seconds = round(time.perf_counter() - start, 2)
        whole = (
            {"piece": name, "scale": scale, "status": "done"}
            | record
            | {"seconds": seconds}
            | peaks()
        )
        lines.write(json.dumps(plain(whole)) + "\n")
        lines.flush()

    try:
        for record in PIECES[name](SIZES[scale], Path(shared)):
            say(record)
    except SkippedError as error:
        say({"status": "skipped", "why": str(error)})
    except Exception as error:
        traceback.print_exc()
        say({"status": "failed", "why": first_line(error)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
