"""Draws figures of the theory and its simulation, each from a data file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
