"""The command line: results in order, sentences, exit codes."""

import json
from pathlib import Path

import pytest

from hardset.cli import run
from replica.__main__ import main

REFERENCE = Path(__file__).parents[1] / "reference/replica_points.json"
ONE = ["solve", "--alpha-total", "5", "--keep-fraction", "0.35"]


def test_one_point_as_json(capsys):
    assert run(main, [*ONE, "--theta-deg", "20", "--policy", "hard", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["f"] == 0.35 and found["status"] == "converged"
    assert found["residual"] == max(found["residual_saddle"], found["residual_gordon"])


def test_text_names_the_result(capsys):
    # .0938 is the published error of alpha_total = 5 without pruning.
    assert run(main, ["solve", "--alpha-total", "5", "--keep-fraction", "1"]) == 0
    out = capsys.readouterr().out
    assert "0.0938" in out and "converged" in out


def test_points_come_back_in_order_with_their_own_keys(tmp_path, capsys):
    points = json.loads(REFERENCE.read_text())
    mixed = [{**points[k], "note": k} for k in (5, 0, 20, 11)]
    path = tmp_path / "points.json"
    path.write_text(json.dumps(mixed))
    assert run(main, ["solve", "--points", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [point["note"] for point in found] == [5, 0, 20, 11]
    for ours, given in zip(found, mixed, strict=True):
        assert ours["error"] == pytest.approx(given["error"], rel=1e-11)


def test_a_parameter_per_point(tmp_path, capsys):
    """Errors of window and mixture at alpha_total = 20, f = .2, 20 degrees, from another solver."""
    common = {"alpha_total": 20, "f": 0.2, "theta_deg": 20}
    expected = {("window", 0.1): 0.06672, ("window", 0.2): 0.07180, ("window", 0.8): 0.12119}
    expected |= {("mixture", 0.5): 0.096974, ("mixture", 0.8): 0.102696}
    path = tmp_path / "points.json"
    path.write_text(
        json.dumps(
            [
                {**common, "policy": name, ("lo" if name == "window" else "w"): value}
                for name, value in expected
            ]
        )
    )
    assert run(main, ["solve", "--points", str(path), "--json"]) == 0
    found = [point["error"] for point in json.loads(capsys.readouterr().out)]
    assert found == pytest.approx(list(expected.values()), abs=6e-6)


def test_an_empty_list_is_solved(tmp_path, capsys):
    path = tmp_path / "points.json"
    path.write_text("[]")
    assert run(main, ["solve", "--points", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["solve"], "--alpha-total and --keep-fraction must be given"),
        (["solve", "--alpha-total", "5", "--keep-fraction", "0"], "f = 0 "),
        (["solve", "--alpha-total", "5", "--keep-fraction", "1.2"], "(0, 1]"),
        (["solve", "--alpha-total", "0", "--keep-fraction", "1"], "alpha_total = 0"),
        (["solve", "--alpha-total", "-3", "--keep-fraction", "1"], "alpha_total = -3"),
        (["solve", "--alpha-total", "inf", "--keep-fraction", "1"], "alpha_total = inf"),
        (["solve", "--alpha-total", "5", "--keep-fraction", "nan"], "f = nan"),
        ([*ONE, "--theta-deg", "90.5"], "[0, 90] degrees"),
        ([*ONE, "--theta-deg", "-1"], "theta_deg = -1"),
        ([*ONE, "--policy", "best"], "policy = 'best' is not one of hard"),
        ([*ONE, "--policy", "window"], "'lo'"),
        ([*ONE, "--policy", "window", "--lo", "0.7"], "lo + keep_fraction"),
        ([*ONE, "--policy", "mixture", "--w", "2"], "w = 2"),
        ([*ONE, "--policy", "hard", "--lo", "0.1"], "takes no parameter"),
        ([*ONE, "--redundancy", "0.5"], "redundancy = 0.5"),
        ([*ONE, "--downstream-deg", "90"], "[0, 90)"),
        ([*ONE, "--alpha-total", "five"], "'five' is not a number"),
        (["solve", "--points", "absent.json"], "absent.json cannot be read"),
        ([], "command"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, part, capsys):
    assert run(main, arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert part in captured.err
    assert captured.err.count("\n") == 1


GOOD = {"alpha_total": 5, "f": 0.5, "theta_deg": 0, "policy": "hard"}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{not json", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "is not a JSON list of objects"),
        ("[1]", "is not a JSON list of objects"),
        (
            [{**GOOD}, {key: GOOD[key] for key in ("alpha_total", "f", "policy")}],
            "point 1: the key",
        ),
        ([{**GOOD, "f": 2}], "point 0: f = 2"),
        ([{**GOOD, "f": "half"}], "f = 'half' is not a number"),
        ([{**GOOD, "f": None}], "f = None is not a number"),
        ([{**GOOD, "theta_deg": True}], "theta_deg = True is not a number"),
        ([{**GOOD, "policy": "window"}], "needs the parameter 'lo'"),
        ([{**GOOD, "policy": 3}], "policy = 3"),
        ([{**GOOD, "policy": ["hard"]}], "policy = ['hard']"),
        ([{**GOOD, "alpha_total": 10**400}], "alpha_total"),
        ('[{"alpha_total": NaN, "f": 0.5, "theta_deg": 0, "policy": "hard"}]', "alpha_total = nan"),
    ],
)
def test_bad_points_files_are_one_sentence(content, part, tmp_path, capsys):
    path = tmp_path / "points.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert run(main, ["solve", "--points", str(path), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert part in captured.err
    assert captured.err.count("\n") == 1
