"""Reads runs of one's own from CSV or JSON."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

from hardset.checks import check_choice, check_integer, check_range, real_array
from hardset.cli import one_line

ALL = "All data"
METHODS = (ALL, "Random", "MedDEL", "OptiDEL-S", "OptiDEL", "InfoMax")


@dataclasses.dataclass(frozen=True)
class Run:
    """Represents one fine-tuned model, a line of the file.

    Attributes:
        dataset: name of the segmentation data set; those of the paper are put beside its rows.
        method: how the pre-training data were selected, one of METHODS.
        storage_percent: storage volume of the pre-training data in percent of all, in (0, 100];
            100 for "All data".
        seed: the run's seed, >= 0.
        miou: mean intersection over union on the test set in percent, in [0, 100].
    """

    dataset: str
    method: str
    storage_percent: float
    seed: int
    miou: float

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        if not self.dataset:
            raise ValueError("dataset is empty")
        if not self.dataset.isprintable():
            raise ValueError(f"dataset = {self.dataset!r} holds a character that is not printable")
        check_range("storage_percent", self.storage_percent, 0, 100, open_low=True)
        check_integer("seed", self.seed, 0, 2**63)
        check_range("miou", self.miou, 0, 100)
        if self.method == ALL and self.storage_percent != 100:
            raise ValueError(f"storage_percent = {self.storage_percent:g} of {ALL!r} must be 100")


LARGEST = 2**24  # bytes of a file of runs
MOST_DATASETS = 60  # a picture higher than that cannot be drawn

_COLUMNS = tuple(field.name for field in dataclasses.fields(Run))


def read_runs(path: str | Path) -> tuple[Run, ...]:
    """Read a file of runs.

    Args:
        path: NAME.csv with the header dataset,method,storage_percent,seed,miou, or NAME.json with
            a list of objects that have these keys.

    Returns:
        The runs, in the order of the file.

    Raises:
        ValueError: missing or damaged file, or a line that is no run, with its number.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ValueError("it is not a regular file")
        if path.exists() and path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST} bytes")
        text = path.read_text(encoding="utf-8-sig")
        rows = _objects(text) if path.suffix == ".json" else _table(text)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ValueError(f"runs file {path} cannot be read: {reason}") from None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"runs file {path} holds no list of runs")
    runs: dict[tuple[Any, ...], Run] = {}
    for number, row in enumerate(rows, start=1):
        try:
            run = _run(row)
            key = (run.dataset, run.method, run.storage_percent, run.seed)
            if key in runs:
                raise ValueError("data set, method, storage volume and seed were there before")
        except ValueError as error:
            raise ValueError(f"runs file {path}, run {number}: {error}") from None
        runs[key] = run
    names = {run.dataset for run in runs.values()}
    if len(names) > MOST_DATASETS:
        raise ValueError(
            f"runs file {path} has {len(names)} data sets; a figure shows at most {MOST_DATASETS}"
        )
    return tuple(runs.values())


def _objects(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_once([key for key, _ in pairs])
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once)


def _table(text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(text.splitlines())
    _check_once(list(reader.fieldnames or []))
    return list(reader)


def _check_once(keys: list[str]) -> None:
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise ValueError(f"it has {one_line(twice[0])!r} twice in one run")


def _run(row: Any) -> Run:
    given = set(row) if isinstance(row, dict) else set()
    if given != set(_COLUMNS):
        raise ValueError(f"needs {', '.join(_COLUMNS)} and nothing else")
    for name in ("dataset", "method"):
        if not isinstance(row[name], str):
            raise ValueError(f"{name} = {one_line(repr(row[name]))} is not a text")
    values = {name: _number(name, row[name]) for name in ("storage_percent", "seed", "miou")}
    check_integer("seed", values["seed"], 0, 2**63)
    return Run(
        dataset=" ".join(row["dataset"].split()),
        method=row["method"].strip(),
        storage_percent=values["storage_percent"],
        seed=int(values["seed"]),
        miou=values["miou"],
    )


def _number(name: str, value: Any) -> float:
    """Read a number of a JSON file, or its text in a CSV file."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} = {value!r} is not a number")
    return float(real_array(name, value))
