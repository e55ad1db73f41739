"""Every option of every command has a help text."""

import argparse
import re
from importlib import import_module
from itertools import pairwise

import pytest

# Command lines, as they are typed after `python -m`; a new one joins the list.
LINES = [
    "figures",
    "hardset verify",
    *(f"pretrain_jax {name}" for name in ("propose", "reconstruct", "report")),
    *(f"pretrain_jax {name}" for name in ("score", "select", "synthesise")),
    *(f"replica {name}" for name in ("frontier", "lossless", "optimal", "solve")),
    *(f"selection {name}" for name in ("compare", "coverage", "experiment", "knee")),
    *(f"selection {name}" for name in ("recommend", "score", "select")),
    *(f"sims {name}" for name in ("run", "solve", "verify")),
]


def without_text(page: str) -> list[str]:
    """Options and arguments of argparse's help page that are named and not explained.

    An explanation stands two spaces behind the name, or on the next line, indented.
    """
    found, inside = [], False
    lines = [*page.splitlines(), ""]
    for line, following in pairwise(lines):
        if re.match(r"\S.*:$", line):
            inside = line.endswith(("options:", "arguments:"))
        if inside and re.match(r"  \S", line):
            explained = re.match(r"  \S.*?  +\S", line) or re.match(r" {5,}\S", following)
            if not explained:
                found.append(line.strip())
    return found


@pytest.mark.parametrize("line", LINES)
def test_every_option_has_a_help_text(line: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    package, *command = line.split()
    with pytest.raises(SystemExit) as stopped:
        import_module(f"{package}.__main__").main([*command, "--help"])
    assert stopped.value.code == 0
    page = capsys.readouterr().out
    assert "options:" in page
    assert without_text(page) == []


def test_an_option_without_help_is_found(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    parser = argparse.ArgumentParser(prog="p")
    parser.add_argument("place", help="says where")
    parser.add_argument("--mute", metavar="M")
    parser.add_argument("--told", help="says what it does")
    parser.add_argument("--a-name-longer-than-the-column-of-names", help="says it a line below")
    assert without_text(parser.format_help()) == ["--mute M"]
