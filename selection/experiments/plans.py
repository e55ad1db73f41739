"""Describes what an experiment compares.

A plan has methods, kept fractions, conditions and seeds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from hardset.checks import check_choice, check_integer
from selection.experiments.datasets import CONDITIONS, DATASETS
from selection.experiments.tables import TABLES
from selection.registry import check_method
from selection.selector import budget_count


@dataclass(frozen=True)
class Entry:
    """Names a method and what it is given.

    Attributes:
        method: as on the command line, such as "ccs:cutoff=0.1".
        score: name of the score it ranks by, where it takes one.
        features: "hidden", the probe's penultimate features, or "inputs".
        parts: random parts of the pool that are selected from one by one.
        name: what tables and pictures call it, instead of all that.
        proxy: hidden units of the network that scores and features come from; None for those of
            the trained one.
    """

    method: str
    score: str = "el2n"
    features: str = "hidden"
    proxy: int | None = None
    parts: int = 1
    name: str = ""

    @property
    def label(self) -> str:
        """Return a name that tells the entries of a plan apart."""
        if self.name:
            return self.name
        words = [self.method]
        if self.score != "el2n":
            words.append(f"by {self.score}")
        if self.features != "hidden":
            words.append(f"on {self.features}")
        if self.proxy is not None:
            words.append(f"proxy {self.proxy}")
        if self.parts != 1:
            words.append(f"in {self.parts} parts")
        return " ".join(words)


@dataclass(frozen=True)
class Plan:
    """Describes an experiment.

    It runs every entry at every fraction, condition and seed.

    Attributes:
        dataset: a key of DATASETS.
        train: training examples; the others test.
        entries: what is compared; the first one is the baseline of paired differences.
        keep_fraction: kept fractions of the training examples, in (0, 1].
        conditions: some of CONDITIONS.
        seeds: number of seeds; each has its own split, noise, networks and selections.
        steps: training steps of 64 examples, whatever is kept.
        hidden: units of the trained network.
        epochs: recorded epochs of the networks that give the scores.
        recorded: how many such networks, averaged.
    """

    dataset: str
    train: int
    entries: tuple[Entry, ...]
    keep_fraction: tuple[float, ...]
    conditions: tuple[str, ...] = CONDITIONS
    seeds: int = 5
    steps: int = 500
    hidden: int = 128
    epochs: int = 15
    recorded: int = 3

    def parameters(self) -> dict[str, Any]:
        """List what the results depend on, as JSON-able values."""
        found = asdict(self)
        for entry in found["entries"]:
            del entry["name"]
        return found


def _entries(*methods: str, **given: Any) -> tuple[Entry, ...]:
    return tuple(Entry(method, **given) for method in methods)


_TWELVE = _entries(
    "random",
    "hard",
    "easy",
    "moderate",
    "ccs:cutoff=0.1",
    "k-center",
    "herding",
    "facility-location",
    "gradmatch:exact=true,per_class=true",
    "d2",
    "semdedup:exact=true",
    "infomax",
)

_MORE = _entries(
    "craig",
    "adacore",
    "glister:validation_size=400",
    "sas",
    "s2l",
    "meddel:exact=true",
    "d4:exact=true",
    "badge",
    "k-median",
    "cluster-top",
    "coding-rate",
    "hull-volume",
)

_SCORES = ("forgetting", "aum", "grand", "variability", "margin", "entropy", "ssp")

# These are the scores that a network's own training gives; the others need more than that.
_ALL_SCORES = (
    "el2n",
    *_SCORES,
    *("loss", "least-confidence", "confidence", "correctness", "dyn-unc"),
    *("ensemble-errors", "learnability", "middle-perplexity"),
)

_DEMO = Plan("mnist-5k", 4000, _TWELVE, (0.5, 0.2, 0.1))

_RANDOM = _entries("random")

# These sweep InfoMax's own options: neighbours, pairwise weight, iterations, partitions.
_SWEEPS = (
    *_RANDOM,
    *(Entry(f"infomax:neighbours={k}", name=f"neighbours {k}") for k in (1, 3, 5, 10, 20)),
    *(Entry(f"infomax:weight={w:g}", name=f"weight {w:g}") for w in (0, 0.1, 0.3, 1, 2, 4)),
    *(
        Entry(f"infomax:neighbours={k},weight=1", name=f"neighbours {k}, weight 1")
        for k in (20, 50, 100)
    ),
    # This is the published update; the default takes the best of three solvers.
    *(
        Entry(
            f"infomax:solver=published-scaled,swaps=false,iterations={i}",
            name=f"published, {i} iterations",
        )
        for i in (1, 2, 5, 20, 60)
    ),
    *(Entry("infomax", parts=parts) for parts in (2, 5, 10, 20, 40)),
)

# These need neither labels nor a trained network, but pixels and their k-means centroids.
_UNSUPERVISED = _entries("hard", "ccs:cutoff=0.1", "d2", "infomax", score="ssp", features="inputs")

_CROSS = (
    *_RANDOM,
    *(
        Entry(method, proxy=proxy)
        for method in ("hard", "moderate", "ccs:cutoff=0.1", "d2", "infomax")
        for proxy in (None, 16, 256)
    ),
    _UNSUPERVISED[-1],
)

_GRID = (
    *_RANDOM,
    *(Entry("hard", score=score) for score in ("forgetting", "margin")),
    *(Entry("k-median", features=features) for features in ("hidden", "inputs")),
    *(
        Entry("infomax", score=score, features=features)
        for score in ("el2n", *_SCORES)
        for features in ("hidden", "inputs")
    ),
)

PLANS: Mapping[str, Plan] = {
    "demo": _DEMO,
    "mnist": replace(
        _DEMO,
        entries=(
            *_TWELVE,
            *_MORE,
            *(Entry("hard", score=score) for score in _SCORES),
            *_UNSUPERVISED,
        ),
        keep_fraction=(0.5, 0.2, 0.1, 0.05),
    ),
    "letter": replace(
        _DEMO,
        dataset="letter",
        train=8000,
        entries=(*_TWELVE, *_MORE),
        steps=2000,
    ),
    "scores": replace(
        _DEMO,
        entries=(
            *_RANDOM,
            # `estimate_coordinates` found these for even or odd digits, probes through the mean.
            *_entries("optimal-window:alpha_total=132,theta_deg=12.9"),
            *(Entry("hard", score=score) for score in _ALL_SCORES),
        ),
        keep_fraction=(0.5, 0.2, 0.1, 0.05),
    ),
    "infomax-sweeps": replace(_DEMO, entries=_SWEEPS, conditions=("clean",)),
    "cross-model": replace(_DEMO, entries=_CROSS, conditions=("clean",)),
    "scores-and-features": replace(_DEMO, entries=_GRID, conditions=("clean",)),
}


@dataclass(frozen=True)
class TablePlan:
    """Describes a trial of the advice.

    Attributes:
        tables: keys of TABLES; those whose package is not installed are left out.
        splits: random splits of each into training and held-out rows.
    """

    tables: tuple[str, ...]
    splits: int

    def parameters(self) -> dict[str, Any]:
        """List what the results depend on, as JSON-able values."""
        return asdict(self)


TABLE_PLANS: Mapping[str, TablePlan] = {
    "advice": TablePlan(tuple(TABLES), 2),
    # The pairs of classes on which version 0.1 compared its advice with the measured curve.
    "knee": TablePlan(
        (
            *("mnist-3-8", "mnist-4-9", "mnist-7-9", "mnist-3-5", "mnist-odd"),
            *("letter-B-R", "letter-O-Q", "letter-I-J", "letter-half"),
        ),
        5,
    ),
}


def check_table_plan(plan: TablePlan) -> None:
    """Check a trial of the advice before anything is imported or read.

    Raises:
        ValueError: an unknown table, or a number of splits outside its range.
    """
    check_integer("seeds", plan.splits, 1, 1000)
    for name in plan.tables:
        check_choice("table", name, TABLES)


def check_plan(plan: Plan) -> None:
    """Check a plan before the methods are imported and the data are read.

    What needs methods or data is checked later.

    Raises:
        ValueError: an unknown method or data set, or a number outside its range.
    """
    for entry in plan.entries:
        check_method(entry.method)
    check_integer("seeds", plan.seeds, 1, 1000)
    check_integer("train", plan.train, 5, 2**31)
    for fraction in plan.keep_fraction:
        budget_count(float(fraction), plan.train)
    check_choice("dataset", plan.dataset, DATASETS)
