"""Command-line options that are the fields of a configuration."""

import contextlib
import dataclasses
import io
from collections.abc import Sequence
from typing import Annotated, Any

__all__ = ["parse_options"]


def parse_options(
    base: Any,
    extra: Any,
    options: Sequence[str],
    *,
    program: str,
    description: str,
) -> tuple[Any, Any] | None:
    """A configuration and a command's own options; None where help was asked for and printed.

    Args:
        base: the configuration whose values are the defaults; its fields carry no prefix.
        extra: likewise a frozen dataclass of the command's own options.
        options: the command line.
        program: what help and messages call the command.
        description: first line of the help.

    Raises:
        ValueError: an unknown option or a value of the wrong type.
    """
    try:
        import tyro
    except ImportError:
        raise ValueError(
            "the command line needs the package tyro, which is not installed: "
            "pip install 'hardset[pretrain]'"
        ) from None
    inlined: Any = dataclasses.make_dataclass(
        "Inlined",
        [
            ("config", Annotated[type(base), tyro.conf.arg(name="")]),
            ("extra", Annotated[type(extra), tyro.conf.arg(name="")]),
        ],
        frozen=True,
    )
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            found: Any = tyro.cli(
                inlined,
                prog=program,
                description=description,
                default=inlined(base, extra),
                args=list(options),
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as stop:
        if stop.code == 0:
            return None
        raise ValueError(f"{_sentence(complaint.getvalue())} (see {program} --help)") from None
    return found.config, found.extra


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
