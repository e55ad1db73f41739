"""A stage's folder: who owns it, what went in, what came out. A stage is finished iff
`manifest.json` exists, which is written last."""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardset.cli import check_output_folder
from hardset.datafile import versions, write_text_atomic
from hardset.lock import LOCK
from pretrain_jax.stages.files import Recorded, changed_file, file_record

__all__ = [
    "Manifest",
    "Stage",
    "digest",
    "file_record",
    "input_folder",
    "open_stage",
    "read_json",
    "read_manifest",
]

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
CLAIM = "stage.json"
# What a rerun on another computer may have otherwise.
OUTSIDE_DIGEST = ("seconds", "versions", "locations")
# The command that makes a stage, where it has another name.
COMMANDS = {"index": "propose"}
TABLES = (".parquet", ".npy")


@dataclass(frozen=True)
class Manifest:
    """What a finished stage did.

    Attributes:
        stage: its name.
        parameters: everything that determines the outputs besides inputs and seed, JSON-able.
        seed: of all random choices; None where there are none.
        inputs: sha256 of each input's manifest (see `digest`), or of a user's source.
        outputs: bytes and sha256 by path relative to the folder.
        counts: what there is how much of.
        seconds: of work, summed over shards.
        versions: of packages.
        locations: where each input lay, relative to the folder.
        schema_version: of this record.
        notes: sentences for the reader.
    """

    stage: str
    parameters: dict[str, Any]
    seed: int | None
    inputs: dict[str, str]
    outputs: dict[str, dict[str, Any]]
    counts: dict[str, int | float]
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)
    locations: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """A claimed folder, to be filled and finished.

    In a `with` block the claim is given up when an error stops the stage before it wrote anything,
    and the folders that were created for it are removed.

    Attributes:
        folder: where the outputs go.
        stage: its name.
        parameters: see `Manifest`.
        seed: see `Manifest`.
        inputs: see `Manifest`.
        locations: see `Manifest`.
        started: `time.monotonic()` when it was opened.
        created: folders that were not there before, the innermost first.
    """

    folder: Path
    stage: str
    parameters: dict[str, Any]
    seed: int | None
    inputs: dict[str, str]
    locations: dict[str, str]
    started: float
    created: tuple[Path, ...] = ()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        held = [one.name for one in self.folder.iterdir() if not one.name.startswith(".")]
        if kind is not None and held == [CLAIM]:
            (self.folder / CLAIM).unlink(missing_ok=True)
            if self.created:
                (self.folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # something else lies there by now
                for one in self.created:
                    one.rmdir()

    def finish(
        self,
        counts: Mapping[str, int | float],
        notes: Sequence[str] = (),
        *,
        seconds: float | None = None,
        apart: Collection[str] = (),
    ) -> Manifest:
        """Hash the outputs and write the manifest.

        Args:
            counts: finite numbers.
            notes: sentences for the reader.
            seconds: of work; default: since the stage was opened.
            apart: files and subfolders that are left out, because a table lists them, because they
                are a cache, or because they hold paths of this computer.
        """
        manifest = Manifest(
            stage=self.stage,
            parameters=self.parameters,
            seed=self.seed,
            inputs=self.inputs,
            outputs=_outputs(self.folder, apart),
            counts=dict(counts),
            seconds=round(time.monotonic() - self.started if seconds is None else seconds, 3),
            versions=versions(),
            locations=self.locations,
            notes=list(notes),
        )
        write_text_atomic(self.folder / MANIFEST, _text(dataclasses.asdict(manifest)))
        return manifest


def open_stage(
    folder: str | Path,
    stage: str,
    parameters: Mapping[str, Any],
    seed: int | None,
    inputs: Mapping[str, str],
    *,
    locations: Mapping[str, str | Path] | None = None,
) -> Stage | Manifest:
    """Claim a folder for a stage, or take up the same stage again.

    Args:
        folder: new, empty, or one that the very same stage began or finished.
        stage: its name.
        parameters: JSON-able, see `Manifest`.
        seed: of all random choices.
        inputs: sha256 by name.
        locations: where the inputs lie, for the stages that read them later.

    Returns:
        The claimed stage, or the manifest where it is finished.

    Raises:
        ValueError: the folder holds something else; says which field differs. A table of an input
            is not what its stage wrote; for a finished stage, as far as `changed_file` sees it
            from sizes and times. Nothing is touched.
        OSError: the folder cannot be written.
    """
    path = Path(folder)
    wanted = {"stage": stage, "parameters": dict(parameters), "seed": seed, "inputs": dict(inputs)}
    wanted = json.loads(_text(wanted))
    if (path / CLAIM).is_file():
        _check_same(path, read_json(path / CLAIM), wanted)
        if (path / MANIFEST).is_file():
            for one in (locations or {}).values():
                _check_tables(Path(one), since=path / MANIFEST)
            return read_manifest(path)
    elif path.exists():
        if not path.is_dir():
            raise ValueError(f"output folder {path} is a file; name a folder")
        held = sorted(one.name for one in path.iterdir() if not one.name.startswith("."))
        if held:
            raise ValueError(
                f"output folder {path} holds other files ({', '.join(held[:3])}"
                f"{', ...' if len(held) > 3 else ''}) and is left alone; name a new or empty one"
            )
    for one in (locations or {}).values():
        _check_tables(Path(one))
    created = tuple(one for one in (path, *path.parents) if not one.exists())
    check_output_folder(path)
    where = {
        name: os.path.relpath(Path(one).resolve(), path.resolve())
        for name, one in (locations or {}).items()
    }
    _claim(path, wanted | {"locations": where})
    return Stage(
        folder=path,
        stage=stage,
        parameters=wanted["parameters"],
        seed=seed,
        inputs=wanted["inputs"],
        locations=where,
        started=time.monotonic(),
        created=created,
    )


def read_manifest(folder: str | Path, stage: str | Collection[str] | None = None) -> Manifest:
    """The manifest of a finished stage.

    Args:
        folder: of the stage.
        stage: name or names that it may have; any by default.

    Raises:
        ValueError: there is none, it is damaged, or it is of another stage; says which command
            makes it.
    """
    path = Path(folder)
    names = () if stage is None else (stage,) if isinstance(stage, str) else tuple(stage)
    commands = dict.fromkeys(COMMANDS.get(one, one) for one in names)
    makes = " or ".join(f"python -m pretrain_jax {one}" for one in commands)
    if not (path / MANIFEST).is_file():
        begun = "is not finished" if (path / CLAIM).is_file() else "does not exist"
        what = f"stage {' or '.join(names)} in {path}" if names else f"the stage in {path}"
        raise ValueError(f"{what} {begun} (no {MANIFEST})" + (f"; run {makes}" if names else ""))
    record = read_json(path / MANIFEST)
    if record.get("schema_version", 0) > SCHEMA_VERSION:
        raise ValueError(
            f"{path / MANIFEST} has schema version {record['schema_version']}; this version reads "
            f"up to {SCHEMA_VERSION}"
        )
    try:
        manifest = Manifest(**record)
    except TypeError:
        raise ValueError(f"{path / MANIFEST} is no manifest of a stage") from None
    if names and manifest.stage not in names:
        raise ValueError(
            f"{path} is of stage {manifest.stage}, not {' or '.join(names)}; run {makes}"
        )
    return manifest


def digest(manifest: Manifest) -> str:
    """sha256 of the manifest's canonical JSON without seconds, versions and locations."""
    record = dataclasses.asdict(manifest)
    for name in OUTSIDE_DIGEST:
        del record[name]
    return hashlib.sha256(_text(record).encode()).hexdigest()


def input_folder(folder: str | Path, manifest: Manifest, name: str) -> Path:
    """Where an input of a finished stage lies, checked to be what the stage read.

    Args:
        folder: of the stage.
        manifest: of the stage.
        name: of the input.

    Raises:
        ValueError: it is gone, or another one lies there by now.
    """
    place = Path(os.path.normpath(Path(folder).resolve() / manifest.locations[name]))
    if not place.exists():
        raise ValueError(
            f"input {name!r} of {folder} is not at {place} any more; put it back, or run the "
            f"stages after it anew in another folder"
        )
    if (place / MANIFEST).is_file() and digest(read_manifest(place)) != manifest.inputs[name]:
        raise ValueError(
            f"input {name!r} of {folder} at {place} is another one than the stage read; run the "
            "stages after it anew in another folder"
        )
    return place


def _outputs(folder: Path, apart: Collection[str]) -> dict[str, dict[str, Any]]:
    """Records of all files but the stage's own ones, the shards' logs and what is hidden."""
    found = {}
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            one
            for one in folders
            if not one.startswith(".") and not (here == folder and one in apart)
        )
        for name in sorted(files):
            own = here == folder and (name in (MANIFEST, CLAIM) or name in apart)
            if not own and not name.startswith(".") and not name.endswith(".log.json"):
                path = here / name
                found[path.relative_to(folder).as_posix()] = file_record(path)
    return found


def _claim(path: Path, record: dict[str, Any]) -> None:
    """Write the claim; of processes that do so at once the first one has the folder.

    Raises:
        ValueError: another stage has claimed it meanwhile.
    """
    claim = path / CLAIM
    temporary = path / f".{CLAIM}.{os.getpid()}"
    try:
        write_text_atomic(temporary, _text(record))
        os.link(temporary, claim)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        temporary.replace(claim)
    finally:
        temporary.unlink(missing_ok=True)
    _check_same(path, read_json(claim), record)


def _check_tables(folder: Path, since: Path | None = None) -> None:
    """Check that the tables of a finished stage are those that it wrote.

    All of them are hashed, but with `since` as few as `changed_file` does.
    """
    if not (folder / MANIFEST).is_file():
        return
    tables = [
        Recorded(folder / name, record["bytes"], record["sha256"])
        for name, record in read_manifest(folder).outputs.items()
        if Path(name).suffix in TABLES
    ]
    path = changed_file(tables, since)
    if path is not None:
        what = "has changed since its stage wrote it" if path.is_file() else "is gone"
        raise ValueError(f"{path} {what}; put it back, or run its stage anew in another folder")


def _check_same(path: Path, known: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name in ("stage", "parameters", "seed", "inputs"):
        different = _difference(name, known.get(name), wanted[name])
        if different is not None:
            place, old, new = different
            why = " (it is another one, or has changed since)" if name == "inputs" else ""
            raise ValueError(
                f"output folder {path} was made with {place} = {_short(old)}, now {place} = "
                f"{_short(new)}{why}; it is left alone: name another folder, or delete it"
            )


def _difference(name: str, old: Any, new: Any) -> tuple[str, Any, Any] | None:
    """The first entry of nested records that differs, by its path with dots, and both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        parts = (
            _difference(f"{name}.{key}", old.get(key), new.get(key))
            for key in sorted(old.keys() | new.keys())
        )
        return next((one for one in parts if one is not None), None)
    return None if old == new else (name, old, new)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(record: Any) -> str:
    return json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; ValueError where it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return record
