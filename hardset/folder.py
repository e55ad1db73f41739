"""Manages folders that belong to one run, from the claim to the manifest.

Whatever writes a folder that a later process goes on with uses this module:

- `Claim` says whose a folder is: a sealed JSON record in it, and how another record is told from
  it. `check` reads alone, `held` claims the folder and holds it for a block.
- `Stage` is a kind of work that reads other folders and fills its own. It declares its inputs and
  outputs once. `Stage.open` claims the folder; `Work.run` returns the manifest where the very same
  work is finished, and otherwise holds the folder, fills it, and writes the manifest last of all.
- `alone` is the lock by itself; `read_manifest`, `input_folder`, `output` and `digest` are for
  those who read a finished stage.

    SCORE = Stage("score", inputs=("index", "probe"), apart=("cache",))

    def score(index, out, *, masks):
        def fill(work):  # the folder is held
            (work.folder / "scores.txt").write_text(...)
            return Made({"rows": 3}, notes=["a sentence for the reader"])  # None: parts are missing

        inputs = {"index": Input.of(index)}
        return SCORE.open(out, {"masks": masks}, seed=0, inputs=inputs).run(fill)

A stage is finished if and only if its folder holds manifest.json. An error before anything was
written gives the claim up, and removes the folders that were made for it.
"""

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, overload

from hardset.cli import check_output_folder
from hardset.compilation import compiled_seconds
from hardset.datafile import remove_parts, versions
from hardset.listing import (
    Listed,
    changed_file,
    file_record,
    first_difference,
    read_record,
    write_record,
)

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
CLAIM = "stage.json"
LOCK = ".lock"
# Fields of a manifest that may differ where the same work is done on another computer.
OUTSIDE_DIGEST = ("seconds", "compile_seconds", "aside", "versions", "locations", "local", "rates")
# Errors of a write into a folder that may only be read, as a shared one.
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
# The fields of a manifest that the claim holds, too. All but the last decide whose a folder is.
CLAIMED = ("stage", "parameters", "seed", "inputs", "locations")
# The command that makes a stage, where it has another name.
COMMANDS = {
    "dicom": "import-dicom",
    "nifti": "import-nifti",
    "index": "propose",
    "finetune-folds": "finetune",
}
# Outputs that no stage reads again.
FREE_SUFFIXES = (".png", ".csv")
# A file of a run's checkpoint: of local files, those of the newest are what stages read again.
CHECKPOINT = re.compile(r"(.*\bcheckpoints)/(\d+)/.*")
# Whether the processes of several hosts do all stages together.
_together: ContextVar[bool] = ContextVar("together", default=False)


@contextmanager
def alone(folder: str | Path, *, joined: bool = False) -> Iterator[None]:
    """Lock a folder against other processes while the block runs.

    The lock of a killed process is released.

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


@contextmanager
def together(joined: bool = True) -> Iterator[None]:
    """Let processes of several hosts work on the same stages within the block."""
    token = _together.set(joined)
    try:
        yield
    finally:
        _together.reset(token)


@dataclass(frozen=True)
class Claim:
    """A sealed record in a folder that says what the folder belongs to.

    Work that comes later is compared with the record.

    Attributes:
        folder: new, empty, or claimed before.
        file: name of the record's file.
        record: what is written there, JSON-able.
        refuse: given the record that lies there, ends the sentence, begun with the folder, that
            says why it is another one's; None where it is this claim's.
        foreign: does the same, given the names of what lies in a folder without a record.
        recover: gives the record where its file is lost, or damaged for the reason given; None
            where nothing else tells it.
        renewed: whether every process writes the record anew, since parts of it may change.
    """

    folder: Path
    file: str
    record: Mapping[str, Any]
    refuse: Callable[[dict[str, Any]], str | None]
    foreign: Callable[[list[str]], str | None]
    recover: Callable[[ValueError | None], dict[str, Any] | None] = lambda trouble: None
    renewed: bool = False

    def known(self) -> dict[str, Any] | None:
        """Read the record in the folder, or recover it; return None without either."""
        trouble: ValueError | None = None
        if (self.folder / self.file).is_file():
            try:
                return read_record(self.folder / self.file)
            except ValueError as error:
                trouble = error
        return self.recover(trouble)

    def check(self) -> dict[str, Any] | None:
        """Check that the folder is new, empty or claimed by the same work.

        Nothing is written.

        Returns:
            What is known of who claimed it, see `known`.

        Raises:
            ValueError: the folder holds something else; says what.
        """
        known = self.known()
        if known is not None:
            why = self.refuse(known)
        elif not self.folder.exists():
            why = None
        elif not self.folder.is_dir():
            raise ValueError(f"output folder {self.folder} is a file; name a folder")
        else:
            names = sorted(one.name for one in self.folder.iterdir() if one.name != LOCK)
            why = self.foreign(names) if names else None
        if why is not None:
            raise ValueError(f"output folder {self.folder} {why}")
        return known

    def write(self) -> None:
        """Write the record into the folder.

        Of processes that do so at once the first one gets the folder.

        Raises:
            ValueError: another one has claimed it meanwhile.
            OSError: the folder cannot be written.
        """
        with suppress(FileExistsError):
            write_record(self.folder / self.file, self.record, replace=self.renewed)
        if not self.renewed:
            self.check()

    @contextmanager
    def held(self, *, joined: bool = False, writes: bool = True) -> Iterator[dict[str, Any] | None]:
        """Claim the folder and lock it while the block runs.

        A missing folder is created.

        Args:
            joined: whether processes of several hosts work in it together, see `alone`.
            writes: whether this process is the one of them that writes the record.

        Yields:
            What was known before, see `known`; None with `joined`.

        Raises:
            ValueError: another process works in it, or it is not this claim's.
            OSError: it cannot be written.
        """
        check_output_folder(self.folder)
        with alone(self.folder, joined=joined):
            # Another process may have come first; joined ones write into it at this moment.
            known = None if joined else self.check()
            if writes:
                self.write()
            yield known


@dataclass(frozen=True)
class Manifest:
    """The record of what a finished stage did.

    Attributes:
        stage: its name.
        parameters: everything that determines the outputs besides inputs and seed, JSON-able.
        seed: of all random choices; None where there are none.
        inputs: sha256 of each input's manifest (see `digest`), or of a user's source.
        outputs: bytes and sha256 by path relative to the folder.
        counts: numbers that say how much there is of what, by name.
        seconds: of work, summed over shards, without compilation.
        versions: of packages.
        locations: where each input lay, relative to the folder.
        schema_version: of this record.
        notes: sentences for the reader.
        compile_seconds: of tracing and compiling, as far as it is known.
        aside: those of `seconds` that no model needs: the probes of the two halves, which serve the
            report alone.
        local: as `outputs`, of files that differ from computer to computer: lists of paths, runs.
        rates: units of work in a second, by name; they differ from run to run.
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
    rates: dict[str, float] = field(default_factory=dict)


class Input(NamedTuple):
    """Something that a stage reads.

    Attributes:
        digest: sha256 of what it is; None for a mere place, on which nothing depends.
        place: where it lies, for stages that read it later; None where none does.
    """

    digest: str | None
    place: str | Path | None = None

    @classmethod
    def of(cls, folder: str | Path, manifest: Manifest | None = None) -> "Input":
        """Make the input from the folder of a finished stage.

        Its manifest is read if it is not given.
        """
        return cls(digest(read_manifest(folder) if manifest is None else manifest), folder)


@dataclass(frozen=True)
class Made:
    """The results of a stage's work beside its files.

    Attributes:
        counts: finite numbers.
        notes: sentences for the reader.
        seconds: of work without compilation; default: since the stage was opened.
        compile_seconds: of tracing and compiling; default: since the stage was opened.
        aside: see `Manifest`.
        spent: names in the folder that nobody needs any more; deleted once the manifest is there.
        rates: see `Manifest`.
    """

    counts: Mapping[str, int | float]
    notes: Sequence[str] = ()
    seconds: float | None = None
    compile_seconds: float | None = None
    aside: float = 0.0
    spent: Collection[str] = ()
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A kind of work that fills a folder of its own.

    A declared name that ends with * stands for all that begin so. Outputs are all files that the
    work leaves in its folder, but hidden ones; those that are recorded otherwise are declared.

    Attributes:
        name: in manifests and messages.
        inputs: all that it may read.
        parameters: all that may determine its outputs besides inputs and seed.
        apart: outputs that the manifest leaves out, since a table lists them or they are a cache.
        local: outputs that differ from computer to computer: they hold paths, or are the files of
            a run. The manifest records them, and they are no part of its digest.
        later: values that parameters had before they were recorded.
        renamed: names of inputs by those that they had in earlier versions.
    """

    name: str
    inputs: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ("*",)
    apart: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    later: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)

    def open(
        self,
        folder: str | Path,
        parameters: Mapping[str, Any],
        seed: int | None,
        inputs: Mapping[str, Input],
        *,
        shared: bool = False,
    ) -> "Work":
        """Claim a folder for this work, or resume the same work in it.

        Args:
            folder: new, empty, or one that the very same work began or finished.
            parameters: JSON-able, see `Manifest`.
            seed: of all random choices.
            inputs: what it reads, by name.
            shared: whether several processes work in the folder at once, on shards or joined.

        Returns:
            The work. Where it is finished it has its manifest, in which new places are noted.

        Raises:
            ValueError: the folder holds something else; says which field differs. A file of an
                input is not what its stage wrote, or one of the finished work's own, as far as
                `changed_file` sees it from sizes and times; says which folder to delete.
            OSError: the folder cannot be written.
        """
        path = Path(folder)
        _check_declared(f"stage {self.name} declares no input", inputs, self.inputs)
        _check_declared(f"stage {self.name} declares no parameter", parameters, self.parameters)
        places = {name: Path(one.place) for name, one in inputs.items() if one.place is not None}
        where = {
            name: os.path.relpath(one.resolve(), path.resolve()) for name, one in places.items()
        }
        digests = {name: one.digest for name, one in inputs.items() if one.digest is not None}
        fields = (self.name, dict(parameters), seed, digests, where)
        record = json.loads(_text(dict(zip(CLAIMED, fields, strict=True))))
        claim = _claim_of(path, record, self)
        known = claim.check()
        finished = [one for one in places.values() if (one / MANIFEST).is_file()]
        read = [one for place in finished for one in _files_of(place, read_manifest(place))]
        if known is not None and (path / MANIFEST).is_file():
            manifest = read_manifest(path)
            if not (path / CLAIM).is_file():
                write_record(path / CLAIM, known)
                # As old as can be: what is compared with its time is hashed.
                os.utime(path / CLAIM, (0, 0))
            _check_files([*_files_of(path, manifest), *read], path / MANIFEST)
            return Work(self, path, record, restate(path, manifest, locations=where))
        _check_files(read)
        created = tuple(one for one in (path, *path.parents) if not one.exists())
        check_output_folder(path)
        claim.write()
        return Work(self, path, record, created=created, shared=shared or _together.get())


# Called with the manifest of finished work; names the local files that it wrote anew.
Again = Callable[[Manifest], Collection[str]]


@dataclass(frozen=True)
class Work:
    """The work of a stage in a claimed folder.

    A `with` block holds the folder, unless several processes share it. In it the claim is given up
    when an error stops the work before anything was written, and the folders that were created for
    it are removed.

    Attributes:
        stage: what is done.
        folder: where the outputs go.
        claim: stage, parameters, seed, inputs and locations, as JSON has them.
        manifest: of finished work.
        created: folders that were not there before, the innermost first.
        shared: whether other processes work on it, too.
        started: `time.monotonic()` when it was opened; `compiled` likewise.
    """

    stage: Stage
    folder: Path
    claim: dict[str, Any]
    manifest: Manifest | None = None
    created: tuple[Path, ...] = ()
    shared: bool = False
    started: float = field(default_factory=time.monotonic)
    compiled: float = field(default_factory=compiled_seconds)
    _held: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Work":
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

    @overload
    def run(self, fill: Callable[["Work"], Made], again: Again = ...) -> Manifest: ...
    @overload
    def run(self, fill: Callable[["Work"], Made | None], again: Again = ...) -> Manifest | None: ...
    def run(
        self, fill: Callable[["Work"], Made | None], again: Again = lambda manifest: ()
    ) -> Manifest | None:
        """Fill the locked folder and write the manifest, unless the work is finished.

        The manifest of finished work is returned.

        Args:
            fill: writes the outputs; None says that other processes' parts are missing.
            again: checks finished work, or mends its `local` files that hold paths.

        Raises:
            ValueError: another process works in the folder.
        """
        if self.manifest is not None:
            written = again(self.manifest)
            return restate(self.folder, self.manifest, local=written) if written else self.manifest
        with self:
            made = fill(self)
            return None if made is None else self.finish(made)

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the work, see `Manifest`."""
        return dict(self.claim["parameters"])

    @property
    def compiling(self) -> float:
        """Seconds of tracing and compiling since the stage was opened."""
        return compiled_seconds() - self.compiled

    @property
    def working(self) -> float:
        """Seconds since the stage was opened, without compilation."""
        return max(0.0, time.monotonic() - self.started - self.compiling)

    def finish(self, made: Made) -> Manifest:
        """Hash the outputs, write the manifest, and delete what nobody needs any more."""
        stage = self.stage
        if not self.shared:
            remove_parts(self.folder)
        compiling = self.compiling if made.compile_seconds is None else made.compile_seconds
        manifest = Manifest(
            **self.claim,
            outputs=_outputs(self.folder, {*stage.apart, *stage.local, *made.spent}),
            counts=dict(made.counts),
            seconds=round(self.working if made.seconds is None else made.seconds, 3),
            versions=versions(),
            notes=list(made.notes),
            compile_seconds=round(compiling, 3),
            aside=round(made.aside, 3),
            local=_local(self.folder, stage.local),
            rates={name: round(rate, 3) for name, rate in made.rates.items()},
        )
        write_record(self.folder / MANIFEST, dataclasses.asdict(manifest))
        for name in made.spent:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return manifest


def read_manifest(folder: str | Path, stage: str | Collection[str] | None = None) -> Manifest:
    """Read the manifest of a finished stage.

    Args:
        folder: of the stage.
        stage: name or names that it may have; any by default.

    Raises:
        ValueError: there is none, it is damaged, or it is of another stage; says which command
            makes it.
    """
    path = Path(folder)
    names = () if stage is None else (stage,) if isinstance(stage, str) else tuple(stage)
    if not (path / MANIFEST).is_file():
        begun = "is not finished" if (path / CLAIM).is_file() else "does not exist"
        what = f"stage {' or '.join(names)} in {path}" if names else f"the stage in {path}"
        raise ValueError(f"{what} {begun} (no {MANIFEST})" + (_makes(names) if names else ""))
    manifest = _read(path / MANIFEST, (path / MANIFEST).read_bytes())
    if names and manifest.stage not in names:
        raise ValueError(
            f"{path} is of stage {manifest.stage}, not {' or '.join(names)}{_makes(names)}"
        )
    return manifest


def _makes(names: Iterable[str]) -> str:
    """Return the end of a sentence that names the commands which make stages."""
    commands = dict.fromkeys(COMMANDS.get(one, one) for one in names)
    return "; run " + " or ".join(f"python -m pretrain_jax {one}" for one in commands)


@lru_cache(maxsize=1024)
def _read(path: Path, content: bytes) -> Manifest:
    """Read a manifest of this content, and check it once in a process."""
    try:
        record = read_record(path)
    except ValueError as error:
        raise ValueError(f"{error}; {remedy(path)}") from None
    if record.get("schema_version", 0) > SCHEMA_VERSION:
        raise ValueError(
            f"{path} has schema version {record['schema_version']}; this version reads up to "
            f"{SCHEMA_VERSION}"
        )
    try:
        return Manifest(**record)
    except TypeError:
        why = f"{path} is no manifest of a stage of this version"
        raise ValueError(f"{why}; {remedy(path)}") from None


def digest(manifest: Manifest) -> str:
    """Compute the SHA-256 by which stages name a finished stage as their input.

    It is that of the manifest's canonical JSON without what depends on the computer.
    """
    record = dataclasses.asdict(manifest)
    for name in OUTSIDE_DIGEST:
        del record[name]
    return hashlib.sha256(_text(record).encode()).hexdigest()


def input_folder(folder: str | Path, manifest: Manifest, name: str) -> Path:
    """Find the place of a finished stage's input, and check that it is unchanged.

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
    """Record all files that are outputs of a stage.

    Those are all but the stage's own files, the logs of shards, hidden files and those `apart`.
    """
    found = {}
    for root, folders, files in os.walk(folder):
        here = Path(root)
        left_out = apart if here == folder else ()
        folders[:] = sorted(
            [one for one in folders if not one.startswith(".") and one not in left_out]
        )
        for name in sorted(files):
            own = here == folder and (name in (MANIFEST, CLAIM) or name in apart)
            if not own and not name.startswith(".") and not name.endswith(".log.json"):
                path = here / name
                found[path.relative_to(folder).as_posix()] = file_record(path)
    return found


def _local(folder: Path, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Record local files, and all files in local subfolders but hidden ones."""
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
    """Read the inputs of the stage that claimed a folder, or return None.

    Raises:
        ValueError: neither claim nor manifest can be read; says which folder to delete.
    """
    known = _claim_of(folder, {}, Stage("")).known()
    return None if known is None else dict(known["inputs"])


def output(folder: str | Path, manifest: Manifest, name: str) -> Path:
    """Find a file of a finished stage, and check that it is unchanged.

    Raises:
        ValueError: the stage wrote no such file, it is gone, or it is another one by now.
    """
    path = Path(folder) / name
    record = (manifest.outputs | manifest.local).get(name)
    if record is None:
        raise ValueError(f"{path} is no output of its stage; {remedy(path)}")
    _check_files([Listed(path, record["bytes"], record["sha256"])])
    return path


def restate(
    folder: Path,
    manifest: Manifest,
    *,
    locations: Mapping[str, str] | None = None,
    local: Collection[str] = (),
) -> Manifest:
    """Write new places of inputs and new local files into a manifest.

    These alone may change after the end of a stage. The file is written only where it differs, and
    new places alone are not written where the folder is read-only.
    """
    new = replace(
        manifest,
        locations=manifest.locations if locations is None else dict(locations),
        local=manifest.local | _local(folder, local),
    )
    if new != manifest:
        try:
            write_record(folder / MANIFEST, dataclasses.asdict(new))
        except OSError as error:
            if local or error.errno not in READ_ONLY:
                raise
    return new


def remedy(path: Path) -> str:
    """Say what a user can do about a file that is damaged or gone."""
    folder = next(
        (one for one in path.parents if (one / CLAIM).exists() or (one / MANIFEST).exists()),
        path.parent,
    )
    return f"put it back, or delete the folder {folder} and run the command that made it again"


def _check_declared(complaint: str, names: Iterable[str], declared: Collection[str]) -> None:
    beginnings = tuple(one[:-1] for one in declared if one.endswith("*"))
    for name in names:
        if name not in declared and not name.startswith(beginnings):
            raise TypeError(f"{complaint} {name!r}")


def _claim_of(path: Path, record: dict[str, Any], stage: Stage) -> Claim:
    """Make the claim of a stage; a lost one is recovered from the manifest."""

    def recover(trouble: ValueError | None) -> dict[str, Any] | None:
        if (path / MANIFEST).is_file():
            made = read_manifest(path)
            return {name: getattr(made, name) for name in CLAIMED}
        if trouble is not None:
            raise ValueError(f"{trouble}; {remedy(path / CLAIM)}")
        return None

    def refuse(known: dict[str, Any]) -> str | None:
        inputs = {stage.renamed.get(name, name): one for name, one in known["inputs"].items()}
        known = known | {"parameters": {**stage.later, **known["parameters"]}, "inputs": inputs}
        for name in CLAIMED[:-1]:
            different = first_difference(name, known.get(name), record[name])
            if different is not None:
                place, old, new = different
                why = " (it is another one, or has changed since)" if name == "inputs" else ""
                return (
                    f"was made with {place} = {_short(old)}, now {place} = {_short(new)}{why}; it "
                    "is left alone: name another folder, or delete it"
                )
        return None

    def foreign(names: list[str]) -> str | None:
        held = [one for one in names if not one.startswith(".")]
        if not held:
            return None
        return (
            f"holds other files ({', '.join(held[:3])}{', ...' if len(held) > 3 else ''}) and no "
            f"{CLAIM}, and is left alone; name a new or empty one, or delete the folder {path} if "
            "it holds what a stage left"
        )

    return Claim(path, CLAIM, record, refuse, foreign, recover)


def _files_of(folder: Path, manifest: Manifest) -> list[Listed]:
    """List the files of a finished stage that others read."""
    steps = {name: CHECKPOINT.fullmatch(name) for name in manifest.local}
    newest: dict[str, int] = {}
    for found in filter(None, steps.values()):
        newest[found[1]] = max(int(found[2]), newest.get(found[1], 0))
    read = manifest.outputs | {
        name: manifest.local[name]
        for name, found in steps.items()
        if found and int(found[2]) == newest[found[1]]
    }
    return [
        Listed(folder / name, record["bytes"], record["sha256"])
        for name, record in read.items()
        if not name.endswith(FREE_SUFFIXES)
    ]


def _check_files(files: Iterable[Listed], since: Path | None = None) -> None:
    """Check that files are what their stages wrote.

    All of them are hashed. With `since`, only those are that `changed_file` cannot judge by time.
    """
    path = changed_file(files, since)
    if path is not None:
        what = "has changed since its stage wrote it" if path.is_file() else "is gone"
        raise ValueError(f"{path} {what}; {remedy(path)}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(record: Any) -> str:
    return json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n"
