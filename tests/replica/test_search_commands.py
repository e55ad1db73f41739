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
