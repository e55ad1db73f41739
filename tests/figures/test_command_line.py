"""The command line: files where it says, bad input without damage."""

import dataclasses
import errno
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

import replica.commands
import sims.commands
from figures import FIGURES, FigureSpec, __main__
from figures.__main__ import main
from figures.settings import Settings
from hardset.cli import load, parameters, run
from hardset.seal import seal_file
from theory.policy_names import OWN_PARAMETERS

SMALL = ["--dim", "12", "--draws", "3", "--alpha-total", "2", "--keep-fraction", "0.5"]


def call(*arguments: object) -> int:
    """The exit code of `python -m figures` with `arguments`."""
    return run(main, [str(argument) for argument in arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one figure."""
    folder = tmp_path_factory.mktemp("made")
    assert call("geometry", *SMALL, "--format", "png", "--out", folder) == 0
    return folder


@pytest.mark.parametrize("own", OWN_PARAMETERS)
def test_the_parameter_of_a_policy_is_an_option_of_every_command_with_policies(own: str) -> None:
    commands = (replica.commands.solve, replica.commands.optimal, replica.commands.frontier)
    for command in (*commands, sims.commands.run, Settings):
        assert own in inspect.signature(command).parameters, f"{command.__name__}: --{own}"


@pytest.mark.parametrize("word", ["list", "--list"])
def test_list(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(word) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(FIGURES)


def test_every_command_is_listed_and_explains_its_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(__main__.COMMANDS) == [*FIGURES, "all", "list", "explore"]
    assert call("--help") == 0
    listed = capsys.readouterr().out
    for name, target in __main__.COMMANDS.items():
        assert f"\n  {name} " in listed
        for one in parameters(load(target)):
            assert one.help, (name, one.name)
    for name, spec in FIGURES.items():
        assert call(name, "--help") == 0
        page = capsys.readouterr().out
        for field in dataclasses.fields(spec.defaults):
            option = f"--{field.name.replace('_', '-')} "
            assert (option in page) == (not spec.reason(field.name)), (name, option)


def test_says_where_the_files_are(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (made / "geometry.nc").stat().st_mtime_ns
    assert call("geometry", *SMALL, "--format", "png", "--out", made) == 0
    printed = capsys.readouterr().out
    for name in ("geometry.nc", "geometry.png"):
        assert str(made / name) in printed
    # Equal parameters: the data are kept as they are.
    assert (made / "geometry.nc").stat().st_mtime_ns == before


def test_from_data_equals_the_first_drawing(made: Path, tmp_path: Path) -> None:
    source = made / "geometry.nc"
    assert call("geometry", "--from-data", source, "--format", "png", "--out", tmp_path) == 0
    assert (tmp_path / "geometry.png").read_bytes() == (made / "geometry.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["'nonsense' is no command", "fitting-error"]),
        (["angel"], ["did you mean angle?"]),
        (["window", "--simulated-offset", "0"], ["it is called --lo-share now"]),
        (["angle", "--them-deg", "5"], ["unknown option --them-deg", "mean --theta-deg?"]),
        (["angle", "--dim", "1"], ["dim = 1", "[2, inf)"]),
        (["angle", "--dim", "ten"], ["--dim", "'ten' is not an integer"]),
        (["angle", "--draws", "0"], ["draws = 0", "[2, inf)"]),
        (["angle", "--seed", "-1"], ["seed = -1"]),
        (["angle", "--alpha-total", "0"], ["alpha_total = 0", "(0, inf)"]),
        (["angle", "--alpha-total", "nan"], ["alpha_total = nan"]),
        (["angle", "--alpha-total", "inf"], ["alpha_total = inf"]),
        (["angle", "--keep-fraction", "0"], ["keep_fraction = 0", "(0, 1]"]),
        (["angle", "--keep-fraction", "1.5"], ["keep_fraction = 1.5", "(0, 1]"]),
        (["angle", "--theta-deg", "91"], ["theta_deg = 91", "[0, 90] degrees"]),
        (["angle", "--theta-deg", "5", "5"], ["theta_deg = [5.0, 5.0]", "distinct"]),
        (["angle", "--overlap", "kendall"], ["overlap = 'kendall'", "pearson"]),
        (["margins", "--overlap", "pearson"], ["--overlap", "margins", "cosine"]),
        (["angle", "--dim", "12.5"], ["--dim", "'12.5' is not an integer"]),
        (["benchmark-tables", "--runs", "runs.csv"], ["pretrain_jax benchmark-tables"]),
        (["angle", "--format", "gif"], ["'gif'", "png"]),
        (["policies", "--theta-deg", "5", "10"], ["theta_deg = 5, 10", "one value"]),
        (
            ["angle", "--dim", "10", "--alpha-total", "1", "--keep-fraction", "0.01"],
            ["below 1", "at least one example"],
        ),
        (["all", *SMALL, "--keep-fraction", "0.01"], ["figure fitting-error", "= 0.24"]),
        # in-sample has the smallest cell of all defaults: 0.01 * 2 * 40 examples.
        (["all", "--dim", "40"], ["figure in-sample: ", "0.01 * 2 * 40 = 0.8", "--keep-going"]),
        (["angle", "--keep-going"], ["unknown option --keep-going"]),
        (["angle", "--probe", "in-sample"], ["--probe: the figure angle shows several theta_deg"]),
        (["window", "--policy", "easy"], ["--policy: the figure window varies the policy"]),
        (["window", "--lo", "0.5"], ["--lo: the figure window varies the policy"]),
        (["geometry", "--downstream-deg", "5"], ["--downstream-deg: the figure geometry shows"]),
        (["scaling", "--redundancy", "2"], ["--redundancy: the figure scaling knows distinct"]),
        (["angle", "--redundancy", "1", "2"], ["redundancy = 1, 2", "takes one value"]),
        (["angle", "--redundancy", "1.5"], ["redundancy = 1.5 is not a whole number"]),
        (["angle", "--downstream-deg", "90"], ["downstream_deg = 90", "[0, 90) degrees"]),
        (["angle", "--policy", "best"], ["policy = 'best' is not one of hard, easy"]),
        (["angle", "--policy", "window"], ["policy = 'window' needs lo"]),
        (["label-noise", "--loss", "exp"], ["loss = 'exp' is not one of logistic"]),
        (["label-noise", "--policy", "hard"], ["--policy: the figure label-noise compares"]),
        (["label-noise", "--loss", "hinge", "square"], ["loss = 'hinge', 'square'", "one value"]),
        (["separability", "--alpha-total", "5"], ["the figure separability finds alpha_total"]),
        (["angle", "--policy", "window", "--lo", "0.1"], ["keep_fraction = 1", "at most 0.9"]),
        (["angle", "--w", "0.5"], ["w = 0.5 has no effect on the policy hard"]),
        (["policies", "--policy", "hard"], ["policy = hard", "give two or more"]),
        (["fitting-error", "--probe", "independent"], ["'independent' needs alpha_probe"]),
        (
            ["fitting-error", "--probe", "in-sample", "--alpha-probe", "2"],
            ["'in-sample' has no alpha_probe"],
        ),
        (
            ["fitting-error", "--probe", "in-sample", "--theta-deg", "20"],
            ["'in-sample' has an angle of its own: leave out theta_deg"],
        ),
        (
            ["downstream", "--probe", "in-sample", "--overlap", "pearson"],
            ["overlap = 'pearson'", "'in-sample' is none"],
        ),
        (["optimal-fraction", "--keep-fraction", "0.5"], ["--keep-fraction has no effect"]),
        (["in-sample", "--theta-deg", "20"], ["--theta-deg: the figure in-sample is about"]),
        (["geometry", *SMALL, "--theta-deg", "5"], ["theta_deg = [10, 40], not [5.0]"]),
        (["geometry", *SMALL, "--dim", "13"], ["dim = 12, not 13", "geometry.nc"]),
        (["all", "--from-data", "geometry.nc"], ["unknown option --from-data"]),
        (["angle", "--from-data", "MADE/geometry.nc"], ["'figure geometry'", "'figure angle'"]),
        (["geometry", "--from-data", "MADE/absent.nc"], ["absent.nc does not exist"]),
        (
            ["geometry", "--dim", "12", "--from-data", "MADE/geometry.nc"],
            ["--dim has no effect with --from-data"],
        ),
    ],
)
def test_bad_input(
    arguments: list[str], words: list[str], made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(made)
    named = [argument.replace("MADE", str(made)) for argument in arguments]
    assert call(*named, "--out", made) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    sentence = printed.err.splitlines()[-1]
    assert "error:" in sentence
    for word in words:
        assert word in sentence
    assert contents(made) == before


def test_all_leaves_out_what_the_settings_do_not_suit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No draw keeps an example: only figures of theory, and those with f of their own, are left."""
    small = ["--dim", "12", "--draws", "2", "--alpha-total", "2", "--theta-deg", "20"]
    suits = ["--keep-fraction", "0.004", "--format", "svg", "--keep-going", "--out", tmp_path]
    assert call("all", *small, *suits) == 1
    printed = capsys.readouterr()
    left_out = [line.split()[2][:-1] for line in printed.err.splitlines()]
    assert all(line.startswith("left out  ") for line in printed.err.splitlines())
    drawn = [path.stem for path in tmp_path.glob("*.svg")]
    assert sorted(drawn) == ["optimal-fraction", "phase-diagram"]
    assert sorted(left_out + drawn) == sorted(FIGURES)
    assert printed.out.count("caption ") == len(drawn)


def test_starts_without_what_computes_and_draws() -> None:
    """`--help`, the list and a wrong argument import neither JAX nor xarray nor matplotlib."""
    code = (
        "import sys; from hardset.cli import run; from figures.__main__ import main\n"
        "try: run(main, sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*{'jax', 'xarray', 'matplotlib', 'scipy', 'pandas'} & set(sys.modules))"
    )
    wrong = ["angle", "--dim", "1", "--out", "x"]
    for arguments in (["--help"], ["list"], ["nonsense"], ["angle", "--help"], wrong):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == ""


def test_missing_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("angle") == 2
    assert "--out is missing" in capsys.readouterr().err


def test_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert call("geometry", *SMALL, "--out", tmp_path / "file" / "folder") == 2
    assert "cannot be written" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("command", ["compute", "redraw"])
def test_truncated_data_file(
    command: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (made / "geometry.nc").read_bytes()
    broken = tmp_path / "geometry.nc"
    broken.write_bytes(whole[: len(whole) // 2])
    before = contents(tmp_path)
    options = SMALL if command == "compute" else ["--from-data", str(broken)]
    assert call("geometry", *options, "--out", tmp_path) == 2
    sentence = capsys.readouterr().err
    assert "is damaged" in sentence
    assert sentence.count("\n") == 1
    assert contents(tmp_path) == before


def test_all_gives_each_figure_the_settings_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {}

    def record(spec: FigureSpec, settings: Settings, folder: Path, *, progress: bool) -> Path:
        made[spec.name] = settings.parameters()
        return folder

    monkeypatch.setattr("figures.commands.make_data", record)
    monkeypatch.setattr("figures.commands.make_pictures", lambda *arguments: ([], ""))
    assert call("all", "--draws", "7", "--probe", "in-sample", "--out", tmp_path / "out") == 0
    assert list(made) == list(FIGURES)
    assert made["angle"]["draws"] == made["policies"]["draws"] == 7
    probes = {name: (one["probe"], one["theta_deg"]) for name, one in made.items()}
    assert probes["policies"] == ("in-sample", [])
    assert probes["angle"] == ("fixed", [0, 10, 20, 30])
    said = capsys.readouterr().err.splitlines()
    assert "not taken angle: --probe, it shows several theta_deg, which only the fixed" in said[0]


def test_lists_by_space_or_comma(made: Path, tmp_path: Path) -> None:
    for number, angles in enumerate((["10", "40"], ["10,40"])):
        out = tmp_path / str(number)
        assert (
            call("geometry", *SMALL, "--theta-deg", *angles, "--format", "png", "--out", out) == 0
        )
        assert contents(out) == contents(out) | {"geometry.png": contents(made)["geometry.png"]}


def test_json(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("geometry", *SMALL, "--format", "png", "--json", "--out", made) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["data"] == str(made / "geometry.nc")
    assert report["pictures"] == [str(made / "geometry.png")]
    assert report["caption"].endswith("N = 12, 3 draws.")


@pytest.mark.parametrize("command", ["compute", "redraw"])
@pytest.mark.parametrize("lacking", ["student_theory", "parameters"])
def test_data_file_that_lacks_something(
    command: str, lacking: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of the right kind from another version, or edited by hand."""
    with xr.open_dataset(made / "geometry.nc", engine="h5netcdf") as file:
        poorer = file.load().drop_vars(lacking, errors="ignore")
    poorer.attrs.pop(lacking, None)
    poorer.to_netcdf(tmp_path / "geometry.nc", engine="h5netcdf")
    seal_file(tmp_path / "geometry.nc")
    before = contents(tmp_path)
    options = SMALL if command == "compute" else ["--from-data", str(tmp_path / "geometry.nc")]
    assert call("geometry", *options, "--out", tmp_path) == 2
    sentence = capsys.readouterr().err
    lacks_data = lacking != "parameters"  # which the reader of all data files looks for
    assert ("is incomplete" if lacks_data else "does not say its") in sentence
    assert lacking in sentence
    assert sentence.count("\n") == 1
    assert contents(tmp_path) == before


def test_full_folder(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that fills up while the picture is written leaves the old picture."""
    (tmp_path / "geometry.png").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hardset.datafile.os.fsync", full)
    source = made / "geometry.nc"
    assert call("geometry", "--from-data", source, "--format", "png", "--out", tmp_path) == 2
    assert "No space left" in capsys.readouterr().err
    assert contents(tmp_path) == {"geometry.png": b"old"}
