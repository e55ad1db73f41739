"""Defines the commands `experiment` and `coverage`.

They try methods out on data that the commands bring along.
"""

import sys
from dataclasses import replace
from typing import Annotated, Any

from hardset.checks import check_integer, check_range
from hardset.cli import Choice, more_help
from hardset.datafile import write_bytes_atomic
from hardset.folder import alone
from selection.commands.inputs import Folder, Methods, keep_or_print
from selection.experiments.datasets import DATASETS
from selection.experiments.plans import (
    PLANS,
    TABLE_PLANS,
    Entry,
    TablePlan,
    check_plan,
    check_table_plan,
)
from selection.experiments.tables import TABLES, installed, left_out
from selection.files import check_new_file, check_writable
from selection.registry import check_method, parse_method
from selection.selector import budget_count

KNOWN = tuple(sorted((*PLANS, *TABLE_PLANS)))


@more_help(lambda: f"plans: {', '.join(KNOWN)}\n\ntables: {', '.join(TABLES)}")
def experiment(
    plan: Annotated[str, Choice(KNOWN)],
    *,
    out: Folder,
    dataset: Annotated[str, Choice(tuple(DATASETS))] | None = None,
    data: Folder | None = None,
    train: int | None = None,
    methods: Methods | None = None,
    keep_fraction: tuple[float, ...] | None = None,
    seeds: int | None = None,
    tables: Annotated[tuple[str, ...] | None, Choice(tuple(TABLES))] = None,
) -> int:
    """Measure accuracy against the kept fraction on real data.

    All methods are measured in one run. The plans `advice` and `knee` try what `recommend` says on
    tables with two classes: of training rows it gets, held-out rows measure what it is worth, and
    what the alternatives are.

    A rerun with the same arguments computes only what is missing.

    Args:
        plan: what to compare.
        out: folder for parts and tables.
        dataset: another data set.
        data: where a data set lies that is not shipped.
        train: training examples; the others test.
        methods: as for `select`.
        keep_fraction: kept fractions of the training examples, in (0, 1].
        seeds: seeds 0 ... SEEDS-1; of the plans advice and knee the splits of each table.
        tables: of the plans advice and knee, instead of theirs.

    Examples:
        python -m selection experiment demo --out out/selection
        python -m selection experiment demo --methods random hard "ccs:cutoff=0.2" --seeds 3 \\
            --out mine
        python -m selection experiment letter --out out/letter
        python -m selection experiment advice --out out/advice
        python -m selection experiment knee --tables letter-B-R mnist-3-8 --out out/knee
    """
    changes: dict[str, Any] = {
        "dataset": dataset,
        "train": train,
        "seeds": seeds,
        "entries": None if methods is None else tuple(Entry(method) for method in methods),
        "keep_fraction": keep_fraction,
    }
    changed = {name: value for name, value in changes.items() if value is not None}
    if plan in TABLE_PLANS:
        others = {"methods" if name == "entries" else name for name in changed} - {"seeds"}
        if others or data is not None:
            word = min(others or {"data"}).replace("_", "-")
            raise ValueError(f"plan {plan} takes --tables and --seeds, and no --{word}")
        known = TABLE_PLANS[plan]
        asked = TablePlan(
            known.tables if tables is None else tables, known.splits if seeds is None else seeds
        )
        return _try_advice(asked, out)
    if tables is not None:
        raise ValueError(f"plan {plan} takes no --tables; {', '.join(TABLE_PLANS)} do")
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
        texts = {
            "results.md": table,
            "results.csv": results.csv(),
            "recalls.csv": results.recalls_csv(),
        }

        def write() -> None:
            for name, text in texts.items():
                write_bytes_atomic(folder / name, text.encode())
            for suffix in ("png", "pdf"):
                draw(results, folder / f"accuracy.{suffix}")

        keep_or_print(write, lambda: table)
        print(table)
        for name in (*texts, "accuracy.png", "accuracy.pdf"):
            print(folder / name, file=sys.stderr)
    return 0


def _try_advice(plan: TablePlan, out: Folder) -> int:
    """Run a trial of the advice, and write its tables."""
    check_table_plan(plan)
    # These are imported here, for they load the theory and JAX.
    from hardset.progress import bar
    from selection.experiments.advice import run_tables
    from selection.experiments.advice_results import markdown, raw, theory

    folder = check_writable(out)
    lacking = left_out(plan.tables)
    if not any(installed(TABLES[name].package) for name in plan.tables):
        raise ValueError(lacking)
    if lacking is not None:
        print(lacking, file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        with bar(len(plan.tables) * plan.splits, "advice", "split") as done:

            def advance(text: str) -> None:
                done.set_postfix_str(text)
                done.update()

            records = run_tables(plan, folder, advance=advance)
        table = markdown(records) + ("" if lacking is None else f"\n{lacking}.\n")
        texts = {"advice.md": table, "advice.csv": raw(records), "theory.csv": theory(records)}

        def write() -> None:
            for name, text in texts.items():
                write_bytes_atomic(folder / name, text.encode())

        keep_or_print(write, lambda: table)
        print(table)
        for name in texts:
            print(folder / name, file=sys.stderr)
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
