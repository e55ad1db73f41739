"""The command line starts, and refuses wrong arguments, without the libraries of its methods."""

import os
import subprocess
import sys

import pytest

HEAVY = "jax, scipy, numba, xarray, pandas, matplotlib, pyarrow, sklearn, faiss, replica, theory"

PROGRAM = f"""
import sys
from hardset.cli import run
from selection.__main__ import main
for line in sys.stdin.read().splitlines():
    try:
        code = run(main, line.split())
    except SystemExit as stopped:
        code = stopped.code
    print("code", code)
    heavy = {{name.strip() for name in {HEAVY!r}.split(",")}} & set(sys.modules)
    assert not heavy, (line, heavy)
"""

LINES = {
    0: ["--help"]
    + [f"{one} --help" for one in ("score", "select", "recommend", "compare")]
    + [f"{one} --help" for one in ("experiment", "knee", "coverage")],
    2: [
        "nothing",
        "score nothing",
        "score el2n:end=3 --logits none.npy",
        "score ssp --features none.npy",
        "select soft --budget 5",
        "select infomax:weights=1 --budget 5",
        "select optimal-window --budget 5",
        "select infomax --scores none.npy --budget 5",
        "select k-center --features none.npy --budget many",
        "compare infomax --scores none.npy --budget 5",
        "recommend --features none.npy --labels none.npy",
        "recommend --features none.npy",
        "recommend --features none.npy --labels none.npy --tolerance 0",
        "recommend --features none.npy --labels none.npy --policies hard hard",
        "knee --features none.npy --labels none.npy --plot curve.txt",
        "knee --features none.npy --labels none.npy",
        "experiment demo --out new --methods infomax:weights=1",
        "coverage --out new --methods soft",
    ],
}


@pytest.mark.parametrize("code", LINES)
def test_nothing_heavy_is_imported(code: int, tmp_path) -> None:
    """In a process of its own; nothing there imports more than the lines before did."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="\n".join(LINES[code]),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    codes = [one for one in found.stdout.splitlines() if one.startswith("code ")]
    assert codes == [f"code {code}"] * len(LINES[code])


def test_every_public_name_is_there() -> None:
    import selection

    assert selection.__all__ == sorted(selection.__all__)
    assert all(getattr(selection, name) is not None for name in selection.__all__)
    assert set(selection.__all__) <= set(dir(selection))
