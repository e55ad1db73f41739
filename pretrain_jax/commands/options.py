"""Commands whose options are the fields of a configuration."""

import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

HELP = {"-h", "--help"}


@dataclass(frozen=True)
class Command:
    """A command that is called with names first and the fields of a preset as options.

    Attributes:
        program: what help and messages call it.
        usage: printed without arguments and by --help in the place of a name.
        names: of the words that come first; the last one names the preset.
        preset: gives the configuration of that name, or raises ValueError.
        extra: the command's own options, a frozen dataclass.
    """

    program: str
    usage: str
    names: tuple[str, ...]
    preset: Callable[[str], Any]
    extra: Any

    def parse(self, argv: Sequence[str]) -> tuple[list[str], Any, Any] | None:
        """The words before the preset, configuration and own options; None where help was printed.

        Raises:
            ValueError: a word is missing, an unknown preset or option, a value of the wrong type.
        """
        words = list(argv[: len(self.names)])
        if not words or HELP & set(words):
            print(self.usage)
            return None
        if len(words) < len(self.names) or any(one.startswith("-") for one in words):
            first = " and ".join(f"the {one}" for one in self.names)
            raise ValueError(
                f"{first} must come first: {self.program} {' '.join(self.names).upper()} "
                f"(see {self.program} --help)"
            )
        found = _parsed(
            self.preset(words[-1]),
            self.extra,
            argv[len(words) :],
            program=" ".join([self.program, *words]),
            description=f"Values of the preset {words[-1]} are the defaults.",
        )
        return None if found is None else (words[:-1], *found)


def _parsed(
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
    kept: list[str] = []
    listing = False
    for line in (one.strip("│╭╰ ") for one in box.splitlines()[1:]):
        if line.startswith(("Got errors", "For full helptext")):
            break
        if not line.strip("─╯- "):  # rules are dashes where the terminal has no lines
            continue
        if line.startswith("Argument helptext"):
            kept.append("Expected:")
            listing = True
        elif not listing:
            kept.append(line)
            listing = "meant:" in line
        elif line.startswith("--"):
            kept.append(line.split()[0] if "Expected:" not in kept else line)
    # "Error parsing config.model.encoder: depth = 0 ..." names the field as options do.
    sentence = re.sub(r"^Error parsing (?:config|extra)\.", "", " ".join(kept))
    return re.sub(r"^([\w.]+): (?=\w+ = )", r"\1.", sentence)
