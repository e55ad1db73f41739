"""The files around the packages agree with each other."""

import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import selection
import theory
from hardset.__main__ import main
from hardset.cli import run
from pretrain_jax import synthesis
from pretrain_jax.synthesis.proposers import PROPOSERS
from selection.registry import METHOD_NAMES
from theory.policy_names import POLICIES

ROOT = Path(__file__).parents[2]


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


def test_readme_and_ci_use_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in ("README.md", ".ci/run"):
        used = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / name).read_text()))
        assert "test" in used
        assert used <= targets


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
