"""The command line: what it prints and writes, exit codes and sentences, kills and restarts."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hardset.cache
import sims
import sims.experiment
from hardset.arrays import load_array
from hardset.cli import run
from sims.__main__ import main
from sims.commands import VERIFICATIONS
from sims.maxmargin.lanes import SOLVERS
from sims.verification import PLANS
from theory.labels import Probit
from theory.policies import policy_from_name
from theory.problem import (
    CrossFitted,
    DownstreamShift,
    FixedAngle,
    Independent,
    InSample,
    PerceptronProblem,
)
from theory.students import ERM

POINT = ["run", "--alpha-total", "5", "--keep-fraction", "0.5"]
# 10 dimensions and 9 to 16 rows a solve: one shape for all tests of this file.
SMALL = ["run", "--dim", "10", "--draws", "3", "--alpha-total", "1.5"]


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
        ([*POINT, "--policy", "window"], "'lo'"),
        ([*POINT, "--redundancy", "1.5"], "redundancy"),
        ([*POINT, "--dim", "1"], "dim"),
        ([*POINT, "--draws", "0"], "draws"),
        ([*POINT, "--seed", "-1"], "seed"),
        ([*POINT, "--memory-gb", "0"], "memory_gb"),
        ([*POINT, "--probe", "independent"], "'alpha_probe'"),
        ([*POINT, "--alpha-probe", "2"], "'alpha_probe'"),
        ([*POINT, "--probe", "in-sample", "--theta-deg", "0"], "'theta_deg'"),
        ([*POINT, "--policy", "hard", "--lo", "0.1"], "lo"),
        ([*POINT, "--memory-gb", "1e-7"], "memory_gb"),
        ([*POINT, "--dim", "many"], "many"),
        ([*POINT, "--policy", "window", "--lo", "0.7"], "lo + keep_fraction"),
        ([*POINT, "--policy", "mixture", "--w", "2"], "w = 2"),
        ([*POINT, "--policy", "window", "--lo", "0.1", "--w", "0.5"], "'lo'"),
        ([*POINT, "--downstream-deg", "90"], "downstream_deg"),
        ([*POINT, "--probe", "independent", "--alpha-probe", "-1"], "alpha_probe"),
        ([*POINT, "--loss", "hinge"], "'lam'"),
        ([*POINT, "--lam", "0.1"], "lam has no effect without a loss"),
        ([*POINT, "--loss", "hinge", "--lam", "0"], "lam = 0 has no simulation"),
        ([*POINT, "--flip", "0.6"], "flip"),
        ([*POINT, "--noise-sigma", "1", "--noise-temperature", "1"], "two kinds of noise"),
        ([*POINT, "--probe", "cross-fitted"], "'folds'"),
        ([*POINT, "--probe", "cross-fitted", "--folds", "2.5"], "folds = 2.5"),
        ([*POINT, "--folds", "2"], "'folds'"),
        ([*POINT, "--devices", "0"], "devices"),
        ([*POINT, "--devices", "1", "--scheduler", "tcp://x:1"], "--scheduler"),
        ([*POINT, "--solver", "fast"], "fast"),
        ([*POINT, "--unknown", "1"], "--unknown"),
        ([*POINT, "--out", "/"], "is a folder"),
        ([*POINT, "--out", "/dev/null"], "is a device or a pipe"),
        ([*POINT, "--out", "n" * 300], "File name too long"),
        (["solve", "--features", "X.npy", "--labels", "y.npy", "--devices", "1"], "--devices"),
        (["verify", "--seed", "-1"], "seed"),
        (["verify", "--devices", "0"], "devices"),
        (["verify", "--dim", "30"], "--dim"),
        (["solve", "--features", "absent.npy", "--labels", "absent.npy"], "absent.npy"),
        (
            ["solve", "--features", "X.npy", "--labels", "y.npy", "--lam", "1"],
            "--lam needs a --loss",
        ),
        (["solve", "--features", "X.npy", "--labels", "y.npy", "--loss", "hinge"], "--lam must be"),
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


def test_losses_noise_and_folds_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    point = [
        *SMALL,
        "--keep-fraction",
        "1",
        "--theta-deg",
        "20",
        "--loss",
        "square",
        "--lam",
        "0.1",
    ]
    noise = ["--flip", "0.1", "--noise-sigma", "0.5"]
    folds = ["--probe", "cross-fitted", "--folds", "3", "--folds-overlap", "0.1"]
    assert run(main, [*point, *noise, *folds, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    problem = PerceptronProblem(
        1.5,
        1.0,
        CrossFitted.degrees(20, 3, 0.1),
        student=ERM("square", 0.1),
        labels=Probit(0.5, 0.1),
    )
    found = sims.run(problem, 10, 3)
    (one,) = answer["points"]
    assert one["margin_mean"] is None
    for name in ("error", "norm", "weight_norm2", "training_loss", "training_error"):
        assert one[f"{name}_mean"] == float(found[f"{name}_mean"])
    asked = {"theta_deg": 20, "folds": 3, "folds_overlap": 0.1, "lam": 0.1, "flip": 0.1}
    assert {name: one[name] for name in asked} == asked
    assert answer["loss"] == "square"


def test_starts_without_what_computes() -> None:
    """`--help` and a wrong argument import neither JAX nor SciPy nor xarray."""
    code = (
        "import sys; from hardset.cli import run; from sims.__main__ import main\n"
        "try: run(main, sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*{'jax', 'xarray', 'scipy', 'cvxpy', 'pandas', 'tqdm'} & set(sys.modules))"
    )
    for arguments in (
        ["--help"],
        ["run", "--help"],
        [*POINT, "--dim", "1"],
        [*POINT, "--out", "/dev/null"],
        [*POINT, "--out", "/dev/null/x.nc"],
        [*POINT, "--cache", "/dev/null/parts"],
        ["solve"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == ""


def test_the_names_of_the_verifications_are_those_of_their_plans() -> None:
    assert tuple(PLANS) == VERIFICATIONS


def test_a_faster_process_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same run is as good; of another one nothing is replaced, and this one is printed."""
    simulate, arguments = sims.experiment.run, [*SMALL, "--keep-fraction", "0.8"]
    assert run(main, arguments) == 0
    table = capsys.readouterr().out
    for seed, code, words in (("0", 0, "holds this run already"), ("1", 2, "seed = 1, not 0")):
        out = tmp_path / f"{seed}.nc"

        def overtaken(*given: Any, out: Path = out, seed: str = seed, **options: Any) -> Any:
            monkeypatch.setattr(sims.experiment, "run", simulate)
            assert run(main, [*arguments, "--seed", seed, "--out", str(out)]) == 0
            capsys.readouterr()
            return simulate(*given, **options)

        monkeypatch.setattr(sims.experiment, "run", overtaken)
        assert run(main, [*arguments, "--out", str(out)]) == code
        printed = capsys.readouterr()
        assert printed.out == table
        assert words in printed.err and str(out) in printed.err
        with xr.open_dataset(out, engine="h5netcdf") as dataset:
            assert dataset.attrs["seed"] == int(seed)


def test_a_result_that_cannot_be_written_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk is full when the work is done."""
    simulate, arguments = sims.experiment.run, [*SMALL, "--keep-fraction", "0.8"]
    out = tmp_path / "students.nc"
    assert run(main, arguments) == 0
    table = capsys.readouterr().out

    def full(*given: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fills_the_disk(*given: Any, **options: Any) -> Any:
        dataset = simulate(*given, **options)
        monkeypatch.setattr(os, "fsync", full)
        return dataset

    monkeypatch.setattr(sims.experiment, "run", fills_the_disk)
    assert run(main, [*arguments, "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.out == table
    assert printed.err.count("\n") == 1
    assert f"the result above was not saved: {out}: No space left on device" in printed.err
    assert not list(tmp_path.iterdir())


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


def points_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The points that a successful `run --json` prints."""
    assert run(main, [*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["points"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--keep-fraction", "0.8"], {}),
        (["--keep-fraction", "1", "0.8"], {"keep_fraction": [1.0, 0.8]}),
        (["--theta-deg", "20", "--policy", "easy"], {"probe": 20.0, "policy": "easy"}),
        (["--policy", "window", "--lo", "0.1"], {"policy": ("window", "lo", 0.1)}),
        (["--policy", "mixture", "--w", "0.5"], {"policy": ("mixture", "w", 0.5)}),
        (["--probe", "in-sample"], {"probe": InSample()}),
        (["--probe", "in-sample", "--keep-fraction", "0.9,0.8"],
         {"probe": InSample(), "keep_fraction": [0.9, 0.8]}),
        (["--probe", "in-sample", "--redundancy", "1,2", "--alpha-total", "1.6"],
         {"probe": InSample(), "redundancy": [1.0, 2.0], "alpha_total": 1.6}),
        (["--probe", "independent", "--alpha-probe", "1.2"], {"probe": Independent(1.2)}),
        (["--downstream-deg", "20", "--overlap", "pearson"], {"downstream": 20.0}),
    ],
)  # fmt: skip
def test_points_are_those_of_the_library(
    arguments: list[str], problem: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    fraction = [] if "--keep-fraction" in arguments else ["--keep-fraction", "0.8"]
    points = points_of([*SMALL, *fraction, *arguments], capsys)
    probe, policy = problem.get("probe", 0.0), problem.get("policy", "hard")
    name, *own = (policy,) if isinstance(policy, str) else policy
    shape = {key: problem[key] for key in ("keep_fraction", "redundancy") if key in problem}
    shape = {"keep_fraction": 0.8} | {key: np.array(value) for key, value in shape.items()}
    expected = sims.run(
        PerceptronProblem(
            problem.get("alpha_total", 1.5),
            **shape,
            probe=FixedAngle.degrees(probe) if isinstance(probe, float) else probe,
            policy=policy_from_name(name, **dict([own] if own else [])),
            downstream=DownstreamShift.degrees(problem.get("downstream", 0.0)),
        ),
        10,
        3,
        overlap="pearson" if "pearson" in arguments else "cosine",
    )
    assert len(points) == expected["error_mean"].size
    for key in ("error_mean", "error_stderr", "overlap_mean", "margin_mean", "solved"):
        assert [point[key] for point in points] == np.ravel(expected[key]).tolist()
    angles = np.round(np.rad2deg(np.ravel(expected["theta_mean"])), 12)
    assert [point["theta_deg_mean"] for point in points] == angles.tolist()
    for key, values in shape.items():
        values = np.broadcast_to(values, expected["error_mean"].shape)
        assert [point[key] for point in points] == np.ravel(values).tolist()
    assert ("theta_deg" in points[0]) == isinstance(probe, float)
    assert points[0]["downstream_deg"] == problem.get("downstream", 0.0)


def test_text_has_a_line_a_point(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMALL, "--keep-fraction", "0.8,1"]
    assert run(main, arguments) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    points = points_of(arguments, capsys)
    column = heading.split().index("error")
    shown = [float(line.split()[column]) for line in lines]
    assert np.allclose(shown, [point["error_mean"] for point in points], rtol=0, atol=5e-7)
    assert {len(line) for line in lines} == {len(heading)}
    # One draw has no standard error.
    assert run(main, [*arguments, "--draws", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[column + 1] == "-"


def test_failed_students_end_with_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    solve = SOLVERS["native"]
    monkeypatch.setitem(
        SOLVERS, "native", lambda problems: [one._replace(status=2) for one in solve(problems)]
    )
    assert run(main, [*SMALL, "--keep-fraction", "0.8"]) == 1
    assert capsys.readouterr().out.endswith("0  3 failed\n")


def test_solvers_and_memory_limits_agree(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMALL, "--keep-fraction", "0.8"]
    (native,) = points_of(arguments, capsys)
    (reference,) = points_of([*arguments, "--solver", "cvxpy"], capsys)
    assert abs(native["overlap_mean"] - reference["overlap_mean"]) < 1e-7
    (narrow,) = points_of([*arguments, "--memory-gb", "1e-3"], capsys)
    assert narrow == native


def test_presets_fill_in_what_is_not_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def simulate(problem: PerceptronProblem, dim: int, draws: int, *_: int, **__: Any) -> None:
        asked.append((problem, dim, draws))
        raise ValueError("far enough")

    monkeypatch.setattr(sims.experiment, "run", simulate)
    assert run(main, ["run", "--preset", "published-n30", "--draws", "7"]) == 2
    capsys.readouterr()
    ((problem, dim, draws),) = asked
    assert (dim, draws) == (30, 7)
    assert problem.dims == ("alpha_total", "keep_fraction", "theta", "redundancy")
    assert problem.shape == (5, 12, 3, 1)
    assert np.ravel(problem.alpha_total).tolist() == [5, 10, 20, 50, 100]
    assert np.allclose(np.ravel(problem.keep_fraction), np.logspace(-2, 0, 12), rtol=1e-12)
    assert np.allclose(np.rad2deg(np.ravel(problem.probe.theta)), [0, 10, 20], rtol=1e-12)


def test_files_are_written_once_and_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "students.nc"
    arguments = [*SMALL, "--keep-fraction", "0.8", "--out", str(out)]
    assert run(main, arguments) == 0
    printed, content = capsys.readouterr().out, out.read_bytes()
    with xr.open_dataset(out, engine="h5netcdf") as dataset:
        assert dataset["error"].shape == (1, 1, 1, 1, 3)
        assert json.loads(dataset.attrs["parameters"])["keep_fraction"] == [0.8]
        assert json.loads(dataset.attrs["versions"])["jax"]

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("simulated again")

    monkeypatch.setattr(sims.experiment, "run", never)
    assert run(main, arguments) == 0
    assert capsys.readouterr().out == printed
    other = [*arguments, "--seed", "1"]
    assert run(main, other) == 2
    assert "was computed with seed = 0, not 1" in capsys.readouterr().err
    assert out.read_bytes() == content
    for foreign in (b"mine", content[:3000]):
        out.write_bytes(foreign)
        assert run(main, arguments) == 2
        assert "damaged or not NetCDF-4" in capsys.readouterr().err
        assert out.read_bytes() == foreign
    assert run(main, [*arguments, "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_a_full_disk_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hardset.cache, "write_bytes_atomic", full)
    assert run(main, [*SMALL, "--keep-fraction", "0.8", "--cache", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"cache folder {tmp_path} cannot be written: No space left on device" in error


@pytest.mark.parametrize(
    ("number", "code", "solver"),
    [
        (signal.SIGKILL, -9, "native"),
        (signal.SIGINT, 130, "cvxpy"),
        (signal.SIGTERM, -15, "native"),
    ],
)
def test_what_ends_a_sweep_loses_and_repeats_nothing(
    number: signal.Signals, code: int, solver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*SMALL[1:], "--keep-fraction", "0.8", "--draws", "1000000", "--solver", solver]
    command = [sys.executable, "-m", "sims", "run", *arguments, "--cache", str(tmp_path)]

    def parts() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*.npy")}

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, start_new_session=True) as sweep:
        deadline = time.monotonic() + 300
        while len(parts()) < 2:
            assert sweep.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(sweep.pid, number)  # as a terminal does: the workers get it, too
        out, err = sweep.communicate(timeout=60)
    assert (sweep.returncode, out) == (code, b"")
    said = b"interrupted; what was finished and saved is kept\n"
    # A killed process cannot tidy up; what tidies up after it says so.
    assert err == said if number != signal.SIGKILL else b"Traceback" not in err

    solve, trained = SOLVERS[solver], []

    def counted(problems: list) -> list:
        trained.extend(problems)
        return solve(problems)

    monkeypatch.setitem(SOLVERS, solver, counted)
    found = parts()
    # Fifty draws a part, finished in order; the rerun needs two more, and one file is damaged.
    stored = {path: len(load_array(path)) for path in found}
    draws = 50 * (sum(stored.values()) + 2)
    damaged = next(iter(found))
    damaged.write_bytes(damaged.read_bytes()[:-50])
    problem = PerceptronProblem(1.5, 0.8)
    # One device, so that this process solves all and can count.
    resumed = sims.run(problem, 10, draws, solver=solver, cache=tmp_path, devices=1)
    assert len(trained) == 50 * (stored[damaged] + 2)
    assert all(parts()[path] == then for path, then in found.items() if path != damaged)
    trained.clear()
    sims.run(problem, 10, draws, solver=solver, cache=tmp_path, devices=1)
    assert not trained
    xr.testing.assert_identical(resumed, sims.run(problem, 10, draws, solver=solver))
