"""SIGTERM, with which clusters take machines back: a checkpoint first, then the end."""

import signal
import threading
from types import FrameType
from typing import Any

import jax

__all__ = ["Termination"]


class Termination:
    """Holds SIGTERM back while the block runs, so that a step can be finished and saved.

    One process catches the signal itself. Several, joined by jax.distributed, agree on a step
    that all of them reach: they can save only together. Outside the main thread, where Python
    allows no handler, the signal ends the process as ever.
    """

    def __init__(self) -> None:
        self._received = False
        self._before: Any = None
        self._joined = jax.process_count() > 1

    def __enter__(self) -> "Termination":
        """Start to hold the signal back."""
        if not self._joined and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signal back to who handled it before; one that was held back arrives now."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None
            if self._received:
                signal.raise_signal(signal.SIGTERM)

    def after(self, step: int) -> bool:
        """Whether the run has to be saved and ended after this step; call it after every one."""
        if self._joined:
            from jax.experimental import multihost_utils

            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._received

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = True
