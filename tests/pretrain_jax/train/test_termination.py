"""Signals while a step is under way."""

import os
import signal

from pretrain_jax.train.loop import Termination


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """POSIX shells start what runs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Termination() as termination:
            os.kill(os.getpid(), signal.SIGINT)
            assert not termination.after(1)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
