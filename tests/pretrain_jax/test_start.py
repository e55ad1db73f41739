"""What help and wrong arguments load: none of the packages that cost seconds."""

import subprocess
import sys

from pretrain_jax.__main__ import COMMANDS

HEAVY = ("jax", "flax", "optax", "orbax", "xarray", "pandas", "scipy", "matplotlib", "pyarrow")
# Arguments of every command that end before any work, and exit code of each.
WRONG = [
    ["walk"],
    *([name, "--help"] for name in COMMANDS),
    *([name, "--bananas"] for name in COMMANDS),
    ["run", "demo", "--help"],
    ["run", "demo", "--steps", "many"],
    ["run", "demo", "--steps", "-1"],
    ["pipeline", "optidel_reference", "--help"],
    ["pipeline", "optidel_reference", "--data", "x", "--patches", "5"],
    ["probe", "x", "demo", "--optimizer.eps", "nan"],
    ["pretrain", "x", "demo", "--batch-size", "0"],
    ["finetune", "x", "demo", "--out", "y", "--steps", "-1"],
    ["propose", "x", "--shards", "0"],
    ["propose", "x", "--min-area", "nan"],
    ["score", "x", "--masks", "-1"],
    ["select", "x", "--method", "optidel", "--ratio", "nan"],
    ["report", "x", "--sample", "0"],
    ["benchmark-tables", "--out", "x", "--runs", "absent.csv"],
    ["reconstruct", "x", "y.png", "--seed", "-1", "--out", "z.png"],
]
PROGRAM = f"""
import contextlib, io, sys
from hardset.cli import run
from pretrain_jax.__main__ import main
for arguments in {WRONG!r}:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run(main, arguments)
    expected = 0 if "--help" in arguments else 2
    loaded = sorted(set({HEAVY!r}) & sys.modules.keys())
    if code != expected or loaded:
        sys.exit(f"{{arguments}}: exit code {{code}}, loaded {{loaded}}: {{said.getvalue()}}")
"""


def test_help_and_wrong_arguments_load_nothing_heavy() -> None:
    """JAX alone is more processor time than the half second that a refusal may cost."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
