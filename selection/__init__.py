"""Selects the examples of a data set that are worth keeping.

It holds scores of examples, selection methods and the bridge to the theory.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
