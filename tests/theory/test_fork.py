"""A forked process is told that JAX's threads are gone; it used to wait for ever."""

import os
import subprocess
import sys

import pytest

# .4712 nats at e = .1 by adaptive quadrature.
SCRIPT = """
import multiprocessing, os, sys, warnings
warnings.simplefilter("ignore")  # JAX's own about fork
from theory import v_information

def ask(_):
    try:
        return f"{float(v_information(0.1)):.4f}"
    except RuntimeError as error:
        return str(error)

if __name__ == "__main__":
    if sys.argv[2] == "used":
        v_information(0.1)
    if sys.argv[2] == "used by others":
        import jax.numpy
        jax.numpy.ones(3)
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.map(ask, [0])[0])
    print(ask(0))
"""


def answers(tmp_path, method, used):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), method, used],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("used", ["used", "used by others"])
def test_a_fork_after_use_is_refused_with_the_remedy(tmp_path, used):
    child, parent = answers(tmp_path, "fork", used)
    assert "forked from one that had used JAX" in child and "'spawn'" in child
    assert parent == "0.4712"


@pytest.mark.parametrize(
    ("method", "used"), [("fork", "fresh"), ("spawn", "used"), ("forkserver", "used")]
)
def test_other_workers_answer(tmp_path, method, used):
    assert answers(tmp_path, method, used) == ["0.4712", "0.4712"]
