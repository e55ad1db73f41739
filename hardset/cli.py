"""What the packages' command lines share: number arguments, one-sentence errors, exit codes."""

import argparse
import atexit
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hardset import compilation

MODULE = "python -m "
USER_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143
INTERRUPTION = "interrupted; what was finished and saved is kept"


class Terminated(BaseException):
    """SIGTERM arrived: the command saves what it can, then the signal takes effect."""


_terminated: list[bool] = []


def _terminate(*_: object) -> None:
    raise Terminated


def _end_by_signal() -> None:
    """Let SIGTERM take effect after all, once everything has been put in order."""
    if _terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


def _raise_again(ignored: "sys.UnraisableHookArgs") -> None:
    """Raise an interruption anew that arrived where Python cannot pass an exception on.

    JAX is called after every garbage collection, for example, and what is raised there is dropped.
    """
    if isinstance(ignored.exc_value, KeyboardInterrupt | Terminated):
        number = signal.SIGTERM if isinstance(ignored.exc_value, Terminated) else signal.SIGINT
        # Later: now it would be raised in here, and be dropped again.
        threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, number)).start()
    else:
        sys.__unraisablehook__(ignored)


EVERYWHERE = f"""every command:
  {compilation.OPTION} DIR  where compiled programs are kept, or off (default: the user's
                           cache folder, or JAX_COMPILATION_CACHE_DIR)"""


def front() -> str:
    """How hardset's own command was called; empty where the process runs something else."""
    called = Path(sys.argv[0] or ".")
    if called.parts[-2:] == ("hardset", "__main__.py"):
        return f"{MODULE}hardset"
    return called.name if called.name == "hardset" else ""


def _as_called(text: str) -> str:
    """The text with a package's commands as they are called through hardset's own command."""
    return re.sub(rf"{MODULE}(?!hardset\b)(?=\w)", f"{front()} " if front() else MODULE, text)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, like all others; see `run`.

    Args:
        prog: "python -m PACKAGE"; run through hardset's own command it is called as the user did.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.prog = _as_called(self.prog)

    def format_help(self) -> str:
        """The help, with the option that every command has."""
        return f"{super().format_help().rstrip()}\n\n{EVERYWHERE}\n"

    def error(self, message: str) -> NoReturn:
        """Raise ValueError with the message."""
        raise ValueError(f"{message} (see {self.prog} --help)")


def number(text: str) -> float:
    """argparse type of a real number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def integer(text: str) -> int:
    """argparse type of an integer."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None


class Numbers(argparse.Action):
    """argparse action of a list of real numbers, separated by spaces or commas."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the numbers as a list of floats."""
        try:
            found = [number(part) for part in " ".join(values).replace(",", " ").split()]
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        if not found:
            raise argparse.ArgumentError(self, "an empty list; give at least one number")
        setattr(namespace, self.dest, found)


def check_output_folder(path: str | Path) -> Path:
    """Create the folder `path` and prove that it can be written, before hours of work.

    Raises:
        OSError: it cannot be created or written, with the reason.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise OSError(
            f"output folder {folder} cannot be written: {error.strerror or error}"
        ) from None
    return folder


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command line; a user's error becomes one sentence and exit code 2, no traceback.

    Compiled programs are kept for the next command, see `hardset.compilation`, unless `argv` is
    given: a caller's process keeps its own setting.

    Args:
        main: takes the arguments, returns the exit code.
        argv: arguments without the program's name, default those of the process.
    """
    try:
        arguments, folder = compilation.take_option(sys.argv[1:] if argv is None else argv)
        if argv is None or folder is not None:
            compilation.use_cache(folder)
        if argv is None and hasattr(signal, "pthread_kill"):
            sys.unraisablehook = _raise_again
        if argv is None and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
            atexit.register(_end_by_signal)  # first of all, so that it comes last
        code = main(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (head, less) closed the pipe; silence the interpreter's last flush too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(INTERRUPTION, file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        print(INTERRUPTION, file=sys.stderr)
        _terminated.append(True)
        return TERMINATED
    except MemoryError as error:
        return _say(f"not enough memory: {error}")
    except RecursionError:
        return _say("a file or an argument is nested too deeply to be read")
    except OSError as error:
        if error.filename is not None and error.strerror:
            return _say(f"{error.filename}: {error.strerror}")
        return _say(str(error))
    except ValueError as error:
        return _say(str(error))
    except (RuntimeError, AssertionError) as error:
        if not _without_device(error):
            raise
        asked = os.environ.get("JAX_PLATFORMS")
        return _say(f"JAX_PLATFORMS = {asked!r} names no device that JAX finds here; try cpu")


def _without_device(error: BaseException) -> bool:
    """Whether JAX found no device: it says so, or stops at an assertion of its own."""
    if "Unable to initialize backend" in str(error):
        return True
    if "jax" not in sys.modules or not isinstance(error, AssertionError):
        return False
    try:
        sys.modules["jax"].devices()
    except (RuntimeError, AssertionError):
        return True
    return False


def _say(sentence: str) -> int:
    print(f"error: {printable(_as_called(sentence))}", file=sys.stderr)
    return USER_ERROR


def printable(text: str, limit: int = 2000) -> str:
    """Text of foreign origin, fit for a terminal: no control characters, no endless line."""
    whole = len(text) <= limit
    part = text if whole else text[: limit - 40]
    shown = "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in part)
    if whole and len(shown) <= limit:
        return shown
    return f"{shown[: limit - 40]} ... ({len(text)} characters)"


def one_line(thing: object, limit: int = 120) -> str:
    """What a file says, in one short line fit for a message."""
    try:
        text = thing if isinstance(thing, str) else str(thing)
    except ValueError:  # an integer of thousands of digits
        text = f"a very large {type(thing).__name__}"
    return printable(" ".join(text.split()), limit)
