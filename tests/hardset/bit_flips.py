"""Files of every kind that the product writes and reads back, and what flipped bits do to them.

A new kind is one more entry of KINDS: it writes with the product's own writer, and says which
files to damage and how the product reads them.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from hardset.arrays import load_array
from hardset.cache import RecordCache
from hardset.datafile import read_dataset, write_dataset
from hardset.folder import open_stage, read_manifest
from pretrain_jax.data.sources import Fingerprint
from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.models.sam.generator import ImageMasks, MaskGenerator, MasksCache
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.synthesis.margins import FeatureWriter, join_features, read_features
from pretrain_jax.synthesis.tables import Logged, Table, read_logs, write_shard
from pretrain_jax.train.checkpoint import CheckpointError, Checkpoints
from pretrain_jax.train.config import TrainConfig
from pretrain_jax.train.folder import check_folder, claimed, known_statistics, write_statistics
from pretrain_jax.train.logging import RunLog, read_log
from pretrain_jax.train.step import TrainState
from pretrain_jax.weights import read_state, write_safetensors
from selection.files import (
    read_array,
    read_npz,
    read_subset,
    read_subset_ids,
    write_npz,
    write_scores,
    write_subset,
)
from selection.pool import Scores
from selection.subset import Subset
from sims.results import RECORD
from sims.separate import run_solve
from tests.pretrain_jax.sam.models import SMALL, random_model

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=60)
IDS = np.array([f"image-{k}" for k in range(60)])


@dataclass(frozen=True)
class Written:
    """What a kind has written.

    Attributes:
        files: whose bits are flipped.
        read: the content, by the product's own reader.
    """

    files: list[Path]
    read: Callable[[], Any]


@dataclass
class Outcome:
    """Flips by what came of them.

    Attributes:
        refused: a ValueError or OSError of one line.
        equal: the content was read as it was: nothing that matters had changed, or it was made
            anew.
        silent: other content was read without a word; the place of each flip.
        worse: an error of another kind, or no sentence.
    """

    refused: int
    equal: int
    silent: list[str]
    worse: list[str]


def flip_bits(written: Written, count: int, seed: int) -> Outcome:
    """Flip one random bit at a time, read, and put it back."""
    rng = np.random.default_rng(seed)
    contents = {path: path.read_bytes() for path in written.files}
    ends = np.cumsum([len(content) for content in contents.values()])
    expected = written.read()
    found = Outcome(0, 0, [], [])
    for bit in rng.integers(8 * ends[-1], size=count):
        index = int(np.searchsorted(8 * ends, bit, side="right"))
        path = written.files[index]
        place = int(bit) - 8 * int(ends[index - 1] if index else 0)
        changed = bytearray(contents[path])
        changed[place // 8] ^= 1 << place % 8
        _put(path, bytes(changed))
        where = f"{path.name}: bit {place} of {8 * len(changed)}"
        try:
            if _same(written.read(), expected):
                found.equal += 1
            else:
                found.silent.append(where)
        except (ValueError, OSError) as error:
            found.refused += 1
            if not str(error).replace("\n", "").isprintable() or len(str(error)) > 2000:
                found.worse.append(f"{where}: {error!r}")
        except Exception as error:
            found.worse.append(f"{where}: {error!r}")
        _put(path, contents[path])
    return found


_TIMES = itertools.count(2_000_000_000)


def _put(path: Path, content: bytes) -> None:
    """Write a file as of another second: the clock of a file system is coarser than this test."""
    path.write_bytes(content)
    now = next(_TIMES)
    os.utime(path, (now, now))


def _same(one: Any, other: Any) -> bool:
    """Equality of nested dictionaries, tuples, arrays and plain values, types included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


def data_file(folder: Path) -> Written:
    path = folder / "a.nc"
    dataset = xr.Dataset({"error": ("f", NUMBERS)}, coords={"f": np.arange(60.0)})
    write_dataset(dataset, path, kind="test", parameters={"seed": 0})

    def read() -> Any:
        found = read_dataset(path, kind="test")
        return {name: found[name].values for name in found.variables}, dict(found.attrs)

    return Written([path], read)


def scores(suffix: str) -> Callable[[Path], Written]:
    def write(folder: Path) -> Written:
        path = folder / f"scores{suffix}"
        write_scores(path, Scores(NUMBERS, "margin", {"seed": 3}), IDS)
        key = "" if suffix == ".npy" else ":score"
        return Written([path], lambda: np.array(read_array("scores", f"{path}{key}")))

    return write


def subset(suffix: str) -> Callable[[Path], Written]:
    def write(folder: Path) -> Written:
        path = folder / f"subset{suffix}"
        chosen = Subset.of(
            np.arange(40)[::-1], requested=40, weights=NUMBERS[:40] ** 2, gains=NUMBERS[:40]
        )
        write_subset(path, chosen, IDS, seed=3)

        def read() -> Any:
            one = read_subset(path)
            parts = (one.indices, one.weights, one.gains, dict(one.diagnostics))
            return *parts, one.objective, one.nested, one.requested, read_subset_ids(path)

        return Written([path], read)

    return write


def archive(folder: Path) -> Written:
    path = folder / "a.npz"
    write_npz(path, {"x": NUMBERS, "y": np.arange(60)})
    return Written([path], lambda: read_npz(path))


def table(folder: Path) -> Written:
    schema = {"name": "string", "x": "float64"}
    batches = [{"name": IDS, "x": NUMBERS}]
    write_shard(folder, 0, 1, batches, schema, logged=Logged({"images": 60}, ["a note"]))

    def read() -> Any:
        rows = list(Table(folder).batches())
        logged = vars(read_logs(folder, 1))
        return [{**row, "name": list(row["name"])} for row in rows], logged

    return Written(sorted(folder.iterdir()), read)


def stage(folder: Path) -> Written:
    """The claim and the manifest of a stage."""
    arguments = (folder / "stage", "index", {"size": 8, "share": 0.25}, 3, {"source": "a" * 64})
    with open_stage(*arguments) as opened:
        (folder / "stage" / "out.txt").write_text("x")
        opened.finish({"images": 60}, ["a note"], seconds=1.0)

    def read() -> Any:
        return vars(read_manifest(folder / "stage")), vars(open_stage(*arguments))

    return Written([folder / "stage" / "stage.json", folder / "stage" / "manifest.json"], read)


def features(folder: Path) -> Written:
    with FeatureWriter(folder, 0, 1) as writer:
        writer.add(NUMBERS.reshape(15, 4))
    join_features(folder, 1)
    return Written([folder / "features.npy"], lambda: np.array(read_features(folder)))


def checkpoint(folder: Path) -> Written:
    weights = {"kernel": jnp.asarray(NUMBERS.reshape(6, 10), jnp.float32)}
    state = TrainState(jnp.int32(1), weights, {}, {"count": jnp.int32(7)}, None)
    Checkpoints(folder).save(state, {"mean": [0.5], "note": "x"})

    def read() -> Any:
        found = Checkpoints(folder).restore(state)
        if found is None:
            raise CheckpointError("there is none")
        arrays = [np.asarray(found[0].step), np.asarray(found[0].params["kernel"])]
        return arrays, found[1]

    return Written([path for path in sorted(folder.rglob("*")) if path.is_file()], read)


def log(folder: Path) -> Written:
    lines = RunLog(folder, step=0)
    for step in range(20):
        lines.scalars(step, {"loss": float(NUMBERS[step])})
    lines.close()
    path = folder / "log.jsonl"
    whole = read_log(path)

    def read() -> Any:
        found = read_log(path)
        # A line that has changed is told on stderr and left out.
        return whole if all(line in whole for line in found) else found

    return Written([path], read)


def run_folder(folder: Path) -> Written:
    """Configuration and statistics of a training."""
    encoder = ViTConfig(image_size=8, patch_size=2, width=8, depth=1, heads=2)
    config = TrainConfig(model=MAEConfig(encoder, 8, 1, 2), out=str(folder / "run"), steps=3)
    other = dataclasses.replace(config, steps=4)
    now = Fingerprint(images=60, digest="a" * 64, newest=0, newest_file="x.png")
    statistics = {"training_digest": now.digest, "mean": [0.5], "std": [0.25]}
    with claimed(config):
        write_statistics(folder / "run", statistics)
        (folder / "run" / "log.jsonl").touch()

    def read() -> Any:
        check_folder(config)
        # What is damaged is measured again.
        return known_statistics(folder / "run", {"training": now}) or statistics

    read()
    with pytest.raises(ValueError, match="another configuration"):
        check_folder(other)
    return Written([folder / "run" / name for name in ("config.json", "statistics.json")], read)


def weights(folder: Path) -> Written:
    path = folder / "a.safetensors"
    write_safetensors(path, {"w": NUMBERS, "b": NUMBERS[:3]}, {"format": "pt"})
    return Written([path], lambda: {name: np.array(one) for name, one in read_state(path).items()})


class Squares(MaskGenerator):
    """A generator whose masks follow from the image at no cost."""

    def __call__(self, image: np.ndarray) -> ImageMasks:
        rng = np.random.default_rng(int(image.sum()))
        wide = {"boxes": (np.int32, 4), "points": (np.float32, 2), "crops": (np.int32, 4)}
        numbers = {k: rng.integers(0, 9, (3, n)).astype(t) for k, (t, n) in wide.items()}
        one = rng.random(3).astype(np.float32)
        return ImageMasks(
            masks=rng.random((3, *image.shape)) < 0.5, iou=one, stability=one / 2, **numbers
        )


def masks(folder: Path) -> Written:
    cache = MasksCache(Squares(random_model(SMALL, 0)), folder)
    image = np.ones((40, 40), np.uint8)
    cache(image)
    return Written([cache.path(image)], lambda: cache(image)._asdict())


def records(folder: Path) -> Written:
    made: Any = np.zeros(5, RECORD)
    made["margin"] = NUMBERS[:5]

    def opened() -> RecordCache:
        return RecordCache(folder, RECORD, (10, 0, "native"))

    first = opened()
    first.store("cell", range(5), made)
    first.flush()

    def read() -> Any:
        found = opened().load("cell", range(5))
        return made if found is None else np.array(found)  # what is missing is computed again

    return Written(list(folder.glob("*.npy")), read)


def direction(folder: Path) -> Written:
    rows = RNG.normal(size=(8, 20))
    np.save(folder / "X.npy", rows)
    np.save(folder / "y.npy", np.sign(rows[:, 0]))
    run_solve(folder / "X.npy", folder / "y.npy", folder / "W.npy")
    return Written([folder / "W.npy"], lambda: np.array(load_array(folder / "W.npy")))


KINDS: dict[str, Callable[[Path], Written]] = {
    "data file": data_file,
    "scores .npy": scores(".npy"),
    "scores .parquet": scores(".parquet"),
    "subset .parquet": subset(".parquet"),
    "subset .json": subset(".json"),
    "archive of scores": archive,
    "table": table,
    "claim and manifest": stage,
    "features": features,
    "checkpoint": checkpoint,
    "log": log,
    "run": run_folder,
    "weights": weights,
    "masks": masks,
    "records": records,
    "direction": direction,
}


def all_kinds(folder: Path, count: int, seed: int) -> Iterator[tuple[str, Outcome]]:
    """Every kind's outcome, one after the other."""
    for number, (name, write) in enumerate(KINDS.items()):
        own = folder / str(number)
        own.mkdir()
        yield name, flip_bits(write(own), count, seed)
