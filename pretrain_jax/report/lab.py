"""Writes one page about a chain of stages that were run one after another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardset.datafile import write_text_atomic
from hardset.folder import Input, Made, Manifest, Stage, digest, read_manifest
from pretrain_jax.report.embedded import Picture, sheet
from pretrain_jax.report.page import environment

LAB = Stage("lab-page", inputs=("*",))
PAGE = "index.html"


@dataclass(frozen=True)
class Chapter:
    """Describes a stage on the page.

    Attributes:
        title: what was done, in a few words.
        about: why, in sentences.
        command: the command line that did it.
        folder: of the stage; None for a command that is none.
        pictures: files and what they show.
    """

    title: str
    about: str
    command: str
    folder: Path | None
    pictures: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class Section:
    """Holds what the page says of a chapter.

    Attributes:
        chapter: what it is about.
        manifest: of its stage, or None.
        pictures: as the page holds them.
    """

    chapter: Chapter
    manifest: Manifest | None
    pictures: tuple[Picture, ...]


def write_lab_page(title: str, about: str, chapters: Sequence[Chapter], out: Path) -> Manifest:
    """Write a page that tells of each stage its command, counts, times and pictures.

    Args:
        title: of the page.
        about: what is shown, in sentences.
        chapters: finished stages in the order in which they were run; one or more
            of them stages.
        out: new folder, or that of the same page, which is kept.

    Returns:
        The page's manifest.

    Raises:
        ValueError: a stage that is not finished, or another page in `out`.
        OSError: a picture cannot be read, or `out` cannot be written.
    """
    sections = [
        Section(
            one,
            None if one.folder is None else read_manifest(one.folder),
            tuple(sheet(path, caption) for path, caption in one.pictures),
        )
        for one in chapters
    ]
    inputs = {
        one.chapter.folder.name: Input(digest(one.manifest), one.chapter.folder)
        for one in sections
        if one.manifest is not None and one.chapter.folder is not None
    }
    parameters = {"title": title, "chapters": [one.title for one in chapters]}

    def fill(work: object) -> Made:
        text = (
            environment()
            .get_template("lab.html")
            .render(title=title, about=about, sections=sections)
        )
        write_text_atomic(out / PAGE, text)
        return Made({"chapters": len(chapters)})

    return LAB.open(out, parameters, None, inputs).run(fill)
