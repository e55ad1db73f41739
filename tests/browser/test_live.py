"""The page of the command `explore`, used as a visitor uses it."""

from collections.abc import Callable

import numpy as np
from playwright.sync_api import Page

from tests.browser.pages import source


def test_the_first_page_has_a_curve(live: str, open_page: Callable[..., Page]) -> None:
    page = open_page(live)
    page.get_by_text("Solved.").wait_for()
    curve = source(page, "curve hard")
    assert np.all(curve["y"] > 0)
