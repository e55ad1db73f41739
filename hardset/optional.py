"""Packages that are not part of the core installation."""

import importlib
from typing import Any


def require(module: str, extra: str = "selection") -> Any:
    """Import a module that an extra of the installation brings.

    Args:
        module: its full name.
        extra: the extra that installs it.

    Raises:
        ValueError: it is missing, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the package {error.name} is not installed: pip install 'hardset[{extra}]'"
        ) from None
