"""The demonstration of a lab's way: its steps are commands, and its page tells of every stage."""

import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hardset.cli import load, understood
from hardset.folder import Made, Stage
from pretrain_jax.__main__ import COMMANDS
from pretrain_jax.commands.demo import command, steps
from pretrain_jax.pictures import write_png
from pretrain_jax.report.lab import Chapter, write_lab_page


def test_every_step_is_a_command_that_is_understood(tmp_path: Path) -> None:
    for step in steps(tmp_path):
        name, *arguments = step.arguments
        given = understood(load(COMMANDS[name]), arguments, name)
        assert given is not None
        assert shlex.split(command(step))[3:] == [name, *arguments]


def test_the_steps_share_files(tmp_path: Path) -> None:
    # Whatever a step reads below the folder is what an earlier one, or the demonstration, wrote.
    written = {"images.txt", "shipped"}
    for step in steps(tmp_path):
        options = dict(zip(step.arguments, step.arguments[1:], strict=False))
        out = Path(options["--out"]).relative_to(tmp_path).parts[0]
        read = {
            Path(word).relative_to(tmp_path).parts[0]
            for word in step.arguments
            if Path(word).is_relative_to(tmp_path) and word != options["--out"]
        }
        assert read <= written
        written.add(out)


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.pictures: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.pictures.append(str(dict(attrs)["src"]))


def _stage(folder: Path, counts: dict[str, int | float]) -> Path:
    made = Made(counts, ["A <note> & more."], seconds=1.25, compile_seconds=0.5)
    Stage("embed").open(folder, {}, None, {}).run(lambda work: made)
    return folder


def test_the_page_tells_counts_times_and_shows_pictures(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    write_png(picture, np.zeros((8, 8, 3), np.uint8))
    told = [
        Chapter("First", "Why.", "do --this '<x>'", _stage(tmp_path / "one", {"images": 7})),
        Chapter("Second", "Why not.", "do --that", None, ((picture, "what is kept"),)),
        Chapter("Third", "At last.", "end", _stage(tmp_path / "two", {"miou": 0.51239})),
    ]
    out = tmp_path / "page"
    manifest = write_lab_page("A <title>", "About.", told, out)
    assert manifest.counts == {"chapters": 3}
    page = _Texts()
    page.feed((out / "index.html").read_text(encoding="utf-8"))
    for text in ("A <title>", "do --this '<x>'", "A <note> & more.", "7", "0.5124", "1.2", "0.5"):
        assert text in page.texts, text
    assert len(page.pictures) == 1 and page.pictures[0].startswith("data:image/png;base64,")
    before = (out / "index.html").stat().st_mtime_ns
    write_lab_page("A <title>", "About.", told, out)
    assert (out / "index.html").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="title"):
        write_lab_page("Another", "About.", told, out)


def test_an_unfinished_stage_is_refused(tmp_path: Path) -> None:
    told = [Chapter("First", "Why.", "do", tmp_path / "missing")]
    with pytest.raises(ValueError, match="missing"):
        write_lab_page("Title", "About.", told, tmp_path / "page")
    assert not (tmp_path / "page").exists()
