"""What commands load: libraries that cost tenths of a second are loaded by those that use them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from figures import FIGURES
from hardset.__main__ import COMMANDS, PACKAGES
from hardset.datafile import parameters_of, write_dataset
from tests.figures.synthetic import curves, described

SLOW = ("jax", "scipy", "xarray", "pandas", "matplotlib", "pyarrow", "sklearn")
# Runs a command line and prints which of the slow libraries it has loaded.
PROGRAM = f"""
import contextlib, io, sys
from hardset.__main__ import main
from hardset.cli import run
said = io.StringIO()
with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    try:
        code = run(main, sys.argv[1:])
    except SystemExit as stopped:
        code = stopped.code or 0
print(code, *sorted(set({SLOW!r}) & set(sys.modules)))
"""
# Imports the modules that draw, and prints which of the slow libraries are loaded.
DRAWING = f"""
import sys
from figures.registry import FIGURES
for spec in FIGURES.values():
    spec.drawing
print(*sorted(set({SLOW!r}) & set(sys.modules)))
"""
HELP = [[name, "--help"] for name in (*COMMANDS, *PACKAGES)]
SOLVE = ["replica", "solve", "--alpha-total", "5", "--keep-fraction"]


def loaded(*arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command line, and the slow libraries that it loads."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    )
    code, *names = done.stdout.split()
    return int(code), set(names)


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], *HELP, ["completion", "bash"], ["figures", "--list"]]
)
def test_words_about_commands_load_nothing_slow(arguments: list[str]) -> None:
    assert loaded(*arguments) == (0, set())


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["completion", "tcsh"],
        [*SOLVE, "2"],
        ["replica", "optimal", "--alpha-total", "-1"],
        ["figures", "nothing"],
    ],
)
def test_wrong_arguments_load_nothing_slow(arguments: list[str]) -> None:
    assert loaded(*arguments) == (2, set())


def test_a_solution_needs_jax_alone() -> None:
    assert loaded(*SOLVE, ".35") == (0, {"jax"})


def test_a_separator_needs_no_tables(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((6, 3))
    np.save(tmp_path / "x.npy", rows)
    np.save(tmp_path / "y.npy", np.where(rows[:, 0] > 0, 1, -1))
    files = {"features": "x.npy", "labels": "y.npy", "out": "direction.npy"}
    options = (f"--{name}={tmp_path / file}" for name, file in files.items())
    code, names = loaded("sims", "solve", *options)
    assert code == 0
    assert not {"xarray", "pandas", "pyarrow", "matplotlib", "sklearn"} & names


def test_a_data_file_is_drawn_without_jax(tmp_path: Path) -> None:
    spec = FIGURES["angle"]
    errors = np.full((1, 2, 3), 0.1)
    dataset = described("angle", curves(errors, theta_deg=[10.0]), theta_deg=(10.0,))
    data = tmp_path / "angle.nc"
    write_dataset(dataset, data, kind=spec.kind, parameters=parameters_of(dataset))
    code, names = loaded("figures", "angle", "--from-data", str(data), "--out", str(tmp_path))
    assert code == 0 and (tmp_path / "angle.pdf").exists()
    assert not {"jax", "sklearn"} & names


def test_no_figure_is_drawn_by_a_module_that_loads_jax() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRAWING], capture_output=True, text=True, check=True
    )
    assert not {"jax", "sklearn"} & set(done.stdout.split())
