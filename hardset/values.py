"""Converts words of a command line to values of the types that commands know."""

import dataclasses
import re
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin


def number(text: str) -> float:
    """Read a real number, or raise ValueError."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def integer(text: str) -> int:
    """Read a whole number, or raise ValueError."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an integer") from None


def path(text: str) -> Path:
    """Read a path, or raise ValueError if it is empty.

    pathlib would take an empty shell variable for the current folder.
    """
    if not text:
        raise ValueError("an empty path; name a file or a folder")
    return Path(text)


EMPTY = "an empty list; give at least one"
# Type -> how a word is read, and the placeholder in the help.
WORDS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (integer, "INTEGER"),
    float: (number, "NUMBER"),
    str: (str, "TEXT"),
    Path: (path, "PATH"),
}


def constructor(kind: Any, choices: tuple[str, ...] = ()) -> Any:
    """Make the rule by which tyro converts words to a value of a type.

    The answer is None for a type that is left to tyro.
    """
    import tyro

    many = get_origin(kind) is tuple and get_args(kind)[1:] == (Ellipsis,)
    one = get_args(kind)[0] if many else kind
    if get_origin(one) is Literal and all(isinstance(word, str) for word in get_args(one)):
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
            raise ValueError(EMPTY)
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


def registry() -> Any:
    """Make tyro's registry that applies `constructor` to the fields of configurations.

    So errors in them are told in the same words.
    """
    import tyro

    def rule(info: Any) -> Any:
        inner = [one for one in get_args(info.type) if one is not types.NoneType]
        if get_origin(info.type) not in (Union, types.UnionType) or len(inner) > 1:
            return constructor(info.type)
        spec = constructor(inner[0])
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


def field_options(config: Any, above: str = "--") -> Iterator[str]:
    """List the options of a configuration's fields."""
    for field in dataclasses.fields(config):
        name, value = above + field.name.replace("_", "-"), getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from field_options(value, f"{name}.")
        else:
            yield name
            if isinstance(value, bool):
                yield f"{above}no-{field.name.replace('_', '-')}"


def sentence(
    event: Any, argv: Sequence[str], known: Sequence[str], error: BaseException | None
) -> str:
    """Say in one sentence what tyro found wrong with `argv`.

    Args:
        event: what tyro reports.
        argv: the command line.
        known: names of the options.
        error: what is being handled.
    """
    from hardset.checks import meant  # NumPy takes a tenth of a second

    argument: Any = getattr(event, "argument", None)
    name = _shown(argument) if argument is not None else ""
    match type(event).__name__:
        case "MissingArgs" if not event.unrecognized_tokens:
            missing = [_shown(one.arg) for one in event.missing_arguments]
            return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        case "MissingArgs" | "UnrecognizedArgs" | "BadValue":
            tokens: Sequence[str] = (
                getattr(event, "unrecognized_tokens", None)
                or getattr(event, "tokens", None)
                or argv
            )
            words = [one.partition("=")[0] for one in tokens if re.match("--?[A-Za-z]", one)]
            if word := next((one for one in words if one not in known), ""):
                return f"unknown option {word}{meant(word, known)}"
            if not name:
                return f"unexpected argument {tokens[0]!r}"
            if argument.is_positional():
                return f"{name} is missing"
            count = argument.lowered.nargs
            return f"{name} needs {f'{count} values' if count != 1 else 'a value'}"
        case "InvalidChoice":
            return f"{name} = {event.value!r} is not one of {', '.join(event.choices)}"
    message = " ".join(getattr(event, "message", str(event)).partition("Got errors")[0].split())
    if name:
        none = message == EMPTY and argument.is_positional()
        return f"{name} is missing" if none else f"{name}: {message}"
    # A configuration's message names its own field, such as "depth = 0 ..." in model.encoder.
    above = str(getattr(error, "arg", "")).partition(".")[2]
    if not above:
        return message
    return f"{above}.{message}" if re.match(r"[\w.]+ = ", message) else f"{above}: {message}"


def _shown(argument: Any) -> str:
    name: str = argument.display_name()
    return name.upper() if argument.is_positional() else name
