"""MkDocs hook: the page that needs no server is built with the documentation."""

from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from hardset.compilation import use_cache, user_folder


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add explorer.html, whose table is kept in the user's cache folder."""
    use_cache()
    from figures.explorer.static import page
    from figures.explorer.table import build

    try:
        text = page(build(user_folder("explorer")))
    except ValueError as error:
        raise PluginError(f"explorer.html cannot be built: {error}") from None
    files.append(File.generated(config, "explorer.html", content=text))
    return files
