"""Evaluates trials of the advice: harm, what is kept, and the alternatives."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Record = dict[str, Any]

PATHS = ("hard", "mixture", "random")
# Training rows at which sizes are told apart: below the first hardly a fraction can be certified.
SIZES = (400, 1000)
BEYOND = 2.0  # standard errors
WITHIN = (1.5, 3.0)  # factors by which a prediction may miss
FITTED = (1.0, 0.5, 0.25, 0.125)  # fractions at which it is judged


def smallest_safe(record: Record, policy: str) -> float:
    """Find the smallest fraction down to which no held-out increase was above the tolerance.

    It is known in hindsight alone; 1 where the largest fraction is above it.
    """
    tolerance = record["advice"]["tolerance"]
    found = 1.0
    own = [point for point in record["curve"] if point["policy"] == policy]
    for point in sorted(own, key=lambda point: -point["keep_fraction"]):
        if point["increase"] > tolerance:
            break
        found = point["keep_fraction"]
    return found


def choice(record: Record, name: str) -> Record:
    """Return the choice of a name."""
    (found,) = (one for one in record["choices"] if one["name"] == name)
    return dict(found)


def above(record: Record, chosen: Record, errors: float = 0.0) -> bool:
    """Say whether a held-out increase is above the tolerance by so many standard errors."""
    limit = record["advice"]["tolerance"] + errors * chosen["stderr"]
    return bool(chosen["increase"] > limit)


def markdown(records: Sequence[Record]) -> str:
    """Write the results: by size, against alternatives, the theory's fit, table by table."""
    parts = [_by_size(records), _alternatives(records), _theory(records), _tables(records)]
    return "\n".join(part for part in parts if part)


def raw(records: Sequence[Record]) -> str:
    """Write every number as CSV, a line for each choice and point."""
    buffer = io.StringIO()
    head = ("package", "table", "split", "train", "held_out", "columns", "error_all", "tolerance")
    tail = ("name", "policy", "keep_fraction", "kept", "increase", "stderr", "validated", "bound")
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow((*head, *tail))
    for record in records:
        known = {**record, "tolerance": record["advice"]["tolerance"]}
        own = [_short(known[key]) for key in head]
        for line in (*record["choices"], *record["curve"]):
            named = {"name": "curve", "validated": "", "bound": "", **line}
            if named["name"] == "advice" and record["advice"]["bound"] is not None:
                named["bound"] = record["advice"]["bound"]
            table.writerow((*own, *(_short(named[key]) for key in tail)))
    return buffer.getvalue()


def theory(records: Sequence[Record]) -> str:
    """Write the theory's errors beside those of cross validation as CSV."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(("table", "split", "policy", "keep_fraction", "predicted", "measured"))
    for record in records:
        found = record["explanation"] or {"predicted": {}}
        for policy in found["predicted"]:
            errors = found["predicted"][policy], found["measured"][policy]
            for fraction, *both in zip(found["keep_fraction"], *errors, strict=True):
                cells = ("" if one is None else _short(one) for one in both)
                table.writerow((record["table"], record["split"], policy, fraction, *cells))
    return buffer.getvalue()


def factor(record: Record, policy: str, keep_fraction: float) -> float:
    """Compute by what factor a predicted and a measured error differ.

    It is at least 1, and infinite where the theory has no answer or one error alone is 0.
    """
    found = record["explanation"]
    place = found["keep_fraction"].index(keep_fraction)
    both = [found[kind][policy][place] for kind in ("predicted", "measured")]
    if None in both:
        return float(np.inf)
    low, high = sorted(both)
    return float(high / low) if low > 0 else float(np.inf if high > 0 else 1.0)


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _sizes(records: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    low, high = SIZES
    groups: list[tuple[str, Callable[[int], bool]]] = [
        ("all", lambda n: True),
        (f"n < {low}", lambda n: n < low),
        (f"{low} <= n < {high}", lambda n: low <= n < high),
        (f"n >= {high}", lambda n: n >= high),
    ]
    chosen = [(name, [one for one in records if of(one["train"])]) for name, of in groups]
    return [(name, own) for name, own in chosen if own]


def _by_size(records: Sequence[Record]) -> str:
    tables = len({one["table"] for one in records})
    packages = len({one["package"] for one in records})
    lines = [
        f"The advice on {len(records)} splits of {tables} tables from {packages} "
        f"package{'s' if packages != 1 else ''}; increases are those of the held-out error, in "
        "points.",
        "",
        "| training rows | splits | median f | mean f | geometric mean f | keep all | "
        "above the tolerance | by two standard errors | largest increase | "
        "largest less two standard errors |",
        "|---" * 10 + "|",
    ]
    for name, own in _sizes(records):
        found = [(record, choice(record, "advice")) for record in own]
        kept = np.array([one["keep_fraction"] for _, one in found])
        lines.append(
            f"| {name} | {len(own)} | {np.median(kept):.3g} | {kept.mean():.3f} | "
            f"{np.exp(np.log(kept).mean()):.3f} | {np.mean(kept == 1):.2f} | "
            f"{sum(above(record, one) for record, one in found)} | "
            f"{sum(above(record, one, BEYOND) for record, one in found)} | "
            f"{100 * max(one['increase'] for _, one in found):.2f} | "
            f"{100 * max(one['increase'] - BEYOND * one['stderr'] for _, one in found):.2f} |"
        )
    return "\n".join(lines) + "\n"


def _alternatives(records: Sequence[Record]) -> str:
    """Compare ways of choosing, where each keeps less than everything."""
    lines = [
        "What else might be done. A way of choosing is judged where it keeps less than all; EL2N, "
        "forgetting and CCS keep as many rows as the advice.",
        "",
        "| choice | splits where it keeps less | median f | mean f, all splits | "
        "above the tolerance | by two standard errors | mean increase | largest increase |",
        "|---" * 8 + "|",
    ]
    for name in [one["name"] for one in records[0]["choices"]]:
        found = [(record, choice(record, name)) for record in records]
        mean = np.mean([one["keep_fraction"] for _, one in found])
        less = [(record, one) for record, one in found if one["keep_fraction"] < 1]
        if not less:
            lines.append(f"| {name} | 0 | - | {mean:.3f} | - | - | - | - |")
            continue
        increase = np.array([one["increase"] for _, one in less])
        first = sum(above(record, one) for record, one in less)
        second = sum(above(record, one, BEYOND) for record, one in less)
        lines.append(
            f"| {name} | {len(less)} | {np.median([one['keep_fraction'] for _, one in less]):.3g} "
            f"| {mean:.3f} | {first} ({first / len(less):.0%}) | {second} "
            f"({second / len(less):.0%}) | {100 * increase.mean():+.2f} | "
            f"{100 * increase.max():+.2f} |"
        )
    return "\n".join(lines) + "\n"


def _theory(records: Sequence[Record]) -> str:
    known = [record for record in records if record["explanation"] is not None]
    if not known:
        return ""
    lines = [
        f"Predicted against cross-validated errors: share of {len(known)} splits within a factor "
        "of " + " and of ".join(f"{limit:g}" for limit in WITHIN) + ", and the median factor.",
        "",
        "| | " + " | ".join("all data" if one == 1 else f"{one:g}" for one in FITTED) + " |",
        "|---" * (1 + len(FITTED)) + "|",
    ]
    for policy in PATHS:
        cells = []
        for fraction in FITTED:
            missed = np.array([factor(record, policy, fraction) for record in known])
            shares = ", ".join(f"{np.mean(missed <= limit):.2f}" for limit in WITHIN)
            cells.append(f"{shares} ({np.median(missed):.2f})")
        lines.append(f"| {policy} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _tables(records: Sequence[Record]) -> str:
    lines = [
        "Every table: the advice of each split with the increase of the held-out error in points "
        "(where splits are more than three: the median fraction and the mean increase), beside the "
        "smallest fraction that was safe in hindsight, the median of the splits.",
        "",
        "| table | n | columns | error, all data | tolerance | advice | safe: hard | mixture | "
        "random | version 0.1 |",
        "|---" * 10 + "|",
    ]
    for name in dict.fromkeys(one["table"] for one in records):
        own = [one for one in records if one["table"] == name]
        advised = [choice(record, "advice") for record in own]
        safe = [np.median([smallest_safe(record, policy) for record in own]) for policy in PATHS]
        lines.append(
            f"| {name} | {own[0]['train']} | {own[0]['columns']} | "
            f"{100 * np.mean([one['error_all'] for one in own]):.1f} % | "
            f"{100 * np.mean([one['advice']['tolerance'] for one in own]):.2f} | "
            f"{_several(advised)} | "
            + " | ".join(f"{one:.3g}" for one in safe)
            + f" | {_several([choice(record, 'version 0.1') for record in own])} |"
        )
    return "\n".join(lines) + "\n"


def _several(chosen: Sequence[Record]) -> str:
    """Write what was chosen on each split, or of many splits the middle."""
    if len(chosen) > 3:
        fraction = np.median([one["keep_fraction"] for one in chosen])
        increase = 100 * np.mean([one["increase"] for one in chosen])
        return f"{fraction:.2g} ({increase:+.1f})"
    return ", ".join(
        "all"
        if one["policy"] == "all"
        else f"{one['policy']} {one['keep_fraction']:.2g} ({100 * one['increase']:+.1f})"
        for one in chosen
    )
