"""First lines of docstrings are short enough to be read alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hardset", "theory", "replica", "sims", "figures", "selection", "pretrain_jax")
WORDS = 15


@pytest.mark.parametrize("package", PACKAGES)
def test_first_lines_are_short(package: str) -> None:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    long = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.get_docstring(node) if isinstance(node, documented) else None
            first = (text or "").split("\n\n")[0]
            if len(first.split()) > WORDS:
                long.append(f"{path.relative_to(ROOT)}: {first}")
    assert not long
