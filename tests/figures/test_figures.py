"""Every figure: data, file, picture; and what the data say."""

import dataclasses
from collections.abc import Callable
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import replica
from figures import FIGURES, FigureSpec, make_data, make_pictures
from figures.figure import check_data, check_pictures
from figures.settings import SimulatedSettings
from hardset.cache import RecordCache
from hardset.datafile import parameters_of, read_dataset, write_dataset
from tests.figures.synthetic import curves, described
from theory.labels import Flip, LabelSteps
from theory.policies import Hard
from theory.problem import PerceptronProblem
from theory.students import ERM

# Every figure is computed once here, small: most of that is compiling.
pytestmark = pytest.mark.usefixtures("lightly_compiled")

# Small enough that all figures together need one compiled shape.
SMALL = {
    "dim": 12,
    "draws": 3,
    "seed": 5,
    "keep_fraction": (0.5,),
    "alpha_total": (2.0,),
    "theory_points": 5,
    "map_angles": 2,
    "map_volumes": 2,
    "map_flips": 2,
    "map_fractions": 2,
    "loss": ("squared-hinge",),
    "flip": (0.1,),
    "folds": (1, 2),
    "volume_share": (1.0,),
    "spectrum_a": (0.0, 1.0),
    "generator_deg": (20.0,),
    "weighted_fraction": (0.5,),
}


# Their searches cost a hundred points of theory for every angle.
SEARCHED = ("scaling", "window", "optimal-fraction", "optimal-policy", "phase-diagram")


def settings(name: str, **changes: object) -> Any:
    defaults = FIGURES[name].defaults
    wanted = SMALL | ({"theta_deg": (0.0, 20.0)} if name in SEARCHED else {}) | changes
    known = {field.name for field in dataclasses.fields(defaults)}
    return dataclasses.replace(defaults, **{k: v for k, v in wanted.items() if k in known})


@pytest.fixture
def short_theory(monkeypatch: pytest.MonkeyPatch) -> None:
    """All points of the policy that is compiled anyway: here only their path matters."""
    solve = replica.solve

    def as_hard(problem: PerceptronProblem) -> replica.ReplicaSolution:
        if isinstance(problem.student, ERM):
            student = ERM("squared-hinge", problem.student.lam)
            labels = Flip(0.1) if isinstance(problem.labels, LabelSteps) else problem.labels
            problem = dataclasses.replace(problem, student=student, labels=labels)
        return solve(dataclasses.replace(problem, policy=Hard()))

    monkeypatch.setattr(replica, "solve", as_hard)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.usefixtures("short_theory")
def test_redrawing_reads_the_file_alone(name: str, tmp_path: Path) -> None:
    formats = ["png", "svg", "pdf"] if name == "geometry" else ["svg"]
    spec = FIGURES[name]
    chosen = settings(name)
    data = make_data(spec, chosen, tmp_path, progress=False)
    first, caption = make_pictures(spec, data, tmp_path, formats)
    moved = data.rename(tmp_path / "moved.nc")
    redrawn = tmp_path / "redrawn"
    redrawn.mkdir()
    second, again = make_pictures(spec, moved, redrawn, formats)
    assert caption == again
    assert caption.endswith("N = 12, 3 draws.") == isinstance(chosen, SimulatedSettings)
    assert [path.name for path in first] == [f"{name}.{kind}" for kind in formats]
    for path, other in zip(first, second, strict=True):
        assert path.read_bytes() == other.read_bytes()
    dataset = read_dataset(moved, kind=spec.kind)
    check_layout(spec.draw(dataset))
    if name == "optimal-policy":
        # Equal weights have equal students, so that no chance looks like a gain.
        window, best = (dataset.sel(rule=rule) for rule in ("window", "best w(z)"))
        single = np.isfinite(dataset["interval"]).all("end").sum("k").values == 1
        assert single.any()
        for quantity in ("error_mean", "error_stderr"):
            np.testing.assert_array_equal(best[quantity][single], window[quantity][single])


def check_layout(figure: Figure) -> None:
    """Nothing leaves the picture, and no labels of an axis or of its neighbours touch."""
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()  # inches
    assert drawn.x0 > -0.02 and drawn.y0 > -0.02
    assert drawn.x1 < figure.get_figwidth() + 0.02 and drawn.y1 < figure.get_figheight() + 0.02
    names = [axes.xaxis.label for axes in figure.axes if axes.xaxis.label.get_text()]
    boxes = [name.get_window_extent() for name in names]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            labels = [
                label
                # An inner panel has no labels.
                for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
                if low <= place <= high and label.get_text() and not label.get_rotation()
            ]
            boxes = [label.get_window_extent() for label in labels if label.get_visible()]
            assert not any(a.overlaps(b) for a, b in pairwise(boxes)), axes


@pytest.mark.parametrize("name", FIGURES)
def test_whatever_changes_the_data_is_stored_and_compared(name: str, tmp_path: Path) -> None:
    """A file of other settings, of any of them, or of another computation is not accepted."""
    spec = FIGURES[name]
    wanted = spec.parameters(spec.defaults)
    settings_of = {field.name for field in dataclasses.fields(spec.defaults)}
    assert set(wanted) >= {"version"} | settings_of
    path = tmp_path / f"{name}.nc"
    for key, value in wanted.items():
        other = wanted | {key: [*value, 0.5] if isinstance(value, list) else f"{value}0"}
        write_dataset(xr.Dataset(), path, kind=spec.kind, parameters=other)
        with pytest.raises(ValueError, match=f"was computed with {key} = "):
            check_data(spec, spec.defaults, tmp_path)
        for foreign in ({k: v for k, v in wanted.items() if k != key}, wanted | {"more": 1}):
            write_dataset(xr.Dataset(), path, kind=spec.kind, parameters=foreign)
            with pytest.raises(ValueError, match="is of another version of this figure"):
                check_data(spec, spec.defaults, tmp_path)
    write_dataset(xr.Dataset(), path, kind=spec.kind, parameters=wanted)
    assert check_data(spec, spec.defaults, tmp_path)


@dataclasses.dataclass(frozen=True)
class Overtaken(FigureSpec):
    """A figure whose file another process writes while this one computes."""

    write: Callable[[], object] = print

    def compute(self, settings: Any, **options: Any) -> xr.Dataset:
        self.write()
        return super().compute(settings, **options)


def test_another_process_is_faster(tmp_path: Path) -> None:
    """Equal data are used, others stay, and so does the second result's simulation."""
    spec, chosen = FIGURES["geometry"], settings("geometry")
    other = dataclasses.replace(chosen, seed=6)
    for first in (chosen, other):
        folder = tmp_path / str(first.seed)
        folder.mkdir()
        write = partial(make_data, spec, first, folder, progress=False)
        slow = Overtaken(**vars(spec), write=write)
        if first is chosen:
            assert make_data(slow, chosen, folder, progress=False) == folder / "geometry.nc"
        else:
            words = r"another process wrote .*geometry.nc .* kept in .*cells.*seed = 6, not 5"
            with pytest.raises(ValueError, match=words):
                make_data(slow, chosen, folder, progress=False)
        found = read_dataset(folder / "geometry.nc", kind=spec.kind)
        assert parameters_of(found) == spec.parameters(first)
        assert list((folder / "cells").iterdir())


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    spec = Overtaken(**vars(FIGURES["geometry"]), write=lambda: pytest.fail("computed"))
    (tmp_path / "geometry.png").mkdir()
    with pytest.raises(OSError, match=r"output file .*geometry.png cannot be written: .*folder"):
        check_pictures(spec, tmp_path, ["svg", "png"])
    long = dataclasses.replace(spec, name="g" * 260)
    with pytest.raises(OSError, match=r"output file .* cannot be written: File name too long"):
        make_data(long, settings("geometry"), tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["geometry.png"]


def test_file_holds_what_was_computed(tmp_path: Path) -> None:
    spec = FIGURES["geometry"]
    wanted = spec.compute(settings("geometry"))
    data = make_data(spec, settings("geometry"), tmp_path, progress=False)
    found = read_dataset(data, kind=spec.kind)
    xr.testing.assert_equal(found, wanted)


def test_a_file_of_old_words_names_the_new_ones(tmp_path: Path) -> None:
    spec = FIGURES["downstream"]
    parameters = spec.parameters(spec.defaults) | {"delta": [0.0, 0.1]}
    write_dataset(xr.Dataset(), tmp_path / "old.nc", kind=spec.kind, parameters=parameters)
    with pytest.raises(ValueError, match="delta is unknown; it is called downstream_deg now"):
        make_pictures(spec, tmp_path / "old.nc", tmp_path, ["png"])


def test_geometry_keeps_the_slab() -> None:
    data = FIGURES["geometry"].compute(settings("geometry", keep_fraction=(0.3,)))
    assert (data["kept"].sum("example") == round(0.3 * data.sizes["example"])).all()
    theta = np.deg2rad(data["theta_deg"])
    field = data["field"].isel(component=0) * np.cos(theta) + data["field"].isel(
        component=1
    ) * np.sin(theta)
    assert ((abs(field) <= data["edge"]) == data["kept"]).all()
    inside = (data["student_theory"] ** 2).sum("component")
    assert (inside < 1).all()


def test_geometry_of_other_policies() -> None:
    """Easy keeps what hard leaves; a window keeps both its slabs whole, and nothing else."""
    spec = FIGURES["geometry"]

    def found(policy: str, fraction: float, **own: object) -> xr.Dataset:
        chosen = settings("geometry", keep_fraction=(fraction,), policy=(policy,), **own)
        return spec.compute(chosen)

    hard, easy, window = found("hard", 0.4), found("easy", 0.6), found("window", 0.2, lo=0.3)
    assert (hard["kept"] != easy["kept"]).all()
    assert (hard["edge"] < easy["inner_edge"]).all()
    theta = np.deg2rad(window["theta_deg"])
    along, across = (window["field"].isel(component=k) for k in (0, 1))
    size = abs(along * np.cos(theta) + across * np.sin(theta))
    inside = (size >= window["inner_edge"]) & (size <= window["edge"])
    assert (window["kept"] == inside).all()
    assert (window["kept"].sum("example") == round(0.2 * window.sizes["example"])).all()
    for dataset, count in ((hard, 1), (easy, 2), (window, 2), (found("random", 0.4), 0)):
        for axes in spec.draw(dataset).axes:
            assert len(axes.patches) == count


def synthetic_curves() -> xr.Dataset:
    """A curves dataset with one unsolved cell and one unconverged theory point."""
    dataset = curves(np.linspace(0.4, 0.1, 5)[None, None], theta_deg=[0.0])
    dataset["theory_status"][0, 0, 2] = 3
    dataset["error_mean"][0, 0, 0] = np.nan
    dataset["not_separable"][0, 0, 0] = 7
    return described("fitting-error", dataset)


def test_missing_cells_are_visible() -> None:
    figure = FIGURES["fitting-error"].draw(synthetic_curves())
    axes = figure.axes[0]
    theory = next(line for line in axes.lines if np.size(line.get_ydata()) == 5)
    assert np.flatnonzero(np.isnan(theory.get_ydata())).tolist() == [2]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    marked = np.concatenate([line.get_xdata() for line in crosses])
    np.testing.assert_allclose(sorted(marked), [0.01, 0.1])
    assert "7" in {text.get_text() for text in axes.texts}
    assert "n draws" in figure.get_supxlabel()


def test_pearson_mode_says_so() -> None:
    caption = FIGURES["downstream"].caption
    pearson, cosine = (
        caption(described("downstream", xr.Dataset(), overlap=one)) for one in ("pearson", "cosine")
    )
    assert "np.corrcoef" in pearson and "notebook" in pearson
    assert "corrcoef" not in cosine and "notebook" not in cosine


def test_labels_of_close_curves_do_not_overlap() -> None:
    one = synthetic_curves()
    close = [one.assign_coords(alpha_total=[alpha]) for alpha in (5.0, 5.1, 5.2)]
    together = described("fitting-error", xr.concat(close, dim="alpha_total"))
    figure = FIGURES["fitting-error"].draw(together)
    figure.draw_without_rendering()
    labels = [text for text in figure.axes[0].texts if text.get_text() in ("5.1", "5.2")]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) == 2
    assert not boxes[0].overlaps(boxes[1])


@pytest.mark.usefixtures("short_theory")
def test_interrupted_figure_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies half-way leaves no data file, and a rerun repeats nothing finished."""
    spec, chosen = FIGURES["angle"], settings("angle", theta_deg=(0.0, 20.0))
    store, stored = RecordCache.store, []

    def dies(cache: RecordCache, *arguments: Any) -> None:
        store(cache, *arguments)
        stored.append(arguments)
        if len(stored) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(RecordCache, "store", dies)
    with pytest.raises(KeyboardInterrupt):
        make_data(spec, chosen, tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert first
    found = read_dataset(make_data(spec, chosen, tmp_path, progress=False), kind=spec.kind)
    xr.testing.assert_equal(found, spec.compute(chosen))
    assert {path: path.stat().st_mtime_ns for path in first} == first
    again = stored[1:]
    assert again and str(stored[0][:2]) not in {str(one[:2]) for one in again}
