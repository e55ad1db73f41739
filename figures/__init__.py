"""Figures: settings -> data file -> picture, one module a figure."""

from figures import (
    angle,
    benchmark_tables,
    downstream,
    fitting_error,
    geometry,
    in_sample,
    margins,
    optimal_fraction,
    optimal_policy,
    phase_diagram,
    policies,
    redundancy,
    scaling,
    v_information,
    window,
)
from figures.files import make_data, make_pictures
from figures.settings import Settings
from figures.spec import FigureSpec

__all__ = ["FIGURES", "FigureSpec", "Settings", "make_data", "make_pictures"]

FIGURES: dict[str, FigureSpec] = {
    module.FIGURE.name: module.FIGURE
    for module in (
        fitting_error,
        angle,
        redundancy,
        downstream,
        policies,
        geometry,
        margins,
        v_information,
        benchmark_tables,
        scaling,
        window,
        optimal_fraction,
        optimal_policy,
        phase_diagram,
        in_sample,
    )
}
