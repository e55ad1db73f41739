"""The scaling table: its fit against powers that are known, its growth, two fast commands."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import scaling
from benchmarks.scaling import MOST, Command, Run, exponent, line, scale

MADE_UP = Command("a command", "rows", 1, 100, lambda folder, rows: [])


@pytest.mark.parametrize("power", [0.5, 1.0, 1.7, 2.0])
def test_exponent_of_a_power(power: float) -> None:
    rows = [100, 400, 1600]
    assert exponent(rows, [3e-4 * n**power for n in rows]) == pytest.approx(power, rel=1e-12)


def test_exponent_is_a_fit_in_logarithms() -> None:
    """Against the normal equations of least squares."""
    rows, seconds = np.array([10, 40, 160]), np.array([1.0, 5.0, 15.0])
    x, y = np.log(rows), np.log(seconds)
    slope = np.sum((x - x.mean()) * (y - y.mean())) / np.sum((x - x.mean()) ** 2)
    assert exponent(rows.tolist(), seconds.tolist()) == pytest.approx(slope, rel=1e-12)
    assert np.isnan(exponent([10, 40], [0.0, 1.0])) and np.isnan(exponent([10], [1.0]))


def test_start_up_is_subtracted_and_outgrown() -> None:
    """2 s of start-up and 1 ms a row: 16 n has to be 18,000 rows at least."""

    def measured(command: Command, rows: int) -> Run:
        return Run(2.0 + 1e-3 * (rows - 1), 1000 * rows)

    row = scale(MADE_UP, 1e9, measured)
    assert row.start_up == 2.0
    assert row.sizes == [1600, 6400, 25_600]
    assert row.seconds[-1] >= 10 * row.start_up > row.seconds[-2]
    assert row.exponent == pytest.approx(1.0, abs=1e-3)
    assert row.peak == 25_600_000 and row.trouble == ""
    assert "**>**" not in line(row)


def test_command_that_grows_too_fast_is_marked() -> None:
    row = scale(MADE_UP, 1e9, lambda command, rows: Run(0.1 + 1e-4 * rows**1.3, 1))
    assert row.exponent > MOST
    assert "1.3" in line(row) and "**>**" in line(row)


def test_table_says_where_sizes_did_not_suffice() -> None:
    few = MADE_UP._replace(most=500)
    row = scale(few, 1e9, lambda command, rows: Run(2.0 + 1e-3 * rows, 1))
    assert row.sizes == [100, 400]
    assert "500 rows are all that it takes" in row.trouble
    assert "400 rows take only 1.2 times the start-up" in row.trouble
    late = scale(MADE_UP, 0.0, lambda command, rows: Run(2.0 + 1e-3 * rows, 1))
    assert late.sizes == [100] and "the time was up" in late.trouble
    assert "| - |" in line(late)


def test_command_that_fails_is_a_line() -> None:
    broken = MADE_UP._replace(prepare=lambda folder, rows: ["replica", "solve", "--no-such"])
    row = scale(broken, 60)
    assert row.sizes == [] and row.trouble.startswith("exit code 2: ")
    assert "--no-such" in line(row)


def test_fast_commands_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through their command lines; a minute for both is far above what they need."""
    out = tmp_path / "scaling.json"
    (hard,) = (c for c in scaling.COMMANDS if c.name == "selection select hard")
    row = scale(hard._replace(first=20), 0.0)
    assert row.sizes == [20] and 0 < row.seconds[0] < 60 and row.peak > 2**24
    assert (
        scaling.main(["--commands", "selection score", "--minutes", "0.001", "--out", str(out)])
        == 0
    )
    shown = capsys.readouterr().out
    assert "| selection score | examples | 262144 |" in shown
    (stored,) = json.loads(out.read_text())
    assert stored["command"] == "selection score" and stored["sizes"] == [1 << 18]
    assert stored["exponent"] is None  # one size has no slope


def test_every_command_is_there() -> None:
    """The commands that the packages' helps list; `sims verify` has plans instead of rows."""
    named = {" ".join(command.name.split()[:2]) for command in scaling.COMMANDS}
    wanted = {
        "replica": "solve optimal optimal-lam frontier lossless separability",
        "sims": "run solve",
        "selection": "score select recommend compare experiment knee coverage",
        "pretrain_jax": "propose score select synthesise probe pretrain run finetune report "
        "reconstruct pipeline import-dicom import-nifti",
        "hardset": "verify",
    }
    assert {
        f"{package} {name}" for package, all_ in wanted.items() for name in all_.split()
    } <= named
    assert "sims verify" in scaling.NO_SIZE
    assert any(name.startswith("figures ") for name in named)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--minutes", "0"], "--minutes 0 is not above 0"),
        (["--commands", "no such"], "--commands 'no such' is part of none of: replica solve"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        scaling.main(arguments)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
