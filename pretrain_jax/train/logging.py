"""Reports what a run does.

It writes a JSON line a step, TensorBoard files and a progress bar.
"""

import json
import math
import sys
import time
import zlib
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from numpy.typing import NDArray

from hardset.datafile import write_text_atomic
from hardset.progress import bar

LOG_NAME = "log.jsonl"
BOARD = "tensorboard"  # a folder
CHECKSUM = "crc32"


class RunLog:
    """Writes the log of a run.

    It appends to `log.jsonl`, each line with a checksum, and to TensorBoard files.

    Only one host writes.

    Args:
        folder: of the run.
        step: steps beyond this one are removed from a log that is there: they come again.
        enabled: whether this host writes.
    """

    def __init__(self, folder: Path, step: int, *, enabled: bool = True) -> None:
        self._file: TextIO | None = None
        self._board: Any = None
        if not enabled:
            return
        path = folder / LOG_NAME
        if path.exists():
            kept = [line for line in read_log(path) if line["step"] <= step]
            write_text_atomic(path, "".join(map(_line, kept)))
        self._file = path.open("a", encoding="utf-8")
        self._board = _board_writer(folder / BOARD, step)

    def scalars(self, step: int, values: dict[str, float | None]) -> None:
        """Log numbers of a step.

        None stands for what is not known, and NaN is written as null.
        """
        if self._file is None:
            return
        clean = {k: v if v is not None and math.isfinite(v) else None for k, v in values.items()}
        self._file.write(_line({"step": step} | clean))
        for name, value in clean.items():
            if value is not None and self._board is not None:
                self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """Show a picture of shape (H, W, 3) in TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Bring everything to the disk.

        Raises:
            OSError: the disk is full.
        """
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log that are as they were written.

    A last line that was cut off by a kill is left out; of others a line on stderr tells.
    """
    lines: list[dict[str, Any]] = []
    damaged = 0
    with path.open("rb") as file:
        for text in file:
            line = _intact(text)
            if line is not None:
                lines.append(line)
            elif text.endswith(b"\n"):
                damaged += 1
    if damaged:
        say(f"warning: {damaged} line(s) of {path} have changed since and are left out")
    return lines


def _line(record: dict[str, Any]) -> str:
    """Return a line of the log.

    It is the record, and the CRC-32 of its text.
    """
    text = json.dumps(record)
    return f'{text[:-1]}, "{CHECKSUM}": "{zlib.crc32(text.encode()):08x}"}}\n'


def _intact(text: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    record.pop(CHECKSUM, None)
    return record if _line(record).encode() == text else None


class Progress:
    """Shows the progress of a run.

    It has images per second, model FLOPs utilisation, and a bar with the time left.

    Args:
        steps: of the whole run.
        step: where this process starts.
        batch_size: images of a step.
        image_flops: FLOPs of a trained image.
        peak: FLOP/s of all devices together, None where unknown.
        shown: whether to draw the bar on stderr.
    """

    def __init__(
        self,
        steps: int,
        step: int,
        *,
        batch_size: int,
        image_flops: float,
        peak: float | None,
        shown: bool,
    ) -> None:
        self._batch_size, self._image_flops, self._peak = batch_size, image_flops, peak
        self._bar = bar(steps, "train", "step", start=step, shown=shown)
        self._started = time.perf_counter()

    def restart(self) -> None:
        """Leave out the time since the last call.

        It went into compilation or validation.
        """
        self._started = time.perf_counter()

    def advance(self, steps: int, loss: float) -> dict[str, float | None]:
        """Count steps, and return the rates since the last call.

        They are {images_per_second, mfu}.
        """
        elapsed = time.perf_counter() - self._started
        self.restart()
        rate = steps * self._batch_size / elapsed
        mfu = None if self._peak is None else rate * self._image_flops / self._peak
        shown = {"loss": f"{loss:.4f}", "images/s": f"{rate:.0f}"}
        if mfu is not None:
            shown["MFU"] = f"{mfu:.1%}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(steps)
        return {"images_per_second": rate, "mfu": mfu}

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


def _board_writer(folder: Path, step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


def say(text: str) -> None:
    """Print a line for the user on stderr, from one host."""
    if jax.process_index() == 0:
        print(text, file=sys.stderr)
