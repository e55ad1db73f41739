"""How long this process has compiled, so that work can be timed without it."""

import sys
import threading
import time

__all__ = ["compiled_seconds"]

# What JAX reports of tracing, lowering and compiling, cached programs included.
PREFIX = "/jax/core/compile/"
# Spans of each thread that are not part of a longer one, by their ends and lengths in seconds.
_spans: dict[int, list[tuple[float, float]]] = {}
_listening = False
_lock = threading.Lock()


def compiled_seconds() -> float:
    """Seconds that this process has traced and compiled since the first call; the first is 0.

    Before JAX is imported it is 0, too: stages that need no model do not import it for this.
    """
    global _listening
    with _lock:
        if not _listening and "jax" in sys.modules:
            import jax.monitoring

            jax.monitoring.register_event_duration_secs_listener(_note)
            _listening = True
        return sum(length for spans in _spans.values() for _, length in spans)


def _note(event: str, duration_secs: float, **_: object) -> None:
    """Keep a span that has just ended; those within it are part of it."""
    if not event.startswith(PREFIX):
        return
    end = time.monotonic()
    spans = _spans.setdefault(threading.get_ident(), [])
    while spans and spans[-1][0] - spans[-1][1] >= end - duration_secs:
        spans.pop()
    spans.append((end, duration_secs))
