"""Defines the command `explore`, which serves the page."""

import asyncio
import ipaddress
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from figures.figure import FORMATS
from hardset.checks import check_integer, require
from hardset.cli import Choice, Option, check_output_folder

EXTRA = "explorer"


def explore(
    *,
    address: str = "127.0.0.1",
    port: int = 5006,
    from_data: Path | None = None,
    out: Path | None = None,
    formats: Annotated[tuple[str, ...], Choice(FORMATS), Option("format")] = ("png", "pdf"),
) -> int:
    """Serve a page whose curves follow sliders.

    The page shows the error against the kept fraction for several policies, with the best fraction
    and the best window, and the margins of what is kept. The real solver computes every number;
    finite-N simulations come on demand. The page's address holds all that is shown. Ctrl-C ends
    it. It needs the extra `explorer`: pip install 'hardset[explorer]'. A data file that the page
    gave is drawn again without serving anything.

    Args:
        address: where it listens; the default is reached from this machine alone.
        port: of the page; 0 for a free one.
        from_data: a data file of the page, to be drawn again; nothing is served or computed.
        out: folder for its pictures.
        formats: of its pictures.

    Examples:
        hardset figures explore
        hardset figures explore --port 8080
        hardset figures explore --from-data explore.nc --format svg --out redrawn
    """
    if (from_data is None) != (out is None):
        raise ValueError("--from-data FILE and --out FOLDER go together: a file and its pictures")
    if from_data and out:
        return _redraw(from_data, out, formats)
    check_integer("port", port, 0, 65535)
    for module in ("bokeh", "panel"):
        require(module, extra=EXTRA)
    if not is_loopback(address):
        print(
            f"warning: everybody who reaches {address} can use this page and this machine's "
            "processors; the default --address 127.0.0.1 is for this machine alone",
            file=sys.stderr,
        )
    server = make_server(address, port)
    server.io_loop.asyncio_loop.set_exception_handler(_complain)
    shown = f"[{address}]" if ":" in address else address
    print(f"http://{shown}:{server.port}/   (Ctrl-C ends it)", flush=True)
    server.run_until_shutdown()
    return 0


def _redraw(path: Path, out: Path, formats: Iterable[str]) -> int:
    from figures.explorer.files import redraw

    if not path.is_file():
        raise ValueError(f"data file {path} does not exist")
    pictures, words = redraw(path, check_output_folder(out), formats)
    print("\n".join([*map(str, pictures), words]))
    return 0


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Print what went wrong, unless a visitor left while something was sent to him."""
    from tornado.websocket import WebSocketClosedError

    if not isinstance(context.get("exception"), WebSocketClosedError):
        loop.default_exception_handler(context)


def is_loopback(address: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def make_server(address: str, port: int) -> Any:
    """Make the server of the page, which listens already and answers once it runs.

    Raises:
        ValueError: the address is not this machine's, or the port is taken.
    """
    from figures.explorer.page import Page, warm_up

    panel = require("panel.io.server", extra=EXTRA)
    try:
        server = panel.get_server(
            lambda: Page().view,
            address=address,
            port=port,
            title="hardset: which examples to keep",
            # A page of this machine is spoken to by itself alone.
            websocket_origin=None if is_loopback(address) else "*",
            start=False,
            show=False,
            verbose=False,
        )
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"--address {address} --port {port} cannot be listened on: {reason}; choose another"
        ) from None
    warm_up()
    return server
