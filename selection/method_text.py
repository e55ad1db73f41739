"""Methods and scores as text: NAME or NAME:option=value,option=value."""

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from selection.core.scores import Scores
from selection.core.selector import Selector
from selection.registry import SCORES, SELECTORS

__all__ = ["arrays_of_score", "describe_methods", "describe_scores", "parse_method", "parse_score"]


def parse_method(text: str) -> Selector:
    """The method that a text like "ccs:cutoff=0.1,bins=20" names.

    Raises:
        ValueError: an unknown method or option, or a value that the option cannot have.
    """
    name, given = _split(text)
    kind = _known("method", name, SELECTORS)
    return kind(**_options(f"method {name!r}", given, get_type_hints(kind), _method_options(kind)))


def parse_score(text: str) -> tuple[Callable[..., Scores], dict[str, Any]]:
    """The function that a text like "el2n:first=10,last=20" names, and its options.

    Raises:
        ValueError: an unknown score or option, or a value that the option cannot have.
    """
    name, given = _split(text)
    function = _known("score", name, SCORES)
    hints = get_type_hints(function)
    return function, _options(f"score {name!r}", given, hints, _score_options(function))


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
    lines = []
    for name, kind in SELECTORS.items():
        needs = " ".join(f"--{field}" for field in sorted(kind.needs)) or "-"
        options = _settable(_method_options(kind), get_type_hints(kind))
        lines.append(f"  {name:<22} {needs:<22} {_defaults(options)}".rstrip())
    return "\n".join(lines)


def describe_scores() -> str:
    """One line a score: the arrays it takes, its options and their defaults."""
    lines = []
    for name, function in SCORES.items():
        arrays = " ".join(
            [f"--{a.replace('_', '-')}" for a in arrays_of_score(function)]
            + [f"[--{a.replace('_', '-')}]" for a in arrays_of_score(function, optional=True)]
        )
        options = _settable(_score_options(function), get_type_hints(function))
        lines.append(f"  {name:<17} {arrays:<34} {_defaults(options)}".rstrip())
    return "\n".join(lines)


def _split(text: str) -> tuple[str, dict[str, str]]:
    name, _, rest = text.partition(":")
    given = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{text!r}: {part!r} is not option=value")
        given[key] = value
    return name, given


def _known(word: str, name: str, registry: Mapping[str, Any]) -> Any:
    if name not in registry:
        raise ValueError(f"{word} {name!r} is not one of {', '.join(registry)}")
    return registry[name]


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


def _options(
    what: str, given: dict[str, str], hints: dict[str, Any], known: dict[str, Any]
) -> dict[str, Any]:
    settable = _settable(known, hints)
    for name in given:
        if name not in known:
            listed = ", ".join(settable) or "none"
            raise ValueError(f"{what} has no option {name!r}; it has {listed}")
        if name not in settable:
            raise ValueError(f"{what}: {name} takes no text; set it from Python")
    for name, default in known.items():
        if default is dataclasses.MISSING and name not in given:
            raise ValueError(f"{what} needs the option {name!r}")
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
