"""The commands `optimal` and `frontier`: JSON, exit codes, one sentence for bad input."""

import json

import pytest

from hardset.cli import run
from replica.__main__ import main


def answers(arguments, capsys):
    code = run(main, [*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_fractions(capsys):
    """The error of all data at alpha = 5 and 20 is published: .0938 and .0249."""
    code, found = answers(["optimal", "--alpha-total", "5", "20"], capsys)
    assert code == 0 and [record["alpha_total"] for record in found] == [5, 20]
    assert [round(record["full_error"], 4) for record in found] == [0.0938, 0.0249]
    code, found = answers(["optimal", "--alpha-total", "20", "--tolerance", "0.01,0.1"], capsys)
    assert code == 0 and [record["tolerance"] for record in found] == [0.01, 0.1]
    assert found[0]["keep_fraction"] > found[1]["keep_fraction"]
    assert found[1]["error"] == pytest.approx(1.1 * found[1]["full_error"], rel=1e-9)


def test_a_missing_lossless_fraction_has_an_exit_code(capsys):
    """N of alpha_total N examples carry everything: the fraction tends to 1/alpha_total."""
    code, found = answers(["lossless", "--alpha-total", "1e6", "1e308"], capsys)
    assert code == 1
    assert found[0]["lossless_fraction"] == pytest.approx(1e-6, rel=1e-3)
    assert found[1]["lossless_fraction"] is None


def test_a_window(capsys):
    common = ["optimal", "--alpha-total", "20", "--keep-fraction", "0.2", "--theta-deg", "20"]
    code, (found,) = answers(common, capsys)
    assert "policy" not in found
    # .06672 at lo = .1 by another solver.
    assert code == 0 and found["error"] < 0.0667 and found["status"] == "found"


def test_data_for_a_target(capsys):
    code, found = answers(["optimal", "--target-error", "0.0938", "1e-9"], capsys)
    assert code == 1
    assert found[0]["alpha_total"] == pytest.approx(5.0, rel=1e-3)
    assert found[1]["alpha_total"] is None and found[1]["status"] == "unreachable"


def test_frontier(capsys):
    arguments = ["frontier", "--alpha-kept", "0.2", "5", "--alpha-total", "5", "10"]
    code, found = answers(arguments, capsys)
    assert code == 0 and [record["alpha_kept"] for record in found] == [0.2, 5]
    assert found[1]["error"] < found[1]["random_error"] and found[1]["exponent"] < 0
    assert run(main, arguments) == 0
    assert "random_error" in capsys.readouterr().out


def test_answers_say_which_policy_they_are_of(capsys):
    own = ["--policy", "window", "--lo", "0.1", "--theta-deg", "20"]
    for arguments in (
        ["optimal", "--alpha-total", "20"],
        ["optimal", "--target-error", "0.1", "--keep-fraction", "0.5"],
        ["frontier", "--alpha-kept", "5"],
    ):
        _, (found,) = answers([*arguments, *own], capsys)
        assert (found["policy"], found["lo"], found["theta_deg"]) == ("window", 0.1, 20)


NOISY = ["--flip", "0.1", "--loss", "squared-hinge", "--theta-deg", "20"]


def test_searches_take_losses_and_noise(capsys):
    """By a reference solver: .0846 for all data at their best lam, and .0902 for a fifth."""
    common = ["--alpha-total", "20", *NOISY, "--lam-bounds", "0.001", "16"]
    code, (found,) = answers(["optimal", *common, "--keep-fraction", "0.2"], capsys)
    assert code == 0 and (found["loss"], found["flip"]) == ("squared-hinge", 0.1)
    assert found["hard_error"] == pytest.approx(0.0901, abs=1.1e-4)
    assert found["lam_bounds"] == [0.001, 16] and 0.001 <= found["lam"] <= 16
    code, every = answers(
        ["optimal-lam", *common[:-3], "--keep-fraction", "0.2", "1", *common[-3:]], capsys
    )
    assert code == 0 and [one["status"] for one in every] == ["at_range_end", "found"]
    assert every[1]["error"] == pytest.approx(0.0846, abs=5.1e-5)
    assert every[0]["error"] == pytest.approx(found["hard_error"], rel=1e-9)
    # Another value of the reference solver, at K = 5 and alpha_total = 20.
    target = ["--target-error", "0.24337813", "--keep-fraction", "0.1"]
    student = [*NOISY, "--lam", "0.1", "--probe", "cross-fitted", "--folds", "5"]
    code, (folds,) = answers(["optimal", *target, *student], capsys)
    assert code == 0 and folds["alpha_total"] == pytest.approx(20, rel=1e-6)


def test_separability(capsys, tmp_path):
    """Thresholds of the reference solver: 2.9923 and 3.8142; without noise there is none."""
    path = tmp_path / "points.json"
    common = {"theta_deg": 20, "policy": "hard"}
    points = [
        {**common, "keep_fraction": 1.0, "flip": 0.1},
        {**common, "keep_fraction": 0.2, "flip": 0.05},
        {**common, "keep_fraction": 0.2, "alpha_total": 3.0, "loss": "hinge", "lam": 0.1},
    ]
    path.write_text(json.dumps(points))
    code, found = answers(["separability", "--points", str(path)], capsys)
    assert code == 0
    assert [one["status"] for one in found] == ["found", "found", "unbounded"]
    assert found[0]["alpha_kept"] == pytest.approx(2.9923, abs=5.1e-5)
    assert found[1]["alpha_total"] == pytest.approx(5 * 3.8142, rel=2e-5)
    assert found[2]["alpha_total"] is None
    # One fold is the single probe.
    folds = ["--probe", "cross-fitted", "--folds", "1", "5", "--theta-deg", "20", "--flip", "0.1"]
    code, found = answers(["separability", "--keep-fraction", "0.2", *folds], capsys)
    assert code == 0 and found[0]["alpha_kept"] == pytest.approx(2.9947, abs=5.1e-5)
    assert found[1]["alpha_kept"] != found[0]["alpha_kept"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["optimal"], "exactly one of --alpha-total and --target-error"),
        (["optimal", "--alpha-total", "1", "--target-error", "0.1"], "exactly one of"),
        (["optimal", "--alpha-total", "-1"], "alpha_total = -1"),
        (["optimal", "--alpha-total", "1", "--theta-deg", "91"], "[0, 90] degrees"),
        (["optimal", "--alpha-total", "1", "--tolerance", "0"], "tolerance = 0"),
        (["optimal", "--alpha-total", "1", "--policy", "best"], "policy = 'best'"),
        (["optimal", "--alpha-total", "1", "--policy", "window"], "'lo'"),
        (["optimal", "--alpha-total", "1", "--weight"], "--weight has no effect"),
        (["optimal", "--target-error", "0.1", "--tolerance", "1"], "--tolerance has no effect"),
        (["optimal", "--target-error", "0.6"], "target_error = 0.6"),
        (
            ["optimal", "--alpha-total", "1", "--keep-fraction", "0.5", "--policy", "easy"],
            "--policy has no effect",
        ),
        (["optimal", "--alpha-total", "1", "--lam", "1"], "lam has no effect without a loss"),
        (["optimal", "--alpha-total", "1", "--loss", "hinge"], "needs the parameter 'lam'"),
        (["optimal", "--alpha-total", "1", "--lam-bounds", "1", "2"], "needs a --loss"),
        (["optimal", "--alpha-total", "1", *NOISY, "--lam-bounds", "2", "1"], "increasing"),
        (["optimal", "--alpha-total", "1", "--flip", "0.7"], "flip = 0.7"),
        (["optimal", "--alpha-total", "1", "--signed"], "--signed has no effect"),
        (["optimal", "--alpha-total", "1", "--folds", "5"], "takes no parameter 'folds'"),
        (["optimal-lam", "--alpha-total", "1", "--keep-fraction", "1"], "--loss must be given"),
        (["separability", "--flip", "0.1"], "--keep-fraction must be given"),
        (["frontier"], "--alpha-kept"),
        (["frontier", "--alpha-kept", "0"], "alpha_kept = 0"),
        (["frontier", "--alpha-kept", "5", "--alpha-total", "1"], "the largest must be at least"),
        (["frontier", "--alpha-kept", "x"], "'x' is not a number"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, part, capsys):
    assert run(main, arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert part in captured.err
    assert captured.err.count("\n") == 1
