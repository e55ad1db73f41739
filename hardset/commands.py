"""The commands of hardset itself: they verify files and print completion scripts."""

import contextlib
import importlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from hardset import compilation
from hardset.cli import (
    Json,
    Parameter,
    Progress,
    load,
    options_class,
    parameters,
    print_json,
    summary,
    wanted,
)

UNDERSCORE = "\N{UNDERTIE}"  # tyro would make a hyphen of "_"
CACHE = Parameter(
    name="compilation_cache",
    option=compilation.OPTION,
    kind=Path,
    optional=True,
    positional=False,
    default=None,
    help="where compiled programs are kept, or off",
)


def verify(paths: tuple[Path, ...], *, progress: Progress = False, as_json: Json = False) -> int:
    """Re-check files and folders against their checksums.

    Checked are the checksums inside files, the manifests of stages and the tables of sets. One
    line is printed for each file that has changed, is missing, cannot be read, or lies unlisted in
    a stage's folder, and counts at the end. The exit code is 0 if nothing has changed, 1 if
    something has, 2 for a path that is not there.

    Args:
        paths: files and folders.

    Examples:
        hardset verify runs/optidel
        hardset verify students.nc kept.parquet --json
    """
    # Not needed to say what is wrong with the arguments.
    from hardset.progress import bar
    from hardset.verify import verify as check

    with bar(None, "verify", "file", shown=wanted(progress)) as files:
        found = check(list(paths), files.update)
    if as_json:
        print_json(found.report())
    else:
        print(found.text())
    return 0 if found.passed else 1


def completion(shell: Literal["bash", "zsh", "fish"]) -> int:
    """Print a script that lets a shell complete packages, commands, presets and options.

    Args:
        shell: which shell

    Examples:
        source <(hardset completion bash)
        hardset completion zsh > ~/.zfunc/_hardset
        hardset completion fish > ~/.config/fish/completions/hardset.fish
    """
    from hardset.__main__ import COMMANDS, PACKAGES

    groups: dict[str, tuple[Any, str]] = _commands(COMMANDS)
    for name in PACKAGES:
        package = importlib.import_module(f"{name}.__main__")
        inside = package.COMMANDS
        groups[name] = (
            _completed(load(inside)) if isinstance(inside, str) else _group(_commands(inside)),
            (package.__doc__ or "").partition("\n")[0],
        )
    script = io.StringIO()
    with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
        _group(groups).cli(prog="hardset", args=["--tyro-write-completion", shell, "-"])
    print(script.getvalue().replace(UNDERSCORE, "_"), end="")
    return 0


def _commands(targets: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Find the completions and the first sentence of each command."""
    commands = {name: load(target) for name, target in targets.items()}
    return {name: (_completed(one), summary(one)) for name, one in commands.items()}


def _completed(command: Callable[..., int]) -> Any:
    """Give a command's options as a class, or one class for each first word."""
    known = parameters(command)
    options = [one for one in known if not one.positional] + [CACHE]
    words = next((one for one in known if one.preset or (one.positional and one.choices)), None)
    if words is None:
        return options_class(options, None)
    if words.preset is None:
        return _group({one: (options_class(options, None), "") for one in words.choices})
    return _group(
        {
            name: (options_class([words, *options], config), "")
            for name, config in words.preset.configs.items()
        }
    )


def _group(entries: Mapping[str, tuple[Any, str]]) -> Any:
    from tyro.extras import SubcommandApp

    app = SubcommandApp()
    for name, (target, about) in entries.items():
        app.command(target, name=name.replace("_", UNDERSCORE), help=about)
    return app
