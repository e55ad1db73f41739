"""A run's folder: whose it is, what was measured on its images, and one process at a time."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from hardset.cli import check_output_folder
from hardset.datafile import write_text_atomic
from hardset.lock import LOCK, alone
from pretrain_jax.data.fingerprint import Fingerprint
from pretrain_jax.train.config import (
    TrainConfig,
    config_differences,
    config_from_json,
    config_to_json,
)
from pretrain_jax.train.logging import LOG_NAME, say

__all__ = [
    "CONFIG_NAME",
    "check_folder",
    "claimed",
    "known_statistics",
    "write_statistics",
]

CONFIG_NAME = "config.json"
STATISTICS_NAME = "statistics.json"


def check_folder(config: TrainConfig) -> Path:
    """The run's folder, if it is new, empty, or holds this very run; nothing is written.

    Raises:
        ValueError: the folder holds other files, or a run of another configuration.
    """
    folder, echo = Path(config.out), Path(config.out) / CONFIG_NAME
    if echo.is_file():
        try:
            there = config_from_json(json.loads(echo.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{echo} cannot be read: {error}; choose another --out") from None
        differences = config_differences(config, there)
        # Before its first step a run holds nothing that could be lost.
        if differences and (folder / LOG_NAME).exists():
            raise ValueError(
                f"{folder} holds a run (and checkpoints) of another configuration: "
                f"{'; '.join(differences)}; choose another --out"
            )
    elif folder.exists() and not (
        folder.is_dir() and all(one.name == LOCK for one in folder.iterdir())
    ):
        raise ValueError(f"{folder} exists and holds no run; choose another --out")
    return folder


@contextmanager
def claimed(config: TrainConfig) -> Iterator[None]:
    """Create the run's folder, hold it as long as the block runs, and write the configuration.

    Raises:
        ValueError: another process works in it, or it is not this run's; see `check_folder`.
        OSError: it cannot be written.
    """
    folder = check_output_folder(config.out)
    with alone(folder, joined=config.cluster.join):
        # Another process may have come first; joined ones write into it at this moment.
        if not config.cluster.join:
            check_folder(config)
        if jax.process_index() == 0:
            text = json.dumps(config_to_json(config), indent=1, allow_nan=False)
            write_text_atomic(folder / CONFIG_NAME, text + "\n")
        yield


def known_statistics(folder: Path, found: Mapping[str, Fingerprint]) -> dict[str, Any]:
    """What a run measured on its images; empty for a new run, and for other images before a step.

    A file that is newer than the measurement, but of the size it had, gives a line on stderr.

    Args:
        folder: of the run.
        found: the images as they are now, by "training" and "validation".

    Raises:
        ValueError: the run has begun, and files have come, gone, or changed their sizes since.
    """
    path = folder / STATISTICS_NAME
    if not path.is_file():
        return {}
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for part, now in found.items():
        # Runs of earlier versions have no digest.
        if known.get(f"{part}_digest", now.digest) == now.digest:
            continue
        if not (folder / LOG_NAME).exists():
            return {}
        raise ValueError(
            f"the {part} images of the run in {folder} have changed since it began (names, sizes "
            f"or number of files; {now.images} images now); put them back, or choose another --out"
        )
    newest = max(found.values(), key=lambda one: one.newest)
    if newest.newest > path.stat().st_mtime_ns:
        say(
            f"warning: {newest.newest_file} was written after the run in {folder} began, which may "
            "have seen another image there"
        )
    return known


def write_statistics(folder: Path, values: Mapping[str, Any]) -> None:
    """Keep what was measured beside the configuration; what is there already keeps its time."""
    path = folder / STATISTICS_NAME
    text = json.dumps(dict(values), indent=1) + "\n"
    same = path.is_file() and path.read_text(encoding="utf-8") == text
    if jax.process_index() == 0 and not same:
        write_text_atomic(path, text)
