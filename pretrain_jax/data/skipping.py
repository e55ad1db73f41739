"""Says why images were left out, by reason and count.

A line on such an image begins with one of `REASONS` and a colon.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from types import MappingProxyType

# What is told of images with a reason, by the word that a line on one of them begins with.
REASONS = MappingProxyType(
    {
        "unreadable": "undecodable",
        "too large": "with more megapixels than are decoded",
        "bad pixels": "with pixels that are no numbers in range",
        "missing": "missing or no file",
        "no picture": "one pixel wide or high",
        "bad name": "with a name or record that cannot be used",
        "too small": "smaller than a patch",
    }
)
OTHER = "unreadable"
SKIPPED_NAME = "skipped.txt"  # in the folder of a run or a stage, a line for each image


def reason_line(reason: str, sentence: str) -> str:
    """Return the line on an image that is left out for one of `REASONS`."""
    assert reason in REASONS
    return f"{reason}: {sentence}"


def reason_of(line: str) -> str:
    """Return the reason that a line begins with.

    One of an earlier version begins with none, and is on an image that cannot be decoded.
    """
    word = line.partition(":")[0]
    return word if word in REASONS else OTHER


def told(lines: Iterable[str]) -> str:
    """Count lines by their reasons, in words; the most frequent reason comes first."""
    counts = Counter(map(reason_of, lines))
    ordered = sorted(counts.items(), key=lambda one: (-one[1], list(REASONS).index(one[0])))
    return ", ".join(f"{count} {REASONS[reason]}" for reason, count in ordered)


def left_out(lines: Collection[str], where: str = SKIPPED_NAME) -> str:
    """Return the sentence on all images that were left out.

    Args:
        lines: one on each.
        where: name of the file that lists them.
    """
    return f"{len(lines)} image(s) left out: {told(lines)}; all are named in {where}"
