"""Methods as text: what the help lists is what text can set."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from selection.methods.wrappers import Wrapper
from selection.pool import Scores
from selection.registry import (
    METHOD_NAMES,
    SCORE_NAMES,
    SCORES,
    SELECTORS,
    Named,
    arrays_of_score,
    describe_methods,
    parse_method,
)
from selection.selector import Selector


def named(what: Any, needs: str, may: str, options: dict[str, Any]) -> Named:
    """What help should say of a class or a function, by its own signature."""

    def can_be_text(name: str) -> bool:
        hint = get_type_hints(what)[name]
        members = (hint,) if get_origin(hint) is Literal else (hint, *get_args(hint))
        return any(one in (int, float, str, bool) or get_origin(one) is Literal for one in members)

    said = " ".join(
        name if value is dataclasses.MISSING else f"{name}={value}"
        for name, value in options.items()
        if can_be_text(name)
    )
    rest = " ".join(name for name in options if not can_be_text(name))
    return Named(f"{what.__module__}:{what.__name__}", needs, may, said, rest)


def named_method(kind: type[Selector]) -> Named:
    options = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return named(kind, " ".join(sorted(kind.needs)), "", options)


def named_score(function: Callable[..., Scores]) -> Named:
    needs, may = (" ".join(arrays_of_score(function, optional=one)) for one in (False, True))
    options = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return named(function, needs, may, options)


def methods(kind: type[Selector] = Selector) -> set[str]:
    """Names of all methods but of wrappers, which are not named on the command line."""
    found = {one for child in kind.__subclasses__() for one in methods(child)}
    inside = kind.__module__.startswith("selection.methods.")
    if inside and not issubclass(kind, Wrapper):
        found.add(kind.name)
    return found


def test_the_names_say_what_the_methods_and_scores_take() -> None:
    """The tables that help is made of, against the classes and functions themselves."""
    assert {name: named_method(kind) for name, kind in SELECTORS.items()} == METHOD_NAMES
    assert {name: named_score(function) for name, function in SCORES.items()} == SCORE_NAMES
    assert list(METHOD_NAMES) == [kind.name for kind in SELECTORS.values()]
    assert set(METHOD_NAMES) == methods()
    assert len(SELECTORS) == len(METHOD_NAMES) and len(SCORES) == len(SCORE_NAMES)


def test_every_listed_option_can_be_set() -> None:
    for line in describe_methods().splitlines():
        name, *options = line.split()
        required = ["alpha_total=4"] if "alpha_total" in options else []
        defaults = [one for one in options if "=" in one] + required
        assert parse_method(f"{name}:{','.join(defaults)}") == parse_method(
            f"{name}:{','.join(required)}"
        )
    for name in ("curvature", "layer", "validation=", "targets"):
        assert name not in describe_methods()
    sentence = "method 'glister': layer takes no text; set it from Python"
    with pytest.raises(ValueError, match=sentence):
        parse_method("glister:layer=1")
    with pytest.raises(ValueError, match=r"it has mode, neighbours, per_class, damping$"):
        parse_method("adacore:curve=1")
