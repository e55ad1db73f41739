"""MkDocs hook: tutorials run when the site is built, and their pages show what the cells print.

A tutorial is a script `docs/tutorials/NAME.py` in jupytext's percent format. Its page goes through
the Markdown of all other pages: links are checked, and formulas need no script. (mkdocs-jupyter
loads MathJax from the network, and pictures in nbconvert's Markdown have no alternative texts.)
Beside the page lie the executed notebook and the script.

A cell that fails, fails the build. What goes to the standard error stream is not shown. A picture
needs an alternative text, the option `alt` of its cell: `# %% alt="The error falls."` Cells that
start with `# %% tags=["remove-cell"]` run and are not shown: they assert what the text says.
"""

import asyncio
import base64
import os
import re
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from traitlets.config import Config

CELL_SECONDS = 300
WIDTH = 76  # of the column; longer lines of text are folded, as a terminal does
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_OWN_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page, a notebook and pictures for each tutorial."""
    sources = [file for file in files if re.fullmatch(r"tutorials/\w+\.py", file.src_uri)]
    notebooks = asyncio.run(_execute_all([Path(file.abs_src_path) for file in sources]))
    for source, notebook in zip(sources, notebooks, strict=True):
        stem = source.src_uri.removesuffix(".py")
        for uri, content in pages(stem, notebook).items():
            files.append(File.generated(config, uri, content=content))
    return files


async def _execute_all(paths: list[Path]) -> list[NotebookNode]:
    # All of them come to an end, so that no kernel outlives the build.
    done = await asyncio.gather(*(execute(path) for path in paths), return_exceptions=True)
    for one in done:
        if isinstance(one, BaseException):
            raise one
    return [one for one in done if isinstance(one, NotebookNode)]


async def execute(path: Path) -> NotebookNode:
    """Run the tutorial of a file in a folder that is deleted afterwards.

    Raises PluginError with the cell and its traceback where a cell fails.
    """
    notebook = jupytext.read(path, fmt="py:percent")
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    with tempfile.TemporaryDirectory() as folder:
        # The command `hardset` is found, and temporary files of the cells are deleted, too.
        paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        env = {**os.environ, "PATH": os.pathsep.join(paths), "TMPDIR": folder}
        env.pop("MPLBACKEND", None)  # pictures go into the notebook
        # Sockets in the folder, not ports that others on the machine reach.
        manager = {"transport": "ipc", "connection_file": str(Path(folder, "kernel.json"))}
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            resources={"metadata": {"path": folder}},
            config=Config({"KernelManager": manager}),
        )
        try:
            await client.async_execute(env=env)
        except CellExecutionError as error:
            raise PluginError(f"{path} failed.\n{_COLOUR.sub('', str(error))}") from error
    notebook.cells = [
        cell for cell in notebook.cells if "remove-cell" not in cell.metadata.get("tags", ())
    ]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # Progress and warnings belong to the run, not to the page.
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return notebook


def pages(stem: str, notebook: NotebookNode) -> dict[str, str | bytes]:
    """Return the files of an executed tutorial: `STEM.md`, `STEM.ipynb`, `STEM-1.png` ..."""
    name = stem.rpartition("/")[2]
    files: dict[str, str | bytes] = {}
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.source.strip():
            parts.append(_fenced(cell.source, ".python"))
            parts += _outputs(stem, cell, files)
        if len(parts) == 1:
            parts.append(
                f"*Run it yourself: [as a notebook]({name}.ipynb){{ download }} or "
                f"[as a script]({name}.py){{ download }}.*"
            )
    files[f"{stem}.md"] = "\n\n".join(parts) + "\n"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            # Far from the site a link to another page leads nowhere, and Jupyter wants dollars.
            text = _OWN_LINK.sub(r"\1", cell.source)
            cell.source = re.sub(r"\\[\[\]]", "$$", re.sub(r"\\[()]", "$", text))
    files[f"{stem}.ipynb"] = nbformat.writes(notebook) + "\n"
    return files


def _outputs(stem: str, cell: NotebookNode, files: dict[str, str | bytes]) -> list[str]:
    """Markdown of a cell's outputs; their pictures join the files."""
    parts = []
    text = ""
    for output in cell.outputs:
        data: dict[str, Any] = output.get("data", {})
        if "image/png" in data:
            alt = cell.metadata.get("alt")
            if not alt:
                remedy = f'{stem}: describe the picture of this cell by `# %% alt="..."`'
                raise PluginError(f"{remedy}\n{cell.source}")
            number = 1 + sum(uri.endswith(".png") for uri in files)
            files[f"{stem}-{number}.png"] = base64.b64decode(data["image/png"])
            wide = output.metadata.get("image/png", {}).get("width")
            size = f'{{ width="{wide}" }}' if wide else ""
            parts.append(f"![{alt}]({stem.rpartition('/')[2]}-{number}.png){size}")
        else:
            text += output.get("text") or data["text/plain"] + "\n"
    if text.strip():
        lines = _COLOUR.sub("", text).strip("\n").split("\n")
        result = _fenced("\n".join(_folded(line) for line in lines), ".text .no-copy")
        parts.insert(0, f'<div class="result" markdown>\n\n{result}\n\n</div>')
    return parts


def _folded(line: str) -> str:
    """Fold a line that is wider than the page, below its second column if it has one."""
    if len(line) <= WIDTH:
        return line
    first = re.match(r"\S+( \S+)* {2,}", line)
    indent = " " * first.end() if first else ""
    return textwrap.fill(line, WIDTH, subsequent_indent=indent)


def _fenced(text: str, classes: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence} {{ {classes} }}\n{text}\n{fence}"
