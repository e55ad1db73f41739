"""SIGTERM and Ctrl-C: the step under way is finished and saved first, then comes the end."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

import jax

__all__ = ["TERMINATED", "Termination"]

# Exit code of a process that SIGTERM ended, as shells report it.
TERMINATED = 128 + 15
SIGNALS = (signal.SIGINT, signal.SIGTERM)
TOLD = {
    signal.SIGINT: "interrupted: the step under way is finished and saved; Ctrl-C again ends at "
    "once, without saving\n",
    signal.SIGTERM: "",
}


class Termination:
    """Holds SIGTERM and Ctrl-C back while the block runs, so that a step can be finished and saved.

    With SIGTERM clusters take machines back. A second Ctrl-C ends the process at once. One process
    catches the signals itself. Several, joined by jax.distributed, agree on a step that all of them
    reach: they can save only together, and Ctrl-C ends them as ever. Outside the main thread, where
    Python allows no handler, signals end the process as ever. A signal that the process was started
    to ignore, as shells do with Ctrl-C for what runs in the background, stays ignored.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._joined = jax.process_count() > 1

    def __enter__(self) -> "Termination":
        """Start to hold the signals back."""
        if not self._joined and threading.current_thread() is threading.main_thread():
            self._before = {
                one: signal.signal(one, self._note)
                for one in SIGNALS
                if signal.getsignal(one) is not signal.SIG_IGN
            }
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back to who handled them before; one that was held back arrives now."""
        before, self._before = self._before, {}
        for one, handler in before.items():
            signal.signal(one, handler)
        if self._received is not None and before:
            signal.raise_signal(self._received)

    def after(self, step: int) -> bool:
        """Whether the run has to be saved and ended after this step; call it after every one."""
        if self._joined:
            from jax.experimental import multihost_utils

            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._received is not None

    @property
    def name(self) -> str:
        """What was received, for a message."""
        return "SIGTERM" if self._received is not signal.SIGINT else "interrupted"

    def _note(self, number: int, frame: FrameType | None) -> None:
        received = signal.Signals(number)
        if self._received is signal.SIGINT and received is signal.SIGINT:
            signal.signal(received, signal.SIG_DFL)
            signal.raise_signal(received)
        self._received = received
        # Not through sys.stderr, which this thread may be writing to at the moment.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, TOLD[received].encode())
