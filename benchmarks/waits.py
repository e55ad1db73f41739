"""How long every interactive command makes its user wait, once its programs are compiled.

    python benchmarks/waits.py [--commands PART ...] [--figures FOLDER] [--out FILE.json]

Each command line runs twice in a process of its own, and the second run counts: the first one may
compile. The peer is `python -c "import jax"`, which nothing that computes with JAX can beat. The
limit is two seconds on two idle cores. Load of the machine lengthens the wall time, several threads
at work lengthen the processor time: what exceeds the limit in both is marked.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 2.0
PATIENCE = 600.0
PEER = "python -c 'import jax'"
ROWS, COLUMNS = 10_000, 64

GRID = "--alpha-total {alphas} --keep-fraction {fractions}"
POINT = "--alpha-total 20 --keep-fraction .2"
POLICIES = (
    "hard",
    "easy",
    "random",
    "moderate",
    "hard-signed",
    "easy-signed",
    "window --lo .1",
    "window-signed --lo .1",
    "mixture --w .5",
)
LOSSES = ("square", "squared-hinge", "hinge", "logistic")
REPLICA = (
    f"solve {POINT}",
    f"solve {GRID}",
    *(f"solve {GRID} --theta-deg 20 --policy {policy}" for policy in POLICIES),
    f"solve {GRID} --probe independent --alpha-probe 2",
    f"solve {GRID} --probe in-sample",
    f"solve {GRID} --probe cross-fitted --theta-deg 20 --folds 5 --folds-overlap .5 "
    "--loss hinge --lam .1",
    f"solve {GRID} --redundancy 5 --downstream-deg 10",
    *(f"solve {POINT} --theta-deg 20 --flip .1 --loss {loss} --lam .1" for loss in LOSSES),
    *(f"solve {GRID} --theta-deg 20 --flip .1 --loss {loss} --lam .1" for loss in LOSSES),
    "solve --alpha-total 2 --keep-fraction .5 --flip .2",
    "solve --points {points}",
    "solve --points {spectrum}",
    "optimal --alpha-total 20",
    "optimal --alpha-total 20 --theta-deg 20",
    "optimal --alpha-total 20 --theta-deg 20 --tolerance .1",
    "optimal --alpha-total 20 --theta-deg 20 --keep-fraction .2",
    "optimal --alpha-total 20 --theta-deg 20 --keep-fraction .2 --signed",
    "optimal --alpha-total 20 --theta-deg 20 --keep-fraction .2 --weight",
    "optimal --target-error .01 --keep-fraction .3 --theta-deg 10",
    "optimal --alpha-total 20 --theta-deg 20 --flip .1 --loss square --lam 0",
    "optimal --alpha-total 20 --theta-deg 20 --flip .1 --loss hinge --lam .1",
    "optimal --alpha-total 20 --theta-deg 20 --flip .1 --loss logistic --lam .1",
    "optimal --alpha-total 20 --theta-deg 20 --flip .1 --loss hinge --lam-bounds .001 10",
    "optimal --alpha-total 20 --theta-deg 20 --flip .1 --loss hinge --lam .1 --keep-fraction .2",
    *(f"optimal-lam {POINT} --theta-deg 20 --flip .1 --loss {loss}" for loss in LOSSES),
    "separability --keep-fraction .2 .5 1 --flip .05 .1 .2 --theta-deg 20",
    "lossless --alpha-total 2 5 10 20",
    "frontier --alpha-kept 5",
    "frontier --alpha-kept 5 --theta-deg 20 --flip .1 --loss square --lam .1",
)

FILES = {
    "features": "--features {features}",
    "scores": "--scores {scores}",
    "both": "--features {features} --scores {scores}",
    "labels": "--features {features} --labels {labels}",
    "gradients": "--gradients {gradients}",
    "trajectories": "--trajectories {trajectories}",
    "texts": "--features {features} --texts {texts}",
    "classes": "--features {features} --labels {labels} --texts {texts}",
}
METHODS = {
    "hard": "scores",
    "easy": "scores",
    "random": "scores",
    "importance": "scores",
    "moderate": "features",
    "ccs": "scores",
    "optimal-window:alpha_total=20": "scores",
    "cluster-top": "both",
    "hierarchical-k-means": "features",
    "k-center": "features",
    "herding": "features",
    "infomax": "both",
    "k-median": "features",
    "d2": "both",
    "facility-location": "features",
    "craig": "labels",
    "adacore": "gradients",
    "gradmatch": "gradients",
    "glister": "labels",
    "sas": "labels",
    "clipcov": "classes",
    "semdedup": "features",
    "meddel": "features",
    "d4": "features",
    "s2l": "trajectories",
    "badge": "gradients",
    "coding-rate": "features",
    "hull-volume": "features",
}
FIGURES = (
    "fitting-error",
    "angle",
    "redundancy",
    "downstream",
    "policies",
    "geometry",
    "margins",
    "v-information",
    "scaling",
    "window",
    "optimal-fraction",
    "optimal-policy",
    "phase-diagram",
    "in-sample",
    "label-noise",
    "loss-decides",
    "regularisation",
    "cross-fitted",
    "separability",
    "less-is-more",
    "curation",
    "spectrum",
)
HELPED = {
    "": ("verify", "completion"),
    "replica": ("solve", "optimal", "optimal-lam", "frontier", "lossless", "separability"),
    "sims": ("run", "solve", "verify"),
    "figures": ("angle", "all", "list", "explore"),
    "selection": ("score", "select", "recommend", "compare", "experiment", "knee", "coverage"),
    "pretrain_jax": ("run", "pipeline", "select", "finetune", "embed"),
}
HELP = (
    "--version",
    *(
        f"{package} {command} --help".strip()
        for package, commands in HELPED.items()
        for command in ("", *commands)
    ),
    "pretrain_jax run demo --help",
    "completion bash",
    "figures --list",
)
WRONG = (
    "nothing",
    "replica solve",
    "replica solve --alpha-total 5 --keep-fraction 2",
    "replica optimal --alpha-total -1",
    "replica solve --points {absent}",
    "sims run --alpha-total 5 --keep-fraction 2 --dim 40 --draws 2",
    "sims solve --features {absent} --labels {absent}",
    "figures angle --dim 1 --out {folder}",
    "figures angle --from-data {absent} --out {folder}",
    "selection select nothing --budget 5",
    "selection select k-center --features {absent} --budget 5",
    "selection recommend --features {absent} --labels {absent}",
    "pretrain_jax run demo --steps many",
    "verify {absent}",
)
OTHERS = (
    "sims solve --features {small} --labels {signs}",
    "sims solve --features {small} --labels {signs} --loss hinge --lam .1",
    "verify {tree}",
)


class Case(NamedTuple):
    """A command line, and the exit codes with which it answers."""

    group: str
    line: str
    codes: tuple[int, ...] = (0,)


CASES = (
    *(Case("help", line) for line in HELP),
    *(Case("wrong", line, (2,)) for line in WRONG),
    # An uncertified corner of a grid is an answer, exit code 1.
    *(Case("replica", f"replica {line}", (0, 1)) for line in REPLICA),
    *(
        Case("selection", f"selection select {method} {FILES[files]} --budget 500")
        for method, files in METHODS.items()
    ),
    Case("recommend", "selection recommend --features {task} --labels {classes}"),
    *(
        Case("figures", f"figures {name} --from-data {{figures}}/{name}.nc --out {{folder}}")
        for name in FIGURES
    ),
    *(Case("others", line) for line in OTHERS),
)


class Wait(NamedTuple):
    """Seconds of a command.

    Attributes:
        wall: until it ended.
        processor: on all cores, its children's included.
        first: until it first wrote anything.
    """

    wall: float
    processor: float
    first: float


def run(arguments: Sequence[str], codes: tuple[int, ...], folder: Path) -> tuple[Wait, bytes]:
    """Run a program in `folder` and return its times and what it printed.

    Raises:
        RuntimeError: another exit code than those, or it takes too long.
    """
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    begun = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "JAX_PLATFORMS": "cpu"},
    )
    assert child.stdout is not None
    said, first = b"", float("nan")
    while part := os.read(child.stdout.fileno(), 1 << 16):
        first = first if said else time.monotonic() - begun
        said += part
        if time.monotonic() > begun + PATIENCE:
            child.kill()
    _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stdout.close()
    if child.returncode not in codes:
        last = said.decode(errors="replace").strip().split("\n")[-1]
        raise RuntimeError(f"exit code {child.returncode}: {last}")
    return Wait(wall, used.ru_utime + used.ru_stime, first), said


def files(folder: Path, figures: Path | None) -> dict[str, str]:
    """Write what the command lines name, and return it by name."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 10, ROWS)
    centres = 2 * rng.standard_normal((10, COLUMNS))
    features = rng.standard_normal((ROWS, COLUMNS)) + centres[classes]
    small = rng.standard_normal((60, 40))
    task = rng.standard_normal((2000, 20))
    arrays: dict[str, Any] = {
        "features": features.astype(np.float32),
        "labels": classes,
        "scores": rng.random(ROWS),
        "gradients": rng.standard_normal((ROWS, COLUMNS), np.float32),
        "trajectories": rng.random((ROWS, 20)),
        "texts": features[:, ::-1].astype(np.float32),
        "small": small,
        "signs": np.where(small[:, 0] > 0, 1, -1),
        "task": task,
        "classes": (task[:, 0] + 0.5 * rng.standard_normal(2000) > 0).astype(int),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    named = {name: str(folder / f"{name}.npy") for name in arrays}
    alphas, fractions = np.geomspace(1, 100, 20), np.linspace(0.05, 0.9, 20)
    points = [
        {"alpha_total": float(alpha), "keep_fraction": 0.2, "theta_deg": angle, "policy": policy}
        for alpha in alphas
        for angle in (0.0, 20.0)
        for policy in ("hard", "random")
    ]
    inputs = {"kind": "powerlaw", "dim": 100, "a": 1.0, "r": 0.5, "rv": 0.5}
    bent = {"alpha_total": 20, "keep_fraction": 0.2, "loss": "square", "lam": 0.1}
    for name, told in (("points", points), ("spectrum", [bent | {"spectrum": inputs}])):
        (folder / f"{name}.json").write_text(json.dumps(told))
        named[name] = str(folder / f"{name}.json")
    (folder / "pictures").mkdir()
    named |= {
        "alphas": " ".join(f"{one:.6g}" for one in alphas),
        "fractions": " ".join(f"{one:.6g}" for one in fractions),
        "absent": str(folder / "absent"),
        "folder": str(folder / "pictures"),
        "figures": str(figures or folder / "figures"),
        "tree": str(folder / "tree"),
    }
    return named


def prepared(cases: Sequence[Case], folder: Path, named: dict[str, str]) -> Iterator[list[str]]:
    """The command lines that must run before the cases can, as words."""
    if any("{tree}" in case.line for case in cases):
        (folder / "tree").mkdir()
        kept = str(folder / "tree" / "kept.parquet")
        hardest = ["select", "hard", "--scores", named["scores"], "--budget", "50", "--out", kept]
        yield ["selection", *hardest]
    data = Path(named["figures"])
    for name in FIGURES:
        wanted = any(f"/{name}.nc" in case.line for case in cases)
        if wanted and not (data / f"{name}.nc").exists():
            yield ["figures", name, *SMALL.get(name, ()), "--out", str(data), "--format", "svg"]


# Data of figures that take minutes at their defaults; the size hardly matters to the drawing.
DRAWS = ("--dim", "40", "--draws", "2")
SMALL = {name: DRAWS for name in FIGURES if name not in ("optimal-fraction", "phase-diagram")}
SMALL |= {
    "in-sample": ("--dim", "50", "--draws", "2"),  # which keeps at least one example
    "curation": (*DRAWS, "--map-angles", "4", "--theory-points", "12"),
    "less-is-more": (
        *DRAWS,
        *("--map-volumes", "4", "--map-flips", "4", "--map-fractions", "4"),
        *("--theory-points", "12"),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write its numbers; exit code 1 if a command failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commands", nargs="+", metavar="PART", help="parts of lines or groups")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="data files of figures")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the numbers once more")
    asked = parser.parse_args(arguments)
    parts = asked.commands or [""]
    chosen = [one for one in CASES if any(part in f"{one.group}: {one.line}" for part in parts)]
    failed, found = 0, []
    with tempfile.TemporaryDirectory(prefix="waits-") as scratch:
        folder = Path(scratch)
        named = files(folder, asked.figures and asked.figures.absolute())
        peer = min(run(["-c", "import jax"], (0,), folder)[0].processor for _ in range(3))
        print(f"The peer, {PEER}: {peer:.2f} processor seconds.\n")
        for words in prepared(chosen, folder, named):
            try:
                run(["-m", "hardset", *words], (0,), folder)
            except RuntimeError as error:
                # The command that lacks its file fails below, and the others are measured.
                print(f"hardset {' '.join(words)}: {error}", file=sys.stderr)
        print("| command | wall, s | processor, s | of the peer |\n|---|---|---|---|")
        for case in chosen:
            words = case.line.format(**named).split()
            try:
                for _ in range(2):
                    wait, said = run(["-m", "hardset", *words], case.codes, folder)
            except RuntimeError as error:
                failed += 1
                print(f"| `{case.line}` | {error} | | |", flush=True)
                continue
            mark = " **>**" if min(wait.wall, wait.processor) > LIMIT else ""
            ratio = wait.processor / peer
            cells = f"{wait.wall:.2f}{mark} | {wait.processor:.2f} | {ratio:.1f}"
            print(f"| `{case.line}` | {cells} |", flush=True)
            found.append({**case._asdict(), **wait._asdict(), "said": said.decode()})
    if asked.out:
        asked.out.write_text(json.dumps({"peer": peer, "commands": found}, indent=1) + "\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
