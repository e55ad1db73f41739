"""Methods and scores as text: NAME or NAME:option=value,option=value."""

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from selection.names import METHOD_NAMES, SCORE_NAMES, Named
from selection.pool import Scores
from selection.selector import Selector


def parse_method(text: str) -> Selector:
    """The method that a text like "ccs:cutoff=0.1,bins=20" names.

    Raises:
        ValueError: an unknown method or option, or a value that the option cannot have.
    """
    name, given = _split(text)
    kind = _known("method", name, given, METHOD_NAMES).load()
    return kind(**_options(f"method {name!r}", given, get_type_hints(kind)))


def check_method(text: str) -> None:
    """Check the names of a method and of its options, without importing it.

    Raises:
        ValueError: one that is not known, or an option that is missing.
    """
    name, given = _split(text)
    _known("method", name, given, METHOD_NAMES)


def check_score(text: str) -> None:
    """`check_method` for a score."""
    name, given = _split(text)
    _known("score", name, given, SCORE_NAMES)


def parse_score(text: str) -> tuple[Callable[..., Scores], dict[str, Any]]:
    """The function that a text like "el2n:first=10,last=20" names, and its options.

    Raises:
        ValueError: an unknown score or option, or a value that the option cannot have.
    """
    name, given = _split(text)
    function = _known("score", name, given, SCORE_NAMES).load()
    hints = get_type_hints(function)
    return function, _options(f"score {name!r}", given, hints)


def arrays_of_score(function: Callable[..., Scores], *, optional: bool = False) -> list[str]:
    """Names of the arrays that a score cannot do without, or of those that it may be given."""
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.KEYWORD_ONLY
        and (parameter.default is not parameter.empty) == optional
    ]


def describe_methods() -> str:
    """One line a method: what it needs, the options that text can set, and their defaults."""
    return "\n".join(
        f"  {name:<22} {_flags(one.needs) or '-':<22} {one.options}".rstrip()
        for name, one in METHOD_NAMES.items()
    )


def describe_scores() -> str:
    """One line a score: the arrays it takes, its options and their defaults."""
    lines = []
    for name, one in SCORE_NAMES.items():
        may = " ".join(f"[{flag}]" for flag in _flags(one.may).split())
        arrays = f"{_flags(one.needs)} {may}".strip()
        lines.append(f"  {name:<17} {arrays:<34} {one.options}".rstrip())
    return "\n".join(lines)


def _flags(names: str) -> str:
    return " ".join(f"--{name.replace('_', '-')}" for name in names.split())


def named_method(kind: type[Selector]) -> Named:
    """What `selection.names` has to say of a method."""
    options, hints = _method_options(kind), get_type_hints(kind)
    needs = " ".join(sorted(kind.needs))
    return _named(kind, needs, "", options, hints)


def named_score(function: Callable[..., Scores]) -> Named:
    """What `selection.names` has to say of a score."""
    needs, may = (" ".join(arrays_of_score(function, optional=one)) for one in (False, True))
    return _named(function, needs, may, _score_options(function), get_type_hints(function))


def _named(
    what: Any, needs: str, may: str, options: dict[str, Any], hints: dict[str, Any]
) -> Named:
    settable = _settable(options, hints)
    rest = " ".join(name for name in options if name not in settable)
    place = f"{what.__module__}:{what.__name__}"
    return Named(place, needs, may, _defaults(settable), rest)


def _split(text: str) -> tuple[str, dict[str, str]]:
    name, _, rest = text.partition(":")
    given = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{text!r}: {part!r} is not option=value")
        if key in given:
            raise ValueError(f"{text!r} gives {key} twice")
        given[key] = value
    return name, given


def _known(word: str, name: str, given: Mapping[str, str], table: Mapping[str, Named]) -> Named:
    """What the name stands for; unknown names and options are told before it is imported."""
    if name not in table:
        raise ValueError(f"{word} {name!r} is not one of {', '.join(table)}")
    found = table[name]
    for option in given:
        if option in found.from_python.split():
            raise ValueError(f"{word} {name!r}: {option} takes no text; set it from Python")
        if option not in found.option_names:
            listed = ", ".join(found.option_names) or "none"
            raise ValueError(f"{word} {name!r} has no option {option!r}; it has {listed}")
    for option in found.options.split():
        if "=" not in option and option not in given:
            raise ValueError(f"{word} {name!r} needs the option {option!r}")
    return found


def _method_options(kind: type[Selector]) -> dict[str, Any]:
    """Options by name, with their defaults."""
    return {
        field.name: field.default
        if field.default_factory is dataclasses.MISSING
        else field.default_factory()
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
    }


def _score_options(function: Callable[..., Scores]) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def _settable(options: dict[str, Any], hints: dict[str, Any]) -> dict[str, Any]:
    """The options that have values which text can say."""
    return {
        name: default
        for name, default in options.items()
        if any(
            member in (int, float, str, bool) or get_origin(member) is Literal
            for member in _members(hints[name])
        )
    }


def _members(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _defaults(options: dict[str, Any]) -> str:
    return " ".join(
        name if value is dataclasses.MISSING else f"{name}={value}"
        for name, value in options.items()
    )


def _options(what: str, given: dict[str, str], hints: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(f"{what}: {name}", text, hints[name]) for name, text in given.items()}


def _value(name: str, text: str, hint: Any) -> Any:
    """The value of a text where one of type `hint` is expected."""
    members = _members(hint)
    for member in members:
        if member is type(None) and text.lower() == "none":
            return None
        if member is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if get_origin(member) is Literal and text in map(str, get_args(member)):
            return next(choice for choice in get_args(member) if str(choice) == text)
        if member in (int, float, str):
            try:
                return member(text)
            except ValueError:
                continue
    wanted = " or ".join(
        ", ".join(map(str, get_args(m))) if get_origin(m) is Literal else getattr(m, "__name__", m)
        for m in members
    )
    raise ValueError(f"{name} = {text!r} is not {wanted}")
