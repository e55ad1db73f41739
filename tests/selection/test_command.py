"""The command line as a user types it; bad input is one sentence and exit code 2."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse

from hardset.cli import run
from hardset.folder import alone
from selection import HardestFirst, Partitioned, Pool, RandomSample, ssp
from selection.__main__ import main
from selection.commands.inputs import keep_or_print
from selection.files import read_subset
from selection.registry import SCORES, SELECTORS, arrays_of_score, describe_scores

N = 60


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random = np.random.default_rng(0)
    np.save(tmp_path / "scores.npy", random.random(N))
    np.save(tmp_path / "features.npy", random.standard_normal((N, 4)))
    np.save(tmp_path / "labels.npy", np.arange(N) % 3)
    np.save(tmp_path / "logits.npy", random.standard_normal((2, 5, N, 3)))
    np.save(tmp_path / "bad.npy", np.where(np.arange(N) == 4, np.nan, 1.0))
    np.save(tmp_path / "short.npy", np.ones((N - 1, 4)))
    np.save(tmp_path / "zero.npy", np.arange(N)[:, None] * np.ones(3))
    lonely = (np.arange(N)[:, None] + 1) % N
    lonely[6:8] = [[8], [-1]]
    np.save(tmp_path / "lonely.npy", lonely)
    np.save(tmp_path / "ring.npy", (np.arange(N)[:, None] + 1) % N)
    np.save(tmp_path / "similar.npy", np.ones((N, 1)))
    np.save(tmp_path / "infinite.npy", np.full((N, 1), np.inf))
    np.save(tmp_path / "names.npy", np.array(["b", "c"])[np.arange(N) % 2])
    pq.write_table(pa.table({"c": [{"a": 1.0}] * N}), tmp_path / "odd.parquet")
    pq.write_table(pa.table({"c": pa.array([], pa.list_(pa.float64()))}), tmp_path / "none.parquet")
    (tmp_path / "taken.json").write_text("mine")
    (tmp_path / "must.txt").write_text("5\n\n3\n")
    (tmp_path / "words.txt").write_text("five\n")
    (tmp_path / "minus.txt").write_text("--5\n")
    np.save(tmp_path / "logits10.npy", random.standard_normal((N, 10)))
    np.save(tmp_path / "from5.npy", np.arange(N) % 10 + 5)
    np.save(tmp_path / "sevens.npy", np.arange(N) % 10 * 7)
    np.save(tmp_path / "objects.npy", np.array([1, None] * (N // 2), dtype=object))
    np.save(tmp_path / "twice.npy", np.zeros(N, int))
    scipy.sparse.save_npz(tmp_path / "sparse.npz", scipy.sparse.eye_array(N, 4).tocsr())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(main, text.split())
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_ids_on_standard_output(folder: Path, capsys) -> None:
    code, out, err = command("select hard --scores scores.npy --budget 3", capsys)
    assert code == 0, err
    wanted = np.argsort(-np.load("scores.npy"))[:3]
    assert out.split() == [str(one) for one in wanted]


@pytest.mark.parametrize("suffix", ["parquet", "json"])
def test_select_writes_what_it_kept(folder: Path, capsys, suffix: str) -> None:
    text = f"select ccs:cutoff=0.1,bins=5 --scores scores.npy --budget 0.25 --out k.{suffix} --json"
    code, out, err = command(text, capsys)
    assert code == 0, err
    summary = json.loads(out)
    subset = read_subset(f"k.{suffix}")
    assert summary["achieved"] == subset.achieved == 15
    assert summary["diagnostics"]["dropped"] == 6
    assert np.all(np.load("scores.npy")[subset.indices] <= np.sort(np.load("scores.npy"))[53])


def test_conditions(folder: Path, capsys) -> None:
    text = (
        "select hard --scores scores.npy --labels labels.npy --quota 0=2 2=1 --mislabel-cutoff 0.2 "
        "--include must.txt --budget 11 --json"
    )
    code, out, err = command(text, capsys)
    assert code == 0, err
    kept = json.loads(out)["kept"]
    assert kept[:2] == [5, 3]
    assert np.bincount(np.array(kept[2:]) % 3, minlength=3).tolist() == [6, 0, 3]
    least_suspicious = np.argsort(-np.load("scores.npy"))[11:]
    assert set(kept[2:]) <= set(least_suspicious)


def test_partitions(folder: Path, capsys) -> None:
    text = "select hard --scores scores.npy --budget 12 --partitions 3 --seed 2 --json"
    code, out, err = command(text, capsys)
    assert code == 0, err
    kept = json.loads(out)["kept"]
    pool = Pool.of(scores=np.load("scores.npy"))
    wanted = Partitioned(HardestFirst(), parts=3).select(pool, 12, seed=2).indices
    assert kept == wanted.tolist()
    for _ in range(2):  # once to keep the parts, once to find them
        code, out, err = command(f"{text} --resume done", capsys)
        assert code == 0, err
        assert json.loads(out)["kept"] == wanted.tolist()
        assert len(list(Path("done").iterdir())) == 3
    code, out, err = command(text.removesuffix("--json") + "--out kept.json", capsys)
    assert code == 0, err
    assert "parts      3, each with diagnostics of its own (--json)" in out.splitlines()


@pytest.mark.parametrize("suffix", ["npy", "parquet", "json"])
def test_score_then_select(folder: Path, capsys, suffix: str) -> None:
    text = f"score el2n:first=2 --logits logits.npy --labels labels.npy --out e.{suffix} --json"
    code, out, err = command(text, capsys)
    assert code == 0, err
    summary = json.loads(out)
    assert summary["provenance"] == {"seeds": 2, "epochs": 3, "first": 2, "last": 4}
    if suffix == "json":
        return
    source = "e.parquet:score" if suffix == "parquet" else "e.npy"
    code, out, _ = command(f"select hard --scores {source} --budget 5", capsys)
    assert [int(one) for one in out.split()] == summary["hardest"]


def test_compare(folder: Path, capsys) -> None:
    files = "--scores scores.npy --features features.npy --labels labels.npy"
    assert command(f"select random --budget 6 {files} --out r.json", capsys)[0] == 0
    text = f"compare hard random ccs:cutoff=0 r.json {files} --budget 6 --seeds 2"
    code, out, err = command(f"{text} --json", capsys)
    assert code == 0, err
    found = json.loads(out)
    rows = {row["method"]: row for row in found["methods"]}
    assert rows["hard"]["stable"] == 1
    assert rows["hard"]["score"] == pytest.approx(np.sort(np.load("scores.npy"))[-6:].mean())
    assert found["jaccard"]["hard"]["hard"] == 1
    # Seed 0 of the two is the stored one.
    assert found["jaccard"]["random"]["r.json"] > 0.5
    kept = read_subset("r.json").indices
    x = np.load("features.npy")
    gaps = np.linalg.norm(x[:, None] - x[kept], axis=2).min(axis=1)
    assert rows["r.json"]["coverage"] == pytest.approx(np.sqrt(np.mean(gaps**2)), rel=1e-9)
    code, out, _ = command(text, capsys)
    assert code == 0
    assert out.splitlines()[0].split() == [
        "method",
        "kept",
        "score",
        "coverage",
        "least",
        "stable",
        "seconds",
    ]


def test_names_of_classes(folder: Path, capsys) -> None:
    names = np.array(["pear", "apple", "fig"])
    np.save("names.npy", names[np.load("labels.npy")])
    table = {"name": names[np.load("labels.npy")], "score": np.load("scores.npy")}
    pq.write_table(pa.table(table), "d.parquet")
    pq.write_table(
        pa.table(table | {"name": pa.array(table["name"]).dictionary_encode()}), "c.parquet"
    )
    rest = "--scores scores.npy --budget 9 --json"
    code, out, err = command(f"select hard --labels labels.npy --quota 0=2 2=1 {rest}", capsys)
    assert code == 0, err
    wanted = json.loads(out)
    for source in ("names.npy", "d.parquet:name", "c.parquet:name"):
        text = f"select hard --labels {source} --quota pear=2 fig=1 {rest}"
        code, out, err = command(text, capsys)
        assert code == 0, err
        found = json.loads(out)
        assert found["kept"] == wanted["kept"]
        assert found["classes"] == {"fig": 3, "pear": 6}
        assert found["diagnostics"]["quotas"] == {"apple": 0, "fig": 3, "pear": 6}
    errors = "--class-errors pear=0.5 fig=0.1"
    code, out, err = command(f"select hard --labels names.npy {errors} {rest}", capsys)
    assert code == 0, err
    found, sizes = json.loads(out)["classes"], np.bincount(np.load("labels.npy"))
    pears = 9 * sizes[0] * 0.5 / (sizes[0] * 0.5 + sizes[2] * 0.1)
    assert sum(found.values()) == 9 and abs(found["pear"] - pears) < 1
    np.save("sorted.npy", np.array([2, 0, 1])[np.load("labels.npy")])
    command("score el2n --logits logits.npy --labels sorted.npy --out by_number.npy", capsys)
    code, _, err = command("score el2n --logits logits.npy --labels names.npy --out e.npy", capsys)
    assert code == 0, err
    np.testing.assert_array_equal(np.load("e.npy"), np.load("by_number.npy"))


def test_compare_by_ids(folder: Path, capsys) -> None:
    order = np.random.default_rng(3).permutation(N)
    for kind, ids in (
        ("number", np.arange(N) * 7),
        ("text", np.array([f"x{i}" for i in range(N)])),
    ):
        np.save("ids.npy", ids)
        np.save("shuffled_ids.npy", ids[order])
        np.save("shuffled.npy", np.load("scores.npy")[order])
        text = f"select hard --scores scores.npy --ids ids.npy --budget 6 --out {kind}.json"
        assert command(text, capsys)[0] == 0
        text = f"compare hard {kind}.json --scores shuffled.npy --budget 6 --seeds 1"
        code, out, err = command(f"{text} --ids shuffled_ids.npy --json", capsys)
        assert code == 0, err
        found = json.loads(out)
        assert found["jaccard"]["hard"][f"{kind}.json"] == 1
        assert found["methods"][0]["score"] == found["methods"][1]["score"]
        code, _, err = command(text, capsys)
        assert code == 2
        assert f"{kind}.json was written with ids, and the pool has none" in err
        np.save("others.npy", np.array([f"y{i}" for i in range(N)]))
        code, _, err = command(f"{text} --ids others.npy", capsys)
        assert code == 2
        assert (
            f"{kind}.json keeps id {ids[np.argmax(np.load('scores.npy'))].item()!r}, which" in err
        )
    command("select hard --scores scores.npy --budget 6 --out bare.json", capsys)
    text = "compare bare.json --scores shuffled.npy --budget 6"
    code, _, err = command(f"{text} --ids shuffled_ids.npy", capsys)
    assert code == 2
    assert "bare.json was written without ids" in err
    assert command(text, capsys)[0] == 0


def test_compare_with_nothing_kept(folder: Path, capsys) -> None:
    nothing = "meddel:epsilon=0"
    files = "--scores scores.npy --features features.npy --labels labels.npy"
    code, _, err = command(f"select {nothing} {files} --budget 6 --out empty.json", capsys)
    assert code == 0, err
    text = f"compare {nothing} empty.json hard {files} --budget 6 --seeds 2"
    code, out, err = command(f"{text} --json", capsys)
    assert code == 0, err
    assert "Warning" not in err
    found = json.loads(out)
    for row in found["methods"][:2]:
        assert row["kept"] == 0
        assert row["score"] is row["coverage"] is row["least"] is None
    assert found["jaccard"][nothing] == {nothing: 1, "empty.json": 1, "hard": 0}
    code, out, err = command(text, capsys)
    assert code == 0, err
    assert out.splitlines()[1].split()[:5] == [nothing, "0", "-", "-", "-"]


@pytest.mark.parametrize("line", ["select hard --budget 0", "score nothing", "score clip"])
def test_a_refused_command_leaves_no_folder(folder: Path, capsys, line: str) -> None:
    before = sorted(folder.rglob("*"))
    code, _, _ = command(f"{line} --out a/b/c.parquet", capsys)
    assert code == 2
    code, _, _ = command("select hard --scores scores.npy --budget 0 --out a/b/c.json", capsys)
    assert code == 2
    text = "select k-center --scores scores.npy --budget 4 --partitions 2 --resume parts"
    code, _, err = command(text, capsys)
    assert (code, "needs features" in err) == (2, True)
    assert sorted(folder.rglob("*")) == before
    code, _, _ = command("select hard --scores scores.npy --budget 4 --out a/b/c.json", capsys)
    assert code == 0
    assert read_subset("a/b/c.json").achieved == 4


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("select hard --scores odd.parquet:c --budget 5", "column c is of type struct<a: double>"),
        ("select k-center --features none.parquet --budget 5", "column c has no rows"),
        (
            "select hard --scores scores.npy --labels names.npy --quota nut=1 --budget 5",
            "--quota 'nut' is not a class; they are b, c",
        ),
        (
            "select hard --scores scores.npy --labels names.npy --balance equal --classes 3 "
            "--budget 6",
            "--classes = 3, but labels has 2",
        ),
        (
            "score el2n --logits logits.npy --labels names.npy",
            "labels has 2 names, logits 3 classes",
        ),
        (
            "select hard --scores scores.npy --labels labels.npy --quota x=1 --budget 5",
            "'x' is not",
        ),
        ("select hard --scores bad.npy --budget 5", "scores holds nan at index 4"),
        ("select hard --scores scores.npy --budget 61", "outside the valid range 1 to 60"),
        ("select hard --scores scores.npy --budget 0", "outside the valid range 1 to 60"),
        ("select hard --scores scores.npy --budget 0.0", "outside the valid range 1 to 60"),
        ("select hard --scores scores.npy --budget 1.5", "nor a fraction in (0, 1]"),
        (
            "select hard --scores scores.npy --budget all",
            "neither a count of the examples nor a fraction",
        ),
        (
            "select ccs:cutoff=0.5 --scores scores.npy --budget 40",
            "leaves 30, fewer than the budget 40",
        ),
        (
            "select hard --scores scores.npy --mislabel-cutoff 0.5 --budget 40",
            "leaves 30, fewer than the budget 40",
        ),
        (
            "select hard --scores scores.npy --labels labels.npy --balance equal --classes 4 "
            "--budget 8",
            "labels 3 has no example among the 60 candidates",
        ),
        (
            "select hard --scores scores.npy --features short.npy --budget 5",
            "different lengths: scores 60, features 59",
        ),
        (
            "select hard --scores scores.npy --neighbours lonely.npy --similarities similar.npy "
            "--budget 5",
            "the graph is disconnected: row 7 has no neighbour",
        ),
        (
            "select hard --scores scores.npy --neighbours ring.npy --similarities infinite.npy "
            "--budget 5",
            "similarities holds inf at index (0, 0)",
        ),
        (
            "select hard --scores scores.npy --budget 5 --out taken.json",
            "output file taken.json exists already",
        ),
        ("select hard --scores scores.npy --budget 5 --out k.txt", "must end in .parquet or .json"),
        ("score clip --features zero.npy --texts zero.npy", "features has norm zero at row 0"),
        ("score clip --features zero.npy", "score 'clip' needs --texts"),
        ("score el2n --labels labels.npy", "score 'el2n' needs --logits (or --dynamics)"),
        ("score entropy --logits logits.npy --texts zero.npy", "--texts has no effect"),
        ("score el2n --dynamics scores.npy", ".npz file scores.npy is no .npz archive"),
        ("score nothing --logits logits.npy", "score = 'nothing' is not one of entropy"),
        ("score el2n:last=soon --dynamics none.npz", "last = 'soon' is not int or NoneType"),
        ("score entropy --logits logits.npy --ids short.npy", "lengths: ids 59, scores 60"),
        ("select soft --scores scores.npy --budget 5", "method = 'soft' is not one of hard"),
        ("select ccs:cut=1 --scores scores.npy --budget 5", "method 'ccs' has no option 'cut'"),
        ("select ccs:0.1 --scores scores.npy --budget 5", "'0.1' is not option=value"),
        ("select ccs:cutoff=2 --scores scores.npy --budget 5", "cutoff = 2 is outside"),
        ("select hard --budget 5", "no data: name a file"),
        ("select hard --features features.npy --budget 5", "method 'hard' needs scores"),
        ("select hard --scores none.npy --budget 5", "scores file none.npy does not exist"),
        (
            "select hard --labels labels.npy --orientation easy --budget 5",
            "--orientation has no effect without --scores",
        ),
        (
            "select hard --scores scores.npy --balance equal --budget 5",
            "--balance, --quota and --class-errors need --labels",
        ),
        ("select hard --scores scores.npy --classes 3 --budget 5", "have no effect without"),
        ("select hard --scores scores.npy --labels labels.npy --quota 3 --budget 5", "CLASS=SHARE"),
        ("select hard --scores scores.npy --mislabel scores.npy --budget 5", "has no effect"),
        ("select hard --scores scores.npy --neighbours ring.npy --budget 5", "needs both"),
        ("select hard --scores scores.npy --include words.txt --budget 5", "the ids are integers"),
        (
            "select hard --scores scores.npy --include gone.txt --budget 5",
            "gone.txt does not exist",
        ),
        ("select hard --scores scores.npy --budget 5 --partitions 6", "parts = 6 is more than the"),
        ("select hard --scores scores.npy --budget 5 --resume a", "--resume has no effect without"),
        ("select hard --scores scores.npy --budget 5 --seed -1", "seed = -1 is not"),
        ("compare hard --scores scores.npy --budget 5 --seeds 0", "seeds = 0 is outside"),
        (
            "score el2n --logits logits10.npy --labels from5.npy",
            "labels go from 5 to 14: give labels - 5",
        ),
        (
            "score el2n --logits logits10.npy --labels sevens.npy",
            "give numpy.unique(labels, return_inverse=True)[1]",
        ),
        ("score el2n --logits similar.npy --labels twice.npy", "numpy.stack([0 * z, z], axis=-1)"),
        ("score entropy --logits similar.npy", "numpy.stack([0 * z, z], axis=-1)"),
        ("score margin --logits scores.npy", "give the columns 0 and z"),
        ("score entropy --logits logits.npy --ids twice.npy", "ids holds 0 more than once"),
        (
            "select k-center --features sparse.npz --budget 5",
            "features file sparse.npz holds a sparse matrix of SciPy; sparse matrices are not",
        ),
        (
            "select hard --scores objects.npy --budget 5",
            "scores file objects.npy has dtype object: it holds pickled Python objects",
        ),
        ("select hard --scores scores.npy --include minus.txt --budget 5", "the ids are integers"),
        ("select hard --scores scores.npy --include . --budget 5", "include file . is no file"),
        ("select hard --scores scores.npy --include /dev/zero --budget 5", "/dev/zero is no file"),
        ("select hard --scores /dev/zero --budget 5", "/dev/zero is no file"),
        ("select hard --scores . --budget 5", "scores file . is a folder"),
        (
            "select hard --scores scores.npy --budget 5 --out must.txt/k.json",
            "must.txt is a file",
        ),
        (
            f"select hard --scores scores.npy --budget 5 --out {'k' * 251}.json",
            "cannot be written: File name too long",
        ),
        (
            "select hard --scores scores.npy --labels labels.npy --quota 0=1 0=2 --budget 5",
            "--quota names class 0 twice",
        ),
        (
            "select hard --scores scores.npy --labels labels.npy --class-errors 0=1.5 --budget 5",
            "--class-errors 0 = 1.5 is outside",
        ),
        (
            "select hard --scores scores.npy --labels labels.npy --class-errors 0=1 --quota 0=1 "
            "--budget 5",
            "--balance, --quota and --class-errors exclude each other",
        ),
        (
            "select hard --scores scores.npy --labels labels.npy --quota 0=nan --budget 5",
            "--quota 0 = nan is not a number in the valid range [0, inf)",
        ),
        (
            "select hard --scores scores.npy --labels labels.npy --balance equal --classes 0 "
            "--budget 5",
            "--classes = 0 is outside",
        ),
        (
            "select hard --scores scores.npy --budget 5 --partitions 0",
            "--partitions = 0 is outside",
        ),
        (
            "select hard --scores scores.npy --budget 5 --mislabel-cutoff 1",
            "--mislabel-cutoff = 1 is outside the valid range [0, 1)",
        ),
        ("select ccs:bins=5,bins=6 --scores scores.npy --budget 5", "gives bins twice"),
        ("select optimal-window --scores scores.npy --budget 5", "needs the option 'alpha_total'"),
        ("coverage --out new --keep-fraction 2", "keep_fraction = 2 is outside the valid range"),
        ("coverage --out new --methods soft", "method = 'soft' is not one of"),
        ("coverage --out new --seed -1", "seed = -1 is outside"),
        ("coverage --out must.txt", "must.txt is a file"),
        ("experiment demo --out new --dataset nothing", "dataset = 'nothing' is not one of"),
        ("experiment demo --out new --train -5", "train = -5 is outside"),
        ("experiment demo --out new --dataset digits --train 1001", "not a multiple of 5"),
        ("experiment demo --out new --dataset cifar10", "needs a folder with data_batch_1.bin"),
        ("compare none.json --scores scores.npy --budget 5", "none.json does not exist"),
        ("compare taken.json --scores scores.npy --budget 5", "taken.json holds no subset"),
    ],
)
def test_bad_input(folder: Path, capsys, text: str, sentence: str) -> None:
    before = sorted(path.name for path in folder.iterdir())
    code, out, err = command(text, capsys)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert "Traceback" not in err + out
    assert sorted(path.name for path in folder.iterdir()) == before
    assert (folder / "taken.json").read_text() == "mine"


def test_classes_are_reported(folder: Path, capsys) -> None:
    """Of 60 examples the 12 hardest are all of classes 0 and 1, one of them of class 1."""
    labels = np.repeat([0, 1, 2], [11, 40, 9])
    np.save("classes.npy", np.array(["pear", "apple", "fig"])[labels])
    np.save("ordered.npy", np.arange(N)[::-1].astype(float))
    line = "select hard --scores ordered.npy --labels classes.npy --budget 12"
    code, out, err = command(f"{line} --json", capsys)
    assert code == 0, err
    found = json.loads(out)
    assert found["class_report"] == [
        {"class": "apple", "examples": 40, "kept": 1, "share": 1 / 40},
        {"class": "fig", "examples": 9, "kept": 0, "share": 0.0},
        {"class": "pear", "examples": 11, "kept": 11, "share": 1.0},
    ]
    assert found["classes_lost"] == ["fig"]
    lost, few = found["warnings"]
    assert lost.startswith("1 of 3 classes lost all their examples: fig;")
    assert few == "1 of 3 classes are kept at less than a fifth of the share of all: apple"
    code, out, err = command(line, capsys)
    assert code == 0 and len(out.split()) == 12  # ids alone
    assert err.splitlines() == [f"warning: {lost}", f"warning: {few}"]
    code, out, err = command(f"{line} --out k.json", capsys)
    assert code == 0, err
    lines = [" ".join(one.split()) for one in out.splitlines()]
    assert lines[-5:] == [
        "class fig 0 of 9 (0 %)",
        "class apple 1 of 40 (2.5 %)",
        "class pear 11 of 11 (100 %)",
        f"warning {lost}",
        f"warning {few}",
    ]
    assert json.loads(Path("k.json").read_text())["options"]["labels"] == "classes.npy"


def test_columns_are_joined(folder: Path, capsys) -> None:
    x = np.load("features.npy")
    columns = {f"x{i}": x[:, i] for i in range(4)} | {"name": ["a"] * N, "other": x[:, 0]}
    pq.write_table(pa.table(columns), "t.parquet")
    wanted = command("select k-center --features features.npy --budget 6", capsys)[1]
    for key in ("x0,x1,x2,x3", "x*", "x[0-3]", "x0,x1,x[23]"):
        code, out, err = command(f"select k-center --features t.parquet:{key} --budget 6", capsys)
        assert (code, out) == (0, wanted), err
    for key, sentence in (
        ("x0,y", "t.parquet has no column 'y'; it has x0, x1, x2, x3, name, other"),
        ("z*", "t.parquet has no column 'z*'"),
        ("x0,x*", "names the column x0 twice"),
        ("*", "column name does not hold one number a row"),
        ("x9", "holds no 'x9'; it holds x0, x1"),
    ):
        code, _, err = command(f"select k-center --features t.parquet:{key} --budget 6", capsys)
        assert (code, sentence in err) == (2, True), err


def test_progress_is_shown_where_asked_for(folder: Path, capsys) -> None:
    for line in ("select hard", "compare hard random"):
        text = f"{line} --scores scores.npy --budget 5"
        code, quiet, err = command(text, capsys)
        assert (code, err) == (0, "")
        code, out, err = command(f"{text} --progress", capsys)
        assert code == 0
        assert line.split()[0] in err and "%" in err
        if line == "select hard":
            assert out == quiet


def test_a_result_that_cannot_be_written_is_printed(capsys) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "k.json")

    with pytest.raises(OSError, match=r"k.json: No space left on device; the result was printed"):
        keep_or_print(full, lambda: "3\n5")
    assert capsys.readouterr().out == "3\n5\n"


def test_two_processes_with_one_output(folder: Path) -> None:
    """One has the file; the other says so, or prints what it found."""
    line = [sys.executable, "-m", "selection", "select", "random", "--scores", "scores.npy"]
    line += ["--budget", "9", "--out", "k.json"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    both = [
        subprocess.Popen(
            [*line, "--seed", seed],
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
        )
        for seed in "12"
    ]
    answers = [one.communicate() for one in both]
    codes = [one.returncode for one in both]
    assert sorted(codes) == [0, 2]
    winner = codes.index(0)
    pool = Pool.of(scores=np.load("scores.npy"))
    kept = RandomSample().select(pool, 9, seed=winner + 1).indices
    assert read_subset("k.json").indices.tolist() == kept.tolist()
    assert "output file k.json exists already" in answers[1 - winner][1]


@pytest.mark.parametrize("line", ["experiment demo --dataset digits --train 1000", "coverage"])
def test_one_process_at_a_time_works_in_a_folder(folder: Path, capsys, line: str) -> None:
    Path("out").mkdir()
    with alone("out"):
        code, _, err = command(f"{line} --out out", capsys)
    assert code == 2
    assert err == (
        "error: another process works in out; wait until it ends, or name another folder\n"
    )
    assert [path.name for path in Path("out").iterdir()] == [".lock"]


def test_a_score_may_take_an_array_and_do_without(folder: Path, capsys) -> None:
    """Of the labels only the number of classes counts, which is that of the clusters."""
    assert arrays_of_score(ssp) == ["features"]
    line = next(one for one in describe_scores().splitlines() if one.startswith("  ssp"))
    assert line.split()[:3] == ["ssp", "--features", "[--labels]"]
    x = np.load("features.npy")
    for text, wanted in (("", 10), ("--labels labels.npy ", 3)):
        out = f"s{len(text)}.npy"
        code, _, err = command(f"score ssp --features features.npy {text}--out {out}", capsys)
        assert code == 0, err
        np.testing.assert_allclose(np.load(out), ssp(x, clusters=wanted).values)
    code, _, err = command("score ssp --labels labels.npy", capsys)
    assert (code, "needs --features" in err) == (2, True)
    code, _, err = command("score ssp --features features.npy --texts zero.npy", capsys)
    assert (code, "--texts has no effect" in err) == (2, True)


@pytest.mark.parametrize("name", ["score", "select", "compare", "recommend", "knee"])
def test_help_has_examples_and_names_everything(capsys, name: str) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"python -m selection {name}" in out.split("examples:")[1]
    if name == "select":
        assert "weights: those of facility-location" in out.replace("\n  ", " ")
    known = {"score": SCORES, "select": SELECTORS}.get(name, {})
    assert all(one in out for one in known)
