"""The command line's exit codes and sentences."""

import json
from pathlib import Path

import numpy as np
import pytest

from sims.__main__ import main
from theory.command_line import run

POINT = ["run", "--alpha-total", "5", "--keep-fraction", "0.5"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run", "--alpha-total", "5", "--keep-fraction", "0"], "keep_fraction"),
        (["run", "--alpha-total", "5", "--keep-fraction", "1.5"], "keep_fraction"),
        (["run", "--alpha-total", "0", "--keep-fraction", "0.5"], "alpha_total"),
        (["run", "--alpha-total", "nan", "--keep-fraction", "0.5"], "alpha_total"),
        (["run", "--alpha-total", "5", "--keep-fraction", "0.001", "--dim", "30"], "is below 1"),
        (["run", "--keep-fraction", "0.5"], "--alpha-total"),
        ([*POINT, "--theta-deg", "91"], "theta_deg"),
        ([*POINT, "--policy", "best"], "best"),
        ([*POINT, "--policy", "window"], "--lo"),
        ([*POINT, "--redundancy", "1.5"], "redundancy"),
        ([*POINT, "--dim", "1"], "dim"),
        ([*POINT, "--draws", "0"], "draws"),
        ([*POINT, "--seed", "-1"], "seed"),
        ([*POINT, "--memory-gb", "0"], "memory_gb"),
        ([*POINT, "--probe", "independent"], "--alpha-probe"),
        ([*POINT, "--dim", "many"], "many"),
        (["solve", "--features", "absent.npy", "--labels", "absent.npy"], "absent.npy"),
        (["verify", "--preset", "slow"], "slow"),
        ([], "run"),
    ],
)
def test_errors_are_one_sentence(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(main, arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert part in captured.err
    assert captured.err.count("\n") == 1


def test_solve_reports_what_is_not_separable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, labels = tmp_path / "X.npy", tmp_path / "y.npy"
    np.save(features, np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))
    np.save(labels, np.array([1, 1, 1]))
    out = tmp_path / "w.npy"
    arguments = ["--features", str(features), "--labels", str(labels), "--out", str(out)]
    assert run(main, ["solve", *arguments, "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "not_separable"
    # The first two rows are opposite: equal weights make them vanish.
    assert report["farkas_certificate"]["indices"] == [0, 1]
    assert np.allclose(report["farkas_certificate"]["duals"], 0.5, rtol=0, atol=1e-12)
    assert not out.exists()
