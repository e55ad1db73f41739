"""How every command's time grows with its rows: command lines, at n, 4 n and 16 n.

    python benchmarks/scaling.py [--commands NAME ...] [--minutes 30] [--out FILE.json]

"Rows" are whatever a command has many of: points, draws, examples, images, steps, files. Each
command runs as its user runs it, in a process of its own; its processor time, its children's
included, less that at the smallest size is fitted as a power of the rows. Sizes grow fourfold until
the largest takes ten times the start-up; where the time for that is not there, the table says so.
Every size runs twice and the shorter run counts: the first one may compile.
"""

import argparse
import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MOST = 1.15
START_UPS = 10.0
FACTOR = 4
SIZES = 3
LIMIT = 600.0  # seconds of a run
# A model that compiles in seconds and still does a step's work.
ENCODER = {"image-size": 32, "patch-size": 8, "width": 32, "depth": 1, "heads": 2}
FIELDS = {f"model.encoder.{name}": value for name, value in ENCODER.items()} | {
    "model.decoder-width": 16,
    "model.decoder-depth": 1,
    "model.decoder-heads": 2,
    "data.workers": 0,
    "validate-every": 0,
    "probe-every": 0,
    "batch-size": 8,
}

CENTRES = np.random.default_rng(1).standard_normal((10, 16)).astype(np.float32)

Arguments = list[str]


def options(fields: dict[str, Any], prefix: str = "") -> Arguments:
    """Fields of a preset as a command takes them."""
    return [text for name, value in fields.items() for text in (f"--{prefix}{name}", str(value))]


class Run(NamedTuple):
    """What a run took: processor seconds with all its children, and its own peak memory."""

    seconds: float
    peak: int


class Command(NamedTuple):
    """A command and how it is made larger.

    Attributes:
        name: as in its command line, after `python -m`; a part in brackets tells sizes apart.
        rows: what it has many of.
        smallest: where start-up is all that it does.
        first: n, unless the start-up needs it larger.
        prepare: (folder, rows) -> arguments; writes the files that they name.
        most: rows that it can take.
    """

    name: str
    rows: str
    smallest: int
    first: int
    prepare: Callable[[Path, int], Arguments]
    most: int = 1 << 40


class Row(NamedTuple):
    """A line of the table."""

    command: Command
    start_up: float
    sizes: list[int]
    seconds: list[float]
    exponent: float
    peak: int
    trouble: str


def run(arguments: Sequence[str], limit: float = LIMIT) -> Run:
    """Run a command of ours.

    Raises:
        RuntimeError: it fails, or takes longer than the limit.
    """
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd=scratch(),  # `sims solve` names its own output where none is given
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "JAX_PLATFORMS": "cpu"},
        )
        ends = time.monotonic() + limit
        # Of this child alone, and its own children that it waited for; getrusage adds up all.
        peak = 0
        while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
            peak = max(peak, peak_memory(child.pid))
            if time.monotonic() > ends:
                child.kill()
                os.wait4(child.pid, 0)
                child.returncode = -9
                raise RuntimeError(f"took more than {limit:.0f} s")
            time.sleep(0.01)
        _, status, used = ended
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().split("\n")[-1]
            raise RuntimeError(f"exit code {child.returncode}: {last}")
    return Run(used.ru_utime + used.ru_stime, peak)


def peak_memory(pid: int) -> int:
    """The largest resident set of a running process so far, 0 where the system does not tell.

    What wait4 tells would include this process's own, which the child was for a moment.
    """
    with contextlib.suppress(OSError):
        for told in Path(f"/proc/{pid}/status").read_text().splitlines():
            if told.startswith("VmHWM:"):
                return 1024 * int(told.split()[1])
    return 0


def measure(command: Command, rows: int) -> Run:
    """The shorter of two runs at one size, each in a fresh folder."""
    runs = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(run(command.prepare(Path(folder), rows)))
    return Run(min(one.seconds for one in runs), max(one.peak for one in runs))


def exponent(rows: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of log time on log rows by least squares; NaN where a time is not positive."""
    if len(rows) < 2 or min(seconds) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(rows), np.log(seconds), 1)[0])


def scale(
    command: Command, budget: float, measured: Callable[[Command, int], Run] = measure
) -> Row:
    """Measure a command at growing sizes, as far as the seconds of `budget` go."""
    begun = time.monotonic()
    sizes: list[int] = []
    seconds: list[float] = []
    start_up, peak, trouble = float("nan"), 0, ""
    try:
        start_up, peak = measured(command, command.smallest)
        rows = command.first
        while True:
            before = time.monotonic()
            found = measured(command, rows)
            took = time.monotonic() - before
            sizes.append(rows)
            seconds.append(found.seconds)
            peak = found.peak
            enough = found.seconds >= START_UPS * start_up
            if len(sizes) >= SIZES and enough:
                break
            if rows * FACTOR > command.most:
                trouble = f"{command.most} {command.rows} are all that it takes"
                break
            # Quadratic growth at worst: a size that does not fit is not begun.
            if time.monotonic() - begun + took * FACTOR > budget:
                trouble = "the time was up"
                break
            rows *= FACTOR
    except RuntimeError as error:
        trouble = str(error)
    sizes, seconds = sizes[-SIZES:], seconds[-SIZES:]
    if sizes and seconds[-1] < START_UPS * start_up:
        trouble += f"{'; ' if trouble else ''}{sizes[-1]} {command.rows} take only "
        trouble += f"{seconds[-1] / start_up:.1f} times the start-up"
    grown = [spent - start_up for spent in seconds]
    return Row(command, start_up, sizes, seconds, exponent(sizes, grown), peak, trouble)


HEAD = ("command", "rows", "n, 4 n, 16 n", "start-up, s", "s", "exponent", "peak, MiB", "")


def line(row: Row) -> str:
    """A line of the table; exponents above MOST are marked."""
    mark = " **>**" if row.exponent > MOST else ""
    cells = (
        row.command.name,
        row.command.rows,
        ", ".join(map(str, row.sizes)),
        f"{row.start_up:.2f}",
        ", ".join(f"{spent:.2f}" for spent in row.seconds),
        ("-" if np.isnan(row.exponent) else f"{row.exponent:.2f}") + mark,
        f"{row.peak / 2**20:.0f}",
        row.trouble.replace("|", "\\|"),
    )
    return f"| {' | '.join(cells)} |"


def values(low: float, high: float, count: int) -> Arguments:
    """Numbers on a command line, all different."""
    return [f"{value:.6g}" for value in np.linspace(low, high, count)]


def points_file(folder: Path, rows: int) -> Arguments:
    """Points over the whole plane of alpha_total and the fraction."""
    rng = np.random.default_rng(0)
    points = [
        {
            "alpha_total": float(alpha),
            "keep_fraction": float(share),
            "theta_deg": float(angle),
            "policy": "hard",
        }
        for alpha, share, angle in zip(
            np.exp(rng.uniform(-0.7, 6, rows)),
            rng.uniform(0.05, 1, rows),
            rng.uniform(0, 45, rows),
            strict=True,
        )
    ]
    for point in points:
        point["policy"] = "hard"
    (folder / "points.json").write_text(json.dumps(points))
    return ["replica", "solve", "--points", str(folder / "points.json"), "--json"]


def optimal(folder: Path, rows: int) -> Arguments:
    """The best fraction at many volumes."""
    return ["replica", "optimal", "--alpha-total", *values(1, 100, rows), "--json"]


def frontier(folder: Path, rows: int) -> Arguments:
    """The frontier at many volumes."""
    return ["replica", "frontier", "--alpha-kept", *values(1, 20, rows), "--json"]


def lossless(folder: Path, rows: int) -> Arguments:
    """The lossless fraction at many volumes."""
    return ["replica", "lossless", "--alpha-total", *values(2.5, 100, rows), "--json"]


def optimal_lam(folder: Path, rows: int) -> Arguments:
    """The best lam at many volumes."""
    volumes = ["--alpha-total", *values(1, 100, rows)]
    noise = ["--keep-fraction", "0.5", "--loss", "squared-hinge", "--flip", "0.1"]
    return ["replica", "optimal-lam", *volumes, *noise, "--json"]


def separability(folder: Path, rows: int) -> Arguments:
    """The threshold of separability at many fractions."""
    fractions = ["--keep-fraction", *values(0.1, 0.9, rows)]
    return ["replica", "separability", *fractions, "--flip", "0.1", "--json"]


def sims_draws(folder: Path, rows: int) -> Arguments:
    """Draws of one cell."""
    cell = options({"alpha-total": 4, "keep-fraction": 0.5, "dim": 40, "draws": rows})
    return ["sims", "run", *cell, "--json"]


def sims_cells(folder: Path, rows: int) -> Arguments:
    """Cells of two draws."""
    cells = ["--keep-fraction", *values(0.2, 1, rows)]
    return ["sims", "run", *options({"alpha-total": 4, "dim": 40, "draws": 2}), *cells, "--json"]


def sims_solve(folder: Path, rows: int) -> Arguments:
    """A matrix of one's own that a plane separates."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, 30))
    np.save(folder / "x.npy", features)
    np.save(folder / "y.npy", np.where(features[:, 0] > 0, 1, -1))
    files = ["--features", str(folder / "x.npy"), "--labels", str(folder / "y.npy")]
    return ["sims", "solve", *files, "--json"]


def figure(folder: Path, rows: int) -> Arguments:
    """A figure's draws; its theory has a fixed number of points."""
    small = options({"dim": 20, "draws": rows, "alpha-total": 4, "format": "png"})
    chosen = ["--keep-fraction", "0.5", "1", "--out", str(folder / "figures")]
    return ["figures", "fitting-error", *small, *chosen]


def selection_files(folder: Path, rows: int, *names: str) -> Arguments:
    """Features of ten clusters, scores, logits: as files, those that are named."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, rows)
    kinds = {
        "features": lambda: rng.standard_normal((rows, 16), np.float32) + 2 * CENTRES[labels],
        "scores": lambda: rng.random(rows),
        "logits": lambda: rng.standard_normal((rows, 10), np.float32),
    }
    for name in names:
        np.save(folder / f"{name}.npy", kinds[name]())
    return [text for name in names for text in (f"--{name}", str(folder / f"{name}.npy"))]


def select(method: str, needs: str, budget: str, folder: Path, rows: int) -> Arguments:
    """A method on the files that it needs."""
    files = selection_files(folder, rows, *needs.split())
    out = ["--budget", budget, "--out", str(folder / "kept.json")]
    return ["selection", "select", method, *files, *out]


def score(folder: Path, rows: int) -> Arguments:
    """A score of logits, written to a file."""
    files = selection_files(folder, rows, "logits")
    return ["selection", "score", "entropy", *files, "--out", str(folder / "scores.npy")]


def two_classes(folder: Path, rows: int) -> Arguments:
    """Features and labels of a task of two classes, as files."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, 20))
    labels = features[:, 0] + 0.3 * rng.standard_normal(rows) > 0
    np.save(folder / "x.npy", features)
    np.save(folder / "y.npy", labels.astype(int))
    return ["--features", str(folder / "x.npy"), "--labels", str(folder / "y.npy")]


def recommend(folder: Path, rows: int) -> Arguments:
    """Advice on a task of two classes."""
    return ["selection", "recommend", *two_classes(folder, rows), "--json"]


def compare(folder: Path, rows: int) -> Arguments:
    """Three methods side by side."""
    files = selection_files(folder, rows, "features", "scores")
    return ["selection", "compare", "hard", "random", "easy", *files, "--budget", "50", "--json"]


def experiment(folder: Path, rows: int) -> Arguments:
    """Seeds of two methods on digits."""
    small = options({"dataset": "digits", "train": 500, "keep-fraction": 0.5, "seeds": rows})
    methods = ["--methods", "random", "hard", "--out", str(folder / "experiment")]
    return ["selection", "experiment", "demo", *small, *methods]


def knee(folder: Path, rows: int) -> Arguments:
    """The whole measured curve of a task of two classes."""
    return ["selection", "knee", *two_classes(folder, rows), "--json"]


def coverage(folder: Path, rows: int) -> Arguments:
    """Examples in the plane."""
    methods = ["--methods", "hard", "ccs:cutoff=0.1"]
    return ["selection", "coverage", "--n", str(rows), *methods, "--out", str(folder / "plane")]


def pictures(folder: Path, rows: int) -> Path:
    """Images of 64 pixels with a bright square on noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(rows):
        pixels = rng.integers(0, 80, (64, 64, 3), dtype=np.uint8)
        top, left = rng.integers(0, 40, 2)
        pixels[top : top + 20, left : left + 20] += 120
        Image.fromarray(pixels).save(folder / f"{number:06d}.png")
    return folder


@functools.cache
def made(step: str, rows: int) -> Path:
    """The pipeline's folder as it is before a step, made once by the commands themselves."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    steps = list(CHAIN)
    before = steps[: steps.index(step)]
    if not before:
        return folder
    shutil.copytree(made(before[-1], rows), folder, dirs_exist_ok=True)
    run(CHAIN[before[-1]](folder, rows))
    return folder


@functools.cache
def scratch() -> str:
    """A folder for what several commands build on; `main` removes it."""
    return tempfile.mkdtemp(prefix="scaling-")


@functools.cache
def model() -> Path:
    """A masked autoencoder of one step, for commands that need any."""
    folder = Path(scratch())
    images = pictures(folder / "images-of-the-model", 16)
    run(train("run", images, folder / "model", 1))
    return folder / "model"


def train(command: str, images: Path, out: Path, steps: int) -> Arguments:
    """Steps of a small masked autoencoder."""
    named = ["mae_vit_tiny_cpu", *options(FIELDS), "--steps", str(steps), "--out", str(out)]
    if command == "run":
        return ["pretrain_jax", "run", *named, "--data.path", str(images)]
    return ["pretrain_jax", command, str(images), *named]


# The pipeline's steps on a folder of images and run, each on what those before it left there.
CHAIN: dict[str, Callable[[Path, int], Arguments]] = {
    "propose": lambda root, rows: [
        *("pretrain_jax", "propose", str(root / "run")),
        *("--data", str(pictures(root / "images", rows))),
    ],
    "score": lambda root, rows: [
        *("pretrain_jax", "score", str(root / "run"), "--of", "saliency"),
        *("--probe", str(model()), "--masks", "2", "--workers", "1"),
    ],
    "select": lambda root, rows: [
        *("pretrain_jax", "select", str(root / "run"), "--method", "optidel", "--ratio", "0.5"),
    ],
    "synthesise": lambda root, rows: [
        *("pretrain_jax", "synthesise", str(root / "run"), "optidel-50"),
    ],
    "verify": lambda root, rows: ["hardset", "verify", str(root / "run")],
}


def chained(step: str, folder: Path, rows: int) -> Arguments:
    """A step of the pipeline on a copy of what the others left."""
    root = folder / "root"
    shutil.copytree(made(step, rows), root)
    return CHAIN[step](root, rows)


def trained(command: str, folder: Path, rows: int) -> Arguments:
    """Steps of a training on a few images, or on an index of them."""
    if command == "probe":
        shutil.copytree(made("score", 16), folder / "root")
        return train(command, folder / "root/run/index", folder / "out", rows)
    return train(command, pictures(folder / "images", 16), folder / "out", rows)


def embedded(command: str, folder: Path, rows: int) -> Arguments:
    """Features of images, and for `keep` the farthest three of them."""
    out = ["--out", str(folder / ("kept/kept.txt" if command == "keep" else "features"))]
    chosen = ["--method", "k-center", "--budget", "3"] if command == "keep" else []
    images = str(pictures(folder / "images", rows))
    return ["pretrain_jax", command, images, "--weights", str(model()), *chosen, *out]


def dicom(folder: Path, rows: int) -> Arguments:
    """Slices of one series, without a window, whose percentiles are those of all."""
    import pydicom

    (folder / "scans").mkdir()
    whole = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    for number in range(rows):
        whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        whole.ImagePositionPatient = [0, 0, number]
        whole.save_as(folder / "scans" / str(number))
    out = ["--out", str(folder / "out"), "--salt", str(folder / "salt")]
    return ["pretrain_jax", "import-dicom", str(folder / "scans"), *out]


def nifti(folder: Path, rows: int) -> Arguments:
    """Slices of a compressed volume, across the way it lies on disk."""
    import nibabel

    values = np.random.default_rng(0).integers(0, 900, (rows, 128, 128)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / "a.nii.gz")
    out = ["--axis", "sagittal", "--out", str(folder / "out")]
    return ["pretrain_jax", "import-nifti", str(folder / "a.nii.gz"), *out]


def reconstruct(folder: Path, rows: int) -> Arguments:
    """A picture with a row for each image."""
    images = sorted(pictures(folder / "images", rows).iterdir())
    out = ["--out", str(folder / "rows.png")]
    return ["pretrain_jax", "reconstruct", str(model()), *map(str, images), *out]


def finetune(folder: Path, rows: int) -> Arguments:
    """Steps of a linear head on squares and their masks."""
    from PIL import Image

    data = folder / "data"
    (data / "masks").mkdir(parents=True)
    for path in pictures(data / "images", 12).iterdir():
        bright = np.asarray(Image.open(path))[:, :, 0] > 100
        Image.fromarray(255 * bright.astype(np.uint8)).save(data / "masks" / path.name)
    small = {f"encoder.{name}": value for name, value in ENCODER.items()}
    small |= {"head": "linear", "mode": "scratch", "steps": rows, "batch-size": 4}
    small |= {"warmup-steps": 1, "bootstrap-draws": 2000, "test-share": 0.3}
    out = ["--out", str(folder / "out")]
    return ["pretrain_jax", "finetune", str(data), "demo", *options(small), *out]


@functools.cache
def segmenter() -> Path:
    """A fine-tuned model of one step."""
    folder = Path(scratch()) / "segmenter"
    folder.mkdir()
    run(finetune(folder, 1))
    return folder / "out"


def predict(folder: Path, rows: int) -> Arguments:
    """Masks of small images."""
    images = pictures(folder / "images", rows)
    out = ["--model", str(segmenter()), "--out", str(folder / "out")]
    return ["pretrain_jax", "predict", str(images), *out]


def pipeline(folder: Path, rows: int) -> Arguments:
    """Seeds of two methods, all stages from images to the report."""
    images = pictures(folder / "images", 24)
    tiny = options(FIELDS, "mae.train.")
    trials = ["--mae.methods", "random", "optidel", "--mae.ratios", "0.5", "--mae.train.steps", "2"]
    seeds = ["--mae.seeds", *map(str, range(rows))]
    out = ["--data", str(images), "--out", str(folder / "pipeline")]
    return ["pretrain_jax", "pipeline", "optidel-demo", *tiny, *trials, *seeds, *out]


def report(folder: Path, rows: int) -> Arguments:
    """The report of a pipeline with that many seeds."""
    work = folder / "pipeline"
    shutil.copytree(reported(rows), work)
    return ["pretrain_jax", "report", str(work), "--out", str(folder / "page")]


@functools.cache
def reported(rows: int) -> Path:
    """A finished pipeline."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    run(pipeline(folder, rows))
    return folder / "pipeline"


COMMANDS = (
    Command("replica solve --points", "points", 1, 1600, points_file),
    Command("replica optimal", "volumes", 1, 16, optimal),
    Command("replica optimal-lam", "volumes", 1, 64, optimal_lam),
    Command("replica frontier", "volumes", 1, 16, frontier),
    Command("replica lossless", "volumes", 1, 16, lossless),
    Command("replica separability", "fractions", 1, 256, separability),
    Command("sims run (draws)", "draws", 1, 256, sims_draws),
    Command("sims run (cells)", "cells", 1, 64, sims_cells, 1000),
    Command("sims solve", "examples", 40, 16_384, sims_solve),
    Command("figures fitting-error", "draws", 2, 256, figure),
    Command("selection score", "examples", 10, 1 << 18, score, 1 << 22),
    Command(
        "selection select hard",
        "examples",
        10,
        1 << 18,
        functools.partial(select, "hard", "scores", "5"),
        1 << 22,
    ),
    Command(
        "selection select k-center (fixed budget)",
        "examples",
        50,
        16_384,
        functools.partial(select, "k-center", "features", "50"),
    ),
    Command(
        "selection select k-center (a hundredth)",
        "examples",
        100,
        4_096,
        functools.partial(select, "k-center", "features", "0.01"),
    ),
    Command(
        "selection select infomax",
        "examples",
        100,
        4_096,
        functools.partial(select, "infomax", "features scores", "0.1"),
    ),
    Command(
        "selection select facility-location",
        "examples",
        100,
        4_096,
        functools.partial(select, "facility-location", "features", "0.1"),
    ),
    Command("selection recommend", "examples", 200, 4_096, recommend),
    Command("selection compare", "examples", 100, 16_384, compare),
    Command("selection experiment", "seeds", 1, 4, experiment),
    Command("selection knee", "examples", 200, 4_096, knee),
    Command("selection coverage", "examples", 100, 4_096, coverage),
    Command("pretrain_jax import-dicom", "slices", 10, 256, dicom),
    Command("pretrain_jax import-nifti", "slices", 10, 1024, nifti),
    Command("pretrain_jax propose", "images", 1, 64, functools.partial(chained, "propose")),
    Command("pretrain_jax score", "images", 2, 64, functools.partial(chained, "score")),
    Command("pretrain_jax select", "images", 4, 64, functools.partial(chained, "select")),
    Command("pretrain_jax synthesise", "images", 4, 64, functools.partial(chained, "synthesise")),
    Command("pretrain_jax embed", "images", 1, 256, functools.partial(embedded, "embed")),
    Command("pretrain_jax keep", "images", 4, 256, functools.partial(embedded, "keep")),
    Command("pretrain_jax probe", "steps", 1, 64, functools.partial(trained, "probe")),
    Command("pretrain_jax run", "steps", 1, 64, functools.partial(trained, "run")),
    Command("pretrain_jax pretrain", "steps", 1, 64, functools.partial(trained, "pretrain")),
    Command("pretrain_jax reconstruct", "images", 1, 16, reconstruct),
    Command("pretrain_jax finetune", "steps", 1, 64, finetune),
    Command("pretrain_jax predict", "images", 1, 256, predict),
    Command("pretrain_jax pipeline", "seeds", 1, 2, pipeline),
    Command("pretrain_jax report", "seeds", 1, 2, report),
    Command("hardset verify", "images", 4, 64, functools.partial(chained, "verify")),
)
NO_SIZE = "`sims verify` has no rows of its own: its plans are fixed (`--preset quick`, `full`)."


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write its numbers; exit code 1 if a command failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [command.name for command in COMMANDS]
    parser.add_argument("--commands", nargs="+", metavar="NAME", help="parts of names; default all")
    parser.add_argument("--minutes", type=float, default=30.0, help="for all; default 30")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the numbers once more")
    asked_for = parser.parse_args(arguments)
    if not asked_for.minutes > 0:
        parser.error(f"--minutes {asked_for.minutes:g} is not above 0")
    asked = asked_for.commands or [""]
    for part in asked:
        if not any(part in name for name in names):
            parser.error(f"--commands {part!r} is part of none of: {', '.join(names)}")
    chosen = [c for c in COMMANDS if any(part in c.name for part in asked)]
    ends = time.monotonic() + 60 * asked_for.minutes
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    rows = []
    try:
        for number, command in enumerate(chosen):
            budget = (ends - time.monotonic()) / (len(chosen) - number)
            rows.append(scale(command, budget))
            print(line(rows[-1]), flush=True)
    finally:
        shutil.rmtree(scratch(), ignore_errors=True)
        if asked_for.out:
            asked_for.out.write_text(json.dumps([numbers(row) for row in rows], indent=1) + "\n")
    print(f"\nProcessor seconds, start-up included; {NO_SIZE}")
    return int(any(not row.sizes for row in rows))


def numbers(row: Row) -> dict[str, Any]:
    """A row as JSON holds it."""
    kept = row._asdict() | {"command": row.command.name, "rows": row.command.rows}
    return {key: None if value != value else value for key, value in kept.items()}


if __name__ == "__main__":
    sys.exit(main())
