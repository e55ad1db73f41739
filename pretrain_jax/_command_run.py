"""The command `run`: train a preset, every field of which is an option."""

import contextlib
import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pretrain_jax.train.config import TrainConfig
from pretrain_jax.train.loop import TrainResult, train
from pretrain_jax.train.presets import PRESETS, preset

PROGRAM = "python -m pretrain_jax run"
USAGE = f"""usage: {PROGRAM} PRESET [options]

presets:
{{presets}}

Every field of a preset is an option; {PROGRAM} PRESET --help lists them.
examples:
  {PROGRAM} demo --out runs/demo
  {PROGRAM} mae_vit_tiny_cpu --data.path images/ --steps 500 --out runs/tiny
  {PROGRAM} mae_vit_base_reference --data.path images/ --data.workers 8 --progress
The same command again goes on where the run was interrupted.
"""


@dataclass(frozen=True)
class Arguments:
    """Options of a run.

    Attributes:
        config: the run.
        progress: draw the progress bar even without a terminal.
        json: print the result as JSON.
    """

    config: TrainConfig
    progress: bool = False
    json: bool = False


def main(argv: Sequence[str]) -> int:
    """Train; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if argv[0].startswith("-"):
        raise ValueError(f"the preset must come first: {PROGRAM} PRESET (see --help)")
    arguments = parse(argv[0], argv[1:])
    if arguments is None:
        return 0
    result = train(arguments.config, progress=arguments.progress or sys.stderr.isatty())
    print(json.dumps(_record(result), indent=1) if arguments.json else _report(result))
    return 0


def parse(name: str, options: Sequence[str]) -> Arguments | None:
    """A preset with options replaced; None where they asked for help, which was printed.

    Raises:
        ValueError: an unknown preset or option, or a value of the wrong type.
    """
    base = preset(name)
    try:
        import tyro
    except ImportError:
        raise ValueError(
            "the command line needs the package tyro, which is not installed: "
            "pip install 'hardset[pretrain]'"
        ) from None
    # The configuration's own fields carry no prefix: --steps, --data.path.
    inlined: Any = dataclasses.make_dataclass(
        "Inlined",
        [
            ("config", Annotated[TrainConfig, tyro.conf.arg(name="")]),
            ("progress", bool, dataclasses.field(default=False)),
            ("json", bool, dataclasses.field(default=False)),
        ],
        frozen=True,
        namespace={"__doc__": Arguments.__doc__},
    )
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            found: Any = tyro.cli(
                inlined,
                prog=f"{PROGRAM} {name}",
                description=f"Train the preset {name}; its values are the defaults.",
                default=inlined(base),
                args=list(options),
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as stop:
        if stop.code == 0:
            return None
        raise ValueError(
            f"{_sentence(complaint.getvalue())} (see {PROGRAM} {name} --help)"
        ) from None
    return Arguments(found.config, found.progress, found.json)


def _sentence(box: str) -> str:
    """tyro's framed message in one line, of its suggestions only the options' names."""
    lines = [line.strip("│╭╰ ") for line in box.splitlines()[1:]]
    kept: list[str] = []
    for line in lines:
        if line.startswith(("Got errors", "Argument helptext", "For full helptext")):
            break
        if line.strip("─╯ ") and not (kept and "meant:" in kept[-1] and line[:2] != "--"):
            kept.append(line)
        if line.startswith("--") and any("meant:" in one for one in kept):
            kept[-2:] = [f"{kept[-2]} {line.split()[0]}"]
    return " ".join(kept)


def _record(result: TrainResult) -> dict[str, Any]:
    return {
        "folder": str(result.folder),
        "steps": result.steps,
        "resumed_from": result.resumed_from,
        "loss": result.losses[-1] if result.losses else None,
        "validation": [{"step": step, "loss": loss} for step, loss in result.validation],
        "probes": result.probes,
        "skipped": result.skipped,
        "picture": None if result.picture is None else str(result.picture),
    }


def _report(result: TrainResult) -> str:
    if not result.validation:
        return f"{result.folder}: all {result.steps} steps were done before"
    lines = [f"{result.folder}: {result.steps} steps done"]
    lines += [
        f"  validation loss at step {step:>7}  {loss:.4f}" for step, loss in result.validation
    ]
    lines += [
        f"  {name.replace('_', ' ')} accuracy  {value:.4f}" for name, value in result.probes.items()
    ]
    if result.picture is not None:
        lines.append(f"  reconstructions  {result.picture}")
    if result.skipped:
        lines.append(f"  {len(result.skipped)} unreadable image(s) skipped, see skipped.txt")
    return "\n".join(lines)


def _usage() -> str:
    return USAGE.format(presets="\n".join(f"  {name}" for name in PRESETS))
