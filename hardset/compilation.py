"""Turns on JAX's persistent compilation cache, and counts the seconds of compiling.

Commands turn it on before JAX is imported. A compiled program is machine code that will be run, so
the folder must belong to the user alone.
"""

import contextlib
import glob
import hashlib
import os
import platform
import re
import stat
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OPTION = "--compilation-cache"
VARIABLE = "JAX_COMPILATION_CACHE_DIR"

LIMIT = 2**30  # bytes of a folder; beyond it the least recently used files go
_SETTINGS = {
    # JAX's default is one second; commands compile many programs that take less.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0.0,
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": -1,
}
TROUBLE = r"Error (reading|writing) persistent compilation cache entry for '(?P<program>[^']*)'"


def take_option(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Split `--compilation-cache DIR` off a command line.

    Args:
        arguments: without the program's name.

    Returns:
        The other arguments, and DIR or None.

    Raises:
        ValueError: the option without a value.
    """
    others: list[str] = []
    chosen: str | None = None
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            others += [argument, *waiting]
        elif argument == OPTION:
            chosen = next(waiting, "")
        elif argument.startswith(f"{OPTION}="):
            chosen = argument.removeprefix(f"{OPTION}=")
        else:
            others.append(argument)
            continue
        if chosen is not None and (not chosen or chosen.startswith("-")):
            raise ValueError(f"{OPTION} needs a folder, or the word off")
    return others, chosen


def use_cache(chosen: str | None = None) -> None:
    """Turn the cache on for this process and its children, best before JAX is imported.

    JAX's own variable JAX_COMPILATION_CACHE_DIR stands where it is set, empty for none. The
    default folder is left out, never an error, where it cannot be written or is not private.

    Args:
        chosen: the option's value: a folder, "off", or None for the default.

    Raises:
        ValueError: a chosen folder that cannot be used.
    """
    if chosen == "off":
        _set(VARIABLE, "")
        return
    if chosen is not None:
        folder = Path(chosen).absolute()
        trouble = _trouble(folder)
        if trouble:
            raise ValueError(f"{OPTION} {chosen}: {trouble}")
        _set(VARIABLE, str(folder))
    elif VARIABLE not in os.environ:
        try:
            base = default_folder()
        except RuntimeError:  # the user has no home
            return
        for folder in (base.parents[1], base.parent, base):
            trouble = _trouble(folder)
            if trouble:
                if os.path.lexists(folder) and os.access(folder, os.W_OK):
                    print(f"compiled programs are not kept: {folder} {trouble}", file=sys.stderr)
                return
        _tidy(base)
        _set(VARIABLE, str(base))
    elif not os.environ[VARIABLE]:
        return
    for name, value in _SETTINGS.items():
        if name not in os.environ:
            _set(name, value)
    _mend_quietly(Path(os.environ[VARIABLE]))


def default_folder() -> Path:
    """Name the user's cache folder for programs of this kind of processor."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path("~/.cache").expanduser()
    return base / "hardset" / "jax" / _processor()


def user_folder(name: str) -> Path | None:
    """Make a folder for the user alone in the user's cache folder.

    What was used longest ago goes where more than a gigabyte lies in it.

    Args:
        name: of the folder.

    Returns:
        The folder, or None where it cannot be made, or others can write it.
    """
    try:
        base = default_folder().parents[1]
    except RuntimeError:  # the user has no home
        return None
    if any(_trouble(one) for one in (base, base / name)):
        return None
    _tidy(base / name)
    return base / name


def _processor() -> str:
    """Make a name for this kind of processor.

    Computers may share a home folder, and programs for one processor may not run on another.
    """
    known = [platform.machine(), platform.system()]
    with contextlib.suppress(OSError):
        # The first processor's lines suffice; the file is made while it is read.
        with Path("/proc/cpuinfo").open("rb") as file:
            lines = file.read(8192).splitlines()
        named = [line for line in lines if line.startswith((b"flags", b"Features"))]
        known += [line.decode("ascii", "replace") for line in named[:1]]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:8]


def _trouble(folder: Path) -> str:
    """Make the folder for the user alone; return what is wrong with it, or ""."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        return f"cannot be made: {error.strerror}"
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        return "belongs to another user, who could plant programs there"
    if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o022:
        return f"can be written by others, who could plant programs there: chmod go-w {folder}"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "cannot be written"


def _set(name: str, value: Any) -> None:
    os.environ[name] = str(value)
    if "jax" in sys.modules:
        sys.modules["jax"].config.update(name.lower(), value)


def _tidy(folder: Path) -> None:
    """Remove links and, beyond the limit, the files that were not used for longest."""
    files = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_symlink():
                    Path(entry.path).unlink()
                elif entry.is_file():
                    found = entry.stat()
                    used = max(found.st_atime, found.st_mtime)
                    files.append((used, found.st_size, Path(entry.path)))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= LIMIT:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size


def _mend_quietly(folder: Path) -> None:
    """Delete programs that JAX cannot read, and hide its warnings about them."""
    shown = warnings.showwarning

    def show(message: Warning | str, *arguments: Any, **named: Any) -> None:
        if not drop_unreadable(str(message), folder):
            shown(message, *arguments, **named)

    warnings.showwarning = show
    # Ahead of a filter that would make an error of it.
    warnings.filterwarnings("always", message=TROUBLE)


def drop_unreadable(warning: str, folder: Path) -> bool:
    """Delete the program that JAX could not read, if that is what it warns of.

    JAX itself warns, compiles, and leaves the damaged file where it is. Once deleted, it is written
    anew.

    Args:
        warning: the text.
        folder: where programs are kept.

    Returns:
        Whether the warning is one of a program that could not be read or written.
    """
    trouble = re.match(TROUBLE, warning)
    if trouble is not None and trouble[1] == "reading":
        for path in folder.glob(f"{glob.escape(trouble['program'])}-*-cache"):
            with contextlib.suppress(OSError):
                path.unlink()
    return trouble is not None


# JAX's events of tracing, lowering and compiling, cached programs included, begin so.
PREFIX = "/jax/core/compile/"
# Spans of each thread that are not part of a longer one, by their ends and lengths in seconds.
_spans: dict[int, list[tuple[float, float]]] = {}
_listening = False
_lock = threading.Lock()


def compiled_seconds() -> float:
    """Return the seconds of tracing and compiling since the first call.

    The first call gives 0, and so does every call before JAX is imported. Stages that need no model
    do not import JAX for this.
    """
    global _listening
    with _lock:
        if not _listening and "jax" in sys.modules:
            import jax.monitoring

            jax.monitoring.register_event_duration_secs_listener(_note)
            _listening = True
        return sum(length for spans in _spans.values() for _, length in spans)


def _note(event: str, duration_secs: float, **_: object) -> None:
    """Note a span of compiling that has just ended, in place of those within it."""
    if not event.startswith(PREFIX):
        return
    end = time.monotonic()
    spans = _spans.setdefault(threading.get_ident(), [])
    while spans and spans[-1][0] - spans[-1][1] >= end - duration_secs:
        spans.pop()
    spans.append((end, duration_secs))


MAPS = Path("/proc/self/maps")
MOST_MAPS = Path("/proc/sys/vm/max_map_count")
SHARE = 0.5  # of the memory maps that a process may have, beyond which programs are dropped
WORTH_A_LOOK = 1.0  # seconds of compiling after which the maps are counted again
_looked = 0.0


def make_room(share: float = SHARE) -> bool:
    """Drop JAX's compiled programs before they use up the process's memory maps.

    A program takes about a thousand maps, and Linux allows 65,530 by default: beyond them no
    thread starts and no file is mapped. What is dropped and needed again is compiled anew, or read
    from the persistent cache.

    Args:
        share: of the maps that are allowed, beyond which programs are dropped.

    Returns:
        Whether programs were dropped.
    """
    global _looked
    if "jax" not in sys.modules:
        return False
    compiled = compiled_seconds()
    if share == SHARE and compiled < _looked + WORTH_A_LOOK:
        return False
    _looked = compiled
    try:
        with MAPS.open("rb") as lines:
            count = sum(1 for _ in lines)
        most = int(MOST_MAPS.read_text())
    except OSError:  # not Linux
        return False
    if count <= share * most:
        return False
    import jax

    jax.clear_caches()  # type: ignore[no-untyped-call]
    return True
