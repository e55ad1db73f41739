"""Settings shared by all tests: CPU, deterministic property tests."""

import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

from hardset.compilation import default_folder, drop_unreadable, make_room, user_folder

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling small programs is most of the suite's time: its processes, the commands that they start,
# and the next run, in whichever checkout, share what one of them has compiled. It lies beside the
# cache of the user's own commands, or where there can be none, in the checkout.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(
        user_folder(f"tests-{default_folder().name}")  # of this kind of processor
        or Path(__file__).parents[1] / ".pytest_cache" / "jax"
    ),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import pytest
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


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs() -> None:
    """A test process compiles hundreds of programs, more than its memory maps would hold."""
    make_room()


@pytest.fixture(scope="module")
def lightly_compiled() -> Iterator[None]:
    """The programs of a module, and of what it starts, are optimised little.

    It is for modules that spend their time on compiling. Sums may be rounded in another order.
    """
    import jax

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


def pytest_warning_recorded(warning_message: warnings.WarningMessage) -> None:
    """A program is damaged where a run was killed while it wrote it: the next run compiles it."""
    drop_unreadable(str(warning_message.message), Path(os.environ["JAX_COMPILATION_CACHE_DIR"]))
