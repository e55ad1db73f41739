"""Defines the commands `experiment`, `knee` and `coverage`.

They try methods out on data that the commands bring along.
"""

import sys
from dataclasses import replace
from typing import Annotated, Any

from hardset.checks import check_integer, check_range
from hardset.cli import Choice, more_help
from hardset.datafile import versions, write_bytes_atomic
from hardset.folder import alone
from hardset.seal import sealed_json
from selection.commands.inputs import Folder, Methods, keep_or_print
from selection.experiments.datasets import DATASETS, PAIRS
from selection.experiments.plans import PLANS, Entry, check_plan
from selection.files import check_new_file, check_writable
from selection.registry import check_method, parse_method
from selection.selector import budget_count


@more_help(lambda: f"plans: {', '.join(sorted(PLANS))}")
def experiment(
    plan: Annotated[str, Choice(tuple(sorted(PLANS)))],
    *,
    out: Folder,
    dataset: Annotated[str, Choice(tuple(DATASETS))] | None = None,
    data: Folder | None = None,
    train: int | None = None,
    methods: Methods | None = None,
    keep_fraction: tuple[float, ...] | None = None,
    seeds: int | None = None,
) -> int:
    """Measure accuracy against the kept fraction on real data.

    All methods are measured in one run.

    A rerun with the same arguments computes only what is missing.

    Args:
        plan: what to compare.
        out: folder for parts and tables.
        dataset: another data set.
        data: where a data set lies that is not shipped.
        train: training examples; the others test.
        methods: as for `select`.
        keep_fraction: kept fractions of the training examples, in (0, 1].
        seeds: seeds 0 ... SEEDS-1.

    Examples:
        python -m selection experiment demo --out out/selection
        python -m selection experiment demo --methods random hard "ccs:cutoff=0.2" --seeds 3 \\
            --out mine
        python -m selection experiment letter --out out/letter
    """
    changes: dict[str, Any] = {
        "dataset": dataset,
        "train": train,
        "seeds": seeds,
        "entries": None if methods is None else tuple(Entry(method) for method in methods),
        "keep_fraction": keep_fraction,
    }
    changed = {name: value for name, value in changes.items() if value is not None}
    chosen = replace(PLANS[plan], **changed)
    check_plan(chosen)
    # These are imported here, for they load SciPy, JAX and optax.
    from hardset.progress import bar
    from selection.experiments.datasets import load_dataset, make_task
    from selection.experiments.published import PUBLISHED, beside
    from selection.experiments.results import draw
    from selection.experiments.runs import run_plan

    folder, source = check_writable(out), None
    if not folder.exists():  # a plan that its data do not fit leaves no folder behind
        source = load_dataset(chosen.dataset, data)
        make_task(source, "clean", 0, chosen.train)
    folder.mkdir(parents=True, exist_ok=True)
    # Of two processes the second one would find files that it is about to write.
    with alone(folder):
        parts = len(chosen.conditions) * chosen.seeds
        with bar(parts, chosen.dataset, "part") as done:

            def advance(text: str) -> None:
                done.set_postfix_str(text)
                done.update()

            results = run_plan(chosen, folder, data=source or data, advance=advance)
        table = results.markdown()
        if plan in PUBLISHED:
            table += beside(results, PUBLISHED[plan])
        tables = {
            "results.md": table,
            "results.csv": results.csv(),
            "recalls.csv": results.recalls_csv(),
        }

        def write() -> None:
            for name, text in tables.items():
                write_bytes_atomic(folder / name, text.encode())
            for suffix in ("png", "pdf"):
                draw(results, folder / f"accuracy.{suffix}")

        keep_or_print(write, lambda: table)
        print(table)
        for name in (*tables, "accuracy.png", "accuracy.pdf"):
            print(folder / name, file=sys.stderr)
    return 0


@more_help(lambda: f"data sets: {', '.join(sorted(PAIRS))}")
def knee(
    dataset: Annotated[str, Choice(tuple(sorted(PAIRS)))],
    *,
    out: Folder,
    splits: int = 10,
    tolerance: float = 0.1,
    seed: int = 0,
) -> int:
    """Put the recommended fraction beside the measured knee, on binary tasks.

    The theory recommends a policy and a fraction for the coordinates that are estimated from a
    task's training part; by this policy a max-margin student is trained at every fraction and
    tested. The knee is the smallest fraction from which on the error stays within the tolerance of
    that of all data.

    Args:
        dataset: where the tasks come from.
        out: folder for table and curves.
        splits: random splits into training and test examples.
        tolerance: accepted loss, relative.
        seed: of all random choices.

    Examples:
        python -m selection knee mnist-5k --out out/knee
        python -m selection knee letter --splits 20 --tolerance 0.05 --out out/knee
    """
    check_integer("splits", splits, 2, 10**4)
    check_range("tolerance", tolerance, 0.0, 10.0)
    check_integer("seed", seed, 0, 2**62)
    to_write = check_new_file(out / f"knee-{dataset}.md", (".md",))
    # These are imported here, for they load the theory and JAX.
    from hardset.progress import bar
    from selection.experiments.datasets import load_dataset
    from selection.experiments.knee import knee_table, measure_knee

    out.mkdir(parents=True, exist_ok=True)
    with alone(out):
        pairs, known, knees = PAIRS[dataset], load_dataset(dataset), []
        with bar(len(pairs) * splits, "knee", "split") as done:
            for task, pair in pairs.items():
                done.set_postfix_str(task)
                options: dict[str, Any] = {"splits": splits, "tolerance": tolerance, "seed": seed}
                knees.append(measure_knee(known, task, pair, **options, advance=done.update))
        table = knee_table(knees)
        curves = {
            one.task: {"keep_fraction": one.keep_fraction.tolist(), "error": one.error.tolist()}
            for one in knees
        }
        record = {
            "curves": curves,
            "options": {"splits": splits, "tolerance": tolerance, "seed": seed},
            "made_with": versions(),
        }

        def write() -> None:
            write_bytes_atomic(to_write.with_suffix(".json"), sealed_json(record))
            write_bytes_atomic(to_write, table.encode())

        keep_or_print(write, lambda: table)
    print(table)
    return 0


def coverage(
    *,
    out: Folder,
    methods: Methods | None = None,
    n: int = 2000,
    keep_fraction: float = 0.1,
    seed: int = 0,
) -> int:
    """Draw which examples of the plane the methods keep.

    Examples lie in clumps on a uniform ground; the score has a hill on a clump and one where
    examples are few. The table has the mean score of what is kept, how far examples are from it,
    and how much of it is close together.

    Args:
        out: folder for table and picture.
        methods: as for `select`.
        n: examples.
        keep_fraction: which part of them is kept.
        seed: of all random choices.

    Examples:
        python -m selection coverage --out out/coverage
        python -m selection coverage --methods hard "ccs:cutoff=0.1" "infomax:weight=4" --out mine
    """
    check_integer("n", n, 100, 10**6)
    check_integer("seed", seed, 0, 2**62)
    check_range("keep_fraction", keep_fraction, 0, 1, open_low=True)
    budget = budget_count(float(keep_fraction), n)
    check_integer("kept examples", budget, 2, n)
    for method in methods or ():
        check_method(method)
    to_write = check_new_file(out / "coverage.md", (".md",))
    # This is imported here, for it loads SciPy and JAX.
    from selection.experiments.coverage import (
        METHODS,
        cover,
        coverage_table,
        draw_coverage,
        make_plane,
    )

    for method in methods or METHODS:
        parse_method(method)
    out.mkdir(parents=True, exist_ok=True)
    with alone(out):
        plane = make_plane(n, seed)
        found = {one: cover(plane, one, budget, seed) for one in methods or METHODS}
        table = coverage_table(found)

        def write() -> None:
            for suffix in ("png", "pdf"):
                draw_coverage(plane, found, out / f"coverage.{suffix}")
            write_bytes_atomic(to_write, table.encode())

        keep_or_print(write, lambda: table)
    print(table)
    return 0
