"""Tutorials are readable scripts with a page each; a cell that fails, fails the documentation."""

import asyncio
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import jupytext
import pytest
import yaml
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_navigation_lists_the_tutorials_after_the_start() -> None:
    text = (ROOT / "mkdocs.yml").read_text().partition("\nmarkdown_extensions:")[0]
    second = yaml.safe_load(text)["nav"][1]["Tutorials"]
    pages = [page for entry in second for page in entry.values()]
    assert sorted(pages) == [f"tutorials/{path.stem}.md" for path in TUTORIALS]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_a_titled_notebook_without_stored_results(path: Path) -> None:
    cells = jupytext.read(path, fmt="py:percent").cells
    titles = [cell.source for cell in cells if cell.source.startswith("# ")]
    assert len(titles) == 1 and cells[0].source == titles[0]
    assert any(cell.cell_type == "code" for cell in cells)
    compile(path.read_text(), str(path), "exec")  # no magics: it runs as a script


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_measured_numbers_are_printed_and_not_typed(path: Path) -> None:
    """Decimals and percentages in prose would stay when a result changes."""
    for cell in jupytext.read(path, fmt="py:percent").cells:
        if cell.cell_type == "markdown":
            code_and_formulas = r"```.*?```|`.*?`|\\\(.*?\\\)|\\\[.*?\\\]|\]\([^)]*\)"
            prose = re.sub(code_and_formulas, "", cell.source, flags=re.DOTALL)
            assert not re.findall(r".*?(?:\d*\.\d+|\d+ ?%)", prose)


TUTORIAL = r"""# %% [markdown]
# # A title
#
# See [the student](../glossary.md#student) and [Python](https://python.org), \(a^2\).

# %%
import sys
import warnings
from pathlib import Path

warnings.warn("a warning")
print("noise", file=sys.stderr)
print("````")
print("word " * 40)
print("name    " + "value " * 40)
Path("left").write_text("in a folder that goes away")
"""

HIDDEN = """
# %% tags=["remove-cell"]
secret = 1
assert Path("left").exists()
"""

PICTURE = """
# %% alt="A line rises."
import matplotlib.pyplot as plt

plt.plot([1, 2])
plt.show()
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_page_shows_text_code_output_and_pictures(hook: ModuleType, tmp_path: Path) -> None:
    path = written(tmp_path / "one.py", TUTORIAL + HIDDEN + PICTURE)
    files = hook.pages("tutorials/one", asyncio.run(hook.execute(path)))
    assert sorted(files) == ["tutorials/one-1.png", "tutorials/one.ipynb", "tutorials/one.md"]
    page = files["tutorials/one.md"]
    assert page.startswith("# A title\n") and "[the student](../glossary.md#student)" in page
    assert "![A line rises.](one-1.png)" in page
    assert "````` { .text .no-copy }\n````" in page  # the output does not end its own block
    assert "a warning" not in page.replace('warnings.warn("a warning")', "")
    assert "noise" not in page.replace('print("noise"', "")
    assert "secret" not in page and "secret" not in files["tutorials/one.ipynb"]
    long = next(line for line in page.splitlines() if line.startswith("word "))
    assert len(long) <= hook.WIDTH
    assert "\n" + " " * len("name    ") + "value " in page
    assert files["tutorials/one-1.png"].startswith(b"\x89PNG")

    notebook = json.loads(files["tutorials/one.ipynb"])
    text = "".join(notebook["cells"][0]["source"])
    # A notebook lies elsewhere, where other pages are not; Jupyter's mathematics stands in dollars.
    assert text.endswith("See the student and [Python](https://python.org), $a^2$.")
    assert notebook["cells"][1]["outputs"][0]["name"] == "stdout"
    assert [file.name for file in tmp_path.iterdir()] == ["one.py"]


def test_a_cell_that_fails_fails_the_build(hook: ModuleType, tmp_path: Path) -> None:
    path = written(tmp_path / "bad.py", TUTORIAL + "\n# %%\n1 / 0\n")
    with pytest.raises(PluginError, match=r"bad\.py failed(.|\n)*1 / 0(.|\n)*ZeroDivisionError"):
        asyncio.run(hook.execute(path))


def test_a_picture_needs_words(hook: ModuleType, tmp_path: Path) -> None:
    path = written(tmp_path / "mute.py", TUTORIAL + PICTURE.replace(' alt="A line rises."', ""))
    notebook = asyncio.run(hook.execute(path))
    with pytest.raises(PluginError, match=r"tutorials/mute: describe the picture"):
        hook.pages("tutorials/mute", notebook)
