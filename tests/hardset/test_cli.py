"""Commands as typed functions: what is understood, what is refused, what the help says."""

import importlib
import inspect
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from hardset.__main__ import COMMANDS, PACKAGES
from hardset.cli import (
    Choice,
    Json,
    Option,
    Preset,
    Progress,
    call,
    load,
    more_help,
    parameters,
    run,
    understood,
)

HEARD: list[dict[str, Any]] = []


@dataclass(frozen=True)
class Model:
    """A model.

    Attributes:
        depth: number of layers.
        rate: share of units that are dropped.
    """

    depth: int = 3
    rate: float | None = 0.5

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth = {self.depth} is outside the valid range [1, inf)")


@dataclass(frozen=True)
class Config:
    """A run.

    Attributes:
        steps: number of steps.
        flip: whether images are mirrored.
        kind: which optimiser.
        model: what is trained.
        sizes: of images.
        mean: of the colours.
        where: a folder.
    """

    steps: int = 10
    flip: bool = True
    kind: Literal["sgd", "adam"] = "sgd"
    model: Model = Model()
    sizes: tuple[int, ...] = (1, 2)
    mean: tuple[float, float] = (0.1, 0.2)
    where: Path | None = None


PRESETS = {"small": Config(), "large": Config(steps=1000, model=Model(depth=9))}


def draw(
    run: Path,
    *,
    method: Annotated[str, Choice(("hard", "easy"))] = "hard",
    keep_fraction: tuple[float, ...] | None = None,
    storage: Literal["pixels", "bytes"] = "pixels",
    seed: int = 0,
    lo: float | None = None,
    out: Path | None = None,
    formats: tuple[Literal["png", "pdf"], ...] = ("png",),
    every: Annotated[bool, Option("all")] = False,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Draw a picture.

    These lines are
    one paragraph.

      a table   stands
      as        it is

    Args:
        run: folder of
            the run.
        method: what is kept.
        keep_fraction: shares.
        storage: shares of what.
        seed: of the draws.
        lo: start.
        out: file to write.
        formats: of pictures.
        every: draw all.

    Returns:
        The exit code.

    Examples:
        python -m draw runs/1 --method easy
    """
    HEARD.append(locals())
    return 7


def train(
    data: Path,
    config: Annotated[Config, Preset(PRESETS)],
    *,
    out: Path,
    progress: Progress = False,
) -> int:
    """Train a model.

    Args:
        data: folder of images.
        config: what is trained.
        out: folder of the run.
    """
    HEARD.append(locals())
    return 0


@more_help(lambda: "files:\n  of two kinds")
def check(paths: tuple[Path, ...], *, as_json: Json = False) -> int:
    """Check files.

    Args:
        paths: files.
    """
    HEARD.append(locals())
    return 0


def heard(command: Callable[..., int], line: str) -> dict[str, Any]:
    HEARD.clear()
    call(command, shlex.split(line), "prog")
    return HEARD.pop()


def refusal(command: Callable[..., int], line: str, capsys: pytest.CaptureFixture[str]) -> str:
    HEARD.clear()
    assert run(partial(call, command, program="prog"), shlex.split(line)) == 2
    out, error = capsys.readouterr()
    assert out == "" and not HEARD
    assert error.startswith("error: ") and error.count("\n") == 1
    return error.removeprefix("error: ").strip()


def test_a_function_hears_what_the_line_says() -> None:
    line = "r --keep-fraction 5,1e-3 -0.5 --lo -.5 --formats png pdf --all --json --seed=3"
    assert heard(draw, line) == {
        "run": Path("r"),
        "method": "hard",
        "keep_fraction": (5.0, 1e-3, -0.5),
        "storage": "pixels",
        "seed": 3,
        "lo": -0.5,
        "out": None,
        "formats": ("png", "pdf"),
        "every": True,
        "progress": False,
        "as_json": True,
    }
    assert heard(draw, "--keep-fraction .1 .2 --seed 1 r")["keep_fraction"] == (0.1, 0.2)
    assert heard(draw, "--out=-x --progress r")["out"] == Path("-x")
    assert heard(check, "--json -- a -c")["paths"] == (Path("a"), Path("-c"))
    assert call(draw, ["r"], "prog") == 7


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "RUN is missing"),
        ("r --keep-fraction", "--keep-fraction: an empty list; give at least one"),
        ("r --keep-fraction ,", "--keep-fraction: an empty list; give at least one"),
        ("r --keep-fraction 1 five", "--keep-fraction: 'five' is not a number"),
        ("r --method soft", "--method = 'soft' is not one of hard, easy"),
        ("r --formats png gif", "--formats = 'gif' is not one of png, pdf"),
        ("r --lo", "--lo needs a value"),
        ("r --lo five", "--lo: 'five' is not a number"),
        ("r --seed 1.5", "--seed: '1.5' is not an integer"),
        ("r --out=", "--out: an empty path; name a file or a folder"),
        ("''", "RUN: an empty path; name a file or a folder"),
        ("r --keep-frac 1", "unknown option --keep-frac; did you mean --keep-fraction?"),
        ("r --f 1", "unknown option --f; it is called --keep-fraction now"),
        ("r --g 1", "unknown option --g"),
        ("r --staroge bytes", "unknown option --staroge; did you mean --storage?"),
        ("--unheard", "unknown option --unheard"),
        ("r --every", "unknown option --every; did you mean --seed?"),
        ("r s", "unexpected argument 's'"),
        ("r --json=3", "unexpected argument '3'"),
        ("--tyro-print-completion bash", "unknown option --tyro-print-completion"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(draw, line, capsys) == f"{sentence} (see prog --help)"


def test_every_field_of_a_preset_is_an_option() -> None:
    line = "x large --out y --steps 5 --no-flip --sizes 3,4 --mean 1 2 --model.rate None --where z"
    found = heard(train, line)
    assert (found["data"], found["out"]) == (Path("x"), Path("y"))
    model = Model(depth=9, rate=None)
    expected = Config(5, False, "sgd", model, (3, 4), (1.0, 2.0), Path("z"))
    assert found["config"] == expected
    assert heard(train, "x small --out y")["config"] == Config()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("x", "the data and the preset must come first: prog DATA PRESET (see prog --help)"),
        (
            "x --out y",
            "the data and the preset must come first: prog DATA PRESET (see prog --help)",
        ),
        ("x tiny", "preset = 'tiny' is not one of small, large (see prog --help)"),
        ("'' small", "DATA: an empty path; name a file or a folder (see prog --help)"),
        ("x small", "--out is missing (see prog x small --help)"),
        (
            "x small --out y --model.depth 0",
            "model.depth = 0 is outside the valid range [1, inf) (see prog x small --help)",
        ),
        (
            "x small --out y --model.dept 0",
            "unknown option --model.dept; did you mean --model.depth? (see prog x small --help)",
        ),
        (
            "x small --out y --model.rate a",
            "--model.rate: 'a' is not a number (see prog x small --help)",
        ),
        ("x small --out y --where=", "--where: an empty path; name a file or a folder (see prog x"),
        ("x small --out y --no-flip --mean 1", "--mean needs 2 values (see prog x small --help)"),
    ],
)
def test_what_is_wrong_with_a_preset_is_one_sentence(
    line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(train, line, capsys).startswith(sentence)


def helped(command: Callable[..., int], line: str, capsys: pytest.CaptureFixture[str]) -> str:
    HEARD.clear()
    assert call(command, shlex.split(line), "prog") == 0
    assert not HEARD
    return capsys.readouterr().out


def test_help_is_the_docstring(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    page = helped(draw, "r --help", capsys)
    assert "Draw a picture.\n\nThese lines are one paragraph.\n\n  a table   stands\n" in page
    for part in (
        r"RUN +folder of the run\. \(required\)",
        r"--method \{hard,easy\}\s+what is kept\. \(default: hard\)",
        r"--all +draw all\.\n",
        r"--json +print JSON\n",
        r"--keep-fraction NUMBER \.\.\.\s+shares\.\n",
        r"\nexamples:\n  python -m draw runs/1 --method easy\n",
        r"\n  --compilation-cache DIR ",
    ):
        assert re.search(part, page), part
    assert "Returns" not in page and "exit code" not in page
    page = helped(check, "-h", capsys)
    assert "files:\n  of two kinds\n" in page
    assert re.search(r"PATHS +\S.*\(required\)", page)


def test_help_of_a_preset_has_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("", "--help", "x --help"):
        page = helped(train, line, capsys)
        assert "usage: prog DATA PRESET" in page
        assert "PRESET is one of small, large." in page
        assert "--out" in page and "--steps" not in page
    page = helped(train, "x large --help", capsys)
    assert re.search(r"--steps INTEGER +number of steps\. \(default: 1000\)", page)
    assert re.search(r"--model.depth INTEGER\s+number of layers\. \(default: 9\)", page)


def every_command() -> list[Any]:
    """Name and function of every command of every package."""
    tables: dict[str, Any] = {"hardset": COMMANDS}
    for name in PACKAGES:
        tables[name] = importlib.import_module(f"{name}.__main__").COMMANDS
    return [
        pytest.param(f"{package} {name}".strip(), load(target), id=f"{package} {name}".strip())
        for package, table in tables.items()
        for name, target in ({"": table} if isinstance(table, str) else table).items()
    ]


@pytest.mark.parametrize(("line", "command"), every_command())
def test_every_option_has_a_help_text(line: str, command: Callable[..., int]) -> None:
    assert [one.name for one in parameters(command) if not one.help] == []
    assert (inspect.getdoc(command) or "").splitlines()[0].endswith(".")


@pytest.mark.parametrize(("line", "command"), every_command())
def test_every_example_is_understood(line: str, command: Callable[..., int]) -> None:
    examples = (inspect.getdoc(command) or "").partition("Examples:\n")[2]
    lines = re.findall(rf"(?:python -m |\b){line} (.*)", examples.replace("\\\n", " "))
    for arguments in lines:
        words = shlex.split(arguments.partition(" > ")[0].rstrip(")"))
        assert understood(command, words, line) is not None
