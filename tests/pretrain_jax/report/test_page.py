"""The page: whole, self-contained, readable by machines, with the numbers of the run."""

import base64
import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardset.cli import run as run_command
from pretrain_jax.__main__ import main
from pretrain_jax.report import write_report
from pretrain_jax.report.collect import collect
from pretrain_jax.report.page import page as page_of
from tests.pretrain_jax.records import edit_output, edit_record, note_output

VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Checks that tags are balanced; keeps tables, pictures, links and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.caption, self.cell = "", None
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.tables[self.caption].append([])
        if tag in ("th", "td"):
            self.tables[self.caption][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words += "".join(f"{word} " for word in data.split())
        if self.open and self.open[-1] == "caption":
            self.caption = data
            self.tables[data] = []
        elif self.open and self.open[-1] in ("th", "td"):
            self.tables[self.caption][-1][-1] += data

    def rows(self, caption: str) -> dict[tuple[str, ...], list[str]]:
        """Rows of the tables whose captions begin so, by their first two cells."""
        tables = [rows for name, rows in self.tables.items() if name.startswith(caption)]
        assert tables
        return {tuple(row[:2]): row[2:] for rows in tables for row in rows}


@pytest.fixture
def page(page_text: str) -> Page:
    return Page(page_text)


def test_page_needs_no_other_file_and_has_what_readers_need(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        if tag == "img":
            assert re.match(r"data:image/(png|jpeg|svg\+xml);base64,", attributes["src"] or "")
            assert len(attributes["alt"] or "") > 10
        if tag == "th":
            assert attributes["scope"] in ("col", "row", "colgroup")
    assert ("html", {"lang": "en"}) in page.tags
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(names)) == len(names)
    links = [attributes["href"] or "" for _, attributes in page.tags if "href" in attributes]
    assert len(links) == 8
    assert {link[1:] for link in links} <= set(names)
    assert sum(tag == "h1" for tag, _ in page.tags) == 1
    assert all(len(rows[0]) == len(rows[-1]) or rows[0][0] == "" for rows in page.tables.values())


def test_headline(page: Page) -> None:
    assert "no medical result" in page.words
    assert "Full pre-training set: 60 images, 2.50 million pixels, 1.25 MB." in page.words
    (row,) = [row for key, row in page.rows("Test sets").items() if key[0] != "data set"]
    # Cases without a group are groups of their own.
    assert row == ["12", "12", "25.00", "68.70"]
    assert "not to be trusted" not in page.words
    assert "mIoU without any model: background 25.00 %, threshold 68.70 %." in page.words


def test_numbers_of_the_runs(page: Page) -> None:
    """By hand from the fixture: mean and deviation over three seeds, two for MedDEL."""
    quality = page.rows("Quality")
    assert quality["OptiDEL", "10"][:6] == [
        *("10.00", "5.00", "3", "72.00 ± 2.65", "82.00 ± 2.65", "52.00 ± 2.65"),
    ]
    assert quality["MedDEL", "10"][2:4] == ["2 of 3", "63.50 ± 3.54"]
    assert quality["InfoMax", "10"][2:4] == ["0 of 1", "\N{EN DASH}"]
    # sigmoid(.71 exp(-1)) = .5649 and so on for .70 and .72: deviation .0009.
    assert quality["all data", "100"][-1] == "0.5649 ± 0.0009"
    gains = page.rows("Differences to random")
    assert gains["OptiDEL", "10"][:2] == ["3", "+10.00 ± 1.73"]
    assert gains["MedDEL", "10"][:2] == ["2", "+2.50 ± 1.50"]
    # All but MedDEL's exceed 4.3 standard errors. Student's t, two-sided 95 %, as tables print it:
    # 12.706 with one degree of freedom, 4.303 with two.
    reached = "it reaches 12.7 standard errors of 2 pairs and 4.3 standard errors of 3 pairs to"
    assert reached in page.words
    assert "4 of these 5 differences in mIoU (OptiDEL at 10 %, hard-images at 10 %" in page.words
    assert "No model of this run is as good" not in page.words
    cost = page.rows("Cost of one model")
    # Compilation: half of 200 s and of 50 s for each of three seeds.
    assert cost["OptiDEL", "25"] == ["300", "200.0", "50.0", "430.0", "375.0"]
    equal = page.rows("Time to equal accuracy")
    assert ("OptiDEL", "430.0") in equal
    assert ("MedDEL", "not reached") in equal
    missing = page.rows("Missing: 2 of 25 results")
    assert missing["MedDEL", "10"] == [
        *("1", "mae", "dpt-full", "pre-training failed: loss is not finite at step 7"),
    ]
    assert missing["InfoMax", "10"][-1] == "missing"


def test_ablation_and_stages(page: Page) -> None:
    assert page.rows("mIoU (%) at 10 %")["hard", "65.00 ± 1.73"] == ["72.00 ± 2.65"]
    effects = page.rows("Effects in points")
    assert ("hard instead of random", "+4.00 ± 0.87") in effects
    assert ("interaction", "+2.00 ± 0.58") in effects
    assert page.rows("Rank correlation")["scores/images", "0.875"] == ["0.625"]
    # 23 results, 200 s of pre-training and 50 s of fine-tuning each.
    cost = page.rows("Cost of the stages")
    assert cost["pretrained", "23"] == ["4600.0", "2300.0"]
    assert cost["finetuned", "23"] == ["1150.0", "575.0"]
    assert "60 images for pre-training were compared with 12 test cases" in page.words
    assert "23 of 23 fine-tunings recorded the check, with 0 test cases" in page.words
    assert "index: a note of index <&>" in page.words
    assert any("proposals/saliency" in (a.get("alt") or "") for _, a in page.tags)


def test_large_pictures_are_made_smaller(run_folder: Path) -> None:
    """Noise of 1500 x 300 pixels: 1.4 MB as PNG."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 1500, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(run_folder / "synthesised/optidel-10/contact-sheet.png")
    write_report(run_folder, run_folder / "report")
    page = Page((run_folder / "report/index.html").read_text())
    (source,) = (
        attributes["src"] or ""
        for _, attributes in page.tags
        if "synthesised/optidel-10" in (attributes.get("alt") or "")
    )
    head, data = source.split(",", 1)
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (960, 192)


def test_published_numbers_are_on_the_page(page: Page) -> None:
    (table,) = (rows for name, rows in page.tables.items() if "Table 1" in name and "mIoU" in name)
    assert table[5] == [
        *("ETIS", "51.64", "50.67", "53.05", "56.48", "53.91", "54.40", "57.87"),
        *("50.93", "57.58", "64.23", "51.31", "52.13", "56.13"),
    ]
    (table,) = (rows for name, rows in page.tables.items() if name.startswith("NormDEL of Table 2"))
    # CVC-300, OptiDEL, 5 %: sigmoid(.8692 exp(-.05)) = .6957.
    assert table[7][3] == "0.6957"


def test_own_runs_stand_below_the_printed_ones(page: Page) -> None:
    """On another data set than the paper's eight, where its columns were run."""
    none = "\N{EN DASH}"
    (table,) = (rows for name, rows in page.tables.items() if "Table 1" in name and "mIoU" in name)
    assert table[-1] == [
        *("own: slices <T1>, mae, dpt head, full, not medical", "71.00 ± 1.00", none, none, none),
        *("62.00 ± 2.00", "63.50 ± 3.54", "72.00 ± 2.65", "66.00 ± 1.00", none, "70.00 ± 1.00"),
        *(none, none, none),
    ]
    (table,) = (rows for name, rows in page.tables.items() if name.startswith("NormDEL of Table 2"))
    # MedDEL, OptiDEL-S, OptiDEL at 5, then at 10 %: sigmoid(.72 exp(-.1)) = .6573.
    assert table[-1][6].startswith("0.657") and table[-1][5] == none
    assert not any("in the shape of" in name for name in page.tables)


def test_ratios_that_the_paper_does_not_print(run_folder: Path) -> None:
    """A table of the same shape; one point alone is not drawn."""
    for method, percent in (("optidel", 10), ("meddel", 10)):
        for path in run_folder.glob(f"finetuned/mae/{method}-{percent}/*/*/result.json"):
            edit_output(path, ratio=0.12)
    for path in run_folder.glob("finetuned/mae/random-25/*/*/result.json"):
        edit_output(path, objective="simclr")
    write_report(run_folder, run_folder / "report")
    page = Page((run_folder / "report/index.html").read_text())
    (table,) = (rows for name, rows in page.tables.items() if "in the shape of Table 1" in name)
    assert table[0][1:] == ["100 % storage", *(f"{p} % storage" for p in (10, 12, 25))]
    assert table[1][1:] == ["all data", *["random", "MedDEL", "OptiDEL"] * 3]
    assert table[2][1:3] == ["71.00 ± 1.00", "62.00 ± 2.00"]
    assert table[2][7] == "72.00 ± 2.65"
    charts = [a["alt"] or "" for tag, a in page.tags if tag == "img"]
    assert not any(alt.startswith("mIoU in percent") and "66.00" in alt for alt in charts)


def test_sections_without_inputs_say_why(page: Page) -> None:
    assert re.search(r"No estimate: checkpoint \S+run does not exist", page.words)
    assert "No estimate: the stage scores/images-half-0 is not there" in page.words
    assert "heuristic" in page.words


def test_training_from_scratch_stands_apart(run_folder: Path, writer: Callable) -> None:
    """Without pre-training there is no storage and no point of a chart over it."""
    source = run_folder / "finetuned/mae/all-100/seed-0/dpt-full/result.json"
    place = "finetuned/none/scratch-0/seed-0/dpt-scratch"
    writer(run_folder).stage(place, "finetune", 33.0, {}, {"steps": 200}, seed=0)
    scratch = {
        "objective": "none",
        "method": "scratch",
        "ratio": 0.0,
        "storage_ratio": 0.0,
        "mode": "scratch",
    }
    record = json.loads(source.read_text()) | scratch
    (run_folder / place / "result.json").write_text(json.dumps(record))
    note_output(run_folder / place / "result.json")
    write_report(run_folder, run_folder / "report")
    page = Page((run_folder / "report/index.html").read_text())
    rows = page.rows("Quality: slices <T1>, no pre-training, dpt head, scratch")
    assert rows["scratch", "0"][2:4] == ["1", "70.00"]
    assert rows["scratch", "0"][-1] == "\N{EN DASH}"  # no data, no NormDEL
    cost = page.rows("Cost of one model, medians over seeds")
    assert cost["scratch", "0"] == ["\N{EN DASH}", "\N{EN DASH}", "33.0", "33.0", "16.5"]


def test_names_stay_text(run_folder: Path) -> None:
    """A data set called like a script, with a formula and a template that are none."""
    hostile = "<script>alert(1)</script>'\"$\\frac{ {{ 7 * 7 }} {% raw %}"
    for path in run_folder.glob("finetuned/**/result.json"):
        edit_output(path, dataset=hostile, classes=[hostile])
    page = Page(page_of(collect(run_folder), {hostile: hostile}, hostile, hostile))
    assert hostile in page.words
    assert any(hostile in (attributes.get("aria-label") or "") for _, attributes in page.tags)
    assert "script" not in {tag for tag, _ in page.tags}


def test_models_below_what_needs_no_model(run_folder: Path) -> None:
    """The best model has 75 %."""
    for path in run_folder.glob("finetuned/**/result.json"):
        baselines = json.loads(path.read_text())["baselines"]
        baselines["threshold"]["miou"]["value"] = 0.91
        # The 12 cases are those of 4 patients.
        cases = [{"name": f"case {k}", "group": f"patient {k % 4}"} for k in range(12)]
        edit_output(path, baselines=baselines, cases=cases)
    write_report(run_folder, run_folder / "report")
    words = Page((run_folder / "report/index.html").read_text()).words
    assert "the best reaches a mIoU of 75.00 % against 91.00 %" in words
    assert "not to be trusted: there are 4 groups of test cases" in words


def test_table_of_results(run_folder: Path) -> None:
    manifest = write_report(run_folder, run_folder / "report")
    with (run_folder / "report/results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert manifest.counts == {"results": 23, "missing": 2}
    assert len(lines) == 25
    by_key = {(line["method"], line["storage_percent"], line["seed"]): line for line in lines}
    line = by_key["optidel", "10.0", "2"]
    assert line["status"] == "finished"
    assert [float(line[n]) for n in ("miou", "dice", "boundary_f")] == pytest.approx(
        [0.75, 0.85, 0.55]
    )
    assert [float(line[n]) for n in ("miou_low", "miou_high")] == pytest.approx([0.7, 0.8])
    # sigmoid(.75 exp(-.1)).
    assert float(line["normdel"]) == pytest.approx(0.6634, abs=5e-5)
    assert float(line["total_seconds"]) == 430.0
    lost = by_key["meddel", "10.0", "1"]
    assert lost["status"].startswith("pre-training failed")
    assert [lost[n] for n in ("dataset", "head", "mode", "miou")] == [
        *("slices <T1>", "dpt", "full", ""),
    ]


def test_same_run_same_bytes(run_folder: Path, tmp_path: Path) -> None:
    one, other = (
        write_report(run_folder, folder) for folder in (run_folder / "report", tmp_path / "other")
    )
    assert one.outputs == other.outputs
    # Interrupted before the end: the same call goes on.
    (tmp_path / "other/manifest.json").unlink()
    (tmp_path / "other/index.html").unlink()
    assert write_report(run_folder, tmp_path / "other").outputs == one.outputs


def test_a_report_is_kept_and_another_one_refused(run_folder: Path) -> None:
    page = run_folder / "report/index.html"
    write_report(run_folder, run_folder / "report")
    before = page.stat().st_mtime_ns
    write_report(run_folder, run_folder / "report")
    assert page.stat().st_mtime_ns == before
    edit_record(run_folder / "probe/manifest.json", counts={"images": 1})
    with pytest.raises(ValueError, match=r"report was made with inputs\.\S+ = .* left alone"):
        write_report(run_folder, run_folder / "report")
    assert page.stat().st_mtime_ns == before


def test_command_line(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["report", str(run_folder), "--out", str(tmp_path / "out")]) == 0
    assert "23 results, 2 missing" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    for arguments, sentence in (
        ([str(tmp_path / "nowhere")], "does not exist"),
        ([str(tmp_path / "empty")], "holds no stage"),
        ([str(run_folder), "--sample", "1"], "sample = 1 is outside"),
        ([], "RUN"),
    ):
        assert run_command(main, ["report", *arguments]) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert "Traceback" not in error
    assert not (tmp_path / "empty/report").exists()
