"""What a selection does to the classes: how many of each are kept, and which are lost."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from selection.arrays import Array, Integers

SHOWN = 20  # classes in a text
# Of the share that a random choice would keep: below it a class is worth a warning.
FEW = 0.2


@dataclass(frozen=True, eq=False)
class ClassReport:
    """Kept examples of every class.

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
        """The report of the rows that were kept; `names` are those of labels 0, 1, ..."""
        found, codes = np.unique(labels, return_inverse=True)
        count = len(found)
        return cls(
            found if names is None else names[found],
            np.bincount(codes, minlength=count),
            np.bincount(codes[rows], minlength=count),
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row a class: class, examples, kept, share of its examples that is kept."""
        return [
            {"class": str(name), "examples": int(n), "kept": int(k), "share": float(k / n)}
            for name, n, k in zip(self.names, self.examples, self.kept, strict=True)
        ]

    def lost(self) -> list[str]:
        """Names of the classes that have no kept example."""
        return [str(name) for name in self.names[self.kept == 0]]

    def warnings(self) -> list[str]:
        """Sentences on classes that are lost, or nearly so."""
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
        """Names and values for one line each, the least kept classes first."""
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
