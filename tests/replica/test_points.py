"""Files of points: what is refused, what passes through, one program for any number of rows."""

import json
import subprocess
import sys

import jax.monitoring
import pytest

from hardset.cli import run
from replica.__main__ import main
from replica.points import solve_points

GOOD = {"alpha_total": 5, "keep_fraction": 0.5, "theta_deg": 0, "policy": "hard"}
WINDOW = {**GOOD, "policy": "window", "lo": 0.1}
IN_SAMPLE = {"alpha_total": 5, "keep_fraction": 0.5, "policy": "hard", "probe": "in-sample"}


def without(point, *keys):
    return {key: value for key, value in point.items() if key not in keys}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (
            [GOOD, {**GOOD, "redundency": 5}],
            "point 1: unknown key 'redundency'; did you mean redundancy? (known are ",
        ),
        ([{**GOOD, "downstream": 20}], "unknown key 'downstream'; did you mean downstream_deg?"),
        ([{**GOOD, "xyzzy": None}], "unknown key 'xyzzy' (known are alpha_total, keep_fraction, "),
        ([{**GOOD, "f": 0.5}], "unknown key 'f'; it is called keep_fraction now"),
        ([{**GOOD, "R": 0.5}], "unknown key 'R'; it is called overlap now"),
        ([{**GOOD, "rho": 0.5}], "unknown key 'rho'; it is called probe_overlap now"),
        ([{**GOOD, "kappa": 0.5}], "unknown key 'kappa'; it is called margin now"),
        ([without(GOOD, "keep_fraction")], "point 0: the key 'keep_fraction' is missing"),
        ([without(GOOD, "theta_deg")], "point 0: probe 'fixed' needs the parameter 'theta_deg'"),
        ([{**GOOD, "probe": "own"}], "probe = 'own' is not one of fixed, independent, in-sample"),
        ([{**GOOD, "probe": "in-sample"}], "probe 'in-sample' takes no parameter 'theta_deg'"),
        ([{**GOOD, "probe": "independent"}], "probe 'independent' needs the parameter 'alpha_pro"),
        ([{**IN_SAMPLE, "alpha_probe": 2}], "probe 'in-sample' takes no parameter 'alpha_probe'"),
        ([{**GOOD, "lo": 0.1}], "point 0: policy 'hard' takes no parameter, got ['lo']"),
        ([{**WINDOW, "w": 0.1}], "takes the parameter 'lo', got ['lo', 'w']"),
        ([GOOD, {**WINDOW, "lo": 0.6}], "point 1: lo + keep_fraction = 1.1 is outside"),
        ([GOOD] * 3 + [{**GOOD, "theta_deg": 91}], "point 3: theta_deg = 91 is outside"),
        ([GOOD, {**GOOD, "alpha_total": -(10**400)}], "point 1: alpha_total = -inf"),
        ('[{"w": 0.5, "w": 0.4}]', "is not JSON: an object has the key 'w' twice"),
        ('[{"note": Infinity}]', "is not JSON: note = inf is no finite number"),
        ('[{"note": [1, NaN]}]', "is not JSON: note = nan is no finite number"),
        ('[{"alpha_total": 1e999}]', "is not JSON: alpha_total = inf is no finite number"),
        ('{"a":' * 100_000, "is not JSON"),
        (b"\xff\xfe[\x00]\x00", "is not JSON: save it as UTF-8 text"),
        ("", "is not JSON"),
        ("null", "is not a JSON list of objects"),
    ],
)
def test_what_is_wrong_is_named(content, part, tmp_path, capsys):
    path = tmp_path / "points.json"
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    assert run(main, ["solve", "--points", str(path), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and part in captured.err and captured.err.count("\n") == 1


def test_free_notes_pass_and_an_answer_can_be_asked_again(tmp_path, capsys):
    """.0938 is the published error of alpha_total = 5 without pruning."""
    one = {**GOOD, "keep_fraction": 1, "id": "a", "note": {"any": ["thing", None]}, "lo": None}
    other = {**GOOD, "keep_fraction": 1}
    path = tmp_path / "points.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([one, other]).encode())
    assert run(main, ["solve", "--points", str(path), "--json"]) == 0
    answer = capsys.readouterr().out
    first, second = json.loads(answer)
    assert {key: first[key] for key in one} == one and second["keep_fraction"] == 1
    assert first["error"] == second["error"] == pytest.approx(0.0938, abs=5e-5)
    # An answer can be asked again.
    path.write_text(answer)
    assert run(main, ["solve", "--points", str(path), "--json"]) == 0
    assert capsys.readouterr().out == answer


def test_few_some_and_many_points_have_a_program_each_whatever_their_number():
    compiled = []
    for count in (1, 9, 300):
        solve_points([GOOD] * count)

    def listener(name, seconds, **_):
        if "backend_compile" in name:
            compiled.append(name)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        for count in (2, 40, 301):
            solved = solve_points([{**GOOD, "alpha_total": 1 + k / 100} for k in range(count)])
            assert len(solved) == count and solved[-1]["error"] < solved[0]["error"]
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert not compiled


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", 0),
        ("solve --help", 0),
        ("optimal --help", 0),
        ("frontier --help", 0),
        ("lossless --help", 0),
        ("optimal-lam --help", 0),
        ("separability --help", 0),
        ("nonsense", 2),
        ("solve --alpha-total five", 2),
        ("solve --alpha-total 5 --keep-fraction 2", 2),
        ("solve --alpha-total 5 --keep-fraction .5 --policy easy --w .1", 2),
        ("solve --points absent.json", 2),
        ("optimal --alpha-total -1", 2),
        ("frontier --alpha-kept 5 --theta-deg 91", 2),
        ("lossless --alpha-total 5 --redundancy 0", 2),
        ("optimal-lam --alpha-total 5 --keep-fraction .5", 2),
        ("separability --keep-fraction 2", 2),
    ],
)
def test_help_and_wrong_arguments_load_nothing_heavy(arguments, code):
    """JAX takes .6 s of processor time to load, xarray .3 s, SciPy's optimisers .3 s."""
    script = (
        "import sys\nfrom hardset.cli import run\nfrom replica.__main__ import main\n"
        "try:\n    code = run(main, sys.argv[1:])\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'jax', 'scipy', 'xarray', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments.split()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
