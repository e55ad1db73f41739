"""Solves problems exactly at infinite dimension.

A second form of the equations certifies each solution.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
