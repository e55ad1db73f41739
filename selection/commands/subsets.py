"""Defines the commands `select` and `compare`.

The first keeps a budget of examples, the second puts methods side by side.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer, check_range
from hardset.cli import Json, Option, Progress, more_help
from hardset.progress import asked_for_progress, bar
from selection.arrays import Array, Integers, blocks
from selection.commands.inputs import (
    FILES,
    File,
    Folder,
    Method,
    PoolFiles,
    class_number,
    given_facts,
    keep_or_print,
    parse_budget,
    read_given,
    read_list,
)
from selection.files import (
    SUBSET_SUFFIXES,
    check_new_file,
    json_text,
    read_subset,
    read_subset_ids,
    write_subset,
)
from selection.methods.per_group import PerGroup
from selection.methods.wrappers import Cutoff, DRoP, Listed, Partitioned, Quotas
from selection.pool import Pool
from selection.registry import check_method, describe_methods, parse_method
from selection.selector import Selector, check_limit, check_seed
from selection.subset import Subset

SHOWN = 20  # classes in a text
# A class is worth a warning if it keeps less than this part of what a random choice would keep.
FEW = 0.2
Bits = NDArray[np.uint8]

COLUMNS = (
    ("kept", "9.6g"),
    ("score", "11.5g"),
    ("coverage", "11.5g"),
    ("least", "8.3f"),
    ("stable", "8.3f"),
    ("seconds", "9.3g"),
)
Quota = Annotated[tuple[str, ...], Option(metavar="CLASS=SHARE ...")]
ClassErrors = Annotated[tuple[str, ...], Option(metavar="CLASS=ERROR ...")]


@dataclass(frozen=True, eq=False)
class ClassReport:
    """Counts the kept examples of every class.

    Attributes:
        names: of the classes, shape (C,).
        examples: of each class in the pool, shape (C,).
        kept: of each class, shape (C,).
    """

    names: Array
    examples: Integers
    kept: Integers

    @classmethod
    def of(cls, labels: Integers, rows: Integers, names: Array | None) -> "ClassReport":
        """Count the kept rows of every class.

        `names` are those of the labels 0, 1, ...
        """
        found, codes = np.unique(labels, return_inverse=True)
        count = len(found)
        return cls(
            found if names is None else names[found],
            np.bincount(codes, minlength=count),
            np.bincount(codes[rows], minlength=count),
        )

    def rows(self) -> list[dict[str, Any]]:
        """List class, examples, kept examples and their share, a row for each class."""
        return [
            {"class": str(name), "examples": int(n), "kept": int(k), "share": float(k / n)}
            for name, n, k in zip(self.names, self.examples, self.kept, strict=True)
        ]

    def lost(self) -> list[str]:
        """Name the classes that have no kept example."""
        return [str(name) for name in self.names[self.kept == 0]]

    def warnings(self) -> list[str]:
        """Warn of classes that have lost all, or nearly all, of their examples."""
        sentences = []
        if lost := self.lost():
            sentences.append(
                f"{len(lost)} of {len(self.names)} classes lost all their examples: {_some(lost)}; "
                f"--balance equal keeps some of each, with a budget of {len(self.names)} or more"
            )
        fair = self.examples * (self.kept.sum() / self.examples.sum())
        few = self.names[(self.kept > 0) & (self.kept < FEW * fair)]
        if len(few):
            sentences.append(
                f"{len(few)} of {len(self.names)} classes are kept at less than a fifth of the "
                f"share of all: {_some([str(name) for name in few])}"
            )
        return sentences

    def lines(self) -> list[tuple[str, str]]:
        """List names and values for one line each.

        The class with the smallest kept share comes first.
        """
        order = np.argsort(self.kept / self.examples, kind="stable")
        rows = self.rows()
        lines = [
            (
                f"class {rows[i]['class']}",
                f"{rows[i]['kept']} of {rows[i]['examples']} ({100 * rows[i]['share']:.3g} %)",
            )
            for i in order[:SHOWN]
        ]
        if len(order) > SHOWN:
            lines.append(("classes", f"{len(order) - SHOWN} more, kept at a larger share (--json)"))
        return lines


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _methods() -> str:
    return (
        "methods, the files they cannot do without, their options and defaults:\n"
        f"{describe_methods()}\n\n{FILES}"
    )


@more_help(_methods)
def select(
    method: Method,
    *,
    budget: str,
    scores: File | None = None,
    orientation: Literal["hard", "easy"] = "hard",
    mislabel: File | None = None,
    features: File | None = None,
    labels: File | None = None,
    groups: File | None = None,
    gradients: File | None = None,
    trajectories: File | None = None,
    texts: File | None = None,
    ids: File | None = None,
    neighbours: File | None = None,
    similarities: File | None = None,
    balance: Literal["equal", "proportional"] | None = None,
    by: Literal["labels", "groups"] = "labels",
    classes: int | None = None,
    quota: Quota | None = None,
    class_errors: ClassErrors | None = None,
    mislabel_cutoff: float | None = None,
    per_group: int | None = None,
    near: float | None = None,
    partitions: int = 1,
    scheduler: Annotated[str, Option(metavar="ADDRESS")] | None = None,
    resume: Folder | None = None,
    include: File | None = None,
    exclude: File | None = None,
    given: Annotated[str, Option(metavar="FILE[:COLUMN]")] | None = None,
    given_features: File | None = None,
    seed: int = 0,
    out: File | None = None,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Select a budget of examples.

    The budget counts new examples only. Methods that compare examples with each other count given
    ones as picked, the others leave them out; those of --given-features are no examples of the
    pool. --include, --exclude and --given take text files, one id a line.

    The written file holds index, id, weight (and gain) in pick order, and the diagnostics. Where
    "nested" is true the first rows are the answer to a smaller budget, apart from weights: those of
    facility-location, craig and adacore are cluster sizes of the whole, so that a smaller budget
    needs them computed again.

    A class report comes with --labels: how many of each are kept, least first, and which are lost.
    Lists come first, then the cut-off, the quotas, the partitions, and then the method.

    Args:
        method: one of those below.
        budget: a count, or a fraction such as 0.1.
        scores: how hard each example is, (n,).
        orientation: what a high score means.
        mislabel: high where the label is likely wrong, (n,).
        features: embeddings, (n, d), or (n, A, d) for A views.
        labels: classes, whole numbers or strings, (n,).
        groups: any other partition, whole numbers or strings, (n,).
        gradients: last-layer gradients, (n, g).
        trajectories: losses over the training, (n, T).
        texts: a second modality, (n, d).
        ids: distinct integers or strings, (n,); by default 0 ... n-1.
        neighbours: a graph's neighbour lists, (n, k).
        similarities: and its similarities, (n, k).
        balance: select within classes or groups.
        by: what --balance, --quota and --class-errors are about.
        classes: classes 0 ... CLASSES-1 must be there.
        quota: shares of the classes, by number or by name.
        class_errors: 1 - recall of each class on validation data, by number or by name; a class is
            kept at a density in proportion to its error (DRoP).
        mislabel_cutoff: first drop this share of the hardest.
        per_group: keep at most this many of each group, given ones with them.
        near: first leave out what has a larger cosine with an earlier one of its group.
        partitions: random parts, one by one.
        scheduler: solve the parts on a Dask cluster, or `local`.
        resume: keep finished parts there, and take those that are there.
        include: ids that must be kept.
        exclude: ids that must not be kept.
        given: examples that are kept already, ids if there are --ids, rows else; a subset that
            `select` wrote, .npy, .npz, .parquet, or text.
        given_features: features of further ones that are no examples of the pool.
        seed: of all random choices.
        out: .parquet or .json to write; never replaces another file.

    Examples:
        python -m selection select hard --scores margin.npy --budget 0.1 --out kept.parquet
        python -m selection select ccs:cutoff=0.1 --scores aum.parquet:score --budget 5000 --seed 1
        python -m selection select k-center --features x.npy --labels y.npy --balance equal \\
            --budget 100
        python -m selection select k-center --features 'table.parquet:x*' --budget 0.2 --json
        python -m selection select easy --scores s.npy --labels y.npy --quota 0=2 1=1 --budget 300
        python -m selection select hard --scores d.parquet:aum --labels d.parquet:species \\
            --quota cat=2 dog=1 --budget 300
        python -m selection select infomax:weight=0.3 --scores s.npy --features x.npy \\
            --budget 0.2 --partitions 10 --scheduler local --resume parts --out kept.parquet
        python -m selection select random --scores s.npy --mislabel aum.npy \\
            --mislabel-cutoff 0.05 --include seed_set.txt --budget 0.5 --json
        python -m selection select k-center --features x.npy --given labelled.txt --budget 100
        python -m selection select facility-location --features x.npy --given-features old.npy \\
            --budget 9
        python -m selection select k-center --features features.parquet --groups g.npy \\
            --per-group 20 --near 0.98 --budget 1000
    """
    said = dict(locals())
    check_method(method)
    parse_budget(budget)
    check_seed(seed)
    if classes is not None:
        check_integer("--classes", classes, 1, 2**31)
    check_integer("--partitions", partitions, 1, 2**31)
    _check_groups(per_group, near, balance, quota, class_errors, partitions, scheduler)
    if mislabel_cutoff is not None:
        check_range("--mislabel-cutoff", mislabel_cutoff, 0.0, 1.0, open_high=True)
    if out is not None:
        check_new_file(out, SUBSET_SUFFIXES)
    files = PoolFiles.of(said)
    files.check()
    plain = parse_method(method)  # which may bring JAX and Numba
    with asked_for_progress(progress), bar(3, "select", "stage") as stages:
        stages.set_postfix_str("reading files")
        more = {"mislabel", "scores"} if mislabel_cutoff is not None else set()
        if near is not None:
            more.add("features")
        pool, names = files.read(plain.reads | more)
        kept = read_given(given, given_features, pool, files.with_ids)
        beside = given_facts(kept, given, given_features)
        count = parse_budget(budget, len(pool))
        wrapped = plain
        if partitions != 1 or scheduler is not None:
            wrapped = Partitioned(wrapped, partitions, scheduler, resume)
        elif resume is not None:
            raise ValueError("--resume has no effect without --partitions")
        if per_group is not None:
            wrapped = PerGroup(wrapped, per_group, near)
        wrapped = _by_class(wrapped, pool, names.get(by), by, balance, quota, class_errors, classes)
        if mislabel_cutoff is not None:
            wrapped = Cutoff(wrapped, mislabel_cutoff)
        elif mislabel is not None:
            raise ValueError("--mislabel has no effect without --mislabel-cutoff")
        if include is not None or exclude is not None:
            wrapped = Listed(
                wrapped, _ids("include", include, pool), _ids("exclude", exclude, pool)
            )
        stages.update()
        stages.set_postfix_str(f"{count} of {len(pool)} by {plain.name}")
        subset = _named(wrapped.select(pool, count, seed, kept), names.get(by))
        stages.update()
        stages.set_postfix_str("writing")
        if out is not None:
            facts = {"method": method, "seed": seed, "examples": len(pool), **beside}
            made_from = {
                name: str(value) if isinstance(value, Path) else value
                for name, value in said.items()
                if value is not None and name not in ("out", "as_json", "progress", "resume")
            }
            own = pool.ids if files.with_ids else None
            keep_or_print(
                lambda: write_subset(out, subset, own, **facts, options=made_from),
                lambda: _lines(pool, subset),
            )
        stages.update()
    report = None
    if pool.labels is not None:
        report = ClassReport.of(pool.labels, subset.indices, names.get("labels"))
    if out is None and not as_json:
        print(_lines(pool, subset))
        for sentence in () if report is None else report.warnings():
            print(f"warning: {sentence}", file=sys.stderr)
        return 0
    summary = _summary(method, pool, subset, report, out) | beside
    if as_json:
        print(json_text(summary))
    else:
        diagnostics = summary.pop("diagnostics")
        for name in ("classes", "class_report", "classes_lost", "warnings"):
            summary.pop(name, None)
        lines = _flat(summary | diagnostics)
        if report is not None:
            lines += report.lines()
            lines += [("warning", sentence) for sentence in report.warnings()]
        width = max(len(name) for name, _ in lines)
        print("\n".join(f"{name:<{width}}  {value}" for name, value in lines))
    return 0


def _check_groups(
    per_group: int | None,
    near: float | None,
    balance: str | None,
    quota: Sequence[str] | None,
    class_errors: Sequence[str] | None,
    partitions: int,
    scheduler: str | None,
) -> None:
    """Check a limit per group, and that nothing divides its groups.

    Raises:
        ValueError: a value out of its range, or an option whose parts know nothing of the limit.
    """
    check_limit(per_group, near)
    if per_group is None:
        return
    dividing = {
        "balance": balance,
        "quota": quota,
        "class-errors": class_errors,
        "partitions": None if partitions == 1 else partitions,
        "scheduler": scheduler,
    }
    for option, value in dividing.items():
        if value is not None:
            raise ValueError(
                f"--per-group and --{option} exclude each other: each of the parts that --{option} "
                "makes would keep up to the limit of a group"
            )


def _lines(pool: Pool, subset: Subset) -> str:
    """Write the ids of the kept examples, one a line."""
    return "\n".join(str(one) for one in pool.ids[subset.indices])


def _ids(name: str, path: str | None, pool: Pool) -> tuple[int | str, ...]:
    """Read the ids of a text file, one a line.

    Without a file there are none.
    """
    if path is None:
        return ()
    words = pool.ids.dtype.kind == "U"
    return tuple(read_list(name, Path(path), words, "the ids are integers").tolist())


def _flat(facts: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """List names and values for one line each.

    Of the parts only their number is reported.
    """
    lines: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{above}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append((above + name, f"{len(value)}, each with diagnostics of its own (--json)"))
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else f"{value}"
            lines.append((above + name, shown))
    return lines


def _named(subset: Subset, names: Array | None) -> Subset:
    """Name the classes in the quotas of a subset."""
    quotas = subset.diagnostics.get("quotas")
    if names is None or quotas is None:
        return subset
    by_name = {str(names[int(one)]): count for one, count in quotas.items()}
    return replace(subset, diagnostics={**subset.diagnostics, "quotas": by_name})


def _by_class(
    method: Selector,
    pool: Pool,
    known: Array | None,
    by: Literal["labels", "groups"],
    balance: Literal["equal", "proportional"] | None,
    quota: Sequence[str] | None,
    class_errors: Sequence[str] | None,
    classes: int | None,
) -> Selector:
    """Apply the method within every class, if that is asked for.

    `known` are the classes' names.
    """
    options = "--balance, --quota and --class-errors"
    asked = sum(one is not None for one in (balance, quota, class_errors))
    if asked > 1:
        raise ValueError(f"{options} exclude each other")
    if not asked:
        if classes is not None or by != "labels":
            raise ValueError(f"--classes and --by have no effect without one of {options}")
        return method
    partition = getattr(pool, by)
    if partition is None:
        raise ValueError(f"{options} need --{by}")
    if known is not None and (classes or 0) > len(known):
        raise ValueError(f"--classes = {classes}, but {by} has {len(known)}")
    if quota is not None:
        return Quotas(method, by=by, shares=_shares("quota", "SHARE", quota, np.inf, known))
    if class_errors is not None:
        errors = _shares("class-errors", "ERROR", class_errors, 1.0, known)
        return DRoP(method, errors, by=by)
    present = range(classes) if classes else np.unique(partition).tolist()
    assert balance is not None
    return Quotas(method, by=by, shares=balance, expected=tuple(present))


def _shares(
    option: str, word: str, texts: Sequence[str], largest: float, names: Array | None
) -> dict[int, float]:
    """Read a number of each class, 0 to `largest`."""
    shares = {}
    for text in texts:
        one, _, share = text.rpartition("=")
        try:
            value = float(share) if one else None
        except ValueError:
            value = None
        if value is None:
            raise ValueError(f"--{option} {text!r} is not CLASS={word}, such as 3=0.5")
        check_range(f"--{option} {one}", value, 0.0, largest)
        number_of_class = class_number(f"--{option}", one, names)
        if number_of_class in shares:
            raise ValueError(f"--{option} names class {one} twice")
        shares[number_of_class] = value
    return shares


def _summary(
    method: str, pool: Pool, subset: Subset, report: ClassReport | None, out: str | None
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "method": method,
        "examples": len(pool),
        "requested": subset.requested,
        "achieved": subset.achieved,
        "nested": subset.nested,
        "objective": subset.objective,
    }
    if report is not None:
        summary["classes"] = {one["class"]: one["kept"] for one in report.rows() if one["kept"]}
        summary["class_report"] = report.rows()
        summary["classes_lost"] = report.lost()
        summary["warnings"] = report.warnings()
    summary["diagnostics"] = dict(subset.diagnostics)
    if out is None:
        summary["kept"] = pool.ids[subset.indices].tolist()
    else:
        summary["out"] = str(Path(out))
    return summary


@more_help(lambda: FILES)
def compare(
    methods: Annotated[tuple[str, ...], Option(metavar="METHOD[:option=value,...]|FILE ...")],
    *,
    budget: str,
    scores: File | None = None,
    orientation: Literal["hard", "easy"] = "hard",
    mislabel: File | None = None,
    features: File | None = None,
    labels: File | None = None,
    groups: File | None = None,
    gradients: File | None = None,
    trajectories: File | None = None,
    texts: File | None = None,
    ids: File | None = None,
    neighbours: File | None = None,
    similarities: File | None = None,
    seeds: int = 3,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Compare several methods or stored subsets side by side.

    The columns are

      kept       number of examples, mean over the seeds
      score      mean score of the kept examples
      coverage   root mean square distance of all examples to the nearest kept one
      least      share of the rarest class among the kept, times the number of classes
      stable     mean Jaccard index of two seeds
      seconds    of one selection

    and the Jaccard indices of the methods among each other, 1 for two empty subsets. The share of
    the rarest class is 1 where all are equal. Mean score, coverage and rarest class of a method
    that kept nothing with some seed are not defined (-).

    A file that was written with --ids is matched by ids, and needs --ids here, too.

    Args:
        methods: as for `select`, or files that it wrote.
        budget: a count, or a fraction such as 0.1.
        scores: how hard each example is, (n,).
        orientation: what a high score means.
        mislabel: high where the label is likely wrong, (n,).
        features: embeddings, (n, d), or (n, A, d) for A views.
        labels: classes, whole numbers or strings, (n,).
        groups: any other partition, whole numbers or strings, (n,).
        gradients: last-layer gradients, (n, g).
        trajectories: losses over the training, (n, T).
        texts: a second modality, (n, d).
        ids: distinct integers or strings, (n,); by default 0 ... n-1.
        neighbours: a graph's neighbour lists, (n, k).
        similarities: and its similarities, (n, k).
        seeds: seeds 0 ... SEEDS-1.

    Examples:
        python -m selection compare hard random ccs:cutoff=0.1 --scores margin.npy --budget 0.1 \\
            --seeds 5
        python -m selection compare k-center herding kept.parquet --features x.npy \\
            --labels y.npy --budget 500 --json
    """
    files = PoolFiles.of(locals())
    check_integer("seeds", seeds, 1, 10**4)
    parse_budget(budget)
    for text in methods:
        if Path(text).suffix not in SUBSET_SUFFIXES:
            check_method(text)
    files.check()
    known = {text: _source(text) for text in methods}
    pool, _ = files.read()
    count = parse_budget(budget, len(pool))
    found: dict[str, list[Subset]] = {text: [] for text in known}
    runs = {text: 1 if isinstance(one, Stored) else seeds for text, one in known.items()}
    rows = []
    with asked_for_progress(progress), bar(sum(runs.values()), "compare", "subset") as shown:
        for text, source in known.items():
            begun = time.perf_counter()
            for seed in range(runs[text]):
                shown.set_postfix_str(f"{text}, seed {seed}")
                if isinstance(source, Stored):
                    found[text].append(source.on(pool, files.with_ids))
                else:
                    found[text].append(source.select(pool, count, seed))
                shown.update()
            seconds = (time.perf_counter() - begun) / len(found[text])
            rows.append(_row(text, found[text], pool, seconds))
    bits = {text: [_bits(one, len(pool)) for one in subsets] for text, subsets in found.items()}
    alike = {one: {other: _mean_jaccard(bits[one], bits[other]) for other in bits} for one in bits}
    print(json_text({"methods": rows, "jaccard": alike}) if as_json else _table(rows, alike))
    return 0


@dataclass(frozen=True)
class Stored:
    """Holds the subset of a file.

    It has ids where it was written with ids.
    """

    path: str
    subset: Subset
    ids: Array | None

    def on(self, pool: Pool, with_ids: bool) -> Subset:
        """Find the subset in the pool's rows.

        `with_ids` says whether the pool has ids.

        Raises:
            ValueError: only one of both has ids, or the pool lacks a kept example.
        """
        if self.ids is not None and with_ids:
            return replace(self.subset, indices=self._rows(pool))
        if self.ids is not None:
            raise ValueError(
                f"subset file {self.path} was written with ids, and the pool has none: name them "
                "with --ids"
            )
        if with_ids:
            raise ValueError(
                f"subset file {self.path} was written without ids, which --ids gives the pool: "
                "write it again with --ids, or leave them out here"
            )
        rows = self.subset.indices
        if len(rows) and rows.max() >= len(pool):
            raise ValueError(
                f"subset file {self.path} keeps row {rows.max()}; the pool has {len(pool)} examples"
            )
        return self.subset

    def _rows(self, pool: Pool) -> Integers:
        """Find the rows of the kept ids in the pool."""
        assert self.ids is not None
        if not len(self.ids):
            return np.empty(0, np.int64)
        lacking = np.ones(len(self.ids), dtype=bool)
        order = np.argsort(pool.ids)
        rows = np.zeros(len(self.ids), np.int64)
        if (self.ids.dtype.kind == "U") == (pool.ids.dtype.kind == "U"):
            places = np.searchsorted(pool.ids, self.ids, sorter=order)
            rows = order[np.minimum(places, len(pool) - 1)]
            lacking = pool.ids[rows] != self.ids
        if np.any(lacking):
            one = self.ids[np.argmax(lacking)].item()
            raise ValueError(f"subset file {self.path} keeps id {one!r}, which the pool lacks")
        return rows


def _source(text: str) -> Stored | Selector:
    if Path(text).suffix in SUBSET_SUFFIXES:
        return Stored(text, read_subset(text), read_subset_ids(text))
    return parse_method(text)


def _row(text: str, subsets: list[Subset], pool: Pool, seconds: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "method": text,
        "kept": float(np.mean([one.achieved for one in subsets])),
        "score": None,
        "coverage": None,
        "least": None,
        "stable": None,
        "seconds": seconds,
    }
    # An empty subset has no mean and no nearest example.
    filled = all(one.achieved for one in subsets)
    if pool.scores is not None and filled:
        values = pool.scores.values
        row["score"] = float(np.mean([values[one.indices].mean() for one in subsets]))
    if pool.features is not None and pool.features.ndim == 2 and filled:
        gaps = [coverage(pool.features, pool.features[one.indices]) for one in subsets]
        row["coverage"] = float(np.mean(gaps))
    if pool.labels is not None and filled:
        classes, labels = np.unique(pool.labels, return_inverse=True)
        counts = [np.bincount(labels[one.indices], minlength=len(classes)) for one in subsets]
        row["least"] = float(np.mean([c.min() * len(classes) / c.sum() for c in counts]))
    if len(subsets) > 1:
        kept = [_bits(one, len(pool)) for one in subsets]
        pairs = [_jaccard(a, b) for i, a in enumerate(kept) for b in kept[:i]]
        row["stable"] = float(np.mean(pairs))
    return row


def coverage(features: Array, kept: Array) -> float:
    """Compute the root mean square distance of rows to the nearest kept one."""
    total = 0.0
    squares = np.einsum("ij,ij->i", kept, kept, dtype=np.float64)
    for rows in blocks(len(features), max(len(kept), features.shape[1])):
        part = features[rows].astype(np.float64)
        gaps = squares - 2 * part @ kept.T
        nearest = gaps.min(axis=1) + np.einsum("ij,ij->i", part, part)
        total += float(np.sum(np.maximum(nearest, 0.0)))
    return float(np.sqrt(total / len(features)))


def _bits(subset: Subset, n: int) -> Bits:
    """Mark the kept ones of the pool's n examples by a bit each."""
    kept = np.zeros(n, dtype=bool)
    kept[subset.indices] = True
    return np.packbits(kept)


def _jaccard(one: Bits, other: Bits) -> float:
    common, union = (
        int(np.bitwise_count(b).sum(dtype=np.int64)) for b in (one & other, one | other)
    )
    return common / union if union else 1.0


def _mean_jaccard(ones: list[Bits], others: list[Bits]) -> float:
    return float(np.mean([_jaccard(a, b) for a in ones for b in others]))


def _table(rows: list[dict[str, Any]], alike: dict[str, dict[str, float]]) -> str:
    width = max(len(row["method"]) for row in rows) + 2
    lines = [f"{'method':<{width}}" + "".join(f"{n:>{f.split('.')[0]}}" for n, f in COLUMNS)]
    for row in rows:
        cells = "".join(
            f"{'-':>{form.split('.')[0]}}" if row[name] is None else f"{row[name]:{form}}"
            for name, form in COLUMNS
        )
        lines.append(f"{row['method']:<{width}}{cells}")
    lines += ["", "Jaccard index"]
    for one, others in alike.items():
        lines.append(f"{one:<{width}}" + "".join(f"{value:8.3f}" for value in others.values()))
    return "\n".join(lines)
