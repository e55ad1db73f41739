"""Sections of the page: what each stage did and cost, and where every number comes from."""

import io
import json
import math
from collections.abc import Iterator
from html import escape
from pathlib import Path

from pretrain_jax.report.charts import cost_chart
from pretrain_jax.report.collect import FINETUNED, LEAKAGE, PARTS, RunFolder
from pretrain_jax.report.markup import embedded, listing, number, paragraph, section, table
from pretrain_jax.report.section_results import drawn

__all__ = ["provenance", "stages"]

LARGEST_SIDE = 960  # pixels; larger pictures are shown smaller
LARGEST_BYTES = 100_000
QUALITY = 80
# Stages whose pictures are shown, and what these show.
PICTURED = {
    "index": "images, evenly spaced",
    "probe": "the probe",
    "proposals": "boxes on images, evenly spaced; 0 is the first choice",
    "scores": "the hardest and the easiest",
    "selections": "the first and the last picks",
    "synthesised": "images, evenly spaced in the set's order",
}
OVERLAYS = "overlays.png"


def stages(run: RunFolder) -> str:
    """Rank correlations, leakage check, notes, cost and pictures of the stages."""
    body = [*_margins(run), *_leakage(run), *_costs(run)]
    notes = dict.fromkeys(
        f"{one.place.split('/')[0]}: {note}"
        for one in run.findings.values()
        for note in one.manifest.notes
    )
    if notes:
        body += [paragraph("Notes that the stages left:"), listing(notes)]
    return section("stages", "Stages", [*body, *_pictures(run)])


def provenance(run: RunFolder) -> str:
    """Versions, configuration, and every stage's seed and digest."""
    versions: dict[tuple[str, str], int] = {}
    for one in run.findings.values():
        for pair in one.manifest.versions.items():
            versions[pair] = versions.get(pair, 0) + 1
    body = [
        table(
            "Versions of packages",
            ["package", "version", "stages"],
            [[name, version, str(count)] for (name, version), count in sorted(versions.items())],
        ),
        table(
            "Finished stages; the digest is sha256 of a stage's manifest without times and places",
            ["stage", "seed", "seconds", "digest"],
            [
                [
                    place,
                    "" if one.manifest.seed is None else str(one.manifest.seed),
                    number(one.manifest.seconds, 1),
                    one.digest[:16],
                ]
                for place, one in run.findings.items()
            ],
        ),
    ]
    if run.unfinished:
        body.append(
            table(
                "Stages that were begun and not finished",
                ["stage", "what became of it"],
                [[place, reason] for place, reason in run.unfinished.items()],
                text=True,
            )
        )
    if run.config:
        text = escape(json.dumps(run.config, indent=1, sort_keys=True))
        body.append(f"<details><summary>Configuration</summary><pre>{text}</pre></details>")
    return section("provenance", "Provenance", body)


def _margins(run: RunFolder) -> Iterator[str]:
    rows = [
        [
            place,
            number(one.manifest.counts.get("rank_correlation_mean", math.nan), 3),
            number(one.manifest.counts.get("rank_correlation_min", math.nan), 3),
        ]
        for place, one in run.of_stage("scores").items()
    ]
    if rows:
        yield table(
            "Rank correlation (Spearman) of margins between masks: how far one mask ranks as "
            "another does",
            ["scores", "mean over pairs", "least"],
            rows,
        )


def _leakage(run: RunFolder) -> Iterator[str]:
    check = run.findings.get(LEAKAGE)
    counts = [one.manifest.counts for one in run.of_stage(FINETUNED).values()]
    checked = [one["leaks"] for one in counts if "leaks" in one]
    if check is None and not checked:
        yield paragraph("Leakage check: none was recorded.", "warning")
    if check is not None:
        numbers = check.manifest.counts
        yield paragraph(
            f"Leakage check: {numbers['images']:.0f} images for pre-training were compared with "
            f"{numbers['test_cases']:.0f} test cases (equal pixels, similar pictures and, where "
            "both are known, the same group), and none was in both: a run stops where it finds one."
        )
    if checked:
        yield paragraph(
            f"{len(checked)} of {len(counts)} fine-tunings recorded the check, with "
            f"{sum(checked):.0f} test cases among the images for pre-training."
        )


def _costs(run: RunFolder) -> Iterator[str]:
    counts = {part: len(run.of_stage(part)) for part in PARTS}
    there = {part: run.of_stage(part).values() for part, count in counts.items() if count}
    seconds = {
        part: math.fsum(one.manifest.seconds for one in found) for part, found in there.items()
    }
    compiling = {
        part: math.fsum(one.manifest.compile_seconds for one in found)
        for part, found in there.items()
    }
    yield drawn(
        cost_chart(seconds),
        "Time of each kind of stage, all runs together, without compilation.",
    )
    yield table(
        "Cost of the stages",
        ["stage", "finished", "time, all together (s)", "compilation (s)"],
        [
            [part, str(counts[part]), number(spent, 1), number(compiling[part], 1)]
            for part, spent in seconds.items()
        ],
    )


def _pictures(run: RunFolder) -> Iterator[str]:
    for part in PICTURED:
        for place in run.of_stage(part):
            for path in sorted((run.folder / place).glob("*.png")):
                yield _picture(path, f"{place}: {PICTURED[part]}")
    shown: set[str] = set()
    for one in sorted(run.results, key=lambda one: (one.seed, one.place)):
        path = run.folder / one.place / OVERLAYS
        if path.is_file() and one.method not in shown:
            shown.add(one.method)
            yield _picture(path, f"{one.place}: predictions on test cases")


def _picture(path: Path, what: str) -> str:
    """A picture of a stage, at most LARGEST_SIDE wide and high; large files become JPEG."""
    from PIL import Image

    data, media = path.read_bytes(), "image/png"
    with Image.open(path, formats=["PNG"]) as image:
        if len(data) > LARGEST_BYTES or max(image.size) > LARGEST_SIDE:
            shown = image.convert("RGB")
            shown.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
            buffer = io.BytesIO()
            shown.save(buffer, format="JPEG", quality=QUALITY)
            data, media = buffer.getvalue(), "image/jpeg"
    return embedded(data, media, f"Contact sheet, {what}", what)
