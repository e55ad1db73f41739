"""Owns a run's folder.

It says whose the folder is, and what was measured on its images.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax

from hardset.folder import Claim
from hardset.listing import read_record, write_record
from pretrain_jax.data.options import reading
from pretrain_jax.data.skipping import SKIPPED_NAME
from pretrain_jax.data.sources import Fingerprint
from pretrain_jax.train.checkpoint import CheckpointError, Checkpoints, read_meta
from pretrain_jax.train.config import (
    TrainConfig,
    config_differences,
    config_from_json,
    config_to_json,
)
from pretrain_jax.train.logging import BOARD, LOG_NAME, say

CONFIG_NAME = "config.json"
STATISTICS_NAME = "statistics.json"
CHECKPOINTS = "checkpoints"
# Names that a run writes into its folder. A folder without any of TELLING may be anybody's.
OWN = frozenset(
    {CONFIG_NAME, STATISTICS_NAME, LOG_NAME, CHECKPOINTS, SKIPPED_NAME}
    | {"images", "pictures", BOARD}
)
TELLING = frozenset({CONFIG_NAME, STATISTICS_NAME, LOG_NAME, CHECKPOINTS})


def check_folder(config: TrainConfig) -> Path:
    """Check that a run may use its folder.

    The folder is new, empty, or holds this very run. Nothing is written.

    Where the configuration is lost or damaged, that of the newest checkpoint is taken.

    Raises:
        ValueError: the folder holds other files, or a run of another configuration.
    """
    claim = _claim(config)
    claim.check()
    return claim.folder


@contextmanager
def claimed(config: TrainConfig) -> Iterator[None]:
    """Hold the run's folder as long as the block runs.

    It creates the folder, and writes the configuration.

    Raises:
        ValueError: another process works in it, or it is not this run's; see `check_folder`.
        OSError: it cannot be written.
    """
    first = jax.process_index() == 0
    with _claim(config).held(joined=config.cluster.join, writes=first):
        yield


def _claim(config: TrainConfig) -> Claim:
    folder = Path(config.out)

    def refuse(known: dict[str, Any]) -> str | None:
        differences = config_differences(config, config_from_json(known))
        # Before its first step a run holds nothing that could be lost.
        if not differences or not _has_begun(folder):
            return None
        told = "; ".join(differences)
        return (
            f"holds a run (and checkpoints) of another configuration: {told}; choose another --out"
        )

    def foreign(names: list[str]) -> str | None:
        own = set(names) <= OWN and not TELLING.isdisjoint(names)
        return None if own else "exists and holds no run; choose another --out"

    def recover(_: ValueError | None) -> dict[str, Any] | None:
        return _record_of(folder / CONFIG_NAME, "config")

    record = config_to_json(config)
    return Claim(folder, CONFIG_NAME, record, refuse, foreign, recover, renewed=True)


def known_statistics(folder: Path, found: Mapping[str, Fingerprint]) -> dict[str, Any]:
    """Read what a run measured on its images.

    It is empty for a new run, and for other images before a step.

    What is lost or damaged is taken from the newest checkpoint. A file that is newer than the
    measurement, but of the size it had, gives a line on stderr.

    Args:
        folder: of the run.
        found: the images as they are now, by "training" and "validation".

    Raises:
        ValueError: the run has begun, and files have come, gone, or changed their sizes since.
    """
    path = folder / STATISTICS_NAME
    known = _record_of(path, "statistics")
    if known is None:
        return {}
    for part, now in found.items():
        if known[f"{part}_digest"] == now.digest:
            continue
        if not _has_begun(folder):
            return {}
        raise ValueError(
            f"the {part} images of the run in {folder} have changed since it began (names, sizes "
            f"or number of files; {now.images} images now), or others are named now; put them "
            "back, or choose another --out"
        )
    options, now_options = known.get("reading", {}), reading().content()
    if options != now_options:
        if not _has_begun(folder):
            return {}
        raise ValueError(
            f"the run in {folder} reads its images with {_told(options)}, and now with "
            f"{_told(now_options)}; give the same options, or choose another --out"
        )
    newest = max(found.values(), key=lambda one: one.newest)
    if path.is_file() and newest.newest > path.stat().st_mtime_ns:
        say(
            f"warning: {newest.newest_file} was written after the run in {folder} began, which may "
            "have seen another image there"
        )
    return known


def _told(options: Mapping[str, Any]) -> str:
    given = " ".join(f"--{name} {value}" for name, value in options.items())
    return given or "neither --pages nor --bits"


def write_statistics(folder: Path, values: Mapping[str, Any]) -> None:
    """Keep what was measured beside the configuration.

    What is there already keeps its time.
    """
    path = folder / STATISTICS_NAME
    new = json.loads(json.dumps(dict(values)))
    try:
        same = path.is_file() and read_record(path) == new
    except ValueError:
        same = False
    if jax.process_index() == 0 and not same:
        write_record(path, new)


def _has_begun(folder: Path) -> bool:
    return (folder / LOG_NAME).exists() or bool(Checkpoints(folder / CHECKPOINTS).steps())


def _record_of(path: Path, part: str) -> dict[str, Any] | None:
    """Return a record of a run.

    It comes from its file, or else from the newest checkpoint that tells it.
    """
    told = f"{path} is gone"
    try:
        if path.is_file():
            return read_record(path)
    except ValueError as error:
        told = str(error)
    checkpoints = path.parent / CHECKPOINTS
    for step in reversed(Checkpoints(checkpoints).steps()):
        try:
            record: dict[str, Any] = read_meta(checkpoints / str(step))[part]
        except (CheckpointError, KeyError):
            continue
        _say_once(f"warning: {told}; what the checkpoint of step {step} tells is taken")
        return record
    return None


@lru_cache(maxsize=64)
def _say_once(text: str) -> None:
    say(text)
