"""A browser, and the page of the command `explore`."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.pages import launch, opened

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds; a start compiles nothing that the page waits for
# Playwright's own 5 seconds are too few where other work shares the processors.
expect.set_options(timeout=1000 * PATIENCE)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A Chromium without a window."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens an address as `opened` does; the pages are checked and closed after the
    test."""
    with ExitStack() as stack:
        yield lambda address, **size: stack.enter_context(opened(chromium, address, **size))[0]


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that `python -m figures explore` prints; Ctrl-C ends it without a complaint."""
    said = tmp_path_factory.mktemp("explore") / "stderr.txt"
    with said.open("w") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-m", "figures", "explore", "--port", "0"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert server.stdout is not None
    late = threading.Timer(PATIENCE, server.kill)
    late.start()
    try:
        line = server.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), f"{line!r}, {said.read_text()}"
        late.cancel()
        yield line.split()[0]
        server.send_signal(signal.SIGINT)
        code = server.wait(PATIENCE)
        assert (code, said.read_text()) == (0, "")
    finally:
        late.cancel()
        server.kill()
        server.wait()
        server.stdout.close()
