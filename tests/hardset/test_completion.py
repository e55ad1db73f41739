"""A shell completes packages, commands, presets, options and choices."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hardset.__main__ import COMMANDS, PACKAGES
from hardset.cli import run

# Completes each line's last word, as bash does at a TAB.
ASK = """
source "$1"
while IFS= read -r line; do
    eval "COMP_WORDS=($line)"
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    $(complete -p hardset | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
    echo "${COMPREPLY[*]}" | tr '\\n' ' '
    echo
done
"""
LINES = {
    "hardset ''": {*COMMANDS, *PACKAGES},
    "hardset rep": {"replica"},
    "hardset replica ''": {
        "solve",
        "optimal",
        "optimal-lam",
        "frontier",
        "lossless",
        "separability",
    },
    "hardset replica solve --al": {"--alpha-total", "--alpha-probe"},
    "hardset replica solve --alpha-total 5 --keep-fraction .1 --prob": {"--probe"},
    "hardset replica solve --probe in": {"independent", "in-sample"},
    "hardset sims run --preset published-n2": {"published-n200"},
    "hardset verify some/path --js": {"--json"},
    "hardset verify --compil": {"--compilation-cache"},
    "hardset completion z": {"zsh"},
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What `hardset completion` prints, by shell."""
    folder = tmp_path_factory.mktemp("completion")
    found = {}
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [sys.executable, "-m", "hardset", "completion", shell],
            capture_output=True,
            text=True,
            check=True,
        )
        found[shell] = folder / shell
        found[shell].write_text(done.stdout)
    return found


def test_bash_completes(scripts: dict[str, Path]) -> None:
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", str(scripts["bash"])],
        input="\n".join(LINES) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    answers = [set(line.split()) - {"-h", "--help"} for line in done.stdout.splitlines()]
    assert dict(zip(LINES, answers, strict=True)) == LINES


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_know_the_same(shell: str, scripts: dict[str, Path]) -> None:
    script = scripts[shell].read_text()
    for words in LINES.values():
        for word in words:
            assert f"'{word}'" in script, word
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n", str(scripts[shell])], check=True)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from hardset.__main__ import main

    assert run(main, ["completion", "tcsh"]) == 2
    assert "SHELL = 'tcsh' is not one of bash, zsh, fish" in capsys.readouterr().err
