"""The accelerator kit on a processor, at toy size: every piece, every way in which one can end."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks import accelerator
from benchmarks.accelerator import LINES, NAMES, TOY, Piece, Record, Run, run_piece, table

SCRIPT = Path(accelerator.__file__)
# What a machine with an accelerator need not have; the kit may not import it.
ABSENT = ("cvxpy", "av", "faiss", "tensorboardX", "grain", "numba", "pyarrow", "tyro", "h5netcdf")
BLOCKER = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def environment(folder: Path) -> dict[str, str]:
    """A processor, and none of the packages in ABSENT."""
    (folder / "sitecustomize.py").write_text(BLOCKER)
    path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        # Compiling is most of what a toy takes.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": os.pathsep.join(path),
    }


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], str, Path]:
    """The records of a whole run, what it printed, its folder."""
    folder = tmp_path_factory.mktemp("kit")
    out = folder / "out"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--out", out, "--minutes", "12"],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    records = [json.loads(line) for line in (out / LINES).read_text().splitlines()]
    assert done.returncode == 0, done.stdout + (out / "accelerator.log").read_text()
    return records, done.stdout, out


def of(records: list[Record], name: str) -> list[Record]:
    """What a piece said."""
    return [record for record in records if record["piece"] == name]


def test_every_piece_says_something(toy_run: tuple[list[Record], str, Path]) -> None:
    records, printed, out = toy_run
    assert {record["piece"] for record in records} == set(NAMES)
    for record in records:
        assert record["status"] in ("done", "skipped"), record
        assert record["seconds"] >= 0 and record["host_peak_bytes"] > 0
        assert "why" not in record or record["status"] == "skipped"
    for name in NAMES:
        rates = [record for record in of(records, name) if "rate" in record]
        if not name.startswith(("device", "agree")) and "torch" not in name:
            assert rates and all(record["rate"] > 0 for record in rates)
    # Lines of the file are those that were printed as they came.
    lines = (out / LINES).read_text().splitlines()
    assert [line for line in printed.splitlines() if line.startswith("{")] == lines


def test_correctness_pieces_agree(toy_run: tuple[list[Record], str, Path]) -> None:
    """By another solver's points, LAPACK and float64: see the pieces."""
    records = toy_run[0]
    agreed = [record for record in records if record["piece"].startswith("agree")]
    assert {record["piece"] for record in agreed} == {n for n in NAMES if n.startswith("agree")}
    assert len(agreed) == 8 and all(record["met"] for record in agreed)
    (bracket,) = (record["bracket"] for record in of(records, "agree-maxmargin"))
    assert 0 < bracket <= 1e-10
    errors = {r["part"]: r.get("gradient_error") for r in of(records, "agree-mae")}
    # Two types of number, so two different errors, neither of them nothing.
    assert 0 < errors["float32"] < 1e-4 < errors["bfloat16"] < 3e-2


def test_peers_run_where_torch_is_installed(toy_run: tuple[list[Record], str, Path]) -> None:
    records = toy_run[0]
    installed = importlib.util.find_spec("torch") is not None
    for name in ("mae-1024-torch", "mae-16-torch", "sam-torch"):
        said = of(records, name)
        if installed:
            assert said[0]["status"] == "done" and said[0]["rate"] > 0
        else:
            assert [r["status"] for r in said] == ["skipped"]
            assert said[0]["why"] == "torch is not installed"


def test_table_of_a_run(toy_run: tuple[list[Record], str, Path]) -> None:
    records, printed, out = toy_run
    shown = table(records)
    assert shown in printed
    assert shown.startswith(f"{records[0]['kind']}, ")
    for record in records:
        name = ", ".join(filter(None, (record["piece"], record.get("part"))))
        assert f"| {name} | " in shown
    assert "Toy sizes on a processor" in shown
    assert ": met" not in shown and ": missed" not in shown
    again = subprocess.run(
        [sys.executable, SCRIPT, "--table", out / LINES], capture_output=True, text=True, check=True
    )
    assert again.stdout.strip() == shown


def test_blocked_packages_are_blocked(tmp_path: Path) -> None:
    """Else the run above would prove nothing."""
    done = subprocess.run(
        [sys.executable, "-c", "import cvxpy"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "No module named 'cvxpy'" in done.stderr


def test_killed_run_keeps_its_lines_and_leaves_no_piece(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = subprocess.Popen(
        [sys.executable, SCRIPT, "--out", out, "--pieces", "agree-sam"],
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    lines = out / LINES
    await_true(lambda: lines.exists() and lines.read_text().count("\n") >= 1)
    (piece,) = children(run.pid)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert records[0]["piece"] == "device" and records[0]["platform"] == "cpu"
    await_true(lambda: not Path(f"/proc/{piece}").exists() or zombie(piece))


def await_true(condition: Any) -> None:
    """Wait for something that happens in seconds."""
    ends = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """Processes that one has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(text) for task in tasks for text in task.read_text().split()]


def zombie(pid: int) -> bool:
    """Whether a process has ended and nobody has asked for its exit code."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_interrupted_run_prints_its_table(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = subprocess.Popen(
        [sys.executable, SCRIPT, "--out", out, "--pieces", "agree-sam"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    await_true(lambda: (out / LINES).exists() and (out / LINES).read_text())
    run.send_signal(signal.SIGTERM)
    printed, errors = run.communicate()
    assert run.returncode == 130
    assert "interrupted: the lines so far are kept" in errors and "Traceback" not in errors
    assert "| device |" in printed


def test_piece_past_its_limit_is_stopped(tmp_path: Path) -> None:
    run = Run(tmp_path, 1)
    start = time.monotonic()
    run_piece(run, Piece("agree-sam", 0.1), "full", tmp_path)
    assert time.monotonic() - start < 30
    assert [record["status"] for record in run.records] == ["timeout"]
    assert run.records[0]["why"] == "stopped after its limit of 0 s"


def test_piece_that_raises_is_a_line(tmp_path: Path) -> None:
    run = Run(tmp_path, 1)
    run_piece(run, Piece("no-such-piece", 60), TOY, tmp_path)
    (record,) = run.records
    assert record["status"] == "failed" and record["why"] == "KeyError: 'no-such-piece'"


def test_piece_that_dies_is_a_line(tmp_path: Path) -> None:
    """As the kernel ends a process that takes too much memory."""
    run = Run(tmp_path, 1)
    others = set(children(os.getpid()))  # such as workers that an earlier sweep left for a minute

    def kill() -> None:
        await_true(lambda: set(children(os.getpid())) - others)
        (piece,) = set(children(os.getpid())) - others
        os.kill(piece, signal.SIGKILL)

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill)
        run_piece(run, Piece("agree-sam", 60), "full", tmp_path)
        killed.result()
    (record,) = run.records
    assert record["status"] == "failed" and record["why"].startswith("ended with code -9")


def test_device_that_cannot_be_reached(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--out", tmp_path / "out"],
        env=os.environ | {"JAX_PLATFORMS": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "the device did not answer: nothing else was tried" in done.stderr
    (line,) = (tmp_path / "out" / LINES).read_text().splitlines()
    assert json.loads(line)["status"] == "failed" and "nonsense" in json.loads(line)["why"]


def test_no_piece_starts_at_the_end_of_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path, 0.01)
    run_piece(run, Piece("device", 60), TOY, tmp_path)
    (record,) = run.records
    assert record["status"] == "skipped"
    assert "left of --minutes 0.01" in record["why"]


def made(piece: str, part: str = "", **numbers: Any) -> Record:
    """A record as a piece on an accelerator writes it."""
    named = {"part": part} if part else {}
    return {"piece": piece, "scale": "full", "status": "done"} | named | numbers


def test_table_compares_with_peers_and_goals() -> None:
    shown = table(
        [
            made("mae-1024", "single steps", rate=600.0, unit="images/s", mfu=0.415, met=True),
            made("mae-1024-torch", "single steps", rate=400.0, unit="images/s"),
            made("sam", "generator", rate=2.0, unit="images/s"),
            made("sam-torch", "generator", rate=1.0, unit="images/s"),
            made("qp", "N = 2, P = 3, batch 4", rate=50.0, unit="problems/s", case="N = 2, P = 3"),
            made("qp-processor", "N = 2, P = 3", rate=2.0, unit="problems/s"),
            made("knn", status="failed", why="a | b\nc"),
        ]
    )
    assert "| mae-1024, single steps | met | rate 600 images/s, mfu 41.5% |" in shown
    assert "| MAE 1024, single steps, over torch | 1.50 | >= 1.2: met |" in shown
    assert "| SAM generator, over torch | 2.00 | >= 3: missed |" in shown
    assert (
        "| QPs, N = 2, P = 3, batch 4, over this machine's processors | 25.00 | >= 20: met |"
        in (shown)
    )
    assert "| knn | failed | a \\| b c |" in shown


def test_table_takes_the_last_run_of_a_piece() -> None:
    shown = table(
        [
            made("knn", "k", rate=1.0, unit="points/s"),
            made("mae-16", status="timeout", why="stopped"),
            made("knn", "k", rate=2.0, unit="points/s"),
            made("mae-16", "scan", rate=3.0, unit="images/s"),
        ]
    )
    assert "rate 1 " not in shown and "rate 2 points/s" in shown
    assert "stopped" not in shown and "rate 3 images/s" in shown


def test_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / LINES
    path.write_text(json.dumps(made("knn", rate=1.0, unit="points/s")) + '\n{"piece": "mae-')
    assert accelerator.read_records(path) == [made("knn", rate=1.0, unit="points/s")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--minutes", "0"], "--minutes 0 is outside the valid range (0, 1440]"),
        (["--minutes", "nan"], "--minutes nan is outside the valid range (0, 1440]"),
        (["--pieces", "mea"], "invalid choice: 'mea'"),
        (["--table", "pyproject.toml"], "pyproject.toml holds no record of a piece"),
        (["--table", "no-such-file"], "No such file or directory: 'no-such-file'"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        accelerator.main(arguments)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
