"""The page without a mouse, without sight, and on narrow screens.

axe-core finds by its own rules what breaks WCAG 2; what it cannot judge is tested beside it.
"""

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.pages import violations

WIDTHS = (400, 800, 1400)
ACTIVE = """() => {
  let one = document.activeElement;
  while (one && one.shadowRoot && one.shadowRoot.activeElement) one = one.shadowRoot.activeElement;
  return one === document.body ? null : one;
}"""
TOLD = """one => {
  const words = (node) => node.nodeType === Node.TEXT_NODE ? node.textContent
    : [...(node.shadowRoot ?? node).childNodes].filter((child) => child.tagName !== 'STYLE')
      .map(words).join('');
  return (one.getAttribute('aria-label') ?? words(one.labels?.[0] ?? one)).trim();
}"""
LINES = """() => {
  const found = [];
  for (const model of Bokeh.documents[0].all_models)
    if (model.type === 'GlyphRenderer' && ['Line', 'Step'].includes(model.glyph.type))
      found.push([model.data_source.name, model.glyph.line_color.value,
                  JSON.stringify(model.glyph.line_dash.value ?? model.glyph.line_dash)]);
  return found;
}"""
STOPS = [
    "alpha_t: examples over N",
    "theta: angle of the probe, degrees",
    "redundancy: copies of each example",
    "shift of the downstream task, degrees",
    "noise: share of flipped labels",
    "student",
    "lam: ridge of the loss",
    "f: kept fraction of window and margins",
    *("hard", "easy", "moderate", "random", "hard-signed", "easy-signed"),
    *("window", "mixture", "window-signed"),
    *("N", "draws", "Simulate"),
    *("Copy command line", "Copy Python lines"),
    *("Download PNG", "Download PDF", "Download data"),
    *("command line", "Python lines"),
]


@pytest.fixture
def page(live: str, open_page: Callable[..., Page]) -> Page:
    """The page once its first numbers are shown."""
    found = open_page(live)
    found.get_by_role("status").get_by_text("Solved.").wait_for(timeout=180_000)
    expect(found.get_by_role("button", name="Download PNG")).to_be_enabled(timeout=180_000)
    return found


def test_no_rule_of_wcag_is_broken(page: Page, tmp_path: Path) -> None:
    def check() -> None:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 1000})
            page.wait_for_timeout(300)  # for plots to take the width
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            picture = page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
            assert Image.open(BytesIO(picture)).width == width

    check()
    for name in ("command line", "Python lines"):
        page.get_by_role("button", name=name, exact=True).click()
    page.get_by_role("textbox", name="Python lines").wait_for()
    page.get_by_role("button", name="Simulate").click()
    page.get_by_role("progressbar").wait_for()
    assert violations(page) == []
    page.get_by_role("status").get_by_text(re.compile("^Simulated")).wait_for(timeout=180_000)
    check()


def test_a_warning_breaks_no_rule_of_wcag(live: str, open_page: Callable[..., Page]) -> None:
    found = open_page(f"{live}?alpha_total=-1", width=400)
    found.get_by_role("alert").get_by_text("alpha_total").wait_for()
    assert violations(found) == []


def test_tab_reaches_every_control_and_shows_where_it_is(page: Page) -> None:
    told = []
    while True:
        page.keyboard.press("Tab")
        active = page.evaluate_handle(ACTIVE).as_element()
        if active is None:
            break
        told.append(active.evaluate(TOLD))
        box = active.bounding_box()
        assert box is not None
        clip = {
            "x": max(box["x"] - 8, 0),
            "y": max(box["y"] - 8, 0),
            "width": box["width"] + 16,
            "height": box["height"] + 16,
        }
        seen = _pixels(page, clip)
        active.evaluate("one => one.blur()")
        changed = np.any(_pixels(page, clip) != seen, axis=-1).sum()
        # A ring of at least 2 pixels around the control, WCAG 2.4.13.
        assert changed >= 2 * (box["width"] + box["height"]), told[-1]
        active.focus()
    assert told == STOPS


def _pixels(page: Page, clip: dict[str, float]) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(page.screenshot(clip=clip))).convert("RGB"))  # type: ignore[arg-type]


def test_the_status_is_announced(page: Page) -> None:
    status = page.get_by_role("status")
    expect(status).to_have_count(1)
    expect(status).to_have_text("Solved.")
    before = status.element_handle()
    page.get_by_role("slider", name=STOPS[1]).press("ArrowRight")
    page.wait_for_url(re.compile("theta_deg=20.5"))
    expect(status).to_have_text("Solved.", timeout=180_000)
    # A region that is made anew is not announced.
    assert before is not None and before.evaluate("one => one.isConnected")
    expect(page.get_by_role("img", name=re.compile("^(Plot|Histogram) of the"))).to_have_count(2)
    expect(page.get_by_role("group", name="policies")).to_have_count(1)


def test_lines_differ_in_colour_and_dash(page: Page) -> None:
    lines = page.evaluate(LINES)
    names = {name for name, _, _ in lines}
    assert len(names) == 18  # curves and margins of nine policies
    assert len({(color, dash) for _, color, dash in lines}) == 9
    assert len({dash for _, _, dash in lines}) == 9
    for _, color, _ in lines:
        assert _contrast_to_white(color) >= 3


def _contrast_to_white(color: str) -> float:
    """The contrast ratio of WCAG 2, from relative luminances."""
    parts = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05))
