"""Makes commands of typed functions, and one sentence of each error.

The `__main__.py` of a package names the commands and calls `dispatch`. The first line of its
docstring describes the package in the list of `hardset --help`:

    COMMANDS = {"solve": "replica.commands:solve", "optimal": "replica.commands:optimal"}

    def main(argv: Sequence[str]) -> int:
        from hardset.cli import dispatch  # here, so that Ctrl-C is a sentence from the start

        return dispatch("replica", COMMANDS, argv, __doc__)

    if __name__ == "__main__":
        start(main)

Only the module of the command that is called is imported. `--help` imports all of them, so they
import nothing heavy at their top. A package with one command gives its "module:function" alone. A
command is a function that takes what the command line says and returns the exit code:

    def select(
        run: Path,
        *,
        method: Annotated[str, Choice(METHODS)],
        fractions: tuple[float, ...] | None = None,
        storage: Literal["pixels", "bytes"] = "pixels",
        out: Path | None = None,
        progress: Progress = False,
        as_json: Json = False,
    ) -> int:
        \"\"\"Pick images until a share of the storage is used up.

        This text is shown by `--help` above the options. Lines of a paragraph are joined;
        indented lines stand as they are.

        Args:
            run: folder of the pipeline.
            method: which examples are kept.
            fractions: shares of the data, in (0, 1].
            storage: what the shares are of.
            out: file to write.

        Examples:
            python -m package select runs/one --method hard --fractions 0.1 0.2
        \"\"\"

- Parameters before the `*` are arguments, those behind it options: `--keep-fraction` for
  `keep_fraction`. Without a default they must be given.
- Types: `int`, `float`, `str`, `Path` (an empty path is refused), `Literal`, `bool` with the
  default False (a flag), `tuple[X, ...]` (a list of one or more; numbers are separated by spaces or
  commas), and any of these `| None` with the default None. `Annotated[str, Choice(WORDS)]` is a
  Literal whose words are found at run time, `Annotated[X, Option(...)]` says another name, help or
  placeholder. Annotations are evaluated: what they name is imported, not under TYPE_CHECKING.
- Every parameter but `Json` and `Progress` stands under `Args:`; a test checks that.
- `@more_help(function)` adds text that is computed, such as a table of methods, below the options.
- `config: Annotated[TrainConfig, Preset(PRESETS)]` as the last argument makes a configured command:
  the arguments come first, this one names a preset, and every field of the configuration is an
  option beside the command's own: `COMMAND DATA PRESET --steps 5 --model.depth 2 --out DIR`.
- A user's error is a ValueError (or an OSError) whose text is one sentence; `run` prints it and
  returns 2. Nothing is computed before the arguments are known to be right.
"""

import atexit
import contextlib
import dataclasses
import importlib
import inspect
import io
import json
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from hardset import compilation
from hardset.values import constructor, field_options, registry, sentence

HELP = {"-h", "--help"}
MODULE = "python -m "


EVERYWHERE = f"""every command:
  {compilation.OPTION} DIR  where compiled programs are kept, or off (default: the user's
                           cache folder, or JAX_COMPILATION_CACHE_DIR)"""


def front() -> str:
    """Say how hardset's own command was called.

    That is "" where the process runs something else.
    """
    called = Path(sys.argv[0] or ".")
    if called.parts[-2:] == ("hardset", "__main__.py"):
        return f"{MODULE}hardset"
    return called.name if called.name == "hardset" else ""


def _as_called(text: str) -> str:
    """Replace `python -m` before packages by the way in which hardset was called."""
    return re.sub(rf"{MODULE}(?!hardset\b)(?=\w)", f"{front()} " if front() else MODULE, text)


Marked = TypeVar("Marked", bound=Callable[..., int])


@dataclass(frozen=True)
class Option:
    """Gives a parameter another option name, help text or placeholder.

    Without it they come from the parameter's name, the docstring and the type.
    """

    name: str = ""
    help: str = ""
    metavar: str = ""


@dataclass(frozen=True, eq=False)  # hashed by identity, as unions need it
class Choice:
    """Restricts a parameter to words that are known when its command is loaded."""

    words: Iterable[str]


@dataclass(frozen=True, eq=False)  # hashed by identity, as unions need it
class Preset:
    """Marks an argument that names a configuration, whose fields become options."""

    configs: Mapping[str, Any]
    word: str = "preset"


Numbers = tuple[float, ...]
Json = Annotated[bool, Option("json", "print JSON")]
Progress = Annotated[bool, Option("progress", "draw progress bars even without a terminal")]


def more_help(text: Callable[[], str]) -> Callable[[Marked], Marked]:
    """Add a computed text at the end of the `--help` of a command."""

    def mark(command: Marked) -> Marked:
        command.more_help = text  # type: ignore[attr-defined]
        return command

    return mark


def dispatch(
    program: str,
    commands: Mapping[str, str] | str,
    argv: Sequence[str],
    about: str | None,
    packages: Sequence[str] = (),
) -> int:
    """Call the command that the first argument names and return its exit code.

    Args:
        program: the package, called by `python -m`.
        commands: their "module:function" by name, or that of the only one.
        argv: arguments without the program's name.
        about: text of `--help`, the package's docstring.
        packages: those whose own commands are reached by their names.

    Raises:
        ValueError: no command of that name, or what the command does not understand.
    """
    called = (front() or program) if packages else _as_called(f"{MODULE}{program}")
    if isinstance(commands, str):
        return call(load(commands), argv, called)
    name = argv[0] if argv else ""
    if name in packages:
        main: Callable[[Sequence[str]], int] = load(f"{name}.__main__:main")
        return main(argv[1:])
    if name in HELP:
        print(f"usage: {called} COMMAND ...\n\n{_flow(about or '').strip()}\n")
        print("commands:")
        _list({one: summary(load(target)) for one, target in commands.items()})
        if packages:
            print("packages, each with commands of its own:")
            modules = {one: importlib.import_module(f"{one}.__main__") for one in packages}
            _list({one: (module.__doc__ or "").splitlines()[0] for one, module in modules.items()})
        print(f"{called} COMMAND --help explains a command.\n\n{EVERYWHERE}")
        return 0
    if name not in commands:
        from hardset.checks import meant

        known = (*commands, *packages)
        trouble = f"{name!r} is no command" if name else "the command is missing"
        raise ValueError(
            f"{trouble}: one of {', '.join(known)}{meant(name, known)} (see {called} --help)"
        )
    return call(load(commands[name]), argv[1:], f"{called} {name}")


def _list(about: Mapping[str, str]) -> None:
    width = max(map(len, about)) + 2
    for name, text in about.items():
        print(f"  {name:<{width}}{text}")
    print()


def load(target: str) -> Callable[..., int]:
    """Import the command that "module:function" names."""
    module, _, name = target.partition(":")
    found: Callable[..., int] = getattr(importlib.import_module(module), name)
    return found


def summary(command: Callable[..., int]) -> str:
    """Return the first line of a command's docstring."""
    return (inspect.getdoc(command) or "").partition("\n")[0]


def call(command: Callable[..., int], argv: Sequence[str], program: str) -> int:
    """Call a command with the arguments in `argv` and return its exit code.

    Args:
        command: a function as the module's docstring describes.
        argv: arguments without the program's name.
        program: how messages and help name the program.

    Raises:
        ValueError: what the command does not understand.
    """
    given = understood(command, argv, program)
    if given is None:
        return 0
    order = inspect.signature(command).parameters.values()
    arguments = [given.pop(one.name) for one in order if one.kind is not one.KEYWORD_ONLY]
    return command(*arguments, **given)


def understood(
    command: Callable[..., int], argv: Sequence[str], program: str
) -> dict[str, Any] | None:
    """Read a command line into the values of the command's parameters, by name.

    The answer is None after help was printed.
    """
    known = parameters(command)
    words: list[Parameter] = []
    given: dict[str, Any] = {}
    base = None
    preset = next((one for one in known if one.preset), None)
    if preset is not None:
        words = [one for one in known if one.positional]
        found = _leading(words, preset, argv, program)
        if found is None:
            argv, program = ["--help"], " ".join([program, *(one.option for one in words)])
        else:
            given, base = found
            program = " ".join([program, *argv[: len(words)]])
            argv = argv[len(words) :]
    known = [one for one in known if one not in words or (one is preset and base is not None)]
    parsed = _parse(command, known, argv, program, preset, base)
    return None if parsed is None else given | parsed


@dataclass(frozen=True)
class Parameter:
    """A parameter of a command, as the command line knows it.

    Attributes:
        name: in Python.
        option: on the command line, `--name`; of an argument NAME.
        kind: its type, without `| None`.
        optional: whether None is its default.
        positional: whether it is an argument.
        default: without one it must be given, `inspect.Parameter.empty`.
        help: its text.
        metavar: a placeholder in the place of the type's.
        choices: the words it is restricted to.
        preset: the configurations that it names.
    """

    name: str
    option: str
    kind: Any
    optional: bool
    positional: bool
    default: Any
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    preset: Preset | None = None


def parameters(command: Callable[..., int]) -> list[Parameter]:
    """List the parameters of a command, by its signature and its docstring."""
    entries = re.split(r"^    (\w+): ", _sections(command).get("Args", ""), flags=re.M)[1:]
    texts = {
        name: " ".join(text.split()) for name, text in zip(entries[::2], entries[1::2], strict=True)
    }
    hints = get_type_hints(command, include_extras=True)
    found = []
    for name, one in inspect.signature(command).parameters.items():
        kind, marks = _unwrapped(hints[name])
        option = next((mark for mark in marks if isinstance(mark, Option)), Option())
        choice = next((mark for mark in marks if isinstance(mark, Choice)), Choice(()))
        if get_origin(kind) is Literal:
            kind, choice = str, Choice(get_args(kind))
        preset = next((mark for mark in marks if isinstance(mark, Preset)), None)
        positional = one.kind is not one.KEYWORD_ONLY
        shown = option.name or (preset.word if preset else name.replace("_", "-"))
        found.append(
            Parameter(
                name=name,
                option=shown.upper() if positional else f"--{shown}",
                kind=kind,
                optional=one.default is None,
                positional=positional,
                default=one.default,
                help=texts.get(name, option.help),
                metavar=option.metavar,
                choices=tuple(choice.words),
                preset=preset,
            )
        )
    return found


def _unwrapped(hint: Any) -> tuple[Any, list[Any]]:
    """Strip `Annotated` and `| None` off a type; return it with its annotations."""
    if get_origin(hint) is Annotated:
        kind, marks = _unwrapped(hint.__origin__)
        return kind, [*hint.__metadata__, *marks]
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = (one for one in get_args(hint) if one is not types.NoneType)
        return _unwrapped(inner)
    return hint, []


def _leading(
    words: Sequence[Parameter], preset: Parameter, argv: Sequence[str], program: str
) -> tuple[dict[str, Any], Any] | None:
    """Read the arguments of a configured command, and find its configuration.

    The answer is None where help is to be shown.
    """
    given = list(argv[: len(words)])
    if not given or HELP & set(given):
        return None
    if len(given) < len(words) or any(one.startswith("-") for one in given):
        first = " and ".join(f"the {one.option.lower()}" for one in words)
        names = " ".join(one.option for one in words)
        raise ValueError(f"{first} must come first: {program} {names} (see {program} --help)")
    from hardset.checks import check_choice  # NumPy takes a tenth of a second

    assert preset.preset is not None and words[-1] is preset, "the preset is the last argument"
    found = {}
    name = ""
    try:
        check_choice(preset.preset.word, given[-1], preset.preset.configs)
        for one, text in zip(words[:-1], given, strict=False):
            name = f"{one.option}: "
            found[one.name] = constructor(one.kind).instance_from_str([text])
    except ValueError as error:
        raise ValueError(f"{name}{error} (see {program} --help)") from None
    return found, preset.preset.configs[given[-1]]


def _parse(
    command: Callable[..., int],
    known: Sequence[Parameter],
    argv: Sequence[str],
    program: str,
    preset: Parameter | None,
    base: Any,
) -> dict[str, Any] | None:
    """Let tyro read the parameters; return None after help was printed.

    Args:
        command: whose help is printed.
        known: its parameters that `argv` may give.
        argv: the rest of the command line.
        program: how messages and help name the program.
        preset: the parameter that is a configuration, if there is one.
        base: its values, None before a preset is named.
    """
    import tyro

    tyro_errors: Any = importlib.import_module("tyro._errors")

    more = ""
    if preset is not None and preset.preset is not None:
        word, configs = preset.preset.word, preset.preset.configs
        more = (
            f"{preset.option} is one of {', '.join(configs)}. Every field of a {word} is an "
            "option, and --help behind its name lists them."
            if base is None
            else f"Values of the {word} are the defaults of its fields."
        )
    names = [one.option for one in known if not one.positional] + ["--help", "-h"]
    names += [] if base is None else list(field_options(base))

    def refuse(event: Any) -> None:
        trouble = sentence(event, argv, names, sys.exc_info()[1])
        raise ValueError(f"{trouble} (see {program} --help)")

    if HELP & set(argv):  # else what comes before it would be left out
        argv = ["--help"]
    if argv and argv[0].startswith("--tyro"):
        raise ValueError(f"unknown option {argv[0]} (see {program} --help)")
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), tyro_errors.on_parse_error(refuse):
            found: Any = tyro.cli(
                options_class(known, base),
                prog=program,
                description="",
                args=list(argv),
                config=(tyro.conf.AvoidSubcommands,),
                registry=registry(),
            )
    except SystemExit as stopped:
        if stopped.code:  # a command that tyro cannot read is a defect
            raise
        usage, _, page = re.sub(r" +$", "", shown.getvalue(), flags=re.M).partition("\n\n")
        parts = [usage, _description(command), _flow(more), page.strip("\n"), *_ending(command)]
        print("\n\n".join([*filter(None, parts), EVERYWHERE]))
        return None
    return {one.name: getattr(found, one.name) for one in known}


def options_class(known: Sequence[Parameter], base: Any) -> Any:
    """Make a dataclass of a command's parameters, annotated for tyro."""
    import tyro

    fields: list[Any] = []
    for one in known:
        default = dataclasses.MISSING if one.default is inspect.Parameter.empty else one.default
        if one.preset:
            fields.append((one.name, Annotated[type(base), tyro.conf.arg(name="")], base))
            continue
        about: dict[str, Any] = {"help": one.help, "metavar": one.metavar or None}
        if one.optional or one.default is False:
            about["help_behavior_hint"] = ""
        elif one.default is inspect.Parameter.empty:
            about["help_behavior_hint"] = "(required)"  # tyro's default of a list is an empty one
        if one.positional:
            about["metavar"] = one.metavar or one.option
            if one.choices:
                about["help"] = f"{one.help.rstrip('.')}: {', '.join(one.choices)}"
        marks = [tyro.conf.arg(name=one.option.removeprefix("--"), **about)]
        marks += [tyro.conf.Positional] if one.positional else [tyro.conf.FlagCreatePairsOff]
        if one.kind is not bool:
            marks.append(constructor(one.kind, one.choices))
        kind = one.kind | None if one.optional else one.kind
        fields.append((one.name, Annotated[(kind, *marks)], default))
    return dataclasses.make_dataclass(
        "Options",
        [(name, kind, dataclasses.field(default=default)) for name, kind, default in fields],
        kw_only=True,
    )


def _flow(text: str) -> str:
    """Fit the paragraphs of a text to the terminal.

    Indented lines stay as they are.
    """
    width = min(shutil.get_terminal_size().columns, 100)
    parts = [
        part if part.startswith(" ") else textwrap.fill(part, width, break_on_hyphens=False)
        for part in _as_called(text).split("\n\n")
    ]
    return "\n\n".join(parts)


def _sections(command: Callable[..., int]) -> dict[str, str]:
    """Split a command's docstring into sections by title.

    The text before the first title has the title "".
    """
    parts = re.split(
        r"^(Args|Returns|Raises|Examples):\n", inspect.getdoc(command) or "", flags=re.M
    )
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def _description(command: Callable[..., int]) -> str:
    return _flow(_sections(command)[""]).strip()


def _ending(command: Callable[..., int]) -> Iterator[str]:
    """Yield the end of a command's help: a computed text and the examples."""
    if hasattr(command, "more_help"):
        yield _as_called(command.more_help().rstrip())
    examples = _sections(command).get("Examples", "").rstrip()
    if examples:
        yield _as_called(f"examples:\n{textwrap.indent(textwrap.dedent(examples), '  ')}")


def print_json(content: Any) -> None:
    """Print `content` as JSON, with null in place of NaN and infinities.

    A list has a line for each entry. Indented, ten thousand points would take json's slow encoder.
    """
    finite = _finite(content)
    if isinstance(finite, list):
        lines = ",\n".join(json.dumps(entry) for entry in finite)
        print(f"[\n{lines}\n]")
    else:
        print(json.dumps(finite, indent=1))


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def wanted(asked: bool) -> bool:
    """Say whether a command shows progress: it was asked to, or stderr is a terminal."""
    return asked or sys.stderr.isatty()


def check_output_folder(path: str | Path) -> Path:
    """Create the folder `path` and prove that it can be written.

    Commands call it before hours of work.

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


USER_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143
INTERRUPTION = "interrupted; what was finished and saved is kept"


class Terminated(BaseException):
    """The signal SIGTERM has arrived.

    The command saves what it can, and then the signal takes effect.
    """


_terminated: list[bool] = []


def _terminate(*_: object) -> None:
    raise Terminated


def _end_by_signal() -> None:
    """Let SIGTERM take effect after all, once everything has been put in order."""
    if _terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


def _raise_again(ignored: "sys.UnraisableHookArgs") -> None:
    """Raise an interruption again that Python has dropped.

    Python drops what is raised where no caller can catch it, for example in JAX's function that
    runs after every garbage collection.
    """
    if isinstance(ignored.exc_value, KeyboardInterrupt | Terminated):
        number = signal.SIGTERM if isinstance(ignored.exc_value, Terminated) else signal.SIGINT
        # Later: now it would be raised in here, and be dropped again.
        threading.Thread(target=_send_later, args=(number,), daemon=True).start()
    else:
        sys.__unraisablehook__(ignored)


def _send_later(number: int) -> None:
    """Send a signal to the main thread once it has left `_raise_again`."""
    main = threading.main_thread().ident
    assert main is not None
    inside = True
    while inside:
        time.sleep(0.01)
        frame = sys._current_frames().get(main)
        while frame is not None and frame.f_code is not _raise_again.__code__:
            frame = frame.f_back
        inside = frame is not None
    signal.pthread_kill(main, number)
    # A thread on its way into a system call notices a signal with the next one.
    time.sleep(0.05)
    signal.pthread_kill(main, signal.SIGURG)


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    A user's error becomes one sentence and exit code 2, without a traceback.

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
            signal.signal(signal.SIGURG, lambda *_: None)
        if argv is None and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
            atexit.register(_end_by_signal)  # what is registered first is called last
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
        if error.strerror and _output_fails():
            return _say(f"standard output cannot be written: {error.strerror}")
        return _say(str(error))
    except ValueError as error:
        return _say(str(error))
    except ModuleNotFoundError as error:
        from hardset.checks import remedy

        sentence = remedy(error)
        if sentence is None:
            raise
        return _say(sentence)
    except (RuntimeError, AssertionError) as error:
        if not _without_device(error):
            raise
        asked = os.environ.get("JAX_PLATFORMS")
        return _say(f"JAX_PLATFORMS = {asked!r} names no device that JAX finds here; try cpu")


def _output_fails() -> bool:
    """Tell whether what was printed cannot be written, as on a full disk."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _without_device(error: BaseException) -> bool:
    """Tell whether an error means that JAX found no device.

    JAX says so, or stops at an assertion of its own.
    """
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
    """Replace control characters in a text, and shorten it to `limit` characters."""
    whole = len(text) <= limit
    part = text if whole else text[: limit - 40]
    shown = "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in part)
    if whole and len(shown) <= limit:
        return shown
    return f"{shown[: limit - 40]} ... ({len(text)} characters)"


def one_line(thing: object, limit: int = 120) -> str:
    """Write a value as one short line for a message."""
    try:
        text = thing if isinstance(thing, str) else str(thing)
    except ValueError:  # an integer of thousands of digits
        text = f"a very large {type(thing).__name__}"
    return printable(" ".join(text.split()), limit)
