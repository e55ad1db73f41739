"""The command line of every package: typed functions become commands, errors one sentence.

A package's `__main__.py` names its commands and hands them over; the first sentence of its own
docstring stands for the package in the list of `hardset --help`:

    COMMANDS = {"solve": "replica.commands:solve", "optimal": "replica.commands:optimal"}

    def main(argv: Sequence[str]) -> int:
        from hardset.cli import dispatch  # here, so that Ctrl-C is a sentence from the start

        return dispatch("replica", COMMANDS, argv, __doc__)

    if __name__ == "__main__":
        start(main)

Only the module of the command that is called is imported, for `--help` all of them: they import
nothing heavy at their top. A package with one command gives its "module:function" alone. A command
is a function that takes what the command line says and returns the exit code:

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

import argparse
import atexit
import contextlib
import dataclasses
import importlib
import inspect
import io
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
    NoReturn,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from hardset import compilation

HELP = {"-h", "--help"}
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
        threading.Thread(target=_send_later, args=(number,), daemon=True).start()
    else:
        sys.__unraisablehook__(ignored)


def _send_later(number: int) -> None:
    """Send a signal to the main thread as soon as it has left the hook that drops exceptions."""
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


Marked = TypeVar("Marked", bound=Callable[..., int])


@dataclass(frozen=True)
class Option:
    """Calls or explains a parameter in other words than its name, its type and the docstring."""

    name: str = ""
    help: str = ""
    metavar: str = ""


@dataclass(frozen=True, eq=False)  # hashed by identity, as unions need it
class Choice:
    """Restricts a parameter to words that are known when its command is loaded."""

    words: Iterable[str]


@dataclass(frozen=True, eq=False)  # hashed by identity, as unions need it
class Preset:
    """Makes an argument name a configuration whose fields are options."""

    configs: Mapping[str, Any]
    word: str = "preset"


Json = Annotated[bool, Option("json", "print JSON")]
Progress = Annotated[bool, Option("progress", "draw progress bars even without a terminal")]


def more_help(text: Callable[[], str]) -> Callable[[Marked], Marked]:
    """Let `--help` of a command end with a text that is computed."""

    def mark(command: Marked) -> Marked:
        command.more_help = text  # type: ignore[attr-defined]
        return command

    return mark


def dispatch(
    program: str, commands: Mapping[str, str] | str, argv: Sequence[str], about: str | None
) -> int:
    """Call the command that the first argument names; returns its exit code.

    Args:
        program: the package, called by `python -m`.
        commands: their "module:function" by name, or that of the only one.
        argv: arguments without the program's name.
        about: text of `--help`, the package's docstring.

    Raises:
        ValueError: no command of that name, or what the command does not understand.
    """
    called = _as_called(f"{MODULE}{program}")
    if isinstance(commands, str):
        return call(load(commands), argv, called)
    name = argv[0] if argv else ""
    if name in HELP:
        width = max(map(len, commands)) + 2
        print(f"usage: {called} COMMAND ...\n\n{_flow(about or '').strip()}\n\ncommands:")
        for one, target in commands.items():
            print(f"  {one:<{width}}{summary(load(target))}")
        print(f"\n{called} COMMAND --help explains a command.\n\n{EVERYWHERE}")
        return 0
    if name not in commands:
        from hardset.checks import meant

        trouble = f"{name!r} is no command" if name else "the command is missing"
        raise ValueError(
            f"{trouble}: one of {', '.join(commands)}{meant(name, commands)} (see {called} --help)"
        )
    return call(load(commands[name]), argv[1:], f"{called} {name}")


def load(target: str) -> Callable[..., int]:
    """The command that "module:function" names."""
    module, _, name = target.partition(":")
    found: Callable[..., int] = getattr(importlib.import_module(module), name)
    return found


def summary(command: Callable[..., int]) -> str:
    """First sentence of a command's help."""
    return (inspect.getdoc(command) or "").partition("\n")[0]


def call(command: Callable[..., int], argv: Sequence[str], program: str) -> int:
    """Call a command with the arguments that `argv` says; returns its exit code.

    Args:
        command: a function as the module's docstring describes.
        argv: arguments without the program's name.
        program: how messages and help name the program.

    Raises:
        ValueError: what the command does not understand.
    """
    known = parameters(command)
    given: dict[str, Any] = {}
    base = None
    if preset := next((one for one in known if one.preset), None):
        words = [one for one in known if one.positional]
        found = _leading(words, preset, argv, program)
        if found is not None:
            given, base = found
            known = [one for one in known if one is preset or one not in words]
            program = " ".join([program, *argv[: len(words)]])
            argv = argv[len(words) :]
        else:
            known, argv = [one for one in known if one not in words], ["--help"]
            program = " ".join([program, *(one.option for one in words)])
    parsed = _parse(command, known, argv, program, preset, base)
    if parsed is None:
        return 0
    given |= parsed
    order = inspect.signature(command).parameters.values()
    arguments = [given.pop(one.name) for one in order if one.kind is not one.KEYWORD_ONLY]
    return command(*arguments, **given)


@dataclass(frozen=True)
class Parameter:
    """A command's parameter as the command line has it.

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
    metavar: str
    choices: tuple[str, ...]
    preset: Preset | None


def parameters(command: Callable[..., int]) -> list[Parameter]:
    """Parameters of a command, by its signature and its docstring."""
    entries = re.split(r"^    (\w+): ", _sections(command).get("Args", ""), flags=re.M)[1:]
    texts = {
        name: " ".join(text.split()) for name, text in zip(entries[::2], entries[1::2], strict=True)
    }
    hints = get_type_hints(command, include_extras=True)
    found = []
    for name, one in inspect.signature(command).parameters.items():
        kind, marks = _unwrapped(hints[name])
        option = next((mark for mark in marks if isinstance(mark, Option)), Option())
        choice = next((mark for mark in marks if isinstance(mark, Choice)), None)
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
                choices=tuple(choice.words) if choice else (),
                preset=preset,
            )
        )
    return found


def _unwrapped(hint: Any) -> tuple[Any, list[Any]]:
    """A type without `Annotated` and `| None`, and what was annotated."""
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
    """Arguments of a configured command and its configuration; None where help is wanted."""
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
    try:
        check_choice(preset.preset.word, given[-1], preset.preset.configs)
        for one, text in zip(words[:-1], given, strict=False):
            found[one.name] = _constructor(one.kind).instance_from_str([text])
    except ValueError as error:
        raise ValueError(f"{error} (see {program} --help)") from None
    return found, preset.preset.configs[given[-1]]


def _parse(
    command: Callable[..., int],
    known: Sequence[Parameter],
    argv: Sequence[str],
    program: str,
    preset: Parameter | None,
    base: Any,
) -> dict[str, Any] | None:
    """Values of the parameters by name; None where help was asked for and printed.

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
    names = [one.option for one in known if not one.positional] + ["--help"]
    names += [] if base is None else list(_fields(base))

    def refuse(event: Any) -> None:
        sentence = _sentence(event, names, sys.exc_info()[1])
        raise ValueError(f"{sentence} (see {program} --help)")

    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), tyro_errors.on_parse_error(refuse):
            found: Any = tyro.cli(
                _options_class(known, base),
                prog=program,
                description="",
                args=list(argv),
                config=(tyro.conf.AvoidSubcommands,),
                registry=_registry(),
            )
    except SystemExit:
        usage, _, page = re.sub(r" +$", "", shown.getvalue(), flags=re.M).partition("\n\n")
        parts = [usage, _description(command), _flow(more), page.strip("\n"), *_ending(command)]
        print("\n\n".join([*filter(None, parts), EVERYWHERE]))
        return None
    return {one.name: getattr(found, one.name) for one in known}


def _options_class(known: Sequence[Parameter], base: Any) -> Any:
    """A dataclass of parameters whose annotations say to tyro what they are."""
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
        if one.positional:
            about["metavar"] = one.metavar or one.option
        marks = [tyro.conf.arg(name=one.option.removeprefix("--"), **about)]
        marks += [tyro.conf.Positional] if one.positional else [tyro.conf.FlagCreatePairsOff]
        if one.kind is not bool:
            marks.append(_constructor(one.kind, one.choices))
        kind = one.kind | None if one.optional else one.kind
        fields.append((one.name, Annotated[(kind, *marks)], default))
    return dataclasses.make_dataclass(
        "Options",
        [(name, kind, dataclasses.field(default=default)) for name, kind, default in fields],
        kw_only=True,
    )


class _WrongError(ValueError, argparse.ArgumentTypeError):
    """An argument that is none; of two kinds until no command is argparse's."""


def number(text: str) -> float:
    """A real number; ValueError says what is none."""
    try:
        return float(text)
    except ValueError:
        raise _WrongError(f"{text!r} is not a number") from None


def integer(text: str) -> int:
    """A whole number; ValueError says what is none."""
    try:
        return int(text)
    except ValueError:
        raise _WrongError(f"{text!r} is not an integer") from None


def path(text: str) -> Path:
    """A path; pathlib would take an empty shell variable for this folder."""
    if not text:
        raise ValueError("an empty path; name a file or a folder")
    return Path(text)


# Type -> how a word is read, and the placeholder in the help.
WORDS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (integer, "INTEGER"),
    float: (number, "NUMBER"),
    str: (str, "TEXT"),
    Path: (path, "PATH"),
}


def _constructor(kind: Any, choices: tuple[str, ...] = ()) -> Any:
    """How words become a value of a type, for tyro; None of a type that it knows better."""
    import tyro

    many = get_origin(kind) is tuple and get_args(kind)[1:] == (Ellipsis,)
    one = get_args(kind)[0] if many else kind
    if get_origin(one) is Literal:
        one, choices = str, get_args(one)
    if one not in WORDS:
        return None
    read, placeholder = WORDS[one]

    def made(words: Sequence[str]) -> Any:
        if not many:
            return read(words[0])
        if one in (int, float):
            words = " ".join(words).replace(",", " ").split()
        if not words:
            raise ValueError("an empty list; give at least one")
        return tuple(read(word) for word in words)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*" if many else 1,
        metavar=("{" + ",".join(choices) + "}" if choices else placeholder) + " ..." * many,
        instance_from_str=made,
        is_instance=lambda value: isinstance(
            value, tuple if many else (int, float) if one is float else one
        ),
        str_from_instance=_texts,
        choices=choices or None,
    )


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in (value if isinstance(value, tuple) else [value])]


def _registry() -> Any:
    """The same types in configurations, so that what is wrong is said in the same words."""
    import tyro

    def rule(info: Any) -> Any:
        inner = [one for one in get_args(info.type) if one is not types.NoneType]
        if get_origin(info.type) not in (Union, types.UnionType) or len(inner) > 1:
            return _constructor(info.type)
        spec = _constructor(inner[0])
        if spec is None or spec.nargs != 1:
            return None
        return dataclasses.replace(
            spec,
            metavar=f"{spec.metavar}|None",
            instance_from_str=lambda words: (
                None if words == ["None"] else spec.instance_from_str(words)
            ),
            is_instance=lambda value: value is None or spec.is_instance(value),
            str_from_instance=lambda value: [str(value)],
            choices=spec.choices and (*spec.choices, "None"),
        )

    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(rule)
    return registry


def _fields(config: Any, above: str = "--") -> Iterator[str]:
    """Options of a configuration's fields."""
    for field in dataclasses.fields(config):
        name, value = above + field.name.replace("_", "-"), getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{name}.")
        else:
            yield name


def _sentence(event: Any, known: Sequence[str], error: BaseException | None) -> str:
    """What tyro found wrong, in one sentence."""
    argument = getattr(event, "argument", None)
    name = _shown(argument) if argument is not None else ""
    match type(event).__name__:
        case "MissingArgs" if not event.unrecognized_tokens:
            missing = [_shown(one.arg) for one in event.missing_arguments]
            return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        case "MissingArgs" | "UnrecognizedArgs":
            tokens = getattr(event, "unrecognized_tokens", None) or event.tokens
            option = next((one for one in tokens if one.startswith("-")), "")
            if not option:
                return f"unexpected argument {tokens[0]!r}"
            from hardset.checks import meant

            word = option.partition("=")[0]
            return f"unknown option {word}{meant(word, known)}"
        case "InvalidChoice":
            return f"{name} = {event.value!r} is not one of {', '.join(event.choices)}"
        case "BadValue":
            return f"{name} needs a value"
    message = " ".join(getattr(event, "message", str(event)).partition("Got errors")[0].split())
    if name:
        return f"{name}: {message}"
    # What a configuration refused names its own field: "depth = 0 ..." of model.encoder.
    above = str(getattr(error, "arg", "")).partition(".")[2]
    if not above:
        return message
    return f"{above}.{message}" if re.match(r"[\w.]+ = ", message) else f"{above}: {message}"


def _shown(argument: Any) -> str:
    name: str = argument.display_name()
    return name.upper() if argument.is_positional() else name


def _flow(text: str) -> str:
    """The text with paragraphs that fit the terminal; indented lines stand as they are."""
    width = min(shutil.get_terminal_size().columns, 100)
    parts = [
        part if part.startswith(" ") else textwrap.fill(part, width, break_on_hyphens=False)
        for part in _as_called(text).split("\n\n")
    ]
    return "\n\n".join(parts)


def _sections(command: Callable[..., int]) -> dict[str, str]:
    """A docstring's text by the titles of its sections; what comes first has none."""
    parts = re.split(
        r"^(Args|Returns|Raises|Examples):\n", inspect.getdoc(command) or "", flags=re.M
    )
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def _description(command: Callable[..., int]) -> str:
    return _flow(_sections(command)[""]).strip()


def _ending(command: Callable[..., int]) -> Iterator[str]:
    """What a command's help ends with: a computed text, and the examples."""
    if hasattr(command, "more_help"):
        yield _as_called(command.more_help().rstrip())
    examples = _sections(command).get("Examples", "").rstrip()
    if examples:
        yield _as_called(f"examples:\n{textwrap.indent(textwrap.dedent(examples), '  ')}")


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


class Numbers(argparse.Action):  # until all commands are typed functions
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
        except ValueError as error:
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
            signal.signal(signal.SIGURG, lambda *_: None)
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
