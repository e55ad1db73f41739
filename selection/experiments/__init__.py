"""Experiments with selection methods on real data: accuracy against the kept fraction."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
