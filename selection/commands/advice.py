"""Defines the commands `recommend` and `knee`, which test on the data how much to keep."""

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from hardset.checks import check_integer, check_range
from hardset.cli import Choice, Json, Option, Progress, more_help, one_line
from hardset.datafile import write_bytes_atomic
from hardset.progress import asked_for_progress, bar
from selection.advice.paths import FRACTIONS, MEANINGS
from selection.commands.inputs import ARRAYS, File, Folder, keep_or_print
from selection.files import (
    SUBSET_SUFFIXES,
    check_new_file,
    check_source,
    check_writable,
    json_text,
    read_array,
    read_matrix,
    write_subset,
)
from selection.subset import Subset

if TYPE_CHECKING:
    from selection.advice.explanation import Explanation
    from selection.advice.recommendation import Advice, Curve
    from selection.advice.resume import FolderStore
    from selection.advice.verdict import Measurement

PICTURES = (".png", ".pdf", ".svg")
BESIDE = "random"  # in a picture, for comparison
SHOWN = 20  # classes in a text
WIDTH = max(map(len, MEANINGS)) + 2
UNLABELLED = (
    "--labels is missing: without labels no fraction can be tested, and an untested one is not "
    "advised; label 400 or more rows drawn at random, and ask about these"
)
Policies = Annotated[tuple[str, ...], Choice(tuple(MEANINGS))]
NumberOrAuto = Annotated[str, Option(metavar="NUMBER|auto")]
Student = Literal["logistic", "hinge", "squared-hinge", "square"]


def _more() -> str:
    lines = [f"  {name:<{WIDTH}}{text}" for name, text in MEANINGS.items()]
    return "\n".join(["policies, and what each one keeps:", *lines, "", ARRAYS])


@more_help(_more)
def recommend(
    *,
    features: File,
    labels: File | None = None,
    groups: File | None = None,
    student: Student = "logistic",
    lam: NumberOrAuto | None = None,
    tolerance: NumberOrAuto = "auto",
    failure: float = 0.05,
    policies: Policies = ("hard", "mixture"),
    balanced: bool = False,
    folds: int = 5,
    seed: int = 0,
    out: File | None = None,
    plot: File | None = None,
    resume: Folder | None = None,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Recommend how much of a data set to keep, tested on the data themselves.

    Smaller and smaller parts are kept. A student is trained on each, and its errors on rows that it
    has not seen are compared with those of a student of all the data. The advice is the smallest
    part whose error was shown to rise by no more than the tolerance. Where no part passes, the
    advice is to keep all, and the answer says how many rows the first part would need.

    This is approximate: the chance that the error rises by more than the tolerance is about
    --failure. docs/advice.md says what was measured.

    Args:
        features: shape (n, d); or a CSR matrix that scipy.sparse.save_npz wrote.
        labels: two or more classes, whole numbers or strings, (n,).
        groups: whole numbers or strings, (n,); rows of one group, such as those of a patient, stay
            together and count as one.
        student: loss of the linear student that is trained.
        lam: ridge strength of the student, or auto for that of least cross-validated error; 1/d by
            default.
        tolerance: accepted rise of the error; auto is a tenth of the error of all data, but at
            least .005 and at most .02.
        failure: accepted chance of a rise beyond the tolerance.
        policies: what is tried; of hard and mixture the first has four fifths of --failure.
        balanced: count every class alike, however rare it is.
        folds: of the cross validation.
        seed: of all random choices.
        out: .parquet or .json to write the kept rows to, as `select` does; never replaces another
            file.
        plot: .png, .pdf or .svg to draw the curves to, with random selection beside them.
        resume: keep finished steps there, and take those that are there.

    Examples:
        python -m selection recommend --features x.npy --labels y.npy
        python -m selection recommend --features x.npy --labels y.npy --out kept.parquet \\
            --plot advice.png
        python -m selection recommend --features 'table.parquet:x*' --labels table.parquet:label \\
            --tolerance 0.01 --balanced --json
    """
    said = dict(locals())
    menu = _Menu.of(said)
    if out is not None:
        check_new_file(out, SUBSET_SUFFIXES)
    rows, classes, together, store = menu.read(features, labels, groups, plot, resume)
    from selection.advice.recommendation import recommend as advise

    beside = () if plot is None or BESIDE in policies else (BESIDE,)
    with asked_for_progress(progress), bar(folds + 3 + len(FRACTIONS), "recommend", "step") as done:

        def advance(what: str) -> None:
            done.set_postfix_str(what)
            done.update()

        found = advise(
            rows,
            classes,
            groups=together,
            **menu.options,
            beside=beside,
            store=store,
            advance=advance,
        )
    facts = _facts(found, dropped=() if out is None else ("indices",))
    text = json_text(facts) if as_json else _text(found, out)

    def write() -> None:
        if out is not None:
            subset = Subset.of(found.indices, requested=len(found.indices))
            about: dict[str, Any] = {
                "method": "recommend",
                "seed": seed,
                "examples": found.examples,
            }
            measured = _facts(found, dropped=("indices", "curve", "beside", "explanation"))
            write_subset(out, subset, **about, advice=measured, options=_made_from(said))
        if plot is not None:
            _draw(plot, _drawing(found), found.sentence())

    keep_or_print(write, lambda: text)
    print(text)
    _say_files([out, plot])
    return 0


@more_help(_more)
def knee(
    *,
    features: File,
    labels: File | None = None,
    groups: File | None = None,
    student: Student = "logistic",
    lam: NumberOrAuto | None = None,
    tolerance: NumberOrAuto = "auto",
    failure: float = 0.05,
    policies: Policies = ("hard", "mixture", "random"),
    balanced: bool = False,
    folds: int = 5,
    seed: int = 0,
    plot: File | None = None,
    resume: Folder | None = None,
    progress: Progress = False,
    as_json: Json = False,
) -> int:
    """Measure what the policies cost at every kept fraction of a data set.

    The curves are those of `recommend`, without stopping. The knee of a policy is the smallest
    fraction from which on the measured error rises by no more than the tolerance.

    Each bound holds by itself at the level --failure. Whoever picks the best of all points has no
    guarantee: `recommend` has one.

    Args:
        features: shape (n, d); or a CSR matrix that scipy.sparse.save_npz wrote.
        labels: two or more classes, whole numbers or strings, (n,).
        groups: whole numbers or strings, (n,); rows of one group, such as those of a patient, stay
            together and count as one.
        student: loss of the linear student that is trained.
        lam: ridge strength of the student, or auto for that of least cross-validated error; 1/d by
            default.
        tolerance: accepted rise of the error; auto is a tenth of the error of all data, but at
            least .005 and at most .02.
        failure: level of each bound.
        policies: what is measured.
        balanced: count every class alike, however rare it is.
        folds: of the cross validation.
        seed: of all random choices.
        plot: .png, .pdf or .svg to draw the curves to.
        resume: keep finished steps there, and take those that are there.

    Examples:
        python -m selection knee --features x.npy --labels y.npy --plot knee.png
        python -m selection knee --features x.npy --labels y.npy --policies easy random --json
    """
    menu = _Menu.of(locals())
    rows, classes, together, store = menu.read(features, labels, groups, plot, resume)
    from selection.advice.recommendation import measure_curve

    with asked_for_progress(progress), bar(folds + 1 + len(FRACTIONS), "knee", "step") as done:

        def advance(what: str) -> None:
            done.set_postfix_str(what)
            done.update()

        found = measure_curve(
            rows, classes, groups=together, **menu.options, store=store, advance=advance
        )
    knees = {one: _knee(found, one) for one in policies}
    sentence = _knee_sentence(found, knees)
    facts = {"sentence": sentence, "knees": knees, **_plain(found)}
    table = _table(found.curve, found.error_all, found.tolerance, "bound within the tolerance")
    text = json_text(facts) if as_json else "\n".join([sentence, "", *table])

    def write() -> None:
        if plot is not None:
            listed = ", ".join(f"{one} {_percent(at)}" for one, at in knees.items())
            title = (
                f"The {_error(found)} of all rows, {_percent(found.error_all)}, rises by no more "
                f"than {_points(found.tolerance)[1:]} points\ndown to: {listed}"
            )
            shown = {"curve": found.curve, "tolerance": found.tolerance, "error": _error(found)}
            _draw(plot, {"title": title, **shown}, sentence)

    keep_or_print(write, lambda: text)
    print(text)
    _say_files([plot])
    return 0


@dataclasses.dataclass(frozen=True)
class _Menu:
    """Holds the checked options that both commands share."""

    options: dict[str, Any]

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "_Menu":
        """Check what can be checked without the data.

        Raises:
            ValueError: an option outside its range, or no labels.
        """
        if said["labels"] is None:
            raise ValueError(UNLABELLED)
        policies = said["policies"]
        for one in policies:
            if policies.count(one) > 1:
                raise ValueError(f"policies names {one!r} twice; once is enough")
        check_range("failure", said["failure"], 0.0, 0.5, open_low=True, open_high=True)
        check_integer("folds", said["folds"], 2, 100)
        check_integer("seed", said["seed"], 0, 2**62)
        lam = said["lam"]
        return cls(
            {
                "student": said["student"],
                "lam": lam if lam in (None, "auto") else _number("lam", lam, np.inf),
                "tolerance": None
                if said["tolerance"] == "auto"
                else _number("tolerance", said["tolerance"], 1.0),
                "failure": said["failure"],
                "policies": policies,
                "balanced": said["balanced"],
                "folds": said["folds"],
                "seed": said["seed"],
            }
        )

    def read(
        self,
        features: str,
        labels: str | None,
        groups: str | None,
        plot: str | None,
        resume: Path | None,
    ) -> tuple[Any, Any, Any, "FolderStore | None"]:
        """Check the files that are named, and read the data.

        Raises:
            ValueError: a file that is missing, damaged or of another kind, or a picture that is
                there already.
            OSError: a folder that cannot be written.
        """
        assert labels is not None
        if plot is not None:
            check_new_file(plot, PICTURES)
        if resume is not None:
            check_writable(resume)
        check_source("features", features)
        check_source("labels", labels)
        if groups is not None:
            check_source("groups", groups)
        rows, classes = read_matrix("features", features), read_array("labels", labels)
        together = None if groups is None else read_array("groups", groups)
        if resume is None:
            return rows, classes, together, None
        from selection.advice.resume import FolderStore

        decides = [self.options[name] for name in ("student", "lam", "folds", "seed")]
        # A tuned ridge depends on what error it was tuned for.
        decides.append(self.options["balanced"] and self.options["lam"] == "auto")
        made_from = [rows, classes, together, *decides]
        return rows, classes, together, FolderStore(resume, made_from)


def _number(name: str, text: str, high: float) -> float:
    """Read a number above 0 and below `high`.

    Raises:
        ValueError: neither that nor the word auto.
    """
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} = {text!r} is neither a number nor auto") from None
    check_range(name, value, 0.0, high, open_low=True, open_high=True)
    return value


def _made_from(said: Mapping[str, Any]) -> dict[str, Any]:
    """List the options that decide what is kept."""
    aside = ("out", "plot", "as_json", "progress", "resume")
    return {name: one for name, one in said.items() if one is not None and name not in aside}


def _say_files(paths: Iterable[str | None]) -> None:
    for path in paths:
        if path is not None:
            print(path, file=sys.stderr)


def _draw(path: str, drawing: dict[str, Any], caption: str) -> None:
    from selection.advice.picture import picture

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    data = picture(Path(path).suffix.removeprefix("."), caption, **drawing)
    write_bytes_atomic(path, data, replace=False)


def _drawing(found: "Advice") -> dict[str, Any]:
    """Say what the picture of an advice shows."""
    chosen = next(
        (
            one
            for one in found.curve
            if (one.policy, one.keep_fraction) == (found.policy, found.keep_fraction)
        ),
        None,
    )
    if chosen is None:
        title = (
            f"Keep all {found.examples:,} rows ({_error(found)} {_percent(found.error_all)}):\n"
            f"no smaller part passed the test (rise at most {_points(found.tolerance)[1:]} points)"
        )
    else:
        title = (
            f"Keep {_percent(found.keep_fraction)} of the rows ({len(found.indices):,} of "
            f"{found.examples:,}), by {found.policy} selection:\n"
            f"{_error(found)} {_percent(found.error_all)} to {_percent(found.error_kept)}, at most "
            f"about {_points(found.bound)} points"
        )
    return {
        "curve": (*found.curve, *found.beside),
        "tolerance": found.tolerance,
        "title": title,
        "error": _error(found),
        "chosen": chosen,
        "explanation": found.explanation,
    }


def _facts(found: "Advice", dropped: Sequence[str]) -> dict[str, Any]:
    """Collect an advice as JSON has it, by the names of its attributes."""
    plain = _plain(found)
    head = {"sentence": found.sentence(), "examples": found.examples}
    return head | {name: one for name, one in plain.items() if name not in dropped}


def _plain(value: Any) -> Any:
    """Turn dataclasses and arrays into values of JSON, NaN and infinity into null."""
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _text(found: "Advice", out: str | None) -> str:
    lines = [found.sentence()]
    if found.policy == "all":
        needed = found.rows_needed
        lines.append(
            "more rows like these would not change that"
            if needed is None
            else f"to pass at {_percent(FRACTIONS[0])} would take about {needed:,} rows like these"
        )
    elif out is None:
        lines.append("--out kept.parquet writes the rows to keep")
    lines += [f"warning: {one}" for one in found.warnings]
    facts = {
        "score": found.score,
        "tolerance": f"{found.tolerance:.4f} with failure {found.failure:g}",
        "last check": _check(found),
        "student": f"{found.student}"
        + (f", lam {found.lam:.4g}" if np.isfinite(found.lam) else ""),
        "cross validation": f"{found.folds} folds, seed {found.seed}, {_error(found)}",
    }
    if found.explanation is not None and found.explanation.estimates is not None:
        facts["theory"] = _theory(found.explanation)
    width = max(map(len, facts)) + 2
    lines += ["", *(f"{name:<{width}}{one}" for name, one in facts.items()), ""]
    lines += _table(found.curve, found.error_all, found.tolerance, "passed")
    if found.beside:
        lines += ["for comparison", *_rows(found.beside)]
    lines += ["", *_classes(found)]
    return "\n".join(lines)


def _theory(found: "Explanation") -> str:
    place = found.estimates
    assert place is not None
    all_data = int(np.argmax(found.keep_fraction))
    predicted = found.predicted["hard"][all_data]
    return (
        f"alpha_total {place.alpha_total:.3g}, theta {np.rad2deg(place.theta):.3g} degrees, flip "
        f"{place.flip:.2g}, noise_sigma {place.noise_sigma:.2g}; its error of all data is "
        f"{predicted:.4f}"
    )


def _check(found: "Advice") -> str:
    check = found.last_check
    if check is None:
        return "none, for nothing passed"
    return (
        f"{'passed' if check.passed else 'failed'}: {check.extra_errors:+,} errors on the "
        f"{check.thrown_away:,} rows thrown away, {check.increase:+.4f} of all"
    )


def _table(
    curve: "Sequence[Measurement]", error_all: float, tolerance: float, mark: str
) -> list[str]:
    """Write a line for all data, and one for each measurement."""
    return [
        f"{'policy':<{WIDTH}}{'kept':>8}{'error':>9}{'change':>9}{'bound':>9}",
        f"{'all':<{WIDTH}}{_percent(1.0):>8}{error_all:9.4f}",
        *_rows(curve, tolerance, mark),
    ]


def _rows(curve: "Sequence[Measurement]", tolerance: float = -1.0, mark: str = "") -> Iterator[str]:
    """Yield a line for each measurement, policy by policy.

    The mark stands where the bound is within the tolerance.
    """
    for policy in dict.fromkeys(one.policy for one in curve):
        for one in (point for point in curve if point.policy == policy):
            yield (
                f"{policy:<{WIDTH}}{_percent(one.keep_fraction):>8}{one.error:9.4f}"
                f"{one.increase:+9.4f}{one.bound:+9.4f}"
                + (f"  {mark}" if one.bound <= tolerance else "")
            )


def _classes(found: "Advice") -> list[str]:
    """Write a line for each class, the one with the smallest kept share first."""
    totals = np.rint(np.array(found.class_shares_all) * found.examples).astype(int)
    kept = np.array(found.kept_per_class)
    order = np.argsort(kept / totals, kind="stable")
    lines = [
        f"class {one_line(found.classes[i])}: {kept[i]:,} of {totals[i]:,} rows kept "
        f"({_percent(kept[i] / totals[i])})"
        for i in order[:SHOWN]
    ]
    if len(order) > SHOWN:
        lines.append(f"{len(order) - SHOWN} more classes, kept at a larger share (--json)")
    return lines


def _knee(found: "Curve", policy: str) -> float:
    """Find the smallest fraction from which on the measured rise is within the tolerance."""
    knee = 1.0
    own = [one for one in found.curve if one.policy == policy]
    for one in sorted(own, key=lambda one: -one.keep_fraction):
        if one.increase > found.tolerance:
            break
        knee = one.keep_fraction
    return knee


def _knee_sentence(found: "Curve", knees: Mapping[str, float]) -> str:
    listed = ", ".join(f"{_percent(at)} by {one} selection" for one, at in knees.items())
    return (
        f"the measured {_error(found)} stays within {found.tolerance:.2g} of that of all data, "
        f"{found.error_all:.3g}, down to {listed}"
    )


def _error(found: "Advice | Curve") -> str:
    return "balanced error" if found.balanced else "error"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _points(change: float) -> str:
    return f"{100 * change:+.2f}"
