"""The advice tried on tables: held-out errors by brute force, statistics by hand, runs resume."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hardset.cli import run
from hardset.listing import write_record
from selection.__main__ import main
from selection.advice.recommendation import recommend
from selection.experiments.advice import HeldOut, run_tables, try_advice
from selection.experiments.advice_results import PATHS, markdown, raw, smallest_safe, theory
from selection.experiments.plans import TABLE_PLANS, TablePlan
from selection.experiments.runs import claim_plan
from selection.experiments.tables import Split

TINY = TablePlan(("iris-1-2",), 2)


@pytest.fixture(scope="module")
def easy() -> Split:
    """Two clean classes of which little can be lost, so that the advice keeps a part."""
    random = np.random.default_rng(5)
    labels = np.arange(1100) % 2
    features = random.normal(size=(1100, 4)) * [1, 2, 3, 4]
    features[:, 0] += 6 * labels
    rows = np.arange(1100)
    parts = rows[:700], rows[700:]
    return Split(features[:700], labels[:700], features[700:], labels[700:], parts[0], parts[1])


@pytest.fixture(scope="module")
def tried(easy: Split) -> dict[str, Any]:
    return try_advice(easy, 3)


def test_what_the_advice_costs_is_measured_on_held_out_rows(
    easy: Split, tried: dict[str, Any]
) -> None:
    """By scikit-learn's pipeline with another solver, from the indices that `recommend` gives."""
    advice = recommend(easy.features, easy.labels, seed=3, explain=False)
    assert advice.keep_fraction < 1
    # The scaling is that of all training rows, whatever is kept.
    scaler = StandardScaler().fit(easy.features)
    wrong = []
    for kept in (advice.indices, np.arange(700)):
        student = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
        student.fit(scaler.transform(easy.features[kept]), easy.labels[kept])
        found = student.predict(scaler.transform(easy.test_features)) != easy.test_labels
        wrong.append(found.astype(float))
    change = wrong[0] - wrong[1]
    own = tried["choices"][0]
    assert own["name"] == "advice"
    assert (own["policy"], own["keep_fraction"]) == (advice.policy, advice.keep_fraction)
    assert own["kept"] == len(advice.indices)
    assert np.isclose(own["increase"], change.mean(), atol=1e-12)
    assert np.isclose(own["stderr"], change.std(ddof=1) / 20, atol=1e-12)  # sqrt(400) rows
    assert np.isclose(tried["error_all"], wrong[1].mean())
    # The point of the curve is the advice's, where both keep the same rows.
    (point,) = (
        one
        for one in tried["curve"]
        if (one["policy"], one["keep_fraction"]) == (advice.policy, advice.keep_fraction)
    )
    assert point["increase"] == own["increase"]


def test_every_choice_keeps_what_it_says(tried: dict[str, Any]) -> None:
    names = [one["name"] for one in tried["choices"]]
    assert names == [
        "advice",
        "random, certified",
        "search without a bound",
        "version 0.1",
        "version 0.1 and its verdict",
        "EL2N of the student",
        "EL2N",
        "forgetting",
        "CCS",
    ]
    for one in tried["choices"]:
        # Both halves of a row are rounded the same way: to the nearest number of rows.
        assert abs(one["kept"] - 700 * one["keep_fraction"]) <= 0.5 + 1e-9
    advised = tried["choices"][0]["kept"]
    assert {one["kept"] for one in tried["choices"][-4:]} == {advised}
    assert len(tried["curve"]) == 3 * 9


def test_kept_rows_of_one_class_teach_that_class() -> None:
    features, labels = np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 1])
    tried = HeldOut(features, labels, features, labels)
    assert tried.wrong(np.array([1, 2])).tolist() == [True, False, False]


def test_held_out_students_are_those_of_the_advice(easy: Split) -> None:
    """C = 1 on standardised features, by scikit-learn's pipeline."""
    pipeline = make_pipeline(
        StandardScaler(), LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
    )
    pipeline.fit(easy.features, easy.labels)
    wrong = pipeline.predict(easy.test_features) != easy.test_labels
    assert np.array_equal(HeldOut.of(easy).wrong(np.arange(700)), wrong)


def by_hand(train: int, increase: float, stderr: float, fraction: float) -> dict[str, Any]:
    """A record whose tolerance is .01, with a random path that is safe down to .5."""
    choice = {
        "name": "advice",
        "policy": "hard" if fraction < 1 else "all",
        "keep_fraction": fraction,
        "kept": round(train * fraction),
        "increase": increase,
        "stderr": stderr,
    }
    points = {0.7: 0.0, 0.5: 0.01, 0.35: 0.02, 0.25: 0.0}
    return {
        "table": f"of {train}",
        "package": "none",
        "split": 0,
        "train": train,
        "held_out": 100,
        "columns": 2,
        "error_all": 0.1,
        "advice": {"tolerance": 0.01, "bound": 0.008 if fraction < 1 else None},
        "curve": [
            {
                "policy": policy,
                "keep_fraction": fraction,
                "validated": 0.0,
                "bound": 0.1,
                "kept": 1,
                "increase": value,
                "stderr": 0.0,
            }
            for policy in ("hard", "mixture", "random")
            for fraction, value in points.items()
        ],
        "choices": [choice, choice | {"name": "version 0.1"}],
        "explanation": {
            "keep_fraction": [1.0, 0.5, 0.25, 0.125],
            "predicted": {one: [0.12, 0.1, 0.0, None] for one in PATHS},
            "measured": {one: [0.1, 0.2, 0.0, 0.1] for one in PATHS},
        },
    }


def test_statistics_are_those_computed_by_hand() -> None:
    records = [
        by_hand(200, 0.0, 0.0, 1.0),
        # Above the tolerance of a point by less than two standard errors.
        by_hand(1000, 0.012, 0.005, 0.25),
        by_hand(2000, 0.05, 0.005, 0.04),
    ]
    # Down to .5 the increases are 0 and .01, which is not above the tolerance; .35 is.
    assert smallest_safe(records[0], "random") == 0.5
    text = markdown(records)
    # Median, mean and geometric mean of 1, .25, .04; one of three keeps all; two are above the
    # tolerance, one by two standard errors; 5 points, and 4 less two standard errors.
    assert "| all | 3 | 0.25 | 0.430 | 0.215 | 0.33 | 2 | 1 | 5.00 | 4.00 |" in text
    assert "| n >= 1000 | 2 | 0.145 | 0.145 | 0.100 | 0.00 | 2 | 1 | 5.00 | 4.00 |" in text
    assert "| advice | 2 | 0.145 | 0.430 | 2 (100%) | 1 (50%) | +3.10 | +5.00 |" in text
    # Half of an error misses as much as twice; no answer misses all; 0 is 0.
    fit = "1.00, 1.00 (1.20) | 0.00, 1.00 (2.00) | 1.00, 1.00 (1.00) | 0.00, 0.00 (inf)"
    assert f"| hard | {fit} |" in text
    rows = list(csv.DictReader(io.StringIO(raw(records))))
    assert len(rows) == 3 * (2 + 12)
    assert (rows[14]["name"], rows[14]["increase"], rows[14]["bound"]) == (
        "advice",
        "0.012",
        "0.008",
    )
    lines = theory(records).splitlines()
    assert len(lines) == 1 + 3 * 3 * 4
    assert lines[1:5:3] == ["of 200,0,hard,1.0,0.12,0.1", "of 200,0,hard,0.125,,0.1"]


def test_a_trial_resumes_and_refuses_another_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first part is written by hand here, so that only the second can have been computed."""
    folder = tmp_path / "run"

    def killed(part: str) -> None:
        assert part == "iris-1-2, split 0"
        raise KeyboardInterrupt

    folder.mkdir()
    claim_plan(folder, TINY.parameters()).write()
    first = folder / "iris-1-2-0.json"
    write_record(first, by_hand(200, 0.0, 0.0, 1.0))
    written = first.stat().st_mtime_ns
    with pytest.raises(KeyboardInterrupt):
        run_tables(TINY, folder, advance=killed)
    assert not (folder / "iris-1-2-1.json").exists()
    records = run_tables(TINY, folder)
    assert first.stat().st_mtime_ns == written
    assert [one["train"] for one in records] == [200, 70]
    assert (records[1]["table"], records[1]["package"]) == ("iris-1-2", "scikit-learn")

    arguments = ["experiment", "advice", "--tables", "iris-1-2", "--out", str(folder)]
    assert run(main, arguments) == 0
    out = capsys.readouterr().out
    assert "| iris-1-2 | 70 | 4 |" in out
    assert {"advice.md", "advice.csv", "theory.csv"} <= {path.name for path in folder.iterdir()}
    assert (folder / "advice.md").read_text().strip() == out.strip()
    assert run(main, [*arguments, "--seeds", "3"]) == 2
    assert "holds results of another plan" in capsys.readouterr().err
    first.write_text(first.read_text()[:-9])
    assert run(main, arguments) == 2
    assert "delete it, and it is computed again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("experiment advice --train 10", "plan advice takes --tables and --seeds, and no --train"),
        ("experiment knee --keep-fraction .5", "and no --keep-fraction"),
        ("experiment knee --methods hard", "and no --methods"),
        ("experiment knee --seeds 0", "seeds = 0"),
        ("experiment advice --tables iris", "iris"),
        ("experiment demo --tables iris-1-2", "plan demo takes no --tables; advice, knee do"),
    ],
)
def test_bad_input_is_one_sentence(
    line: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(main, [*line.split(), "--out", str(tmp_path / "out")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_plans_try_enough() -> None:
    assert len(TABLE_PLANS["advice"].tables) >= 46
    assert TABLE_PLANS["advice"].splits >= 2
    assert len(TABLE_PLANS["knee"].tables) == 9
