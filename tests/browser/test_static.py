"""The page without a server, opened from a file: its curves against the solver."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

import replica
from figures.explorer import curves
from figures.explorer.state import State
from figures.explorer.static import COPIES, LARGEST_BYTES, SHIFTS_DEG, STOPS, page
from figures.explorer.table import ALPHAS, FRACTIONS, POLICIES, THETAS_DEG, build
from hardset.compilation import user_folder
from tests.browser.pages import source, violations
from theory.policies import policy_from_name
from theory.problem import DownstreamShift, FixedAngle, PerceptronProblem

SLIDERS = {
    "alpha_t": STOPS,
    "theta": THETAS_DEG,
    "redundancy": COPIES,
    "shift": SHIFTS_DEG,
    "f: kept fraction": FRACTIONS,
}


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the page's file, made as `make docs` makes it and from the same cache."""
    path = tmp_path_factory.mktemp("static") / "explorer.html"
    path.write_text(page(build(user_folder("explorer"))), "utf-8")
    path.with_name("none.html").write_text("<!doctype html><title>none</title>", "utf-8")
    return path.as_uri()


def move(page: Page, chosen: dict[str, int]) -> None:
    for name, stop in chosen.items():
        page.get_by_label(name).fill(str(stop))


def shown_bound(page: Page) -> float:
    return float(page.locator("#bound").get_attribute("data-bound") or "nan")


def test_the_file_is_small_and_every_stop_is_in_the_table(static: str) -> None:
    assert Path(static.removeprefix("file://")).stat().st_size <= LARGEST_BYTES
    assert STOPS[0] / COPIES[-1] >= ALPHAS[0] and STOPS[-1] <= ALPHAS[1]


def test_curves_are_the_solvers_within_the_bound_that_the_page_prints(
    static: str, open_page: Callable[..., Page]
) -> None:
    shown = open_page(static)
    shown.locator("body[data-shown]").wait_for()
    for name in POLICIES:
        shown.get_by_label(name, exact=True).check()
    bound = shown_bound(shown)
    assert 0 < bound <= 1e-3
    rng = np.random.default_rng(11)
    states = [
        {name: int(rng.integers(len(stops))) for name, stops in SLIDERS.items()} for _ in "abc"
    ]
    # The steepest lines, the ends of the ranges, and both together with a shift.
    states += [
        dict(zip(SLIDERS, stops, strict=True))
        for stops in ((len(STOPS) - 1, 0, 0, 0, 0), (0, 12, 9, 120, 28), (40, 1, 1, 3, 7))
    ]
    for state in states:
        move(shown, state)
        alpha, theta, copies, shift, fraction = (
            stops[state[name]] for name, stops in SLIDERS.items()
        )
        for name in POLICIES:
            curve = source(shown, f"curve {name}")
            assert curve["x"].tolist() == list(FRACTIONS)
            solution = replica.solve(
                PerceptronProblem(
                    alpha_total=alpha,
                    keep_fraction=curve["x"],
                    probe=FixedAngle.degrees(theta),
                    policy=policy_from_name(name),
                    redundancy=copies,
                    downstream=DownstreamShift.degrees(shift),
                ),
                throw=True,
            )
            assert np.abs(curve["y"] / solution.error - 1).max() <= bound, (state, name)
            best = source(shown, f"best {name}")
            assert best["y"] == [curve["y"].min()]
            margins = source(shown, f"margins {name}")["y"][:-1]
            expected = curves.margin_shares(
                State(theta_deg=theta, keep_fraction=fraction, policy=(name,)), name
            )
            assert margins == pytest.approx(expected, abs=2e-6)


def test_the_address_holds_the_state_and_says_what_it_cannot_show(
    static: str, open_page: Callable[..., Page]
) -> None:
    shown = open_page(f"{static}#alpha_total=5&theta_deg=10&policy=easy&policy=moderate")
    shown.locator("body[data-shown]").wait_for()
    assert source(shown, "curve easy")["y"].size == len(FRACTIONS)
    assert source(shown, "curve hard")["y"].size == 0
    shown.get_by_label("theta").focus()
    shown.keyboard.press("ArrowRight")
    held = parse_qs(shown.evaluate("location.hash.slice(1)"))
    assert held["theta_deg"] == ["15"] and held["policy"] == ["easy", "moderate"]
    assert shown.get_by_label("theta").get_attribute("aria-valuetext") == "15"
    before = source(shown, "curve easy")["y"]
    shown.reload()
    shown.locator("body[data-shown]").wait_for()
    assert np.array_equal(source(shown, "curve easy")["y"], before)
    assert not shown.locator("#trouble").is_visible()
    shown.evaluate("location.hash = '#alpha_total=9999&theta_deg=11&colour=<b>'")
    said = shown.locator("#trouble")
    said.wait_for()
    assert said.inner_text() == (
        "alpha_total = 9999 is not a number from 2 to 100; "
        "theta_deg = 11 is not in the table, the nearest is 10; "
        "the address names colour, which this page does not have."
    )
    shown.get_by_label("theta").press("ArrowRight")
    expect(said).to_be_hidden()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("constructor=5", "the address names constructor, which this page does not have."),
        (
            f"alpha_total={'9' * 500}x",
            f"alpha_total = {'9' * 60}... is not a number from 2 to 100.",
        ),
    ],
)
def test_an_address_that_means_nothing_leaves_a_page_that_works(
    static: str, open_page: Callable[..., Page], address: str, sentence: str
) -> None:
    shown = open_page(f"{static}#{address}")
    shown.locator("body[data-shown]").wait_for()
    assert shown.locator("#trouble").inner_text() == sentence
    assert shown.get_by_text("JavaScript draws this page").is_hidden()
    assert source(shown, "curve hard")["y"].size == len(FRACTIONS)


def test_a_frame_that_has_no_address_shows_the_page(
    static: str, open_page: Callable[..., Page]
) -> None:
    text = Path(static.removeprefix("file://")).read_text("utf-8")
    outer = open_page(Path(static.removeprefix("file://")).with_name("none.html").as_uri())
    outer.evaluate(
        """text => {
          const frame = document.createElement('iframe');
          frame.sandbox = 'allow-scripts';
          frame.srcdoc = text;
          document.body.replaceChildren(frame);
        }""",
        text,
    )
    inner = outer.frame_locator("iframe")
    inner.locator("body[data-shown*='theta_deg=20']").wait_for()
    inner.get_by_label("theta").press("ArrowRight")
    inner.locator("body[data-shown*='theta_deg=30']").wait_for()


def test_a_browser_without_javascript_says_so(static: str, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False)
    shown = context.new_page()
    shown.goto(static)
    assert "it is switched off" in shown.get_by_text("JavaScript draws this page").inner_text()
    context.close()


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_the_page_fits_and_everybody_can_use_it(
    static: str, open_page: Callable[..., Page], width: int
) -> None:
    shown = open_page(static, width=width)
    shown.locator("body[data-shown]").wait_for()
    assert violations(shown) == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    # Bokeh draws after the state is taken.
    shown.locator("#errors canvas").first.wait_for()
    assert shown.locator("#errors").bounding_box()["width"] > 300  # type: ignore[index]
