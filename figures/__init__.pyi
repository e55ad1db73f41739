from .figure import FigureSpec as FigureSpec
from .figure import make_data as make_data
from .figure import make_pictures as make_pictures
from .registry import FIGURES as FIGURES
from .settings import Settings as Settings

__all__ = ["FIGURES", "FigureSpec", "Settings", "make_data", "make_pictures"]
