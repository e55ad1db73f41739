"""--given and --given-features through the command line, and files that a method never reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from hardset.cli import run
from selection import SELECTORS, Pool, SelectionSampler
from selection.__main__ import main
from selection.files import read_subset
from selection.given import Given
from selection.methods.diversity import KCenter
from selection.methods.ranking import RandomSample
from selection.methods.wrappers import Cutoff, Quotas

CLUSTER = np.repeat([0, 1, 2], 20)
FEATURES = np.array([[0.0, 0], [9, 0], [0, 9]])[CLUSTER]
FEATURES = FEATURES + 0.3 * np.random.default_rng(0).standard_normal((60, 2))
NAMES = np.array([f"e{99 - row}" for row in range(60)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", FEATURES)
    np.save("s.npy", np.arange(60.0))
    np.save("names.npy", NAMES)
    np.save("old.npy", FEATURES[:12])
    return tmp_path


def command(text: str, capsys: Any) -> tuple[int, str, str]:
    code = run(main, text.split())
    out, err = capsys.readouterr()
    return code, out, err


def kept(text: str, capsys: Any) -> list[int]:
    code, out, err = command(text + " --json", capsys)
    assert code == 0, err
    shown = [one.removeprefix("e") for one in map(str, json.loads(out)["kept"])]
    return [int(one) if "--ids" not in text else 99 - int(one) for one in shown]


@pytest.mark.parametrize("named", [False, True])
def test_every_form_of_the_file(folder: Path, capsys: Any, named: bool) -> None:
    rows = np.arange(12)
    values: Any = NAMES[rows] if named else rows
    np.save("g.npy", values)
    np.savez("g.npz", a=values, b=values[:2])
    pandas.DataFrame({"who": values, "other": values[::-1]}).to_parquet("g.parquet")
    Path("g.txt").write_text("\n".join(map(str, values)) + "\n\n")
    ids = " --ids names.npy" if named else ""
    for name in ("first.json", "first.parquet"):
        text = f"select hard --scores s.npy{ids} --budget 12 --out {name}"
        assert command(text.replace("hard", "easy"), capsys)[0] == 0
    one = Pool.of(features=FEATURES, ids=NAMES if named else None)
    expected = KCenter().select(one, 2, given=Given.of(one, rows=rows)).indices.tolist()
    assert sorted(CLUSTER[expected]) == [1, 2]
    files = ["g.npy", "g.npz:a", "g.parquet:who", "g.parquet:other", "g.txt"]
    for source in [*files, "first.json", "first.parquet"]:
        text = f"select k-center --features x.npy{ids} --budget 2 --given {source}"
        assert kept(text, capsys) == expected


def test_lists_that_spreadsheets_write(folder: Path, capsys: Any) -> None:
    """A byte-order mark is no part of the first name; a column of text cannot be asked for."""
    Path("g.txt").write_text("\n".join(NAMES[:12]), encoding="utf-8-sig")
    Path("h.txt").write_text("\n".join(NAMES[:12]), encoding="utf-8")
    text = "select k-center --features x.npy --ids names.npy --budget 3 --"
    for option in ("given", "include", "exclude"):
        budget = " --budget 14" if option == "include" else ""
        found = kept(f"{text}{option} g.txt{budget}", capsys)
        assert found == kept(f"{text}{option} h.txt{budget}", capsys)
    for source, sentence in (
        (
            "h.txt:who",
            "given file h.txt has no columns to choose from, only .npz and .parquet have",
        ),
        ("list.json", "subset file list.json holds no subset: it is no table that `select` wrote"),
    ):
        Path("list.json").write_text(json.dumps(NAMES[:3].tolist()))
        code, _, err = command(f"{text}given {source}", capsys)
        assert code == 2 and sentence in err


def test_features_from_outside_and_both(folder: Path, capsys: Any) -> None:
    one = Pool.of(features=FEATURES)
    outside = Given.of(one, features=FEATURES[:12])
    text = "select k-center --features x.npy --budget 2 --given-features old.npy"
    assert kept(text, capsys) == KCenter().select(one, 2, given=outside).indices.tolist()
    Path("g.txt").write_text("25\n")
    both = Given.of(one, rows=[25], features=FEATURES[:12])
    code, out, _ = command(text + " --given g.txt --out kept.json --json", capsys)
    assert code == 0
    facts = {"examples": 1, "from_outside": 12, "file": "g.txt", "features": "old.npy"}
    assert json.loads(out)["given"] == facts
    assert json.loads(Path("kept.json").read_text())["given"] == facts
    found = KCenter().select(one, 2, given=both)
    assert read_subset("kept.json").indices.tolist() == found.indices.tolist()
    assert sorted(CLUSTER[found.indices]) != [1, 1]


def test_an_empty_list_is_no_list(folder: Path, capsys: Any) -> None:
    Path("g.txt").write_text("\n")
    text = "select k-center --features x.npy --budget 5"
    assert kept(text + " --given g.txt", capsys) == kept(text, capsys)


def test_under_wrappers(folder: Path, capsys: Any) -> None:
    np.save("labels.npy", np.arange(60) % 2)
    Path("g.txt").write_text("\n".join(map(str, range(12))))
    text = "select k-center --features x.npy --labels labels.npy --given g.txt --budget 4"
    for more in (" --balance equal", " --partitions 2", " --partitions 2 --resume parts"):
        assert 0 not in CLUSTER[kept(text + more, capsys)]
    one = Pool.of(features=FEATURES)
    given = Given.of(one, rows=np.arange(12))
    found = kept(text + " --scores s.npy --mislabel-cutoff .3", capsys)
    scored = Pool.of(features=FEATURES, scores=np.arange(60.0))
    direct = Cutoff(KCenter(), 0.3).select(scored, 4, given=given)
    assert found == direct.indices.tolist()
    Path("must.txt").write_text("59\n")
    first = kept(text + " --include must.txt", capsys)
    assert first[0] == 59 and 0 not in CLUSTER[first]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("--given gone.txt", "given file gone.txt does not exist"),
        ("--given .", "given file . is no file"),
        ("--given gone.json", "given file gone.json does not exist"),
        ("--given gone.npy", "given file gone.npy does not exist"),
        ("--given words.txt:a", "given file words.txt has no columns to choose from"),
        ("--given words.txt", "words.txt holds 'pear' in line 2; they are whole numbers, rows"),
        ("--given names.npy", "names.npy holds texts; they are whole numbers, rows of the pool"),
        ("--given binary.txt", "given file binary.txt cannot be read"),
        ("--given far.npy", "given file far.npy: given holds row 60; the pool has 60 examples"),
        ("--given below.txt", "given holds row -1; the pool has 60 examples"),
        ("--given twice.npy", "given holds the row 3 more than once"),
        ("--given half.npy", "given holds 0.5 at index 0, not a whole number"),
        ("--given x.npy", r"given has shape (60, 2)"),
        ("--given huge.txt", "holds a number outside the 64-bit integers"),
        ("--given foreign.json", "foreign.json holds no subset"),
        ("--given named.json", "was written with ids, and the pool has none"),
        ("--ids names.npy --given rows.json", "was written without ids, which --ids gives"),
        ("--ids names.npy --given apple.txt", "given holds the id apple, which the pool lacks"),
        ("--ids names.npy --given far.npy", "of another kind than the pool's ids"),
        ("--given-features gone.npy", "given-features file gone.npy does not exist"),
        ("--given-features wide.npy", "features of the given examples have shape (2, 3)"),
        ("--given-features nan.npy", "nan.npy: features holds nan at index (1, 0)"),
        ("--given most.npy", "budget = 5 is outside the valid range 1 to 2, a count of those"),
        ("--given all.npy", "all 60 examples are given already"),
    ],
)
def test_bad_existing_sets(folder: Path, capsys: Any, text: str, sentence: str) -> None:
    Path("words.txt").write_text("1\npear\n")
    Path("apple.txt").write_text("apple\n")
    Path("binary.txt").write_bytes(b"\xff\xfe\x00")
    Path("below.txt").write_text("-1\n")
    Path("huge.txt").write_text("9" * 40)
    Path("foreign.json").write_text('{"a": 1}')
    np.save("far.npy", [3, 60])
    np.save("twice.npy", [3, 4, 3])
    np.save("half.npy", [0.5])
    np.save("wide.npy", np.ones((2, 3)))
    np.save("nan.npy", np.array([[0.0, 1], [np.nan, 1]]))
    np.save("most.npy", np.arange(58))
    np.save("all.npy", np.arange(60))
    command("select easy --scores s.npy --budget 3 --out rows.json", capsys)
    command("select easy --scores s.npy --ids names.npy --budget 3 --out named.json", capsys)
    before = sorted(path.name for path in folder.iterdir())
    line = f"select k-center --features x.npy --budget 5 {text} --out new/kept.json"
    code, out, err = command(line, capsys)
    assert code == 2 and out == ""
    assert sentence in err and err.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == before


def test_ranking_methods_refuse_what_they_cannot_compare(folder: Path, capsys: Any) -> None:
    line = "select hard --scores s.npy --given-features old.npy --budget 5"
    for more in ("", " --partitions 2"):
        code, _, err = command(line + " --features x.npy" + more, capsys)
        assert code == 2 and "method 'hard' does not compare examples with each other" in err


def test_files_that_a_method_never_reads_may_hold_anything(folder: Path, capsys: Any) -> None:
    bad = np.full((60, 2), np.nan)
    bad[0] = 1e300
    np.save("bad.npy", bad)
    np.save("text.npy", np.array([["a", "b"]] * 60))
    np.save("short.npy", bad[:3])
    expected = kept("select random --scores s.npy --budget 5", capsys)
    for option in ("features", "gradients", "trajectories", "texts", "scores"):
        file = "bad.npy" if option != "texts" else "text.npy"
        line = f"select random --{option} {file} --budget 5"
        assert kept(line, capsys) == expected
        assert kept(line + " --partitions 1", capsys) == expected
        line = f"select random --ids names.npy --{option} short.npy --budget 5"
        code, _, err = command(line, capsys)
        assert code == 2 and f"different lengths: {option} 3, ids 60" in err
    code, _, err = command("select k-center --features bad.npy --budget 5", capsys)
    assert code == 2 and "features holds nan at index (1, 0)" in err


@pytest.mark.parametrize("name", sorted(set(SELECTORS) - {"optimal-window"}))
def test_methods_read_no_other_fields_than_they_say(name: str) -> None:
    rng = np.random.default_rng(3)
    arrays = {
        "scores": rng.random(40),
        "mislabel": rng.random(40),
        "features": rng.standard_normal((40, 3)),
        "gradients": rng.standard_normal((40, 3)),
        "trajectories": rng.random((40, 3)),
        "texts": rng.standard_normal((40, 3)),
        "labels": np.arange(40) % 2,
        "groups": np.arange(40) % 5,
    }
    chosen = SELECTORS[name]()
    whole = chosen.select(Pool.of(**arrays), 8)
    less = {field: value for field, value in arrays.items() if field in chosen.reads}
    part = chosen.select(Pool.of(**less, ids=np.arange(40)), 8)
    assert np.array_equal(whole.indices, part.indices)
    assert np.array_equal(whole.weights, part.weights)
    assert Quotas(chosen).reads == chosen.reads | {"labels"}


def test_a_random_under_sampler_takes_columns_of_any_kind() -> None:
    frame = pandas.DataFrame({"name": ["a", "b", None, "d"] * 5, "when": [np.nan] * 20})
    labels = np.arange(20) % 2
    for method in (RandomSample(), Quotas(RandomSample())):
        rows, kept_labels = SelectionSampler(method, budget=6).fit_resample(frame, labels)
        assert rows.shape == (6, 2) and len(kept_labels) == 6
    with pytest.raises(ValueError, match="features has dtype object"):
        SelectionSampler(KCenter(), budget=6).fit_resample(frame, labels)
