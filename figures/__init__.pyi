from .files import make_data as make_data
from .files import make_pictures as make_pictures
from .registry import FIGURES as FIGURES
from .settings import Settings as Settings
from .spec import FigureSpec as FigureSpec

__all__ = ["FIGURES", "FigureSpec", "Settings", "make_data", "make_pictures"]
