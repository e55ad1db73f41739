"""Keeps images of a source that a method of `selection` picks by their features."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.datafile import atomic_file, write_bytes_atomic
from hardset.progress import asked_for_progress
from hardset.seal import BLANK_SEAL, seal_file, sealed
from pretrain_jax.data import read_pixels
from pretrain_jax.data.listing import STILL, Tally, image_root, iterate_images, list_line
from pretrain_jax.features.embedding import embed, image_id, image_name
from pretrain_jax.features.options import check_keeping, features_folder
from pretrain_jax.pictures import Tile, contact_sheet, png_bytes
from pretrain_jax.synthesis.source import check_outside
from pretrain_jax.synthesis.tables import Table
from selection.commands.inputs import parse_budget
from selection.embeddings import Embeddings
from selection.files import check_new_file
from selection.given import Given
from selection.methods.per_group import PerGroup
from selection.pool import Pool
from selection.registry import parse_method

FRAMES = "-frames"  # the end of the name of the folder with single pictures
ROWS = 4096
SHOWN = 18  # pictures of each section of the sheet
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Kept:
    """Says what was kept.

    Attributes:
        out: the image list; the sheet and the table lie beside it.
        features: folder of the stage `embed`.
        method: how images were picked.
        images: that have features.
        kept: how many of them are in the list.
        given: images that are labelled already.
        groups: of the images, without those that are in none.
        groups_kept: of the kept images.
        near_duplicates: images that were left out first, for their cosine with an earlier one.
        objective: value of the method's objective; None without one.
        notes: sentences of the stage `embed`, and on limits that have no effect.
    """

    out: str
    features: str
    method: str
    images: int
    kept: int
    given: int
    groups: int
    groups_kept: int
    near_duplicates: int
    objective: float | None
    notes: tuple[str, ...]


def keep(
    source: str | Path,
    out: str | Path,
    *,
    weights: str | Path,
    method: str,
    budget: str,
    given: str | Path | None = None,
    per_group: int | None = None,
    near: float | None = None,
    features: str | Path | None = None,
    seed: int = 0,
    progress: bool = False,
    **options: Any,
) -> Kept:
    """Keep the images of a source that a method picks by their features.

    Three new files are written: OUT, an image list with classes and groups that every command
    reads, in the order of the picks; OUT's name with .png, a contact sheet of what is kept and what
    is left out; and with .csv, a table by group. Frames of videos are written as PNG files into the
    folder OUT-frames.

    Args:
        source: see `embed`.
        out: the image list, which ends in .txt.
        weights: see `embed`.
        method: one of `selection` that needs features alone, such as "k-center:first=central".
        budget: a count such as "500", or a fraction of the images such as "0.1".
        given: a source of images that are labelled already. They are not kept again, and methods
            that compare images count them as kept. Those that are not in `source` get features in
            a folder of their own.
        per_group: most images of a group that are kept, given ones with them (see
            `selection.PerGroup`); an image without a group is one by itself. None sets no limit.
        near: cosine above which an image is left out first, beside an earlier one of its group;
            only with `per_group`.
        features: folder of the stage `embed`, which is made, gone on with, or used as it is;
            default features.parquet beside OUT.
        seed: of all random choices.
        progress: whether to draw progress bars.
        **options: of `embed`.

    Raises:
        ValueError: a file exists already, a method that needs more than features, a budget out of
            range, images of no use (see `embed`).
    """
    path = Path(out)
    folder = features_folder(path, None if features is None else Path(features))
    check_keeping(path, folder, method, budget, seed, per_group, near)
    check_outside(source, path.parent)
    options |= {"weights": weights, "progress": progress}
    manifest = embed(source, folder, **options)
    table = Embeddings(folder)
    codes, _ = table.groups("group")
    pool = Pool.of(features=table.array("features"), ids=table.array("id"), groups=codes)
    held = _given(pool, table, source, given, options)
    count = parse_budget(budget, len(pool))
    chosen = parse_method(method)
    if per_group is not None:
        chosen = PerGroup(chosen, per_group, near)
    with asked_for_progress(progress):
        picks = chosen.select(pool, count, seed, held)
    names = Table(folder)
    facts = {"kept": len(picks.indices), "images": len(pool), "method": method, "seed": seed}
    limits = {"per_group": per_group, "near": near}
    facts |= {name: value for name, value in limits.items() if value is not None}
    groups = _groups(table, picks.indices, held.rows)
    sheet = _sheet(names, picks.indices, held.rows, source, method)
    _write_new({path.with_suffix(".csv"): _csv(groups), path.with_suffix(".png"): sheet})
    notes = []
    if per_group is not None and not any(groups):
        notes.append(
            "no image has a group: each is one by itself, and the limit per group leaves nothing "
            "out; an image list can name groups"
        )
    # The list comes last: where it is, the others are.
    _write_list(path, names, picks.indices, image_root(source), facts)
    return Kept(
        out=str(path),
        features=str(folder),
        method=method,
        images=len(pool),
        kept=len(picks.indices),
        given=len(held),
        groups=sum(1 for name in groups if name),
        groups_kept=sum(1 for name, own in groups.items() if name and own[1]),
        near_duplicates=picks.diagnostics.get("near_duplicates", 0),
        objective=picks.objective,
        notes=(*manifest.notes, *notes),
    )


def _given(
    pool: Pool,
    features: Embeddings,
    source: str | Path,
    given: str | Path | None,
    options: Mapping[str, Any],
) -> Given:
    """Find the images that are labelled already, in the pool and outside of it."""
    if given is None:
        return Given.none()
    here, there = (image_root(one).resolve() for one in (given, source))
    # By the id among the given images: that which the same image has in the source.
    same = {
        image_id(one.name, one.frame): image_id(os.path.relpath(here / one.name, there), one.frame)
        for one in iterate_images(given, int(options.get("frame_stride", 1)), Tally())
    }
    # Pictures that an earlier `keep` wrote stand for what they were taken from.
    pictures = {own: Path(own).name for own in same if Path(own).parent.name.endswith(FRAMES)}
    shown = set(pictures.values())
    written = {_picture(own): own for own in map(str, pool.ids) if _picture(own) in shown}
    same |= {own: written[name] for own, name in pictures.items() if name in written}
    wanted = set(same.values())
    rows = [row for row, own in enumerate(pool.ids) if os.path.normpath(own) in wanted]
    found = {os.path.normpath(pool.ids[row]) for row in rows}
    inside = np.array(rows, np.int64)
    if found == wanted:
        return Given.of(pool, rows=inside)
    apart = features.path.with_name(f"given-{features.path.name}")
    embed(given, apart, **options)
    table = Embeddings(apart)
    others = [row for row, own in enumerate(table.array("id")) if same[str(own)] not in found]
    if not others:
        return Given.of(pool, rows=inside)
    (_, names), (codes, own_names) = features.codes("group"), table.codes("group")
    # A group that no image of the pool is in, and none at all, is -1 to it.
    places = {str(name): place for place, name in enumerate(names) if name}
    groups = [places.get(str(own_names[code]), -1) for code in codes[others]]
    outside = Pool.of(features=table.array("features")[others], groups=groups)
    return Given.of(pool, rows=inside, outside=outside)


def _picture(own: str) -> str:
    """Return the name of the file that shows a picture of a file with several."""
    return f"{own.replace('/', '-')}.png"


def _write_list(
    path: Path, names: Table, picks: Rows, root: Path, facts: Mapping[str, Any]
) -> None:
    """Write the image list of the picks.

    Its first line, a comment, seals it and says how it was made.
    """
    frames = path.with_name(f"{path.stem}{FRAMES}")
    base = path.parent.resolve()

    def lines() -> Iterator[str]:
        yield f"# {json.dumps(facts)} {BLANK_SEAL}\n"
        for start in range(0, len(picks), ROWS):
            columns = names.take(picks[start : start + ROWS], ["id", "frame", "group", "label"])
            for own, frame, group, label in zip(*columns.values(), strict=True):
                place = root.resolve() / image_name(own, frame)
                if frame != STILL:
                    pixels = read_pixels(str(place), int(frame)).astype(np.uint8)
                    place = base / frames.name / _picture(own)
                    _write_new({place: png_bytes(pixels)})
                yield list_line(os.path.relpath(place, base), group, label)

    with atomic_file(path, replace=False) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines())
        seal_file(temporary)


def _write_new(contents: Mapping[Path, bytes]) -> None:
    """Write new files.

    A file of the very same bytes, which a killed process left, is taken for written.

    Raises:
        ValueError: another file is there; nothing is written.
    """
    new = [
        path
        for path, content in contents.items()
        if not (path.is_file() and path.read_bytes() == content)
    ]
    for path in new:
        check_new_file(path, (path.suffix,))
    for path in new:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, contents[path], replace=False)


def _groups(table: Embeddings, picks: Rows, given: Rows) -> dict[str, tuple[int, int, int]]:
    """Count by group images, kept and given ones, in the order of the names.

    The group "" is that of the images that are in none.
    """
    codes, names = table.codes("group")
    counts = [np.bincount(one, minlength=len(names)) for one in (codes, codes[picks], codes[given])]
    return {
        str(name): (int(images), int(kept), int(known))
        for name, images, kept, known in zip(names, *counts, strict=True)
    }


def _csv(groups: Mapping[str, tuple[int, int, int]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("group", "images", "kept", "given"))
    writer.writerows((name, *own) for name, own in groups.items())
    return text.getvalue().encode()


def _sheet(names: Table, picks: Rows, given: Rows, source: str | Path, method: str) -> bytes:
    """Draw the first picks, and some images that are left out."""
    left = np.ones(names.rows, bool)
    left[picks] = left[given] = False
    rest = np.flatnonzero(left)
    spread = np.unique(np.linspace(0, len(rest) - 1, min(SHOWN, len(rest))).round().astype(int))
    sections = [
        (f"first of {len(picks)} kept by {method}", picks[:SHOWN]),
        (f"evenly spaced among {len(rest)} left out", rest[spread]),
    ]
    root = image_root(source)
    sheet = contact_sheet([(heading, _tiles(names, rows, root)) for heading, rows in sections])
    return sealed(png_bytes(sheet))


def _tiles(names: Table, rows: Rows, root: Path) -> list[Tile]:
    columns = names.take(rows, ["id", "frame", "group"])
    return [
        Tile(
            read_pixels(str(root / image_name(own, frame)), int(frame)).astype(np.uint8),
            (own, group),
        )
        for own, frame, group in zip(*columns.values(), strict=True)
    ]
