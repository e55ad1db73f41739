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
    assert found["keep_fraction"] == 0.35 and found["status"] == "converged"
    assert found["residual"] == max(found["residual_saddle"], found["residual_gordon"])


def test_text_names_the_result(capsys):
    # .0938 is the published error of alpha_total = 5 without pruning.
    assert run(main, ["solve", "--alpha-total", "5", "--keep-fraction", "1"]) == 0
    out = capsys.readouterr().out
    assert "0.0938" in out and "converged" in out


def test_lists_are_a_grid_whose_last_axis_varies_fastest(capsys):
    """Two numbers of published curves, and one probe that keeps all its support vectors."""
    lists = ["--alpha-total", "5", "10", "--keep-fraction", "1,.6", "--downstream-deg", "0", "10"]
    assert run(main, ["solve", *lists, "--probe", "in-sample", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [
        [one[name] for name in ("alpha_total", "keep_fraction", "downstream_deg")] for one in found
    ] == [
        [alpha, fraction, angle] for alpha in (5, 10) for fraction in (1, 0.6) for angle in (0, 10)
    ]
    assert [one["error"] for one in found[::4]] == pytest.approx([0.0938, 0.0492], abs=5e-5)
    assert found[2]["error"] == pytest.approx(found[0]["error"], rel=1e-9)
    for one in found:  # each is the point alone
        point = ["--alpha-total", str(one["alpha_total"])]
        point += ["--keep-fraction", str(one["keep_fraction"]), "--probe", "in-sample"]
        point += ["--downstream-deg", str(one["downstream_deg"])]
        assert run(main, ["solve", *point, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["error"] == one["error"]


def test_an_independent_probe_has_the_angle_of_its_own_error(capsys):
    assert run(main, ["solve", "--alpha-total", "5", "--keep-fraction", "1", "--json"]) == 0
    theta_deg = 180 * json.loads(capsys.readouterr().out)["error"]
    assert run(main, [*ONE, "--theta-deg", str(theta_deg), "--json"]) == 0
    fixed = json.loads(capsys.readouterr().out)
    assert run(main, [*ONE, "--probe", "independent", "--alpha-probe", "5", "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["error"] == pytest.approx(fixed["error"], rel=1e-9)


def test_a_grid_is_printed_as_a_table(capsys):
    grid = [
        "--alpha-total",
        "20",
        "--keep-fraction",
        "0.2",
        "--policy",
        "window",
        "--lo",
        "0",
        ".1",
    ]
    assert run(main, ["solve", *grid, "--theta-deg", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  theta_deg        20.0" in lines
    heads, *rows = [line.split() for line in lines[-3:]]
    assert [row[heads.index("lo")] for row in rows] == ["0", "0.1"]
    assert rows[1][heads.index("error")].startswith("0.0667")


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
    common = {"alpha_total": 20, "keep_fraction": 0.2, "theta_deg": 20}
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
        (["solve", "--alpha-total", "5", "--keep-fraction", "0"], "keep_fraction = 0 "),
        (["solve", "--alpha-total", "5", "--keep-fraction", "1.2"], "(0, 1]"),
        (["solve", "--alpha-total", "0", "--keep-fraction", "1"], "alpha_total = 0"),
        (["solve", "--alpha-total", "-3", "--keep-fraction", "1"], "alpha_total = -3"),
        (["solve", "--alpha-total", "inf", "--keep-fraction", "1"], "alpha_total = inf"),
        (["solve", "--alpha-total", "5", "--keep-fraction", "nan"], "keep_fraction = nan"),
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
        (
            ["solv"],
            "'solv' is no command: one of solve, optimal, optimal-lam, frontier, lossless, sepa",
        ),
        ([*ONE, "--probe", "in-sample", "--theta-deg", "20"], "takes no parameter 'theta_deg'"),
        ([*ONE, "--probe", "independent"], "needs the parameter 'alpha_probe'"),
        ([*ONE, "--redundancy", "1", "0.5"], "redundancy = 0.5"),
        (["solve", "--points", "p.json", "--lo", "0.1"], "--lo has no effect beside --points"),
        (["solve", "--points", "p.json", "--policy", "hard"], "--policy has no effect beside --p"),
        ([*ONE, "--f", "0.2"], "unknown option --f; it is called --keep-fraction now"),
        (["solve", "--alpha", "5"], "unknown option --alpha; did you mean --alpha-total?"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, part, capsys):
    assert run(main, arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert part in captured.err
    assert captured.err.count("\n") == 1


GOOD = {"alpha_total": 5, "keep_fraction": 0.5, "theta_deg": 0, "policy": "hard"}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{not json", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "is not a JSON list of objects"),
        ("[1]", "is not a JSON list of objects"),
        (
            [{**GOOD}, {key: GOOD[key] for key in ("alpha_total", "theta_deg", "policy")}],
            "point 1: the key",
        ),
        ([{**GOOD, "keep_fraction": 2}], "point 0: keep_fraction = 2"),
        ([{**GOOD, "keep_fraction": "half"}], "keep_fraction = 'half' is not a number"),
        ([{**GOOD, "keep_fraction": None}], "keep_fraction = None is not a number"),
        ([{**GOOD, "theta_deg": True}], "theta_deg = True is not a number"),
        ([{**GOOD, "policy": "window"}], "needs the parameter 'lo'"),
        ([{**GOOD, "policy": 3}], "policy = 3"),
        ([{**GOOD, "policy": ["hard"]}], "policy = ['hard']"),
        ([{**GOOD, "alpha_total": 10**400}], "alpha_total"),
        (
            '[{"alpha_total": NaN, "keep_fraction": 0.5, "theta_deg": 0, "policy": "hard"}]',
            "alpha_total = nan",
        ),
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
