"""V-information of a run's sets, by the probe that does not know what it predicts."""

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.report.v_information import Halves, SetInformation, set_information
from pretrain_jax.stages import Table, read_manifest
from pretrain_jax.stages.manifest import input_folder
from pretrain_jax.synthesis import Images
from pretrain_jax.synthesis.selecting import SELECTION
from pretrain_jax.synthesis.synthesising import LIST, SOURCES
from pretrain_jax.train.restored import load_model

__all__ = ["half_of_cells", "information_of_sets"]

RUN, HALVES = "run", ("half-0", "half-1")
NO_HALVES = "no probes of disjoint halves"


def information_of_sets(
    sets: Mapping[str, Path], probe: Path, *, sample: int, seed: int
) -> dict[str, SetInformation | str]:
    """V-information of each set by the probes of the halves, or by the probe of all images.

    A set that has none, such as one of a single image, has the sentence why.

    Args:
        sets: folders of stages `synthesise` by name.
        probe: folder of the stage `probe`.
        sample: see `set_information`.
        seed: see `set_information`.

    Raises:
        ValueError: weights are not there any more.
    """
    lists = [probe / f"{name}.txt" for name in HALVES]
    halves = all(path.is_file() for path in lists)
    models = [load_model(probe / name) for name in (HALVES if halves else (RUN,))]
    whole = None if halves else models[0]
    found: dict[str, SetInformation | str] = {}
    for name, made in sets.items():
        seen = NO_HALVES
        if halves:
            try:
                known = Halves((models[0], models[1]), half_of_cells(made, lists))
                found[name] = set_information(known, made / LIST, sample=sample, seed=seed)
                continue
            except ValueError as error:
                seen = str(error)
        whole = load_model(probe / RUN) if whole is None else whole
        try:
            plain = set_information(whole, made / LIST, sample=sample, seed=seed)
        except ValueError as error:
            found[name] = str(error)
            continue
        found[name] = dataclasses.replace(plain, seen=seen)
    return found


def half_of_cells(
    made: Path, lists: Sequence[Path]
) -> Callable[[NDArray[np.int64]], NDArray[np.int8]]:
    """The function rows -> half of the source of each cell of those images, for `Halves`.

    Args:
        made: folder of a stage `synthesise`.
        lists: the files of each half, relative to the list's folder.
    """
    manifest = read_manifest(made, "synthesise")
    images = Images(input_folder(made, manifest, "index"))
    selection = input_folder(made, manifest, "selection")
    if read_manifest(selection, "select").parameters["kind"] == "patch":
        table, cells = Table(made, SOURCES), int(manifest.parameters["patches"])
    else:
        table, cells = Table(selection, SELECTION), 1

    def of_cells(rows: NDArray[np.int64]) -> NDArray[np.int8]:
        parts = (rows[:, None] * cells + np.arange(cells)).ravel()
        numbers = table.take(parts, ["image"])["image"]
        names = images.table.take(numbers, ["name"])["name"]
        files = [os.path.normpath(images.root / str(name)) for name in names]
        first, second = (_listed(path, set(files)) for path in lists)
        if first & second or set(files) - first - second:
            raise ValueError("some of its images are not in exactly one half of the probes")
        return np.array([file in second for file in files], np.int8).reshape(len(rows), cells)

    return of_cells


def _listed(path: Path, wanted: Collection[str]) -> set[str]:
    """Those of the wanted files that a list names."""
    here = path.parent.resolve()
    with path.open(encoding="utf-8") as lines:
        files = (os.path.normpath(here / line.rstrip("\n")) for line in lines)
        return {file for file in files if file in wanted}
