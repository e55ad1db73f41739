"""Figures: settings -> data file -> picture, one module a figure."""

from figures import angle, downstream, fitting_error, geometry, margins, policies, redundancy
from figures.files import make_data, make_pictures
from figures.settings import Settings
from figures.spec import FigureSpec

__all__ = ["FIGURES", "FigureSpec", "Settings", "make_data", "make_pictures"]

FIGURES: dict[str, FigureSpec] = {
    module.FIGURE.name: module.FIGURE
    for module in (fitting_error, angle, redundancy, downstream, policies, geometry, margins)
}
