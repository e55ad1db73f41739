"""Everything worth knowing about an accelerator, in one command of minutes.

    python benchmarks/accelerator.py [--minutes 8] [--out DIR] [--pieces NAME ...]
    python benchmarks/accelerator.py --table DIR/accelerator.jsonl

Correctness comes before speed, and the rest goes by importance. Every piece is a process of its
own with a time limit, so that one that hangs or dies takes no other with it, and a device's memory
is free again for the next. What a piece measures is a line of JSON, written out at once: a run that
is killed keeps all lines that it had. On a machine without accelerator the same pieces run at toy
size on the processor.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

HERE = Path(__file__).resolve().parent
LINES, LOG = "accelerator.jsonl", "accelerator.log"
FULL, TOY = "full", "toy"
# Seconds below which no piece says anything: it would not even have started.
LEAST = 4.0
# A processor that compiles for many at once is slow, and nobody waits for it.
PATIENCE = 3
TAIL = 400

Record = dict[str, Any]
Key = tuple[str, str]


class Piece(NamedTuple):
    """A process of the run.

    Attributes:
        name: what `pieces` knows it by.
        limit: seconds after which it is killed, on an accelerator.
        processor: it runs JAX on the processor, whatever else there is.
        goal: what is wanted of it.
    """

    name: str
    limit: float
    processor: bool = False
    goal: str = ""


# In the order of their worth. The limits' sum is above any time that is asked for: most pieces
# need a fraction of theirs.
PIECES = (
    Piece("device", 60),
    Piece("agree-replica", 75, goal="theory equals the processor's to 1e-9, all certified"),
    Piece("agree-maxmargin", 75, goal="brackets <= 1e-10, margins equal LAPACK's"),
    Piece("agree-mae", 75, goal="loss and gradient equal float64's on the processor"),
    Piece("agree-sam", 75, goal="logits and masks equal float64's on the processor"),
    Piece("mae-1024", 100, goal="MFU >= 40 %"),
    Piece("mae-1024-torch", 120, processor=True, goal="ours >= 1.2 times torch"),
    Piece("mae-16", 100, goal="single steps <= 1.5 times a step of a scan"),
    Piece("mae-16-torch", 100, processor=True, goal="ours >= 1.2 times torch"),
    Piece("sam", 120),
    Piece("sam-torch", 120, processor=True, goal="ours >= 3 times torch at equal masks"),
    Piece("qp", 120),
    Piece("qp-processor", 60, processor=True, goal="accelerator >= 20 times this machine's CPU"),
    Piece("theory", 60),
    Piece("theory-processor", 60, processor=True),
    Piece("knn", 60),
)
NAMES = tuple(piece.name for piece in PIECES)


class Run:
    """A run's folder, deadline and records."""

    def __init__(self, out: Path, minutes: float) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.lines, self.log = out / LINES, out / LOG
        for path in (self.lines, self.log):
            path.touch()  # now, not after the first piece, is the time to learn that it cannot be
        self.ends = time.monotonic() + 60 * minutes
        self.minutes = minutes
        self.records: list[Record] = []
        self._lock = threading.Lock()

    def keep(self, record: Record) -> None:
        """Write a record where nothing that follows can lose it."""
        line = json.dumps(record)
        with self._lock:
            self.records.append(record)
            with self.lines.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
            print(line, flush=True)

    def left(self) -> float:
        """Seconds until the end of the run."""
        return self.ends - time.monotonic()

    def of(self, name: str) -> list[Record]:
        """What a piece has said so far."""
        return [record for record in self.records if record["piece"] == name]


def child_environment(piece: Piece, base: dict[str, str]) -> dict[str, str]:
    """Environment of a piece: it takes memory as it needs it, and can reach the processor too."""
    env = dict(base)
    # Our modules lie beside benchmarks/, installed or not.
    path = [str(HERE), str(HERE.parent), *filter(None, [env.get("PYTHONPATH")])]
    env["PYTHONPATH"] = os.pathsep.join(path)
    env.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    env.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    env.setdefault("HF_HUB_OFFLINE", "1")
    platforms = env.get("JAX_PLATFORMS", "")
    if piece.processor:
        env["JAX_PLATFORMS"] = "cpu"
    elif platforms and "cpu" not in platforms.split(","):
        env["JAX_PLATFORMS"] = platforms + ",cpu"
    return env


def follow(stream: IO[str], keep: Callable[[Record], None]) -> None:
    """Keep every line of JSON that a piece writes."""
    for line in stream:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and "piece" in record:
                keep(record)


def run_piece(run: Run, piece: Piece, scale: str, shared: Path) -> None:
    """Run a piece to its end or its limit; whatever becomes of it is a record."""
    limit = min(piece.limit * (PATIENCE if scale == TOY else 1), run.left())
    if run.left() < LEAST:
        why = f"{max(run.left(), 0):.0f} s were left of --minutes {run.minutes:g}"
        run.keep({"piece": piece.name, "status": "skipped", "why": why})
        return
    start = time.monotonic()
    before = run.log.stat().st_size
    with run.log.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "pieces", piece.name, scale, str(shared)],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
            env=child_environment(piece, dict(os.environ)),
            start_new_session=True,  # so that its own children end with it
        )
    reader = threading.Thread(target=follow, args=(child.stdout, run.keep), daemon=True)
    reader.start()
    why = ""
    try:
        child.wait(limit)
    except subprocess.TimeoutExpired:
        why = f"stopped after its limit of {limit:.0f} s"
    finally:
        # A call into a compiler or a driver listens to nothing else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        reader.join(5)
        if child.stdout is not None and not reader.is_alive():
            child.stdout.close()
    seconds = round(time.monotonic() - start, 1)
    if why:
        run.keep({"piece": piece.name, "status": "timeout", "why": why, "seconds": seconds})
    elif child.returncode or not run.of(piece.name):
        said = tail(run.log, before)
        why = f"ended with code {child.returncode}{': ' + said if said else ''}"
        run.keep({"piece": piece.name, "status": "failed", "why": why, "seconds": seconds})


def tail(path: Path, start: int) -> str:
    """The end of what was written to a file since `start`, on one line."""
    with path.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    return " | ".join(text.split("\n"))[-TAIL:].strip(" |")


def run_all(run: Run, names: Sequence[str]) -> None:
    """All pieces in order; the first one says at which size the others run."""
    with tempfile.TemporaryDirectory() as shared:
        run_piece(run, PIECES[0], FULL, Path(shared))
        found = [record for record in run.of("device") if "platform" in record]
        if not found:
            print("the device did not answer: nothing else was tried", file=sys.stderr)
            return
        scale = TOY if found[0]["platform"] == "cpu" else FULL
        for piece in PIECES[1:]:
            if piece.name in names:
                run_piece(run, piece, scale, Path(shared))


def latest(records: Iterable[Record]) -> dict[tuple[str, str], Record]:
    """The last record of every part of every piece: a piece may have been run again."""
    last: dict[tuple[str, str], Record] = {}
    for record in records:
        piece = record["piece"]
        if "part" in record and last.get((piece, ""), record)["status"] != "done":
            # What went wrong with the piece before is answered by this.
            last.pop((piece, ""), None)
        last[piece, record.get("part", "")] = record
    order = {name: number for number, name in enumerate(NAMES)}
    return dict(sorted(last.items(), key=lambda item: order.get(item[0][0], len(order))))


def ratios(last: dict[tuple[str, str], Record]) -> list[tuple[str, float, float | None]]:
    """What, ours over the peer's, and the least that is wanted."""
    found: list[tuple[str, float, float | None]] = []

    def compare(what: str, ours: Key, peer: Key, goal: float | None = None) -> None:
        both = [last.get(key, {}) for key in (ours, peer)]
        rates = [record.get("rate") for record in both]
        if rates[0] and rates[1] and both[0].get("scale") == both[1].get("scale"):
            found.append((what, rates[0] / rates[1], goal))

    for batch in ("1024", "16"):
        peer = (f"mae-{batch}-torch", "single steps")
        for part, goal in (("single steps", 1.2), ("scan", None)):
            compare(f"MAE {batch}, {part}, over torch", (f"mae-{batch}", part), peer, goal)
    for part, goal in (("encoder", None), ("encoder, batch", None), ("generator", 3.0)):
        compare(f"SAM {part}, over torch", ("sam", part), ("sam-torch", part), goal)
    alone = "generator, model alone"
    compare("SAM generator, over torch's model alone", ("sam", "generator"), ("sam-torch", alone))
    for (piece, part), record in last.items():
        if piece == "qp":
            peer = ("qp-processor", record.get("case", ""))
            compare(f"QPs, {part}, over this machine's processors", (piece, part), peer, 20.0)
        if piece == "theory":
            peer = ("theory-processor", "grid")
            compare(f"theory, {part}, over this machine's processors", (piece, part), peer)
    return found


# Columns of their own, or of no use to a reader.
APART = ("piece", "part", "status", "why", "seconds", "met", "scale", "case", "unit", "kind")


def shown(key: str, record: Record) -> str:
    """A number as a reader wants it."""
    value = record[key]
    if key.endswith("bytes"):
        return f"{value / 2**30:.2f} GiB"
    if key == "mfu" and not isinstance(value, str):
        return f"{value:.1%}"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text} {record['unit']}" if key == "rate" else text


def cell(text: str) -> str:
    """Text that stays within its cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def row(piece: str, part: str, record: Record) -> str:
    """The line of a record."""
    numbers = [
        f"{key} {shown(key, record)}"
        for key, value in record.items()
        if key not in APART and not isinstance(value, dict | list)
    ]
    result = {True: "met", False: "missed"}.get(record.get("met"), record["status"])
    name = f"{piece}, {part}" if part else piece
    said = "; ".join(filter(None, (record.get("why"), record.get("kind"), ", ".join(numbers))))
    return f"| {cell(name)} | {result} | {cell(said)} | {record.get('seconds', '')} |"


def table(records: Iterable[Record]) -> str:
    """Markdown: every piece, and ratios beside their goals."""
    last = latest(records)
    lines = ["| piece | result | numbers | s |", "|---|---|---|---|"]
    lines += [row(*key, record) for key, record in last.items()]
    there = last.get(("device", ""), {})
    if "versions" in there:
        versions = ", ".join(f"{name} {text}" for name, text in there["versions"].items())
        lines.insert(0, f"{there['kind']}, {there['date']}; {versions}.\n")
    compared = ratios(last)
    toy = any(record.get("scale") == TOY for record in last.values())
    if compared:
        lines += ["", "| ours over the peer | measured | goal |", "|---|---|---|"]
    for what, ratio, goal in compared:
        wanted = "-" if goal is None or toy else f">= {goal:g}: "
        verdict = "" if wanted == "-" else ("met" if ratio >= goal else "missed")
        lines.append(f"| {what} | {ratio:.2f} | {wanted}{verdict} |")
    if toy:
        lines.append("\nToy sizes on a processor: they show that the pieces work, not how fast.")
    return "\n".join(lines)


def read_records(path: Path) -> list[Record]:
    """The records of a file; a last line that was cut off is left out.

    Raises:
        ValueError: no line of the file is a record.
    """
    records: list[Record] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        follow(file, records.append)
    if not records:
        raise ValueError(f"{path} holds no record of a piece: it is no {LINES}")
    return records


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pieces and print the table; exit code 1 if a piece failed or disagrees."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="of the whole run; default 8")
    parser.add_argument(
        "--out", type=Path, default=Path("out/accelerator"), help="folder of the lines and the log"
    )
    parser.add_argument(
        "--pieces", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="print FILE's table and stop")
    options = parser.parse_args(arguments)
    try:
        if options.table:
            print(table(read_records(options.table)))
            return 0
        if not 0 < options.minutes <= 24 * 60:
            raise ValueError(f"--minutes {options.minutes:g} is outside the valid range (0, 1440]")
        run = Run(options.out, options.minutes)
    except (OSError, ValueError) as error:
        parser.error(str(error))

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    code = 0
    try:
        run_all(run, options.pieces)
    except KeyboardInterrupt:
        print("interrupted: the lines so far are kept", file=sys.stderr)
        code = 130
    print(f"\n{table(run.records)}")
    bad = any(r["status"] in ("failed", "timeout") for r in run.records)
    disagrees = any(r["piece"].startswith("agree") and r.get("met") is False for r in run.records)
    return code or int(bad or disagrees or not run.of("device"))


if __name__ == "__main__":
    sys.exit(main())
