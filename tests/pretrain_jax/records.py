"""Changes of what stages wrote, as if they had written it so."""

import json
from pathlib import Path
from typing import Any

from hardset.listing import file_record, read_record, write_record


def edit_record(path: Path, **fields: Any) -> None:
    """Replace fields of a manifest, a claim or a configuration."""
    write_record(path, read_record(path) | fields)


def edit_output(path: Path, **fields: Any) -> None:
    """Replace fields of a JSON output of a finished stage."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    note_output(path)


def note_output(path: Path) -> None:
    """Let the manifest beside a file list it as it is now."""
    manifest = path.parent / "manifest.json"
    outputs = read_record(manifest)["outputs"] | {path.name: file_record(path)}
    edit_record(manifest, outputs=outputs)
