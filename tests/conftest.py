"""Settings shared by all tests: CPU, deterministic property tests."""

import os
import signal
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling small programs is most of the suite's time: its processes, and the commands that they
# start, share what one of them has compiled. The user's own cache is left alone.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import pytest
from hypothesis import HealthCheck, settings

from hardset.compilation import make_room

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


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs() -> None:
    """A test process compiles hundreds of programs, more than its memory maps would hold."""
    make_room()
