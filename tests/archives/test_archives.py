"""What `make dist` has built: nothing is missing, and it runs where there is no checkout."""

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from hardset.__main__ import PACKAGES

ROOT = Path(__file__).parents[2]


def built(pattern: str) -> Path:
    """The one archive of its kind."""
    found = sorted((ROOT / "dist").glob(pattern))
    assert len(found) == 1, f"dist/{pattern}: {len(found)} files, make dist builds one"
    return found[0]


def run(*command: str | Path, folder: Path) -> str:
    """What a command prints that sees neither the checkout nor settings of Python."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_every_file_of_the_packages() -> None:
    with zipfile.ZipFile(built("*.whl")) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in ("hardset", "theory", *PACKAGES)
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == wanted


def test_an_index_can_show_the_description() -> None:
    """Pages and pictures beside the README are not there, so nothing may point to them."""
    with zipfile.ZipFile(built("*.whl")) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        headers, _, text = wheel.read(name).decode().partition("\n\n")
    assert "Description-Content-Type: text/markdown" in headers
    assert text.startswith((ROOT / "README.md").read_text().splitlines()[0])
    targets = re.findall(r"\]\(([^)\s]*)\)", text) + re.findall(r"(?:src|href)=\"([^\"]*)\"", text)
    assert [target for target in targets if not target.startswith("https://")] == []


def test_the_source_archive_runs_its_tests(tmp_path: Path) -> None:
    """`test_scaffold.py` reads the files around the packages, the other one imports them."""
    with tarfile.open(built("*.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    for name in ("LICENSE", "CHANGELOG.md", "docs/index.md", "benchmarks/scaling.py"):
        assert (folder / name).is_file()
    printed = run(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("tests/docs/test_scaffold.py", "tests/theory/test_angles.py"),
        folder=folder,
    )
    assert re.search(r"^\d+ passed in", printed, re.MULTILINE)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment that has the wheel and what it needs, and no extra."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    run(
        *(programs / "python", "-m", "pip", "install", "--quiet"),
        *("-c", ROOT / "requirements.lock", built("*.whl")),
        folder=folder,
    )
    return programs


def test_the_command_of_the_wheel(clean: Path, tmp_path: Path) -> None:
    place = run(clean / "python", "-c", "import hardset; print(hardset.__file__)", folder=tmp_path)
    assert Path(place).is_relative_to(clean.parent)
    assert run(clean / "hardset", "--version", folder=tmp_path).startswith("hardset ")
    points = json.loads((ROOT / "tests/reference/replica_points.json").read_text())
    where = {"alpha_total": 20, "keep_fraction": 0.35, "theta_deg": 0}
    (point,) = (point for point in points if where.items() <= point.items())
    line = f"replica solve --alpha-total 20 --keep-fraction 0.35 --policy {point['policy']} --json"
    solved = json.loads(run(clean / "hardset", *line.split(), folder=tmp_path))
    assert solved["margin"] == pytest.approx(point["margin"], rel=1e-8)


def test_a_figure_of_the_wheel(clean: Path, tmp_path: Path) -> None:
    line = "figures geometry --out pictures"
    run(clean / "hardset", *line.split(), folder=tmp_path)
    assert (tmp_path / "pictures/geometry.png").read_bytes().startswith(b"\x89PNG")
    run(clean / "hardset", "verify", "pictures", folder=tmp_path)
