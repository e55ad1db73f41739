"""A stage's folder: who owns it, what went in, what came out. A stage is finished iff
`manifest.json` exists, which is written last."""

import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hardset.cli import check_output_folder
from hardset.compilation import compiled_seconds
from hardset.datafile import versions, write_bytes_atomic
from hardset.seal import SealError, check_seal, sealed_json

CHUNK = 1 << 20


class Recorded(NamedTuple):
    """A file as it was.

    Attributes:
        path: where it lies.
        size: in bytes; None where that was not recorded.
        sha256: of its content.
    """

    path: Path
    size: int | None
    sha256: str


def file_record(path: Path) -> dict[str, Any]:
    """Bytes and sha256 of a file."""
    found = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": found.hexdigest()}


def changed_file(files: Iterable[Recorded], since: Path | None = None) -> Path | None:
    """The first file that is gone or another one than was recorded.

    With `since`, size and time come first: only a file that is not older is hashed. When all are
    the same `since` takes the time of this look, so that a copy, all of whose files are new, is
    hashed once. A change that keeps both size and time is not seen then.

    Args:
        files: as they were recorded.
        since: a file that was written at a time when all of them were as recorded; None hashes all.
    """
    now = time.time_ns()
    known = 0 if since is None else since.stat().st_mtime_ns
    hashed = False
    for path, size, sha256 in files:
        try:
            found = path.stat()
            if size is not None and found.st_size != size:
                return path
            if found.st_mtime_ns >= known:
                hashed = True
                if file_record(path)["sha256"] != sha256:
                    return path
        except PermissionError:  # it may be as it was
            raise
        except OSError:
            return path
    if hashed and since is not None:
        with suppress(OSError):  # of another user: hashed again the next time
            os.utime(since, ns=(now, now))
    return None


def write_record(path: Path, record: Mapping[str, Any], *, replace: bool = True) -> None:
    """Write a JSON object with a checksum, atomically; keys are sorted.

    Args:
        path: the file.
        record: JSON-able.
        replace: whether a file that is there may be replaced, see `atomic_file`.

    Raises:
        ValueError: a number that is not finite.
        OSError: it cannot be written.
    """
    # Sorted here: the seal comes last.
    text = json.dumps(record, sort_keys=True, allow_nan=False)
    write_bytes_atomic(path, sealed_json(json.loads(text), indent=1), replace=replace)


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object that `write_record` wrote.

    Raises:
        ValueError: it cannot be read, has no checksum, or is not what was written.
    """
    try:
        check_seal(path)
        record = json.loads(path.read_bytes())
    except PermissionError:  # it may be as it was
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except SealError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not isinstance(record, dict) or "seal" not in record:
        raise ValueError(f"{path} is damaged: it holds no JSON object with a checksum")
    del record["seal"]
    return record


def check_sealed(path: Path) -> None:
    """Check a file's seal, once in a process as long as its size and time stay.

    Raises:
        SealError: it is not what was written.
        OSError: it cannot be read.
    """
    status = path.stat()
    _check_once(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=4096)
def _check_once(path: Path, *_: int) -> None:
    check_seal(path)


LOCK = ".lock"


@contextmanager
def alone(folder: str | Path, *, joined: bool = False) -> Iterator[None]:
    """Hold a folder for as long as the block runs; a killed process lets go of it.

    Args:
        folder: exists and can be written.
        joined: whether processes of several hosts work in it together; then nothing is held.

    Raises:
        ValueError: another process holds it.
    """
    if joined:
        yield
        return
    from filelock import FileLock, Timeout  # 30 ms that `--help` need not pay

    try:
        with FileLock(Path(folder) / LOCK, timeout=0):
            yield
    except Timeout:
        raise ValueError(
            f"another process works in {folder}; wait until it ends, or name another folder"
        ) from None


SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
CLAIM = "stage.json"
# What a rerun on another computer may have otherwise.
OUTSIDE_DIGEST = ("seconds", "compile_seconds", "aside", "versions", "locations", "local")
# The command that makes a stage, where it has another name.
COMMANDS = {"index": "propose"}
# Outputs that no stage reads again.
FREE_SUFFIXES = (".png", ".csv")
# A file of a run's checkpoint: of local files, those of the newest are what stages read again.
CHECKPOINT = re.compile(r"(.*\bcheckpoints)/(\d+)/.*")
# Whether the processes of several hosts do all stages together.
_together: ContextVar[bool] = ContextVar("together", default=False)


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
        seconds: of work, summed over shards, without compilation.
        versions: of packages.
        locations: where each input lay, relative to the folder.
        schema_version: of this record.
        notes: sentences for the reader.
        compile_seconds: of tracing and compiling, as far as it is known.
        aside: those of `seconds` that no model needs: the probes of the two halves, which serve the
            report alone.
        local: as `outputs`, of files that differ from computer to computer: lists of paths, runs.
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
    compile_seconds: float = 0.0
    aside: float = 0.0
    local: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A claimed folder, to be filled and finished.

    A `with` block holds the folder, unless several processes share it. In it the claim is given up
    when an error stops the stage before it wrote anything, and the folders that were created for it
    are removed.

    Attributes:
        folder: where the outputs go.
        stage: its name.
        parameters: see `Manifest`.
        seed: see `Manifest`.
        inputs: see `Manifest`.
        locations: see `Manifest`.
        started: `time.monotonic()` when it was opened.
        compiled: `compiled_seconds()` when it was opened.
        created: folders that were not there before, the innermost first.
        shared: whether other processes work on it, too.
    """

    folder: Path
    stage: str
    parameters: dict[str, Any]
    seed: int | None
    inputs: dict[str, str]
    locations: dict[str, str]
    started: float
    compiled: float
    created: tuple[Path, ...] = ()
    shared: bool = False
    _held: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Stage":
        self._held.enter_context(alone(self.folder, joined=self.shared))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._held.close()
        held = [one.name for one in self.folder.iterdir() if not one.name.startswith(".")]
        if kind is not None and held == [CLAIM]:
            (self.folder / CLAIM).unlink(missing_ok=True)
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
        compile_seconds: float | None = None,
        aside: float = 0.0,
        apart: Collection[str] = (),
        local: Collection[str] = (),
    ) -> Manifest:
        """Hash the outputs and write the manifest.

        Args:
            counts: finite numbers.
            notes: sentences for the reader.
            seconds: of work without compilation; default: since the stage was opened.
            compile_seconds: of tracing and compiling; default: since the stage was opened.
            aside: see `Manifest`.
            apart: files and subfolders that are left out, because a table lists them or because
                they are a cache.
            local: files and subfolders that differ from computer to computer: they hold paths, or
                are the files of a run. They are recorded and are no part of the digest.
        """
        compiling = self.compiling if compile_seconds is None else compile_seconds
        manifest = Manifest(
            stage=self.stage,
            parameters=self.parameters,
            seed=self.seed,
            inputs=self.inputs,
            outputs=_outputs(self.folder, {*apart, *local}),
            counts=dict(counts),
            seconds=round(self.working if seconds is None else seconds, 3),
            versions=versions(),
            locations=self.locations,
            notes=list(notes),
            compile_seconds=round(compiling, 3),
            aside=round(aside, 3),
            local=_local(self.folder, local),
        )
        write_record(self.folder / MANIFEST, dataclasses.asdict(manifest))
        return manifest

    @property
    def compiling(self) -> float:
        """Seconds of tracing and compiling since the stage was opened."""
        return compiled_seconds() - self.compiled

    @property
    def working(self) -> float:
        """Seconds since the stage was opened, without compilation."""
        return max(0.0, time.monotonic() - self.started - self.compiling)


def open_stage(
    folder: str | Path,
    stage: str,
    parameters: Mapping[str, Any],
    seed: int | None,
    inputs: Mapping[str, str],
    *,
    locations: Mapping[str, str | Path] | None = None,
    shared: bool = False,
) -> Stage | Manifest:
    """Claim a folder for a stage, or take up the same stage again.

    Args:
        folder: new, empty, or one that the very same stage began or finished.
        stage: its name.
        parameters: JSON-able, see `Manifest`.
        seed: of all random choices.
        inputs: sha256 by name.
        locations: where the inputs lie, for the stages that read them later.
        shared: whether several processes work in the folder at once, on shards or joined.

    Returns:
        The claimed stage, or the manifest where it is finished; it takes note of new locations.

    Raises:
        ValueError: the folder holds something else; says which field differs. A file of an input
            is not what its stage wrote, or one of a finished stage's own, as far as `changed_file`
            sees it from sizes and times; says which folder to delete.
        OSError: the folder cannot be written.
    """
    path = Path(folder)
    wanted = {"stage": stage, "parameters": dict(parameters), "seed": seed, "inputs": dict(inputs)}
    wanted = json.loads(_text(wanted))
    places = [Path(one) for one in (locations or {}).values()]
    where = {
        name: os.path.relpath(Path(one).resolve(), path.resolve())
        for name, one in (locations or {}).items()
    }
    known = _known_claim(path)
    if known is not None:
        _check_same(path, known, wanted)
        if (path / MANIFEST).is_file():
            manifest = read_manifest(path)
            if not (path / CLAIM).is_file():
                _restore_claim(path, known)
            own = _files_of(path, manifest)
            read = [one for place in places for one in _files_of_stage(place)]
            _check_files([*own, *read], path / MANIFEST)
            return restate(path, manifest, locations=where)
    elif path.exists():
        if not path.is_dir():
            raise ValueError(f"output folder {path} is a file; name a folder")
        held = sorted(one.name for one in path.iterdir() if not one.name.startswith("."))
        if held:
            raise ValueError(
                f"output folder {path} holds other files ({', '.join(held[:3])}"
                f"{', ...' if len(held) > 3 else ''}) and no {CLAIM}, and is left alone; name a "
                f"new or empty one, or delete the folder {path} if it holds what a stage left"
            )
    _check_files([one for place in places for one in _files_of_stage(place)])
    created = tuple(one for one in (path, *path.parents) if not one.exists())
    check_output_folder(path)
    _claim(path, wanted | {"locations": where})
    return Stage(
        folder=path,
        stage=stage,
        parameters=wanted["parameters"],
        seed=seed,
        inputs=wanted["inputs"],
        locations=where,
        started=time.monotonic(),
        compiled=compiled_seconds(),
        created=created,
        shared=shared or _together.get(),
    )


@contextmanager
def together(joined: bool = True) -> Iterator[None]:
    """Let processes of several hosts do the same stages at once as long as the block runs."""
    token = _together.set(joined)
    try:
        yield
    finally:
        _together.reset(token)


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
    record = _own_record(path / MANIFEST)
    if record.get("schema_version", 0) > SCHEMA_VERSION:
        raise ValueError(
            f"{path / MANIFEST} has schema version {record['schema_version']}; this version reads "
            f"up to {SCHEMA_VERSION}"
        )
    try:
        manifest = Manifest(**record)
    except TypeError:
        why = f"{path / MANIFEST} is no manifest of a stage of this version"
        raise ValueError(f"{why}; {remedy(path / MANIFEST)}") from None
    if names and manifest.stage not in names:
        raise ValueError(
            f"{path} is of stage {manifest.stage}, not {' or '.join(names)}; run {makes}"
        )
    return manifest


def digest(manifest: Manifest) -> str:
    """sha256 of the manifest's canonical JSON without what depends on the computer."""
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
            f"input {name!r} of {folder} is not at {place} any more; put it back, or delete the "
            f"folder {folder} and run its command again with the input where it is now"
        )
    if (place / MANIFEST).is_file() and digest(read_manifest(place)) != manifest.inputs[name]:
        raise ValueError(
            f"input {name!r} of {folder} at {place} is another one than the stage read; delete "
            f"the folder {folder} and run its command again"
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


def _local(folder: Path, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Records of local files, and of all files in local subfolders but hidden ones."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(names):
        place = folder / name
        if place.is_dir():
            inner = _outputs(place, ())
            found |= {f"{name}/{one}": record for one, record in inner.items()}
        elif place.is_file():
            found[name] = file_record(place)
    return found


def claimed_inputs(folder: Path) -> dict[str, str] | None:
    """Inputs of the stage that claimed a folder; None where none did.

    Raises:
        ValueError: neither claim nor manifest can be read; says which folder to delete.
    """
    known = _known_claim(folder)
    return None if known is None else dict(known["inputs"])


def output(folder: str | Path, manifest: Manifest, name: str) -> Path:
    """A file of a finished stage, checked to be what the stage wrote.

    Args:
        folder: of the stage.
        manifest: of the stage.
        name: relative to the folder.

    Raises:
        ValueError: the stage wrote no such file, it is gone, or it is another one by now.
    """
    path = Path(folder) / name
    record = (manifest.outputs | manifest.local).get(name)
    if record is None:
        raise ValueError(f"{path} is no output of its stage; {remedy(path)}")
    _check_files([Recorded(path, record["bytes"], record["sha256"])])
    return path


def restate(
    folder: Path,
    manifest: Manifest,
    *,
    locations: Mapping[str, str] | None = None,
    local: Collection[str] = (),
) -> Manifest:
    """The manifest with what may change after the end: places of inputs, files written anew.

    Args:
        folder: of the finished stage.
        manifest: its manifest, which is written again where it differs.
        locations: see `Manifest`.
        local: names of local files that were written anew.
    """
    new = dataclasses.replace(
        manifest,
        locations=manifest.locations if locations is None else dict(locations),
        local=manifest.local | _local(folder, local),
    )
    if new != manifest:
        write_record(folder / MANIFEST, dataclasses.asdict(new))
    return new


def remedy(path: Path) -> str:
    """What a user can do about a file that is damaged or gone."""
    folder = next(
        (one for one in path.parents if (one / CLAIM).exists() or (one / MANIFEST).exists()),
        path.parent,
    )
    return f"put it back, or delete the folder {folder} and run the command that made it again"


def _known_claim(path: Path) -> dict[str, Any] | None:
    """The claim of a folder, by its manifest where the claim itself is lost; None without both."""
    trouble: ValueError | None = None
    if (path / CLAIM).is_file():
        try:
            return read_record(path / CLAIM)
        except ValueError as error:
            trouble = error
    if (path / MANIFEST).is_file():
        made = dataclasses.asdict(read_manifest(path))
        return {name: made[name] for name in ("stage", "parameters", "seed", "inputs", "locations")}
    if trouble is not None:
        raise ValueError(f"{trouble}; {remedy(path / CLAIM)}")
    return None


def _restore_claim(path: Path, record: dict[str, Any]) -> None:
    """Write a lost claim again, as old as can be: what is compared with its time is hashed."""
    write_record(path / CLAIM, record)
    os.utime(path / CLAIM, (0, 0))


def _claim(path: Path, record: dict[str, Any]) -> None:
    """Write the claim; of processes that do so at once the first one has the folder.

    Raises:
        ValueError: another stage has claimed it meanwhile.
    """
    with suppress(FileExistsError):
        write_record(path / CLAIM, record, replace=False)
    _check_same(path, read_record(path / CLAIM), record)


def _own_record(path: Path) -> dict[str, Any]:
    """A sealed record of a stage; ValueError says which folder to delete where it is damaged."""
    try:
        return read_record(path)
    except ValueError as error:
        raise ValueError(f"{error}; {remedy(path)}") from None


def _files_of(folder: Path, manifest: Manifest) -> Iterator[Recorded]:
    """The files of a finished stage that others read."""
    steps = {name: CHECKPOINT.fullmatch(name) for name in manifest.local}
    newest: dict[str, int] = {}
    for found in filter(None, steps.values()):
        newest[found[1]] = max(int(found[2]), newest.get(found[1], 0))
    read = manifest.outputs | {
        name: manifest.local[name]
        for name, found in steps.items()
        if found and int(found[2]) == newest[found[1]]
    }
    for name, record in read.items():
        if Path(name).suffix not in FREE_SUFFIXES:
            yield Recorded(folder / name, record["bytes"], record["sha256"])


def _files_of_stage(folder: Path) -> Iterator[Recorded]:
    """The same of the stage that finished a folder; none of another folder."""
    if (folder / MANIFEST).is_file():
        yield from _files_of(folder, read_manifest(folder))


def _check_files(files: Iterable[Recorded], since: Path | None = None) -> None:
    """Check that files are what their stages wrote.

    All of them are hashed, but with `since` as few as `changed_file` does.
    """
    path = changed_file(files, since)
    if path is not None:
        what = "has changed since its stage wrote it" if path.is_file() else "is gone"
        raise ValueError(f"{path} {what}; {remedy(path)}")


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
