"""Folders of stages as any stage would leave them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardset.folder import Input, Stage, Work


def open_stage(
    folder: Path,
    stage: str,
    parameters: Mapping[str, Any],
    seed: int | None,
    inputs: Mapping[str, str],
    locations: Mapping[str, str | Path] | None = None,
    apart: tuple[str, ...] = (),
) -> Work:
    """Open a stage of any name, which may read anything."""
    places = locations or {}
    read = {name: Input(inputs.get(name), places.get(name)) for name in {**inputs, **places}}
    return Stage(stage, inputs=("*",), apart=apart).open(folder, parameters, seed, read)
