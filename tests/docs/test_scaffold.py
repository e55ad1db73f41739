"""The files around the packages agree with each other."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import selection
import theory
from hardset.__main__ import PACKAGES, main
from hardset.checks import EXTRAS
from hardset.cli import run
from pretrain_jax import synthesis
from pretrain_jax.synthesis.proposers import PROPOSERS
from selection.registry import METHOD_NAMES
from theory.policy_names import POLICIES

ROOT = Path(__file__).parents[2]


def test_no_result_of_a_command_was_committed() -> None:
    """Commands name their own output where none is given, and tests may run here."""
    names = [path.name for path in ROOT.iterdir()]
    if ".git" in names:  # an archive holds what was packed, a checkout also what its user made
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)
        names = listed.stdout.decode().splitlines()
    results = (".npy", ".npz", ".nc", ".parquet")
    assert [name for name in names if "/" not in name and name.endswith(results)] == []


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [requirement for group in groups for requirement in group]
    names = {re.split(r"[^\w-]", requirement)[0].lower() for requirement in wanted}
    pinned = {
        line.split("==")[0].lower()
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    }
    assert names - {project["name"]} <= pinned  # extras name each other


# Where what one imports and what one installs have different names.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "lazy_loader": "lazy-loader",
    "orbax": "orbax-checkpoint",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
# Matplotlib brings the first, Orbax the second, Bokeh the third.
BROUGHT_ALONG = {"fontTools", "absl", "tornado"}


def imported() -> set[str]:
    """Packages of others that the packages import, anywhere in a module."""
    names = set()
    for package in ("hardset", "theory", *PACKAGES):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"hardset", "theory", *PACKAGES}


def test_a_missing_package_is_one_of_an_extra() -> None:
    """Else a command that needs it would end with a traceback, and not say what to install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}

    core = names(project["dependencies"])
    brought = {name for packages in EXTRAS.values() for name in packages}
    assert {n for n in imported() if DISTRIBUTIONS.get(n, n) not in core} <= brought | BROUGHT_ALONG
    for extra, packages in EXTRAS.items():
        listed = names(project["optional-dependencies"][extra])
        assert {DISTRIBUTIONS.get(name, name) for name in packages} <= listed


@pytest.mark.parametrize("package", ["nibabel", "panel"])
def test_a_command_names_the_extra_of_a_missing_package(
    package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(_: object) -> int:
        raise ModuleNotFoundError(f"No module named '{package}.io'", name=f"{package}.io")

    (extra,) = (extra for extra, packages in EXTRAS.items() if package in packages)
    assert run(command, []) == 2
    said = f"error: the package {package}.io is not installed: pip install 'hardset[{extra}]'\n"
    assert capsys.readouterr().err == said


def test_a_module_that_no_extra_brings_is_a_fault_of_ours() -> None:
    def command(_: object) -> int:
        raise ModuleNotFoundError("No module named 'theory.angels'", name="theory.angels")

    with pytest.raises(ModuleNotFoundError):
        run(command, [])


def test_readme_and_ci_use_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    read = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    steps = re.findall(r"^step make (.*?)(?: 2>|$)", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    run = {word for step in steps for word in step.split() if re.fullmatch(r"[a-z][a-z-]*", word)}
    for used in (read, run):
        assert "test" in used
        assert used <= targets
    assert {"lint", "types", "docs", "verify", "parity", "browser", "dist"} <= run


def test_version_of_the_citation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {project['version']}\n" in citation


@pytest.mark.parametrize(
    ("package", "places"),
    [
        (theory, [place for place, _ in POLICIES.values()]),
        (selection, [one.place for one in METHOD_NAMES.values()]),
        (synthesis, list(PROPOSERS.values())),
    ],
    ids=["theory", "selection", "synthesis"],
)
def test_what_has_a_name_is_offered_by_its_package(package: ModuleType, places: list[str]) -> None:
    """Import and `__all__` of `__init__.pyi` are two lines; either is forgotten easily."""
    for place in places:
        name = place.partition(":")[2]
        assert name in package.__all__
        assert getattr(package, name).__name__ == name


def test_the_command_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert run(main, ["--version"]) == 0
    assert capsys.readouterr().out == f"hardset {project['version']}\n"
