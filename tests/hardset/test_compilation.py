"""The compilation cache of commands: private, mended where damaged, the user's where he says so."""

import os
import subprocess
import sys

import jax
import pytest

from hardset.cli import run
from hardset.compilation import default_folder, take_option

# A command of three programs that prints its results and how many programs it found.
COMMAND = """
import sys
from hardset.cli import run

def main(arguments):
    import jax, jax.monitoring
    hits = []
    jax.monitoring.register_event_listener(
        lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None
    )
    def double(x): return 2 * x
    def square(x): return x * x
    def minus(x): return -x
    print(*[float(jax.jit(one)(3.0)) for one in (double, square, minus)], len(hits), *arguments)
    return 0

sys.exit(run(main))
"""


def command(home, *arguments, **variables):
    """Output and messages of the command with `home` as the user's cache folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XDG_"))}
    environment |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(home), **variables}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


def entries(home):
    return {path.name.partition("-")[0]: path for path in home.rglob("*-cache")}


def test_programs_are_found_again_and_mended_where_damaged(tmp_path):
    results = ["6.0", "9.0", "-3.0"]
    assert command(tmp_path) == ([*results, "0"], "")
    for folder in ("hardset", "hardset/jax"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700
    assert command(tmp_path) == ([*results, "3"], "")

    found = entries(tmp_path)
    assert set(found) == {"jit_double", "jit_square", "jit_minus"}
    content = bytearray(found["jit_double"].read_bytes())
    content[len(content) // 2] ^= 1
    found["jit_double"].write_bytes(content)
    found["jit_square"].write_bytes(b"")
    found["jit_minus"].unlink()
    found["jit_minus"].symlink_to(tmp_path / "absent")
    assert command(tmp_path, PYTHONWARNINGS="error") == ([*results, "0"], "")
    assert not (tmp_path / "absent").exists()
    assert command(tmp_path) == ([*results, "3"], "")

    found["jit_double"].unlink()
    found["jit_double"].mkdir()
    assert command(tmp_path) == ([*results, "2"], "")


def test_the_users_choice_stands(tmp_path):
    own, home = tmp_path / "own", tmp_path / "home"
    assert command(home, "--compilation-cache", "off", "rest")[0][3:] == ["0", "rest"]
    assert command(home, JAX_COMPILATION_CACHE_DIR="")[0][3:] == ["0"]
    assert not home.exists()
    assert command(home, JAX_COMPILATION_CACHE_DIR=str(own))[0][3:] == ["0"]
    assert command(home, f"--compilation-cache={own}")[0][3:] == ["3"]
    assert len(list(own.glob("*-cache"))) == 3 and not home.exists()


def test_a_folder_that_others_can_write_is_not_used(tmp_path):
    shared = tmp_path / "hardset"
    shared.mkdir()
    shared.chmod(0o777)
    _, message = command(tmp_path)
    assert message.startswith("compiled programs are not kept: ")
    assert message.endswith(f"chmod go-w {shared}\n") and message.count("\n") == 1
    assert not entries(tmp_path)


def test_without_a_cache_folder_commands_work(tmp_path):
    """A file stands where the user's cache folder should be."""
    (tmp_path / "file").write_text("")
    assert command(tmp_path / "file") == (["6.0", "9.0", "-3.0", "0"], "")


@pytest.mark.parametrize("platforms", ["banana", "cuda"])
def test_a_device_that_is_not_there_is_one_sentence(tmp_path, platforms):
    environment = {**os.environ, "JAX_PLATFORMS": platforms, "XDG_CACHE_HOME": str(tmp_path)}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: JAX_PLATFORMS = '{platforms}' names no device that JAX finds here; try cpu"
    )
    assert "Traceback" not in done.stderr


def test_a_caller_keeps_his_own_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir, dict(os.environ)
    assert run(lambda arguments: len(arguments), ["a", "b"]) == 2
    assert (jax.config.jax_compilation_cache_dir, dict(os.environ)) == before
    assert default_folder().parent == tmp_path / "hardset/jax" and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "others", "chosen"),
    [
        ([], [], None),
        (["a", "--compilation-cache", "x", "b"], ["a", "b"], "x"),
        (["--compilation-cache=off", "b"], ["b"], "off"),
        (["a", "--", "--compilation-cache", "x"], ["a", "--", "--compilation-cache", "x"], None),
    ],
)
def test_the_option_is_split_off(arguments, others, chosen):
    assert take_option(arguments) == (others, chosen)


@pytest.mark.parametrize("arguments", [["--compilation-cache"], ["--compilation-cache", "--json"]])
def test_the_option_needs_a_value(arguments, capsys):
    assert run(len, arguments) == 2
    assert capsys.readouterr().err == "error: --compilation-cache needs a folder, or the word off\n"


def test_a_chosen_folder_that_cannot_be_used_is_refused(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    before = dict(os.environ)
    assert run(len, ["--compilation-cache", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert dict(os.environ) == before


FULL = """
import hardset.compilation as compilation
from replica.points import solve_points

def maps():
    return sum(1 for _ in open("/proc/self/maps"))

point = {"alpha_total": 5, "keep_fraction": 0.5, "theta_deg": 10, "flip": 0.1, "lam": 0.1}
kinds = [point | {"policy": policy, "loss": "square"} for policy in ("hard", "easy")]
before, full = solve_points(kinds), maps()
assert compilation.make_room(share=1e-6), "nothing was dropped"
assert maps() < full - 500, (maps(), full)
assert solve_points(kinds) == before
"""


def test_programs_are_dropped_before_the_memory_maps_run_out():
    """What is dropped is compiled again, and its answers have the same digits."""
    subprocess.run([sys.executable, "-c", FULL], check=True)
