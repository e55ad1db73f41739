"""The published tables, runs of one's own, and the picture of both."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from hardset.cli import run
from hardset.datafile import read_dataset
from hardset.pictures import STYLE
from pretrain_jax.__main__ import main
from pretrain_jax.report.benchmark_tables import KIND, caption, compute, draw, write_tables
from pretrain_jax.report.published import DATASETS, PRINTED, PRINTED_ALL_DATA
from pretrain_jax.report.runs import Run, read_runs

HEADER = "dataset,method,storage_percent,seed,miou\n"
RUNS = (
    Run("ETIS", "OptiDEL", 5, 0, 55.0),
    Run("ETIS", "OptiDEL", 5, 1, 57.0),
    Run("ETIS", "InfoMax", 12.5, 0, 54.0),
    Run("mine", "All data", 100, 0, 70.0),
    Run("mine", "OptiDEL", 5, 0, 72.5),
)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_numbers_of_the_paper() -> None:
    """The two tables print MedDEL and OptiDEL twice; sums of columns were added up by hand."""
    for method in ("MedDEL", "OptiDEL"):
        np.testing.assert_array_equal(PRINTED[1][method], PRINTED[2][method])
    assert PRINTED_ALL_DATA.sum() == pytest.approx(549.76)
    assert PRINTED[1]["Random"][:, 0].sum() == pytest.approx(523.49)
    assert PRINTED[1]["OptiDEL"][:, 2].sum() == pytest.approx(590.13)
    assert PRINTED[2]["OptiDEL-S"][:, 3].sum() == pytest.approx(554.91)
    # "OptiDEL consistently outperforms all others" (the paper, on Table 1).
    worse = PRINTED[1]["OptiDEL"] <= np.maximum(PRINTED[1]["Random"], PRINTED[1]["MedDEL"])
    assert not worse.any()


def test_without_runs(tmp_path: Path) -> None:
    (data, _), words = write_tables([], tmp_path, ["svg"])
    assert words.endswith("No runs of our own: none were given.")
    found = texts(draw(read_dataset(data, kind=KIND)))
    printed = sorted(
        f"{value:.2f}" for table in PRINTED.values() for m in table.values() for value in m.ravel()
    )
    cells = sorted(text for text in found if "." in text)
    assert cells == sorted([*printed, *(f"{value:.2f}" for value in PRINTED_ALL_DATA)])


def test_with_runs(tmp_path: Path) -> None:
    dataset = compute(RUNS)
    assert dataset["data"].values.tolist() == [*DATASETS, "mine"]
    assert dataset["storage_percent"].values.tolist() == [5, 10, 12.5, 25, 50, 100]
    cell = dataset.sel(data="ETIS", selection="OptiDEL", storage_percent=5)
    assert cell["run_mean"].item() == 56
    assert cell["run_spread"].item() == pytest.approx(np.sqrt(2))
    assert cell["run_count"].item() == 2
    assert cell["table_1"].item() == cell["table_2"].item() == 56.48
    figure = draw(dataset)
    found = texts(figure)
    assert found.count("56.48\n56.0±1.4") == 2
    assert found.count("72.5") == 2
    panel = next(axes for axes in figure.axes if axes.get_title() == "mine")
    assert len(panel.containers) == 6
    assert "(1 to 2 a cell)" in caption(dataset)


def test_data_file_belongs_to_its_runs(tmp_path: Path) -> None:
    (data, picture), _ = write_tables(RUNS, tmp_path, ["png"])
    before = data.stat().st_mtime_ns, picture.read_bytes()
    write_tables(RUNS, tmp_path, ["png"])
    with pytest.raises(ValueError, match=r"was computed with runs = \[.*choose another --out"):
        write_tables(RUNS[1:], tmp_path, ["png"])
    assert (data.stat().st_mtime_ns, picture.read_bytes()) == before


def test_files_of_runs(tmp_path: Path) -> None:
    as_csv, as_json = tmp_path / "runs.csv", tmp_path / "runs.json"
    lines = [f"{r.dataset},{r.method},{r.storage_percent},{r.seed},{r.miou}" for r in RUNS]
    as_csv.write_text(HEADER + "\n".join(lines) + "\n")
    as_json.write_text(json.dumps([vars(run) for run in RUNS]))
    assert read_runs(as_csv) == read_runs(as_json) == RUNS


OWN = b'{"dataset": {"a": 1}, "method": "Random", "storage_percent": 5, "seed": 0, "miou": 5}'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.csv", None, "cannot be read: No such file"),
        ("runs.csv", b"\xff\xfe\x00", "cannot be read"),
        ("runs.csv", b"", "holds no list of runs"),
        ("runs.json", b"{", "cannot be read"),
        ("runs.json", b"{}", "holds no list of runs"),
        ("runs.json", b"[3]", "run 1: needs dataset, method, storage_percent, seed, miou"),
        ("runs.csv", b"dataset,miou\nETIS,5\n", "run 1: needs dataset, method"),
        ("runs.csv", b"ETIS,Best,5,0,50\n", "run 1: method = 'Best' is not one of All data"),
        ("runs.csv", b"ETIS,Random,0,0,50\n", r"storage_percent = 0 .*\(0, 100\]"),
        ("runs.csv", b"ETIS,Random,5,0,101\n", r"miou = 101 .*\[0, 100\]"),
        ("runs.csv", b"ETIS,Random,5,0,nan\n", "miou = nan is not a number"),
        ("runs.csv", b"ETIS,Random,5,0,\n", "miou = '' is not a number"),
        ("runs.csv", b"ETIS,Random,5,0\n", "miou = None is not a number"),
        ("runs.csv", b"ETIS,Random,5,0.5,50\n", "seed = 0.5 is not a whole number"),
        ("runs.csv", b",Random,5,0,50\n", "dataset is empty"),
        ("runs.csv", b"E\0b,Random,5,0,50\n", "is not printable"),
        ("runs.json", b"[" * 100_000, "cannot be read"),
        ("runs.json", b'[{"seed": 0, "seed": 1}]', "has 'seed' twice in one run"),
        ("runs.csv", b"dataset,method,storage_percent,seed,miou,miou\n", "has 'miou' twice"),
        ("runs.json", b"[%s]" % OWN, "run 1: dataset = {'a': 1} is not a text"),
        ("runs.csv", b"E" * 200_000 + b",Random,5,0,50\n", "cannot be read: field larger"),
        ("runs.csv", b"".join(b"E%d,Random,5,0,50\n" % k for k in range(61)), "61 data sets"),
        ("runs.csv", b"ETIS,All data,50,0,50\n", "storage_percent = 50 of 'All data' must be 100"),
        ("runs.csv", b"ETIS,Random,5,0,50\nETIS,Random,5,0,51\n", "run 2: .* were there before"),
    ],
)
def test_files_that_hold_no_runs(
    name: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        headless = content[:1] in b"E,"
        path.write_bytes(HEADER.encode() + content if content and headless else content)
    with pytest.raises(ValueError, match=words) as caught:
        read_runs(path)
    assert str(path) in str(caught.value)


NAMES = (
    "$x$",
    r"$\frac{1}",
    r"\$100 a_b^c",
    "a\nb",
    "內視鏡",
    "Кишечник",
    "x" * 300,
    "$" * 7,
    "%{}#&~",
)


def test_names_are_drawn_letter_by_letter(tmp_path: Path) -> None:
    """What means something to matplotlib's mathematics, or to nobody's font, means nothing here."""
    path = tmp_path / "runs.json"
    content = [vars(Run(" ".join(name.split()), "Random", 5, 0, 50.0)) for name in NAMES]
    content[3]["dataset"] = NAMES[3]
    path.write_text(json.dumps(content))
    (data, *_), _ = write_tables(read_runs(path), tmp_path, ["png", "svg", "pdf"])
    # Matplotlib's own SVG says which letters it draws.
    with rc_context({**STYLE, "svg.fonttype": "none"}):
        draw(read_dataset(data, kind=KIND)).savefig(tmp_path / "letters.svg")
    drawn = {
        "".join(element.itertext()).strip()
        for element in ElementTree.parse(tmp_path / "letters.svg").iter()
        if element.tag.endswith("}text")
    }
    expected = [*NAMES[:3], "a b", r"\u5167\u8996\u93e1", NAMES[5], "x" * 15 + "…" + "x" * 8]
    assert drawn >= {*expected, *NAMES[7:]}


def test_a_volume_below_the_papers_is_on_the_axis() -> None:
    figure = draw(compute((Run("ETIS", "Random", 0.5, 0, 40.0),)))
    low, high = figure.axes[0].get_xlim()
    assert low < 0.5 and high > 100


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = tmp_path / "runs.csv", tmp_path / "out"
    runs.write_text(HEADER + "ETIS,Random,5,0,50\n")
    call = ["benchmark-tables", "--out", str(out), "--format", "svg"]
    assert run(main, [*call, "--runs", str(runs), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["data"] == str(out / "benchmark-tables.nc")
    assert report["pictures"] == [str(out / "benchmark-tables.svg")]
    assert "our own runs" in report["caption"]
    assert run(main, [*call, "--runs", str(runs)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == [f"data      {report['data']}", f"picture   {report['pictures'][0]}"]
    assert told[2] == f"caption   {report['caption']}"
    before = (out / "benchmark-tables.nc").read_bytes()
    assert run(main, call) == 2  # the data file is that of the runs
    assert "was computed with runs = [{'dataset': 'ETIS'" in capsys.readouterr().err
    assert run(main, [*call, "--runs", str(tmp_path / "absent.csv")]) == 2
    assert "absent.csv cannot be read: No such" in capsys.readouterr().err
    assert (out / "benchmark-tables.nc").read_bytes() == before
