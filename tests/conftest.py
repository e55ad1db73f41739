"""Settings shared by all tests: CPU, deterministic property tests."""

import os
import signal

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from hypothesis import HealthCheck, settings

# Compilation makes the first example slow: no deadline. Derandomised: a failure repeats.
settings.register_profile(
    "hardset",
    derandomize=True,
    deadline=None,
    max_examples=30,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("hardset")

# Started in the background by a script, Python ignores SIGINT, and so would all its children: the
# tests that interrupt them would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
