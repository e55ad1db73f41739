"""Defines what is studied: problems, policies and probes, with closed forms."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
