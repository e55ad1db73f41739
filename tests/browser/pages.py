"""Pages in a real browser: opened, watched, read, and judged by axe-core."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, Playwright

NAMES = ("chromium", "chromium-browser")
# Without a sandbox, since a container's root has none. Nothing but this machine has an address.
FLAGS = (
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--metrics-recording-only",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
PATIENCE = 120_000  # milliseconds; other work may share the processors
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
SOURCE = """name => {
  for (const one of Bokeh.documents) {
    const found = one.get_model_by_name(name);
    if (found != null)
      return Object.fromEntries(Object.entries(found.data).map(([k, v]) => [k, Array.from(v)]));
  }
  return null;
}"""


def launch(playwright: Playwright) -> Browser:
    """Start the Chromium that PATH has.

    Raises:
        RuntimeError: there is none.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise RuntimeError(
            f"the browser tests need {' or '.join(NAMES)} on PATH: install it, on Debian with "
            "`apt-get install chromium`"
        )
    return playwright.chromium.launch(executable_path=found, args=list(FLAGS))


class Watch:
    """Collects what a page must not do: complain, or speak to another address.

    Attributes:
        complaints: errors and warnings of its console, and errors that nobody caught.
        strangers: addresses other than its own that it asked.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self._own = _place(address)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, address: str) -> None:
        if urlsplit(address).scheme not in ("data", "blob") and _place(address) != self._own:
            self.strangers.append(address)

    def check(self) -> None:
        """Assert that there is no complaint and no stranger."""
        assert not self.complaints
        assert not self.strangers


def _place(address: str) -> str:
    """Host and port of an address, or the file that it names."""
    parts = urlsplit(address)
    return parts.path if parts.scheme == "file" else parts.netloc


@contextmanager
def opened(
    browser: Browser, address: str, *, width: int = 1400, height: int = 1000
) -> Iterator[tuple[Page, Watch]]:
    """Open an address in a context of its own; `Watch.check` holds when it is left."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, accept_downloads=True, color_scheme="light"
    )
    try:
        if not address.startswith("file:"):
            context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        watch = Watch(page, address)
        page.goto(address)
        yield page, watch
        watch.check()
    finally:
        context.close()


def source(page: Page, name: str) -> dict[str, np.ndarray]:
    """Read the columns of the page's ColumnDataSource of that name."""
    found = page.evaluate(SOURCE, name)
    assert found is not None, f"the page has no data source {name!r}"
    return {key: np.array(column, dtype=np.float64) for key, column in found.items()}


def violations(page: Page) -> list[str]:
    """Tell what axe-core finds against WCAG 2.2, levels A and AA."""
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate("rules => axe.run({runOnly: {type: 'tag', values: rules}})", list(RULES))
    return [
        f"{one['id']}: {node['html']} ({node['failureSummary']})"
        for one in found["violations"]
        for node in one["nodes"]
    ]
