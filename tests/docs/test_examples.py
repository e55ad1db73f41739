"""The examples of README.md and of the documentation run as they are printed."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from hardset.cli import run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
COMMANDS = [
    pytest.param(line.removeprefix("$ "), id=f"{page.stem}: {line[2:]}")
    for page in PAGES
    for block in blocks(page, "console")
    for line in block.splitlines()
    if line.startswith("$ ")
]


def test_there_are_examples() -> None:
    assert ROOT / "README.md" in WITH_PYTHON
    assert len(COMMANDS) >= 3


# pycocotools 2.0.11 has arrays of its own that do not know numpy 2's keyword `copy`.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_python(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, top to bottom, in one session."""
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), session)


@pytest.mark.parametrize("command", COMMANDS)
def test_command(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Commands shown with a prompt succeed and print something."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)
    # `hardset ...` is the console command; `python -m PACKAGE ...` does the same.
    package, arguments = ("hardset", words[1:]) if words[0] == "hardset" else (words[2], words[3:])
    assert words[0] == "hardset" or words[:2] == ["python", "-m"]
    assert run(importlib.import_module(f"{package}.__main__").main, arguments) == 0
    assert capsys.readouterr().out
