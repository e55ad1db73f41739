"""The page of the command `explore`, used as a visitor uses it.

Every number of the page is compared with `replica.solve`, called here with the numbers that the
controls tell. Each test opens the page anew; its address says where it begins.
"""

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from playwright.sync_api import Locator, Page, expect

import replica
from hardset.datafile import read_dataset
from tests.browser.pages import source
from theory.labels import Clean, Flip
from theory.policies import Mixture, Policy, Window, policy_from_name
from theory.problem import DownstreamShift, FixedAngle, PerceptronProblem
from theory.students import ERM, MaxMargin

SLIDERS = {
    "alpha_total": "alpha_t: examples over N",
    "theta_deg": "theta: angle of the probe, degrees",
    "redundancy": "redundancy: copies of each example",
    "downstream_deg": "shift of the downstream task, degrees",
    "flip": "noise: share of flipped labels",
    "lam": "lam: ridge of the loss",
    "lo": "lo: rank where windows begin",
    "w": "w: share of the hardest in a mixture",
    "keep_fraction": "f: kept fraction of window and margins",
}
# A curve of the page has 41 points; every solve here too, since another shape is compiled anew.
POINTS = 41
PATIENCE = 180  # seconds; a first solve compiles
NOISY = {
    "alpha_total": 20.0,
    "theta_deg": 10.0,
    "flip": 0.1,
    "loss": "squared-hinge",
    "lam": 0.3,
    "policy": ("hard", "random"),
}


class Visit:
    """A page, with what its controls are set to."""

    def __init__(self, page: Page, **given: Any) -> None:
        self.page = page
        self.policy: tuple[str, ...] = given.pop("policy", ("hard", "random", "easy"))
        self.loss: str = given.pop("loss", "max-margin")
        self.numbers: dict[str, float] = {
            "alpha_total": 5.0,
            "theta_deg": 20.0,
            "redundancy": 1,
            "downstream_deg": 0.0,
            "flip": 0.0,
            "lam": 0.1,
            "lo": 0.1,
            "w": 0.5,
            "keep_fraction": 0.3,
        } | given

    def handle(self, name: str) -> Locator:
        return self.page.get_by_role("slider", name=SLIDERS[name], exact=True)

    def told(self, name: str) -> float:
        """The value that a slider tells a screen reader."""
        return float(self.handle(name).get_attribute("aria-valuetext") or "nan")

    def press(self, name: str, key: str, value: float) -> None:
        """Press a key on a slider, which then tells the value."""
        self.handle(name).press(key)
        _until(lambda: self.told(name) == value, f"{key} does not move {name} to {value}")
        self.numbers[name] = value

    def made(self, name: str) -> Policy:
        """The policy of that name with its own number, if it has one."""
        own = {"window": "lo", "window-signed": "lo", "mixture": "w"}.get(name)
        return policy_from_name(name, **({own: self.numbers[own]} if own else {}))

    def errors(self, policy: Policy, keep_fraction: np.ndarray) -> np.ndarray:
        """The solver's errors at up to 41 fractions."""
        now = self.numbers
        plain = self.loss == "max-margin"
        solution = replica.solve(
            PerceptronProblem(
                alpha_total=now["alpha_total"],
                keep_fraction=np.resize(keep_fraction, POINTS),
                probe=FixedAngle(np.pi * now["theta_deg"] / 180),
                policy=policy,
                redundancy=now["redundancy"],
                downstream=DownstreamShift(delta=np.tan(np.pi * now["downstream_deg"] / 180)),
                student=MaxMargin() if plain else ERM(self.loss, now["lam"]),
                labels=Clean() if plain and not now["flip"] else Flip(now["flip"]),
            ),
            throw=True,
        )
        return np.asarray(solution.error)[: len(keep_fraction)]

    def agrees(self) -> None:
        """Assert that the curves are the solver's."""
        for name in self.policy:
            # A window keeps no more than begins behind `lo`.
            largest = 1 - self.numbers["lo"] if name.startswith("window") else 1.0
            grid = np.geomspace(0.02, largest, POINTS)
            expected = self.errors(self.made(name), grid)
            _until(
                lambda name=name, grid=grid, expected=expected: (
                    (shown := source(self.page, f"curve {name}"))["y"].shape == expected.shape
                    and np.allclose(shown["y"], expected, rtol=1e-6, atol=0)
                    and np.allclose(shown["x"], grid, rtol=1e-12, atol=0)
                ),
                f"the curve of {name} at {self.numbers} is {expected}",
            )
        # The marks come after the curves, in whose place there were none.
        _until(lambda: len(source(self.page, "window")["x"]) == 1, "no window is marked")

    def is_in_the_address(self) -> None:
        """Assert that the address says what is shown."""
        said = parse_qs(self.page.evaluate("location.search").removeprefix("?"))
        assert sorted(said.pop("policy")) == sorted(self.policy)
        assert said.pop("loss") == [self.loss]
        assert {name: float(one[0]) for name, one in said.items()} == self.numbers | {
            "lowest": 0.02
        }


@pytest.fixture
def visit(live: str, open_page: Callable[..., Page]) -> Callable[..., Visit]:
    """A function that opens the page at a setting and waits for its numbers."""

    def open_at(**given: Any) -> Visit:
        page = open_page(f"{live}?{urlencode(given, doseq=True)}")
        page.set_default_timeout(PATIENCE * 1000)
        _solved(page)
        return Visit(page, **given)

    return open_at


def _solved(page: Page) -> None:
    page.get_by_role("status").get_by_text("Solved.").wait_for()


def _until(holds: Callable[[], bool], trouble: str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, trouble
        time.sleep(0.05)


def test_sliders_are_moved_by_keys(visit: Callable[..., Visit]) -> None:
    one = visit(policy=("hard", "easy"))
    one.agrees()
    _margins_are_drawn(one, theta_deg=20, keep_fraction=0.3)
    one.press("alpha_total", "ArrowRight", 5.61)
    one.press("theta_deg", "ArrowRight", 20.5)
    one.agrees()
    one.press("theta_deg", "Home", 0)
    one.press("theta_deg", "PageUp", 2.5)
    one.press("redundancy", "ArrowRight", 2)
    one.agrees()
    one.press("downstream_deg", "ArrowRight", 0.5)
    one.press("keep_fraction", "ArrowLeft", 0.293)
    one.agrees()
    # The best window against a scan of windows, whose error is smooth in where they begin.
    starts = np.linspace(0, 1 - 0.293, POINTS)
    scanned = one.errors(Window(lo=starts), np.full(POINTS, 0.293))
    one.is_in_the_address()
    shown = source(one.page, "window")
    assert shown["x"] == 0.293
    assert shown["y"] == pytest.approx(scanned.min(), rel=1e-3)
    assert shown["y"] <= scanned.min() * (1 + 1e-6)  # a gain below 1e-6 leaves it at an end


def _margins_are_drawn(one: Visit, theta_deg: float, keep_fraction: float) -> None:
    """The histograms against a million draws, of which the easy or hard ones are kept."""
    rng, theta = np.random.default_rng(0), np.pi * theta_deg / 180
    margin, other = rng.normal(size=(2, 1_000_000))
    field = np.abs(np.cos(theta) * margin + np.sin(theta) * other)
    for name, sign in (("hard", 1), ("easy", -1)):
        kept = np.argsort(sign * field)[: int(keep_fraction * len(field))]
        shown = source(one.page, f"margins {name}")
        edges = np.append(shown["x"][:-1], np.inf)
        share = np.histogram(np.abs(margin[kept]), edges)[0] / len(kept)
        np.testing.assert_allclose(
            shown["y"][:-1], share, rtol=0, atol=5 * np.sqrt(share.max() / len(kept))
        )


def test_sliders_are_moved_by_a_mouse(visit: Callable[..., Visit]) -> None:
    one = visit(policy=("hard", "random"))
    mouse = one.page.mouse
    box = one.handle("theta_deg").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse.move(x, y)
    mouse.down()
    for step in range(40):  # faster than curves are solved: the newest counts
        mouse.move(x + 2 * step, y)
    mouse.up()
    box = one.handle("alpha_total").bounding_box()
    assert box is not None
    mouse.click(box["x"] + 60, box["y"] + box["height"] / 2)  # on the track
    _until(lambda: one.told("alpha_total") > 6, "a click does not move a slider")
    one.numbers |= {name: one.told(name) for name in ("theta_deg", "alpha_total")}
    assert 35 < one.numbers["theta_deg"] < 60
    one.agrees()


def test_a_student_with_a_loss_has_its_best_fraction(visit: Callable[..., Visit]) -> None:
    one = visit(alpha_total=20.0, theta_deg=10.0, policy=("hard", "random"))
    expect(one.handle("lam")).to_have_attribute("aria-disabled", "true")
    one.page.get_by_label("student", exact=True).select_option(NOISY["loss"])
    one.loss = NOISY["loss"]
    expect(one.handle("lam")).to_have_attribute("aria-disabled", "false")
    one.press("lam", "ArrowRight", 0.126)
    one.agrees()
    one.press("flip", "PageUp", 0.025)
    one.agrees()
    # The best fraction against the least of 410 fractions, 1 % from each other.
    scan = np.geomspace(0.02, 1, 410)
    for name in one.policy:
        policy = one.made(name)
        scanned = np.concatenate([one.errors(policy, part) for part in scan.reshape(10, POINTS)])
        _until(lambda name=name: len(source(one.page, f"best {name}")["x"]) == 1, "no star")
        star = source(one.page, f"best {name}")
        least = scanned.argmin()
        assert star["y"] <= scanned[least] * (1 + 1e-9)
        assert star["y"] == pytest.approx(scanned[least], rel=1e-3)
        assert scan[max(least - 1, 0)] <= star["x"] <= scan[min(least + 1, 409)]
        row = one.page.get_by_role("row", name=re.compile(f"^{name} "))
        assert row.inner_text().split()[:3] == [name, f"{star['x'][0]:.4g}", f"{star['y'][0]:.4g}"]


def test_policies_are_ticked(visit: Callable[..., Visit]) -> None:
    one = visit(policy=("hard",))

    def box(name: str) -> Locator:
        return one.page.get_by_role("checkbox", name=name, exact=True)

    expect(one.handle("lo")).to_be_hidden()
    others = ("easy", "moderate", "random", "hard-signed", "easy-signed", "window", "mixture")
    for name in (*others, "window-signed"):
        box(name).press("Space")
        one.policy = (*one.policy, name)
    one.press("lo", "ArrowRight", 0.11)
    one.press("w", "ArrowLeft", 0.49)
    one.agrees()
    one.is_in_the_address()
    for name in one.policy:
        box(name).click()
    one.page.get_by_role("status").get_by_text("policy is empty").wait_for()
    box("random").click()
    one.policy = ("random",)
    for name in ("curve", "margins", "best"):
        _until(
            lambda name=name: not np.isfinite(source(one.page, f"{name} hard")["x"]).any(),
            "a policy that is not ticked is shown",
        )
    one.agrees()


def test_windows_and_mixtures_have_a_slider_each(visit: Callable[..., Visit]) -> None:
    one = visit(policy=("hard",))
    for name, policy in (("lo", "window"), ("w", "mixture")):
        expect(one.handle(name)).to_be_hidden()
        one.page.get_by_role("checkbox", name=policy, exact=True).click()
        expect(one.handle(name)).to_be_visible()
    one.press("lo", "ArrowRight", 0.11)
    one.press("w", "ArrowLeft", 0.49)
    ends = {"window": (Window(0.11), 0.89), "mixture": (Mixture(0.49), 1.0)}
    for name, (policy, end) in ends.items():
        expected = one.errors(policy, np.geomspace(0.02, end, 41))
        _until(
            lambda name=name, expected=expected: (
                (shown := source(one.page, f"curve {name}"))["y"].shape == expected.shape
                and np.allclose(shown["y"], expected, rtol=1e-6, atol=0)
            ),
            f"the curve of {name} is {expected}",
        )
    one.policy = ("hard", "window", "mixture")
    one.is_in_the_address()
    one.press("keep_fraction", "End", 1)
    one.page.get_by_role("status").get_by_text("cannot keep f = 1").wait_for()
    assert not np.isfinite(source(one.page, "margins window")["x"]).any()
    margins = source(one.page, "margins mixture")
    assert len(margins["x"]) == 41 and np.sum(margins["y"][:-1]) == pytest.approx(1)


def test_what_is_shown_is_simulated_copied_and_saved(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    one = visit(**NOISY)
    one.agrees()
    page = one.page
    for name, value in (("N", "100"), ("draws", "12")):
        page.get_by_role("textbox", name=name, exact=True).fill(value)
        page.keyboard.press("Tab")
    page.get_by_role("button", name="Simulate").click()
    page.get_by_role("status").get_by_text("Simulated: N = 100, 12 draws; 168 of 168").wait_for()
    points = {name: source(page, f"points {name}") for name in one.policy}
    for name, found in points.items():
        stderr = (found["high"] - found["low"]) / 2
        expected = one.errors(one.made(name), found["x"])
        # Five standard errors of 12 draws; the bias of N = 100 is smaller.
        assert np.all(np.abs(found["y"] - expected) < 5 * stderr)

    # The Python lines leave what is shown in dictionaries.
    page.get_by_role("button", name="Copy Python lines").click()
    left: dict[str, Any] = {}
    exec(_clipboard(page, "simulated = "), left)
    commands = []
    page.get_by_role("button", name="Copy command line").click()
    for line in _clipboard(page, "hardset replica solve").splitlines():
        words = shlex.split(line)
        assert words[0] == "hardset"
        commands.append(
            subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.PIPE, text=True)
        )
    printed = [json.loads(command.communicate()[0]) for command in commands]
    for name, rows in zip(one.policy, printed, strict=True):
        shown = source(page, f"curve {name}")
        np.testing.assert_allclose([row["error"] for row in rows], shown["y"], rtol=1e-9)
        np.testing.assert_allclose(left["error"][name], shown["y"], rtol=1e-9)
        star, margins = source(page, f"best {name}"), source(page, f"margins {name}")
        assert left["best_fraction"][name] == pytest.approx(star["x"][0], rel=1e-3)  # flat there
        assert left["least_error"][name] == pytest.approx(star["y"][0], rel=1e-7)
        # The last corner is the end of the last bin.
        np.testing.assert_allclose(left["share"][name], margins["y"][:-1], rtol=1e-9)
        np.testing.assert_allclose(left["simulated"][name].error_mean, points[name]["y"])
    assert float(left["window_error"]) == pytest.approx(source(page, "window")["y"][0], rel=1e-9)

    data = _saved_data(page, tmp_path)
    for name in one.policy:
        part = data.sel(policy=name)
        np.testing.assert_array_equal(part["theory_error"], source(page, f"curve {name}")["y"])
        np.testing.assert_array_equal(part["best_fraction"], source(page, f"best {name}")["x"][0])
        np.testing.assert_array_equal(part["error_mean"], points[name]["y"])
    picture = Image.open(BytesIO(_download(page, "Download PNG", "explore.png")))
    assert "alpha_t = 20, theta = 10 degrees" in picture.info["Description"]
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    inks = set(map(tuple, np.unique(pixels, axis=0).tolist()))
    assert {(0x00, 0x72, 0xB2), (0, 0, 0)} <= inks  # of "hard" and "random"
    assert (0xD5, 0x5E, 0x00) not in inks  # of "easy"
    document = _download(page, "Download PDF", "explore.pdf")
    assert document.startswith(b"%PDF") and document.rstrip().endswith(b"%%EOF")
    assert b"alpha_t = 20" in document


def _clipboard(page: Page, part: str) -> str:
    """What the clipboard holds, once it holds a part."""
    found = ""

    def copied() -> bool:
        nonlocal found
        found = page.evaluate("navigator.clipboard.readText()")
        return part in found

    _until(copied, "nothing is copied")
    return found


def _download(page: Page, button: str, name: str) -> bytes:
    with page.expect_download() as found:
        page.get_by_role("button", name=button).click()
    assert found.value.suggested_filename == name
    return Path(found.value.path()).read_bytes()


def _saved_data(page: Page, folder: Path) -> xr.Dataset:
    path = folder / "explore.nc"
    path.write_bytes(_download(page, "Download data", "explore.nc"))
    return read_dataset(path, kind="figure explore")  # re-checks its checksum


def test_a_reload_in_mid_solve_shows_the_same(visit: Callable[..., Visit]) -> None:
    one = visit(policy=("hard", "random"))
    for _ in range(5):
        one.handle("theta_deg").press("ArrowRight")
    one.page.wait_for_url(re.compile("theta_deg=22.5"))
    one.page.reload()
    _solved(one.page)
    one.numbers["theta_deg"] = 22.5
    one.agrees()
    assert one.told("theta_deg") == 22.5


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("theta_deg=100", "theta_deg = 100 is outside the valid range"),
        ("theta=<img src=x onerror=alert(1)>", "the address names 'theta'"),
        ("lam=![x](http://127.0.0.1:1/x.png)", "lam = '![x](http://127.0.0.1:1/x.png)' is not a"),
        ("a" * 6000, "the address names 'aaaa"),
    ],
)
def test_a_bad_address_is_said(
    live: str, open_page: Callable[..., Page], query: str, sentence: str
) -> None:
    page = open_page(f"{live}?{query}", width=400)
    alert = page.get_by_role("alert").get_by_text(sentence)
    alert.wait_for()
    assert "The page shows its default instead." in alert.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    Visit(page).agrees()
