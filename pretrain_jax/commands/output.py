"""What the commands of the single stages share: options of shards, and the printed summary."""

import argparse
import dataclasses
import json
from pathlib import Path

from hardset.cli import integer
from hardset.folder import Manifest


def add_shard_options(parser: argparse.ArgumentParser) -> None:
    """Options that divide a stage's work."""
    parser.add_argument(
        "--shards", type=integer, help="parts of the table, default one for 5000 rows"
    )
    parser.add_argument(
        "--shard", type=integer, help="make only this one, 0 ... SHARDS-1 (one process each)"
    )


def report(folder: Path, manifest: Manifest | None, *, as_json: bool) -> None:
    """Print what a stage did; without a manifest, that other shards are missing."""
    if manifest is None:
        print(f"{folder}: this shard is done; the stage ends with the one that finishes last")
        return
    if as_json:
        print(json.dumps(dataclasses.asdict(manifest) | {"folder": str(folder)}, indent=1))
        return
    print(f"{folder}: {manifest.stage} done in {manifest.seconds:.1f} s of work")
    for name, value in manifest.counts.items():
        shown = f"{value:.6g}" if isinstance(value, float) else f"{value}"
        print(f"  {name.replace('_', ' '):<22}{shown}")
    for note in manifest.notes:
        print(f"  note: {note}")
    if (folder / "contact.png").is_file():
        print(f"  {'contact sheet':<22}{folder / 'contact.png'}")
