"""Lists the images of a source one after another, with their groups.

The list is never held as a whole.
"""

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple, overload

from hardset.datafile import atomic_file
from pretrain_jax.data.containers import KINDS as PACKED_KINDS
from pretrain_jax.data.containers import is_container, open_container
from pretrain_jax.data.names import SUFFIXES, VIDEO_SUFFIXES, kind_of, suffix_of, trouble_of
from pretrain_jax.data.pages import PAGED_SUFFIXES, page_count
from pretrain_jax.data.skipping import reason_line
from pretrain_jax.data.video import frame_times

STILL = -1  # number of the frame of a still image
HYPER_KVASIR = ("labeled-images", "unlabeled-images", "labeled-videos")
Grouped = Iterator[tuple[str, str]]
LIST_SUFFIXES = frozenset({".txt", ".tsv", ".lst"})
COLUMNS = 3
SHOWN = 10
# Whole-slide images: pyramids of gigapixels, which are read in tiles.
WHOLE_SLIDES = (".svs", ".ndpi", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".vsi")
TILING = (
    "cut tiles with a tool for whole slides (QuPath, DeepZoomGenerator of openslide-python, or "
    "vips dzsave)"
)
# What to do with files that hold images elsewhere, but are not read here, by their endings.
REMEDIES = {
    (".dcm", ".dicom"): "make PNG files with the command import-dicom",
    (".nii", ".nii.gz"): "make PNG files with the command import-nifti",
    (".mha", ".mhd", ".nrrd"): "export slices as PNG",
    WHOLE_SLIDES: TILING,
    (".czi", ".lif", ".nd2"): "export regions as TIFF",
    (".npz", ".mat", ".h5", ".hdf5"): "save one .npy file an image",
    (".tar", ".parquet", ".arrow"): "name the file itself, or a folder of such files alone,",
    (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z"): "unpack the archive",
}
LISTS, KINDS = ", ".join(sorted(LIST_SUFFIXES)), ", ".join(sorted(SUFFIXES))


class Names(Sequence[str]):
    """Holds paths below a folder in little memory.

    They are one text and the places of their ends; a list of paths takes three times as much.

    Args:
        root: to which the names are relative.
        names: paths; UTF-8.
    """

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self.root = root
        text, self._ends = bytearray(), array("q", [0])
        for name in names:
            text += name.encode()
            self._ends.append(len(text))
        self._text = bytes(text)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        """Return a path with its root, or several of them."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        return str(self.root / self.name(index))

    def name(self, index: int) -> str:
        """Return a path relative to the root, as it was given."""
        place = range(len(self))[index]  # as lists count, from the end too
        return self._text[self._ends[place] : self._ends[place + 1]].decode()


def video_group(name: str) -> str:
    """Return the group of a video's frames where none is named.

    It is the name of the video's file without the ending.

    It is "" for a file that is no video: what it is a frame of is not known.
    """
    return PurePosixPath(name).stem if suffix_of(name) in VIDEO_SUFFIXES else ""


def _ldpolypvideo(names: Iterable[str]) -> Grouped:
    """Choose the images of LDPolypVideo (Ma et al. 2021).

    Frames are TrainValid/Images/VIDEO/*.jpg and those of Test/Images/VIDEO.

    Beside Images lie Annotations (boxes, not read). The videos without labels are files whose
    folder is unverified: every video file below the root counts. A group is a video.
    """
    for name in names:
        path = PurePosixPath(name)
        if video_group(name):
            yield name, video_group(name)
        elif "Images" in path.parts[:-2]:
            yield name, path.parent.as_posix()


def _hyper_kvasir(names: Iterable[str]) -> Grouped:
    """Choose the images and videos of Hyper-Kvasir (Borgli et al. 2020).

    They lie in labeled-images, unlabeled-images and labeled-videos.

    The files are labeled-images/TRACT/CATEGORY/FINDING/*.jpg, unlabeled-images/images/*.jpg and
    labeled-videos/TRACT/.../*.avi. Its segmented-images are those of Kvasir-SEG and are left out;
    most of them are among the labelled images, too, which the leakage check tells. A group is a
    video; patients are not named.
    """
    for name in names:
        # The archive may lie a folder deeper.
        if set(PurePosixPath(name).parts[:2]) & set(HYPER_KVASIR):
            yield name, video_group(name)


class Collection:
    """Chooses the images and videos of a layout that count.

    Args:
        choose: names, sorted -> the names that count, with the group of each ("" unknown).
        missing: what a folder without any does not hold.
    """

    def __init__(self, choose: Callable[[Iterable[str]], Grouped], missing: str) -> None:
        self._choose, self._missing = choose, missing

    def __call__(self, root: Path, names: Iterable[str]) -> Grouped:
        """Return the names below `root` that count, and their groups.

        Raises:
            ValueError: there is none.
        """
        found = False
        for found_one in self._choose(names):
            found = True
            yield found_one
        if not found:
            raise ValueError(f"{root} holds {self._missing}")


COLLECTIONS: Mapping[str, Collection] = MappingProxyType(
    {
        "ldpolypvideo": Collection(
            _ldpolypvideo, "neither TrainValid/Images/VIDEO nor Test/Images/VIDEO nor videos"
        ),
        "hyper-kvasir": Collection(
            _hyper_kvasir, f"none of {', '.join(HYPER_KVASIR)} with images or videos"
        ),
    }
)


class Entry(NamedTuple):
    """Names a file of a source, with its class and its group.

    Attributes:
        name: relative to the source's root, with / between folders.
        label: its class in an image list, or the first folder that it lies in; "" without one.
        group: video, sequence or patient, "" where unknown.
    """

    name: str
    label: str
    group: str


class Located(NamedTuple):
    """Names an image of a source.

    It may be a frame of a video or a page of a file.

    Attributes:
        name: of its file relative to the source's root, with / between folders.
        frame: number of the frame or page, -1 for the only picture of a file.
        frames: how many frames or pages the file holds, 1 for a single picture.
        group: video, stack, sequence or patient, "" where unknown; that of pages is their file
            where no other is named.
        label: of its file, see `Entry`.
    """

    name: str
    frame: int
    frames: int
    group: str
    label: str = ""


@dataclass
class Tally:
    """Counts what lies in a source and is no image of it.

    Attributes:
        refused: a sentence on every file whose name cannot be used.
        passed_over: number of files by their ending, which is that of no image or video.
        linked: folders that links led to.
        remarks: sentences on what is to be noticed.
    """

    refused: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    linked: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def others(self) -> str:
        """Describe the files that were passed over, by their endings.

        The most frequent ending comes first. The text is "" where none was passed over.
        """
        named = [
            f"{count} {ending or 'without an ending'}"
            for ending, count in sorted(self.passed_over.items(), key=lambda one: (-one[1], one[0]))
        ]
        more = f" and {len(named) - SHOWN} more endings" if len(named) > SHOWN else ""
        remedy = [
            f"{what} to use {next(one for one in endings if one in self.passed_over)}"
            for endings, what in REMEDIES.items()
            if any(one in self.passed_over for one in endings)
        ]
        return ", ".join(named[:SHOWN]) + more + "".join(f"; {one}" for one in remedy)

    def notes(self) -> tuple[str, ...]:
        """Describe in sentences the files that are left out, and what is to be noticed."""
        names = [f"{len(self.refused)} name(s) cannot be used: {self._first()}"]
        return (*(names if self.refused else ()), *self.notices())

    def lines(self) -> list[str]:
        """Return a line of `pretrain_jax.data.skipping` on every name that cannot be used."""
        return [reason_line("bad name", one) for one in self.refused]

    def notices(self) -> tuple[str, ...]:
        """Describe in sentences all but the files whose names cannot be used."""
        others = [f"passed over, as neither images nor videos: {self.others()}"]
        return (*(others if self.passed_over else ()), *self.remarks)

    def _first(self) -> str:
        more = f"; and {len(self.refused) - SHOWN} more" if len(self.refused) > SHOWN else ""
        return "; ".join(self.refused[:SHOWN]) + more

    def check(self, source: str | Path) -> None:
        """Check that every name can be used.

        Raises:
            ValueError: the first ones that cannot, and how many there are.
        """
        if self.refused:
            raise ValueError(
                f"{len(self.refused)} name(s) in {source} cannot be used: {self._first()}"
            )


def split_layout(source: str | Path) -> tuple[str, Path]:
    """Split LAYOUT:FOLDER into the layout and the folder.

    Of any other source the layout is "", and the folder is the path of the source.
    """
    layout, colon, folder = str(source).partition(":")
    if colon and folder and layout in COLLECTIONS and not Path(source).exists():
        return layout, Path(folder)
    return "", Path(source)


def container_of(source: str | Path) -> Path | None:
    """Return the path of a source that is a container, see `pretrain_jax.data.containers`.

    Raises:
        ValueError: it is nearly one; says what to name instead.
    """
    layout, path = split_layout(source)
    return path if not layout and is_container(path) else None


def image_root(source: str | Path) -> Path:
    """Return the folder or container to which the names of a source's images are relative."""
    layout, path = split_layout(source)
    return path if layout or path.is_dir() or is_container(path) else path.parent


def names_classes(source: str | Path) -> bool:
    """Say whether a source names classes by itself, not by its folders."""
    layout, path = split_layout(source)
    if layout or not path.exists():
        return False
    container = container_of(source)
    if container is not None:
        return open_container(container).members.labelled
    return path.suffix.lower() in LIST_SUFFIXES


def iterate_images(
    source: str | Path, frame_stride: int = 1, tally: Tally | None = None
) -> Iterator[Located]:
    """Return the images of a source in the order of `pretrain_jax.data.find_images`.

    Args:
        source: see `entries`.
        frame_stride: every how many frames of a video are taken.
        tally: see `entries`.

    Raises:
        ValueError: see `entries`.
    """
    root = image_root(source)
    for name, label, group in entries(source, tally):
        if suffix_of(name) in VIDEO_SUFFIXES:
            # A video that cannot be read counts as one image, which is found unreadable.
            frames = max(1, len(frame_times(str(root / name))))
            for frame in range(0, frames, frame_stride):
                yield Located(name, frame, frames, group, label)
        elif suffix_of(name) in PAGED_SUFFIXES and (pages := page_count(f"{root}/{name}")) > 1:
            for page in range(pages):
                yield Located(name, page, pages, group or name, label)
        else:
            yield Located(name, STILL, 1, group, label)


def entries(source: str | Path, tally: Tally | None = None) -> Iterator[Entry]:
    """Return the files of a source.

    The order depends on names only.

    Folders that are links are followed as files are; every folder is read once.

    Args:
        source: a folder (searched recursively), LAYOUT:FOLDER of one of `COLLECTIONS`, a container
            (see `pretrain_jax.data.containers`), an image list, an image or a video. A list holds
            a path a line, relative to the list; its class and its group may follow, each behind a
            tab. The frames of a video without another group are the group that `video_group` names.
        tally: gets what is passed over and the files of a folder whose names are of no use, which
            are left out then.

    Raises:
        ValueError: the source does not exist, is empty or of an unknown kind, or does not have the
            layout; a line of a list is of no use; names are of no use, and there is no tally.
    """
    found = Tally() if tally is None else tally
    empty = True
    for entry in _entries(source, found):
        empty = False
        yield entry
    if tally is None or empty:
        found.check(source)
    if empty:
        held = found.others()
        there = f"; it holds {held}" if held else ""
        raise ValueError(
            f"image source {source} is empty: no file in it ends in one of {KINDS}{there}"
        )


def _entries(source: str | Path, tally: Tally) -> Iterator[Entry]:
    layout, path = split_layout(source)
    suffix = path.suffix.lower()
    if layout:
        if not path.is_dir():
            raise ValueError(
                f"image source {source}: the folder {path} does not exist; unpack the archive there"
            )
        for name, group in COLLECTIONS[layout](path, _walk(path, "", tally, path.resolve(), set())):
            yield Entry(name, "", group)
    elif is_container(path):
        yield from _packed(path, tally)
    elif path.is_dir():
        for name in _walk(path, "", tally, path.resolve(), set()):
            folder, slash, _ = name.partition("/")
            yield Entry(name, folder if slash else "", video_group(name))
    elif not path.is_file():
        raise ValueError(
            f"image source {source} does not exist; give a folder of images, LAYOUT:FOLDER "
            f"(layouts {', '.join(COLLECTIONS)}), a list ({LISTS}: one path a line), a file of "
            f"images ({', '.join(PACKED_KINDS)}) or a folder of them, or a video"
        )
    elif suffix in LIST_SUFFIXES:
        yield from _listed(path)
    elif suffix in SUFFIXES:
        yield Entry(path.name, "", video_group(path.name))
    else:
        kind = kind_of(path.name)
        remedy = next((f"; {what}" for endings, what in REMEDIES.items() if kind in endings), "")
        raise ValueError(
            f"image source {source} is neither a folder, nor a list ({LISTS}), nor a file of "
            f"images ({', '.join(PACKED_KINDS)}), nor an image or video ({KINDS}){remedy}"
        )


def _packed(path: Path, tally: Tally) -> Iterator[Entry]:
    container = open_container(path)
    tally.refused += container.members.refused
    tally.passed_over.update(container.passed_over())
    tally.remarks += container.members.notes
    for member in container.entries():
        yield Entry(member.name, member.label, member.group or video_group(member.name))


def list_line(name: str, group: str = "", label: str = "") -> str:
    """Return a line of an image list, with its end.

    It holds the path, and the class and the group where there are any.

    Raises:
        ValueError: a tab or a line break in an argument.
    """
    for text in (name, group, label):
        if "\t" in text or "\n" in text:
            raise ValueError(f"{text!r} holds a tab or a line break, which image lists cannot")
    # A line that starts so would be taken for a comment, or be stripped.
    shown = f"./{name}" if name.startswith((" ", "#")) else name
    return "\t".join((shown, label, group)).rstrip("\t") + "\n"


def write_list(path: Path, lines: Iterable[str]) -> None:
    """Write lines, atomically.

    They are never held all at once.
    """
    with (
        atomic_file(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.writelines(lines)


def _walk(
    folder: Path, prefix: str, tally: Tally, root: Path, seen: set[tuple[int, int]]
) -> Iterator[str]:
    """Walk the files below a folder, sorted by their whole relative path.

    Hidden files are left out.

    A link is not followed to a folder that is among those below `root`, or among those in `seen`,
    which were read already: so every folder is read once, and loops end.
    """
    status = folder.stat()
    own = (status.st_dev, status.st_ino)
    if own in seen:
        return
    seen.add(own)
    if prefix and folder.is_symlink():
        tally.linked.append(folder)
    with os.scandir(folder) as found:
        shown = [
            (f"{one.name}/" if _is_folder(one) else one.name)
            for one in found
            if not (one.name.startswith(".") or (one.is_symlink() and _is_below(one, root)))
        ]
    # With the slash a folder stands where its files stand among the files beside it.
    for name in sorted(shown):
        if name.endswith("/"):
            yield from _walk(folder / name, prefix + name, tally, root, seen)
            continue
        if suffix_of(name) not in SUFFIXES:
            tally.passed_over[kind_of(name)] += 1
        elif trouble := trouble_of(prefix + name):
            tally.refused.append(trouble)
        else:
            yield prefix + name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_below(link: os.DirEntry[str], root: Path) -> bool:
    """Say whether a link leads to a folder that is found below `root` by itself."""
    if not _is_folder(link):
        return False
    target = Path(link.path).resolve()
    return target.is_relative_to(root) and not any(
        part.startswith(".") for part in target.relative_to(root).parts
    )


def _listed(path: Path) -> Iterator[Entry]:
    # Names may hold all other characters that Python takes for the end of a line.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        try:
            for number, line in enumerate(file, 1):
                text = line.removesuffix("\n").removesuffix("\r")
                if not text.strip() or text.startswith("#"):
                    continue
                columns = [one.strip(" ") for one in text.split("\t")]
                if len(columns) > COLUMNS:
                    raise ValueError(
                        f"image list {path}, line {number} has {len(columns)} columns; there are "
                        "path, class and group"
                    )
                if "\0" in text:
                    raise ValueError(f"image list {path}, line {number} holds a NUL character")
                name, label, group = columns + [""] * (COLUMNS - len(columns))
                if suffix_of(name) not in SUFFIXES:
                    own, mark, _ = name.rpartition("#")
                    if mark and suffix_of(own) in SUFFIXES:
                        raise ValueError(
                            f"image list {path}, line {number}: {name!r} is one picture of a file, "
                            "and a list names whole files; save that picture as a file"
                        )
                    raise ValueError(
                        f"image list {path}, line {number}: {name!r} ends in none of {KINDS}"
                    )
                yield Entry(name, label, group or video_group(name))
        except UnicodeDecodeError:
            raise ValueError(f"image list {path} is not text in UTF-8") from None
