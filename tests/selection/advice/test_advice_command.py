"""The commands `recommend` and `knee` as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

import selection
from hardset.cli import run
from hardset.verify import verify
from selection.__main__ import main
from selection.advice.paths import FRACTIONS
from selection.files import read_subset

N, D = 240, 4
NAMES = np.array(["$x_1$", "naïve, 日本", "a\nb"])


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An easy task, labels that mean nothing, and much that is wrong."""
    folder = tmp_path_factory.mktemp("tables")
    random = np.random.default_rng(7)
    x = random.standard_normal((N, D))
    # Of three classes the theory has nothing to say, which takes it seconds.
    codes = np.digitize(x[:, 0] + 0.2 * random.standard_normal(N), [-0.5, 0.5])
    arrays = {
        "x": x,
        "y": NAMES[codes],
        "two": (codes > 0).astype(int),
        "guess": random.integers(0, 3, N),
        "short": codes[:-1],
        "one": np.ones(N, int),
        "nan": np.where(np.arange(N * D).reshape(N, D) == 6, np.nan, x),
        "words": np.full((N, D), "a"),
        "rising": codes + 0.5 * x[:, 1],
        "names": np.arange(N),
        "rare": np.where(np.arange(N) < 3, 9, codes),
        "five": x[:5],
        "five-labels": np.arange(5) % 2,
        "flat": np.ones((N, D)),
        "column": x[:, 0],
        "none": x[:0],
        "patients": np.array([f"p{row // 3}" for row in range(N)]),
        "few": np.arange(N) % 3,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    scipy.sparse.save_npz(folder / "coo.npz", scipy.sparse.coo_array(x))
    (folder / "taken.json").write_text("mine")
    (folder / "taken.png").write_text("mine")
    return folder


@pytest.fixture
def folder(tables: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tables)
    return tables


def command(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(main, text.split())
    captured = capsys.readouterr()
    return code, captured.out, captured.err


EASY = "--features x.npy --labels y.npy"
TOLERANT = f"{EASY} --tolerance 0.1"  # so few rows cannot pass a smaller one


def test_the_answer_is_that_of_the_function(folder: Path, capsys, tmp_path: Path) -> None:
    """Of the command, its JSON, the file that it writes, and Python."""
    wanted = selection.recommend(np.load("x.npy"), np.load("y.npy"), tolerance=0.1)
    code, out, err = command(f"recommend {TOLERANT}", capsys)
    assert code == 0, err
    assert out.splitlines()[0] == wanted.sentence()
    assert "--out kept.parquet" in out
    code, out, err = command(f"recommend {TOLERANT} --json", capsys)
    assert code == 0, err
    found = json.loads(out)
    assert found["sentence"] == wanted.sentence() and found["examples"] == N
    assert found["indices"] == wanted.indices.tolist()
    assert found["keep_fraction"] == wanted.keep_fraction < 1
    assert found["policy"] == wanted.policy
    assert found["bound"] == wanted.bound <= found["tolerance"] == wanted.tolerance
    assert found["last_check"]["passed"] is True
    assert found["last_check"]["thrown_away"] == N - len(wanted.indices)
    assert found["classes"] == sorted(NAMES)
    for one, point in zip(found["curve"], wanted.curve, strict=True):
        assert one["increase"] == point.increase and one["rows"] == point.rows.tolist()
    kept, curve = tmp_path / "new" / "kept.parquet", tmp_path / "advice.png"
    code, out, err = command(f"recommend {TOLERANT} --out {kept} --plot {curve}", capsys)
    assert code == 0, err
    assert err.splitlines() == [str(kept), str(curve)]
    subset = read_subset(kept)
    assert subset.indices.tolist() == found["indices"]
    assert "random" in out  # beside, for comparison
    assert curve.read_bytes().startswith(b"\x89PNG") and wanted.sentence().encode() in (
        curve.read_bytes()
    )
    assert verify([kept]).passed
    code, out, err = command(f"select random --budget 3 {EASY} --given {kept}", capsys)
    assert code == 0 and not set(map(int, out.split())) & set(found["indices"]), err


def test_two_classes_are_explained(folder: Path, capsys, tmp_path: Path) -> None:
    """Nothing of the explanation is NaN, which JSON has not, and its curve is in the picture."""
    path = tmp_path / "advice.svg"
    line = f"recommend --features x.npy --labels two.npy --tolerance 0.05 --plot {path} --json"
    code, out, err = command(line, capsys)
    assert code == 0, err

    def refuse(word: str) -> None:
        raise AssertionError(word)

    found = json.loads(out, parse_constant=refuse)
    theory = found["explanation"]
    assert theory["keep_fraction"] == [1.0, *FRACTIONS]
    assert set(theory["predicted"]) == {"hard", "mixture", "random"}
    assert theory["measured"]["hard"][0] == found["error_all"]
    assert theory["drawn"] and theory["label"] == "independent probe"
    assert len(found["beside"]) > 0 and {one["policy"] for one in found["beside"]} == {"random"}


def test_groups_and_sparse_features_are_handed_on(folder: Path, capsys) -> None:
    x, y = np.load("x.npy"), np.load("y.npy")
    wanted = selection.recommend(x, y, groups=np.load("patients.npy"), tolerance=0.1)
    code, out, err = command(f"recommend {TOLERANT} --groups patients.npy", capsys)
    assert (code, out.splitlines()[0]) == (0, wanted.sentence()), err
    scipy.sparse.save_npz("x.npz", scipy.sparse.csr_array(x))
    line = "--labels two.npy --policies random --json"
    sparse, dense = (
        json.loads(command(f"knee --features {one} {line}", capsys)[1])
        for one in ("x.npz", "x.npy")
    )
    Path("x.npz").unlink()
    # Two solvers minimise the same, and of 240 rows at most one lies on a border.
    assert abs(sparse["error_all"] - dense["error_all"]) < 1.5 / N


def test_all_is_kept_where_nothing_passes(folder: Path, capsys, tmp_path: Path) -> None:
    line = "recommend --features x.npy --labels guess.npy --tolerance 0.001"
    code, out, err = command(f"{line} --out {tmp_path / 'all.json'}", capsys)
    assert code == 0, err
    first, second, *_ = out.splitlines()
    assert first.startswith(f"keep all {N} rows: ")
    assert "rows like these" in second
    assert read_subset(tmp_path / "all.json").indices.tolist() == list(range(N))
    code, out, err = command(f"{line} --json", capsys)
    assert code == 0, err
    found = json.loads(out)
    assert (found["policy"], found["keep_fraction"]) == ("all", 1.0)
    assert found["bound"] is found["last_check"] is None
    assert found["error_kept"] == found["error_all"]


def test_the_knee_is_where_the_curve_leaves_the_tolerance(
    folder: Path, capsys, tmp_path: Path
) -> None:
    line = f"knee {EASY} --tolerance 0.02"
    code, out, err = command(f"{line} --json --plot {tmp_path / 'knee.svg'}", capsys)
    assert code == 0, err
    found = json.loads(out)
    assert (tmp_path / "knee.svg").read_bytes().startswith(b"<?xml")
    assert len(found["curve"]) == 3 * len(FRACTIONS)
    for policy in ("hard", "mixture", "random"):
        above = [
            one["keep_fraction"]
            for one in found["curve"]
            if one["policy"] == policy and one["increase"] > 0.02
        ]
        within = [one for one in (1.0, *FRACTIONS) if not above or one > max(above)]
        assert found["knees"][policy] == min(within)
    code, out, err = command(line, capsys)
    assert code == 0, err
    head, blank, columns, everything, *rest = out.splitlines()
    assert head == found["sentence"] and blank == ""
    assert columns.split() == ["policy", "kept", "error", "change", "bound"]
    assert everything.split() == ["all", "100", "%", f"{found['error_all']:.4f}"]
    assert len(rest) == len(found["curve"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("--features x.npy", "--labels is missing: without labels no fraction can be tested"),
        ("--features x.npy --labels short.npy", f"labels has {N - 1} entries"),
        ("--features x.npy --labels one.npy", "one class alone"),
        (
            "--features x.npy --labels rising.npy",
            "a fraction: a quantity to predict has no classes",
        ),
        ("--features x.npy --labels names.npy", f"{N} different values in {N} rows"),
        ("--features x.npy --labels rare.npy", "class 9 has 3 rows; 5 folds need 5"),
        ("--features five.npy --labels five-labels.npy", "has 2 rows; 5 folds need 5"),
        ("--features nan.npy --labels y.npy", "features holds nan at index (1, 2)"),
        ("--features words.npy --labels y.npy", "features has dtype <U1; it must hold real"),
        ("--features flat.npy --labels y.npy", "features are the same in every row"),
        ("--features column.npy --labels y.npy", f"features has shape ({N},)"),
        ("--features none.npy --labels y.npy", "features has shape (0, 4)"),
        ("--features coo.npz --labels y.npy", "sparse matrix in the format coo"),
        ("--features absent.npy --labels y.npy", "features file absent.npy does not exist"),
        (f"{EASY} --groups short.npy", f"groups has {N - 1} entries; labels has {N}"),
        (f"{EASY} --groups few.npy", "has rows in 3 groups; 5 folds need 5"),
        (f"{EASY} --groups absent.npy", "groups file absent.npy does not exist"),
        (f"{EASY} --policies hrad", "--policies = 'hrad' is not one of hard, mixture, random"),
        (f"{EASY} --policies hard hard", "policies names 'hard' twice"),
        (f"{EASY} --failure 0", "failure = 0 is outside the valid range (0, 0.5)"),
        (f"{EASY} --tolerance 2", "tolerance = 2 is outside the valid range (0, 1)"),
        (f"{EASY} --tolerance nan", "tolerance = nan is not a number"),
        (f"{EASY} --tolerance much", "tolerance = 'much' is neither a number nor auto"),
        (f"{EASY} --lam 0", "lam = 0 is outside the valid range (0, inf)"),
        (f"{EASY} --lam inf", "lam = inf is outside"),
        (f"{EASY} --folds 1", "folds = 1 is outside the valid range [2, 100]"),
        (f"{EASY} --folds 1000", "folds = 1000 is outside the valid range [2, 100]"),
        (f"{EASY} --seed -1", "seed = -1 is outside"),
        (f"{EASY} --student svm", "--student = 'svm' is not one of logistic, hinge"),
        (f"{EASY} --plot curve.txt", "output file curve.txt must end in .png or .pdf or .svg"),
        (f"{EASY} --plot taken.png", "output file taken.png exists already"),
        (f"{EASY} --resume taken.png", "taken.png is a file"),
    ],
)
@pytest.mark.parametrize("name", ["recommend", "knee"])
def test_bad_input(folder: Path, capsys, name: str, text: str, sentence: str) -> None:
    before = {path.name: path.stat().st_size for path in folder.iterdir()}
    code, out, err = command(f"{name} {text}", capsys)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("--out kept.txt", "output file kept.txt must end in .parquet or .json"),
        ("--out taken.json", "output file taken.json exists already"),
        ("--out taken.json/kept.json", "taken.json is a file"),
    ],
)
def test_a_subset_that_cannot_be_written(folder: Path, capsys, text: str, sentence: str) -> None:
    code, out, err = command(f"recommend {EASY} {text}", capsys)
    assert (code, out) == (2, "")
    assert sentence in err and err.count("\n") == 1
    assert (folder / "taken.json").read_text() == "mine"


def test_a_killed_command_goes_on(folder: Path, capsys, tmp_path: Path) -> None:
    """What it left is used, and the answer is that of a command that was not disturbed."""
    parts = tmp_path / "parts"
    line = f"knee {EASY} --json"
    resumed = [*line.split(), "--resume", str(parts)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-m", "selection", *resumed], env=environment, stdout=subprocess.DEVNULL
    )
    ends = time.monotonic() + 120
    while not parts.is_dir() or len(list(parts.glob("*.npy"))) < 8:  # the ranking, and a fraction
        assert child.poll() is None and time.monotonic() < ends
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    left = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.npy")}
    assert command(" ".join(resumed), capsys) == command(line, capsys)
    assert len(list(parts.glob("*.npy"))) > len(left)
    for name, written in left.items():
        assert (parts / name).stat().st_mtime_ns == written


def test_the_two_commands_share_finished_steps(folder: Path, capsys, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    assert command(f"knee {EASY} --resume {parts}", capsys)[0] == 0
    measured = {path.name for path in parts.iterdir()}
    line = f"recommend {TOLERANT} --json"
    assert command(f"{line} --resume {parts}", capsys) == command(line, capsys)
    # What is new are the last checks alone, at most one for each certified fraction.
    assert len({path.name for path in parts.iterdir()} - measured) <= 2 * len(FRACTIONS)
    # Answers and values of all data, five rankings, and three policies.
    assert len(measured) == 2 + 5 + 3 * len(FRACTIONS)


def test_progress_is_shown_where_asked_for(folder: Path, capsys) -> None:
    code, quiet, err = command(f"recommend {EASY}", capsys)
    assert (code, err) == (0, "")
    code, out, err = command(f"recommend {EASY} --progress", capsys)
    assert (code, out) == (0, quiet)
    assert "recommend" in err and "step" in err
