"""Every option of every command has a help text."""

import argparse
from collections.abc import Callable, Iterator
from importlib import import_module

import pytest

# A package's parser of all its commands, "module:function without arguments".
PARSERS = ["selection.__main__:parser"]


def options_without_help(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Names of the options and arguments of a parser, and of its commands, that say nothing."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helped = {choice.dest for choice in action._choices_actions if choice.help}
            for name, command in action.choices.items():
                if name not in helped:
                    yield f"{parser.prog} {name}"
                yield from options_without_help(command)
        elif not (action.help or "").strip():
            yield f"{parser.prog} {'/'.join(action.option_strings) or action.dest}"


@pytest.mark.parametrize("place", PARSERS)
def test_every_option_has_a_help_text(place: str) -> None:
    module, _, name = place.partition(":")
    parser: Callable[[], argparse.ArgumentParser] = getattr(import_module(module), name)
    assert list(options_without_help(parser())) == []


def test_an_option_without_help_is_found() -> None:
    parser = argparse.ArgumentParser(prog="p")
    commands = parser.add_subparsers()
    one = commands.add_parser("one", help="does one thing")
    one.add_argument("--mute")
    one.add_argument("--told", help="says what it does")
    commands.add_parser("silent")
    assert list(options_without_help(parser)) == ["p one --mute", "p silent"]
